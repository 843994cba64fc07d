"""The files of examples/: they are what engines expect, and their service
answers their collector.

They are read by the schemas of Compose and Kubernetes, from npm and PyPI.
"""
import contextlib
import gzip
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import unittest

from test.support import socket_helper

from test.test_pytracemalloc import fetched
from test.test_pytracemalloc.helpers import SANITIZED

FOLDER = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', '')) / 'examples'
READ = '''
import json, sys, yaml
print(json.dumps([*yaml.safe_load_all(sys.stdin)]))
'''
# Exits with an error that names the place.
CHECK_COMPOSE = '''
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.validate(json.load(sys.stdin)[0], schema)
'''
CHECK_KUBERNETES = '''
import json, sys, kubernetes_validate
for document in json.load(sys.stdin):
    kubernetes_validate.validate(document, sys.argv[1], strict=True)
'''
KUBERNETES = '1.30'


def run(code, *arguments, text):
    python = fetched.environment('examples') / 'bin' / 'python'
    return subprocess.run([python, '-c', code, *arguments], input=text,
                          capture_output=True, text=True)


def read(name):
    """Return the documents of a file."""
    done = run(READ, text=(FOLDER / name).read_text())
    if done.returncode:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)


def blocks(text):
    """Return {"profile.memory": [text of the block]} of Alloy's language."""
    found = {}
    for match in re.finditer(r'(?m)^\s*([a-z_.]+)(?: "(\w+)")? \{', text):
        depth = 1
        for end in range(match.end(), len(text)):
            depth += {'{': 1, '}': -1}.get(text[end], 0)
            if not depth:
                break
        else:
            raise AssertionError(f'{match[0]} has no end')
        found.setdefault(match[1], []).append(text[match.end():end])
    return found


def values(text, name):
    """Return the strings that stand after a name, in this order."""
    return re.findall(r'"([^"]*)"', ' '.join(re.findall(
        rf'{name}\s*=\s*([^\n]*)', text)))


@unittest.skipUnless(FOLDER.is_dir(), 'needs the repository')
class ComposeTests(unittest.TestCase):

    def setUp(self):
        self.documents = read('compose.yaml')
        self.services = self.documents[0]['services']
        self.alloy = (FOLDER / 'compose.alloy').read_text()

    def check(self, documents):
        schema = fetched.compose_schema()
        return run(CHECK_COMPOSE, schema, text=json.dumps(documents))

    def test_schema(self):
        done = self.check(self.documents)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.services['shop']['prots'] = self.services['shop'].pop('ports')
        self.assertIn('prots', self.check(self.documents).stderr)

    def test_files(self):
        for service in self.services.values():
            for volume in service.get('volumes', ()):
                self.assertTrue((FOLDER / volume.split(':')[0]).exists())
            for name in service.get('depends_on', ()):
                self.assertIn(name, self.services)

    def test_collector(self):
        """It finds the service by its name and port, and labels it."""
        scrape, = blocks(self.alloy)['pyroscope.scrape']
        address, = values(scrape, '"__address__"')
        name, port = address.split(':')
        self.assertIn(port, self.services[name]['expose'])
        # The image of the service is given the name.
        command = docker_command()
        self.assertIn(name, command[command.index('--allow-host') + 1])
        self.assertEqual(command[command.index('--port') + 1], port)
        self.assertEqual(values(scrape, '"service_name"'), ['shop'])
        variable, = re.findall(r'sys\.env\("(\w+)"\)', scrape)
        self.assertIn(variable, self.services['alloy']['environment'])
        url, = values(self.alloy, 'url')
        self.assertIn(re.match(r'http://(\w+):\d+$', url)[1], self.services)


def docker_command():
    text = (FOLDER / 'Dockerfile').read_text()
    return json.loads(re.search(r'(?ms)^CMD (\[.*?\])$', text)[1]
                      .replace('\\\n', ''))


@unittest.skipUnless(FOLDER.is_dir(), 'needs the repository')
class KubernetesTests(unittest.TestCase):

    def setUp(self):
        self.documents = read('kubernetes.yaml')
        self.by_name = {(document['kind'], document['metadata']['name']):
                        document for document in self.documents}
        self.template = self.by_name['Deployment', 'shop']['spec']['template']
        self.container, = self.template['spec']['containers']
        self.alloy = (self.by_name['ConfigMap', 'profiles']['data']
                      ['config.alloy'])

    def check(self, documents):
        return run(CHECK_KUBERNETES, KUBERNETES, text=json.dumps(documents))

    def test_schema(self):
        done = self.check(self.documents)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.container['prots'] = self.container.pop('ports')
        self.assertIn('prots', self.check(self.documents).stderr)

    def test_selectors(self):
        """Each selects the pods that are meant."""
        templates = {name: document['spec']['template']['metadata']['labels']
                     for (kind, name), document in self.by_name.items()
                     if kind == 'Deployment'}

        def selected(labels):
            return [name for name, own in templates.items()
                    if labels.items() <= own.items()]

        for name in templates:
            spec = self.by_name['Deployment', name]['spec']
            self.assertEqual(selected(spec['selector']['matchLabels']), [name])
        self.assertEqual(selected(self.by_name['Service', 'shop']['spec']
                                  ['selector']), ['shop'])
        policy = self.by_name['NetworkPolicy', 'shop']['spec']
        self.assertEqual(selected(policy['podSelector']['matchLabels']),
                         ['shop'])
        ports = {entry['ports'][0]['port']: entry for entry
                 in policy['ingress']}
        self.assertEqual({*ports}, {port['name'] for port
                                    in self.container['ports']})
        self.assertEqual(selected(ports['pprof']['from'][0]['podSelector']
                                  ['matchLabels']), ['profiles'])

    def test_collector(self):
        """It keeps the ports of the service, and has a label for each of
        service, version and pod that exists."""
        relabel, = blocks(self.alloy)['discovery.relabel']
        labels = {}
        for rule in blocks(relabel)['rule']:
            source, = values(rule, 'source_labels')
            if values(rule, 'action') == ['keep']:
                self.assertEqual(source,
                                 '__meta_kubernetes_pod_container_port_name')
                port, = values(rule, 'regex')
            else:
                target, = values(rule, 'target_label')
                labels[target] = source.removeprefix('__meta_kubernetes_')
        own = {re.sub(r'\W', '_', name): value for name, value
               in self.template['metadata']['labels'].items()}
        self.assertEqual(labels.pop('pod'), 'pod_name')
        self.assertEqual(labels.pop('namespace'), 'namespace')
        self.assertEqual({name: own[source.removeprefix('pod_label_')]
                          for name, source in labels.items()},
                         {'service_name': 'shop', 'version': '1.0.0'})
        self.assertIn('1.0.0', self.container['image'])
        number, = (one['containerPort'] for one in self.container['ports']
                   if one['name'] == port)
        command = self.container['args']
        self.assertEqual(command[command.index('--port') + 1], str(number))

    def test_may_list_pods(self):
        account = (self.by_name['Deployment', 'profiles']['spec']['template']
                   ['spec']['serviceAccountName'])
        self.assertIn(('ServiceAccount', account), self.by_name)
        binding = self.by_name['RoleBinding', 'profiles']
        self.assertEqual(binding['subjects'],
                         [{'kind': 'ServiceAccount', 'name': account}])
        rule, = self.by_name['Role', binding['roleRef']['name']]['rules']
        self.assertEqual(rule['resources'], ['pods'])
        self.assertLessEqual({'list', 'watch'}, {*rule['verbs']})


@unittest.skipUnless(FOLDER.is_dir(), 'needs the repository')
@unittest.skipIf(SANITIZED, 'slow')
class ServiceTests(unittest.TestCase):
    """The command lines, run here."""

    @contextlib.contextmanager
    def service(self, command):
        """Run it; give the ports of the shop and of the endpoint."""
        self.assertEqual(command[0], 'pytracemalloc')
        command = [sys.executable, '-m', *command]
        shop, endpoint = (socket_helper.find_unused_port() for _ in 'ab')
        command[command.index('--port') + 1] = str(endpoint)
        self.assertEqual(command[command.index('--host') + 1], '0.0.0.0')
        with subprocess.Popen(
                command, cwd=FOLDER, stderr=subprocess.PIPE, text=True,
                env=os.environ | {'PORT': str(shop)}) as process:
            try:
                self.assertIn(f':{endpoint}/debug/pprof/',
                              process.stderr.readline())
                yield shop, endpoint
            finally:
                # The image's stop signal.
                process.send_signal(signal.SIGINT)

    def get(self, port, path, host='127.0.0.1'):
        """Return the status and the body, once something listens."""
        for _ in range(200):
            client = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
            try:
                client.request('GET', path, headers={'Host': host})
                with client.getresponse() as answer:
                    return answer.status, answer.read()
            except ConnectionRefusedError:
                time.sleep(0.05)
            finally:
                client.close()
        self.fail(f'nothing listens to {port}')

    def check(self, command, host, foreign):
        with self.service(command) as (shop, endpoint):
            for number in range(3):
                status, body = self.get(shop, '/?thing=hat')
            self.assertEqual((status, body), (200, b'3 baskets\n'))
            status, body = self.get(endpoint, '/debug/pprof/allocs',
                                    f'{host}:6060')
            self.assertEqual(status, 200)
            profile = gzip.decompress(body)
            for name in b'shop.py', b'Basket.__init__', b'inuse_space':
                self.assertIn(name, profile)
            status, _ = self.get(endpoint, '/debug/pprof/allocs', foreign)
            self.assertEqual(status, 403)

    def test_compose(self):
        """The collector uses the name of the service."""
        self.check(docker_command(), 'shop', 'shop.example')

    def test_kubernetes(self):
        """The collector uses the address of the pod."""
        shop, = (document for document in read('kubernetes.yaml')
                 if document['metadata']['name'] == 'shop'
                 and document['kind'] == 'Deployment')
        container, = shop['spec']['template']['spec']['containers']
        self.check(container['args'], '10.1.2.3', 'shop')


if __name__ == '__main__':
    unittest.main()
