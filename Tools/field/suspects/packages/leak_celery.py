"""A task of celery that keeps its results.  It runs in the process that asks
for it, with all that celery does around a task."""

from celery import Celery
from work import requests, words

app = Celery('shop')
app.conf.update(task_always_eager=True, task_store_eager_result=False)
results = []


@app.task(name='shop.invoice')
def invoice(number):
    results.append([word.upper() for word in words(number)])    # leak
    return number


for number in requests(200):
    assert invoice.delay(number).get() == number
