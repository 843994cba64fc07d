"""speedscope's JSON: its published schema, and speedscope itself."""

import base64
import json
import subprocess
import tempfile
import unittest

from pytracemalloc.measures import MEASURES
from test.test_pytracemalloc import fetched, support
from test.test_pytracemalloc.browser import EXECUTABLE, Browser
from test.test_pytracemalloc.pytest_environment import python_with_pytest
from test.test_pytracemalloc.test_report_tree import render

# argv: the schema; standard input: a document. Prints what is wrong.
_VALIDATE = '''
import fastjsonschema, json, sys
validate = fastjsonschema.compile(json.load(open(sys.argv[1])))
try:
    validate(json.load(sys.stdin))
except fastjsonschema.JsonSchemaException as exc:
    sys.exit(exc.message)
'''

# What the application says once it has loaded something.
_SHOWN = '''(async () => {
    for (let i = 0; i < 100; i++) {
        await new Promise(done => setTimeout(done, 100));
        if (document.title !== 'speedscope') { break; } }
    return [document.title, document.body.innerText].join('|'); })()'''


def hostile_snapshot():
    nodes = [(-1, support.HOSTILE, 1, None, 1, 2**60, 1, 2**60, 1, 5, 1, 0, 0),
             (0, 'a\ud800.py', 0, 'f\0', 0, 7, 1, 7, 1, 7, 1, 0, 0)]
    return support.Snapshot(nodes, ())


class SchemaTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.schema = fetched.speedscope() / 'file-format-schema.json'
        cls.python = python_with_pytest()

    def problem(self, text):
        done = subprocess.run([self.python, '-c', _VALIDATE, self.schema],
                              input=text, capture_output=True, text=True)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        return done.stderr.strip()

    def test_valid(self):
        for name, snapshots in (
                ('snapshot', [support.Snapshot()]),
                ('difference', [support.Snapshot(), support.older()]),
                ('empty', [support.Snapshot([], ())]),
                ('hostile', [hostile_snapshot()]),
                ('threads', [support.Snapshot(support.THREADS, ())])):
            with self.subTest(name):
                self.assertEqual(self.problem(render(
                    'speedscope', *snapshots, title=support.HOSTILE)), '')

    def test_schema_says_no(self):
        # Or the test above would not say anything.
        document = json.loads(render('speedscope', support.Snapshot()))
        for change in ({'$schema': 'x'}, {'shared': {}},
                       {'shared': {'frames': [{'line': 1}]}},
                       {'activeProfileIndex': '0'}):
            self.assertNotEqual(self.problem(json.dumps(document | change)),
                                '', change)
        document['profiles'][0]['unit'] = 'octets'
        self.assertNotEqual(self.problem(json.dumps(document)), '')


@unittest.skipUnless(EXECUTABLE, 'needs chromium')
class ApplicationTest(unittest.TestCase):
    """The application shows the file, as after `npx speedscope FILE`."""

    @classmethod
    def setUpClass(cls):
        cls.index = fetched.speedscope() / 'index.html'
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.__exit__)

    def load(self, text):
        with tempfile.NamedTemporaryFile('w', suffix='.js') as file:
            content = base64.b64encode(text.encode()).decode()
            file.write(f'speedscope.loadFileFromBase64("x", "{content}")')
            file.flush()
            self.browser.open(self.index, f'#localProfilePath={file.name}')
            return self.browser.run(_SHOWN)

    def test_shows_it(self):
        text = self.load(render('speedscope', support.Snapshot(),
                                title='shop.tracemalloc'))
        self.assertTrue(text.startswith('shop.tracemalloc - speedscope|'),
                        text)
        self.assertIn('live memory (1/6)', text)

    def test_active_profile(self):
        text = self.load(render('speedscope', support.Snapshot(),
                                measure=MEASURES['peak']))
        self.assertIn('memory at the peak (3/6)', text)


if __name__ == '__main__':
    unittest.main()
