"""A command of Django that keeps its querysets."""

# leak: django/\S+

import django
from django.conf import settings
from django.core.management import BaseCommand, call_command
from django.db import connection, models
from work import requests

settings.configure(
    DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3',
                           'NAME': ':memory:'}})
django.setup()


class Article(models.Model):
    title = models.CharField(max_length=100)

    class Meta:
        app_label = 'shop'


seen = []


class Command(BaseCommand):
    def handle(self, *args, **options):
        for number in requests(200):
            found = Article.objects.filter(id__gt=number % 20)[:5]
            list(found)
            seen.append(found)


with connection.schema_editor() as editor:
    editor.create_model(Article)
Article.objects.bulk_create(Article(title=f'article {number}')
                            for number in range(40))
call_command(Command())
