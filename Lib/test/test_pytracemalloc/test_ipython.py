"""The magics: in IPython, in a kernel of Jupyter, in a notebook.

IPython and Jupyter are of an environment with packages from PyPI.
"""

import html.parser
import json
import os
import subprocess
import tempfile
import unittest
from test.support.script_helper import assert_python_ok

from test.test_pytracemalloc.docs_blocks import blocks_of
from test.test_pytracemalloc.docs_output import matches
from test.test_pytracemalloc.fetched import SECONDS, environment
from test.test_pytracemalloc.helpers import FREE_THREADED, SANITIZED
from test.test_pytracemalloc.test_docs import AS_DESCRIBED, HAVE_PAGES, TOP

LOAD = '%load_ext pytracemalloc'
START = "import tracemalloc\ntracemalloc.start('full')"
PEAK_UNKNOWN = ('What was live at its peak is not known: traced memory was '
                'higher before')

# Runs the cells of a notebook, and says what they have shown.
NOTEBOOK = '''
import json, sys
import nbclient, nbformat.v4 as v4
sources, name = json.load(sys.stdin)
book = v4.new_notebook(cells=[v4.new_code_cell(text) for text in sources])
nbclient.NotebookClient(book, timeout=100, allow_errors=True,
                        kernel_name='python3').execute()
json.dump([cell.outputs for cell in book.cells], sys.stdout)
'''

# Sends cells to a kernel, and says with which status each has ended.
KERNEL = '''
import json, sys
from jupyter_client.manager import start_new_kernel
sources, name = json.load(sys.stdin)
manager, client = start_new_kernel(kernel_name='python3')
try:
    replies = []
    for text in sources:
        shown = []
        reply = client.execute_interactive(
            text, timeout=100, output_hook=shown.append)['content']
        replies.append([reply['status'],
                        [message['content'] for message in shown
                         if message['msg_type'] == 'display_data']])
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
json.dump(replies, sys.stdout)
'''


class Rows(html.parser.HTMLParser):
    """The cells of each row of the tables of a document."""

    def __init__(self, text):
        super().__init__()
        self.rows = []
        self.tags = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == 'tr':
            self.rows.append([])
        elif tag in ('td', 'th'):
            self.rows[-1].append('')

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


class ImportTest(unittest.TestCase):
    def test_the_package_imports_no_ipython(self):
        assert_python_ok('-c', 'import sys, pytracemalloc\n'
                               'assert not [name for name in sys.modules if '
                               'name.startswith(("IPython", "pytracemalloc."'
                               '))]')


@unittest.skipIf(SANITIZED, 'wheels are not built with a sanitizer')
class MagicsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.python = environment('ipython') / 'bin' / 'python'

    def run_python(self, *arguments, text, **variables):
        with tempfile.TemporaryDirectory() as directory:
            environ = {name: value for name, value in os.environ.items()
                       if not name.startswith(('PYTHON', 'JUPYTER'))}
            done = subprocess.run(
                [self.python, *arguments], input=text, cwd=directory,
                capture_output=True, text=True, timeout=SECONDS,
                env=environ | {'HOME': directory, 'IPYTHONDIR': directory,
                               'JUPYTER_RUNTIME_DIR': directory, **variables})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def run_notebook(self, *sources, **variables):
        """Return a list of outputs of each cell."""
        return json.loads(self.run_python(
            '-c', NOTEBOOK, text=json.dumps([sources, None]), **variables))

    def run_ipython(self, *lines, **variables):
        """Return what IPython prints for the cells, without its prompts."""
        return self.run_python(
            '-m', 'IPython', '--no-banner', '--simple-prompt', '--no-pdb',
            '--colors=NoColor', '--no-confirm-exit',
            text='\n'.join(lines) + '\n', **variables)

    def shown(self, outputs):
        """Return (text, HTML) of the one thing that a cell has displayed."""
        data, = (output['data'] for output in outputs
                 if output['output_type'] == 'display_data')
        return data['text/plain'], data.get('text/html')

    def lines(self, outputs):
        return self.shown(outputs)[0].splitlines()


class NotebookTest(MagicsTest):

    def test_cell(self):
        _, outputs = self.run_notebook(LOAD, '''\
%%memory

kept = bytes(3_000_000)
def make(size):
    return [bytes(size)]
more = make(2_000_000)
len(bytes(5_000_000)) + 1''')
        first, tracing, columns, *rows = self.lines(outputs)
        self.assertRegex(first, r'^In\[2\]: 9\.5 MiB at the peak, 4\.8 MiB '
                                r'left behind, \d+ allocations$')
        self.assertIn('Tracing was on for this cell only', tracing)
        self.assertEqual(columns.split(), ['left', 'behind', 'blocks', 'at',
                                           'the', 'peak'])
        # By the lines of the cell, the first of which is that of the magic.
        rows = [' '.join(row.split()) for row in rows]
        # What is left there is the number.
        self.assertRegex(rows[0], r'^\d+ B \d 4\.8 MiB In\[2\]:7 len\(bytes\('
                                  r'5_000_000\)\) \+ 1$')
        self.assertEqual(rows[1:3], [
            '2.9 MiB 1 2.9 MiB In[2]:3 kept = bytes(3_000_000)',
            '1.9 MiB 3 1.9 MiB In[2]:5 in make return [bytes(size)]'])
        self.assertNotIn('ipykernel', '\n'.join(rows))
        # The value of the cell is that of its last line.
        self.assertEqual([output['data']['text/plain'] for output in outputs
                          if output['output_type'] == 'execute_result'],
                         ['5000001'])

    def test_what_the_cell_calls_is_charged_to_its_lines(self):
        *_, outputs = self.run_notebook(
            'def make(size):\n    return [bytes(size)]', LOAD,
            '%%memory --top 1\nimport json\na = make(1_000_000)\n'
            'b = json.loads("[%s]" % ("1.5," * 5000 + "1"));')
        text = '\n'.join(self.lines(outputs))
        self.assertRegex(text, r' In\[3\]:3 > In\[1\]:2 in make  a = make')
        self.assertRegex(text, r'\n.* \d more$')
        self.assertEqual(len(outputs), 1)

    def test_html(self):
        _, outputs = self.run_notebook(
            LOAD, '%%memory\nkept = "<b>&amp;" * 100_000')
        text, page = self.shown(outputs)
        parsed = Rows(page)
        self.assertEqual(parsed.tags, {'div', 'table', 'tr', 'th', 'td',
                                       'code'})
        self.assertEqual(parsed.rows[1], ['781 KiB', '1', '781 KiB', 'In[2]:2',
                                          'kept = "<b>&amp;" * 100_000'])
        self.assertIn('kept = "<b>&amp;" * 100_000', text)

    def test_page(self):
        *_, cell, kernel = self.run_notebook(
            LOAD, START, '%%memory --html\nkept = bytes(1_000_000)',
            '%memory_top --html')
        for outputs, name in (cell, 'Memory of a cell'), (
                kernel, 'Memory of the kernel'):
            text, page = self.shown(outputs)
            self.assertRegex(page, '^<iframe srcdoc="[^"<]*" style="[^"<]*">'
                                   '</iframe>$')
            self.assertIn(f'&lt;h1 id=&quot;title&quot;&gt;{name}', page)
            self.assertIn('In[3]', page)
            self.assertIn('leave out --html', text)

    def test_statement(self):
        *_, one, inner = self.run_notebook(
            LOAD, START, '\n%memory a = "b  c" * 500_000\nprint(len(a))',
            'def work(size):\n    twice = [size]\n'
            '    %memory twice = twice * size\n    return len(twice)\n'
            'work(125_000)')
        self.assertRegex(self.lines(one)[0], r'^In\[3\]: 1\.9 MiB at the peak')
        self.assertEqual(one[-1]['text'], '2000000\n')
        # Locals of a function can be read.
        self.assertRegex(self.lines(inner)[0], r'^In\[4\]: 977 KiB at the pe')
        self.assertRegex('\n'.join(self.lines(inner)), r' 977 KiB .* '
                                                        r'In\[4\]:3')

    def test_traced_kernel(self):
        *_, freed, types, top = self.run_notebook(
            LOAD, 'kept = bytes(5_000_000)\nhigh = bytes(9_000_000)\ndel high',
            '%%memory\ndel kept\nkept = bytes(1_000_000)',
            '%%memory --by type\nmade = [{1.5: 1} for _ in range(10_000)]',
            '%memory_top --top=2', PYTHONTRACEMALLOC='full')
        lines = self.lines(freed)
        self.assertRegex(lines[0], r'3\.8 MiB less than before')
        self.assertEqual(lines[1], PEAK_UNKNOWN)
        self.assertRegex(lines[3], r'^ *-4\.8 MiB +-\d+  .* > In\[2\]:1$')
        self.assertRegex(lines[4], r'^ *977 KiB +1  In\[3\]:3  kept = bytes')
        self.assertRegex('\n'.join(self.lines(types)), r'10,000  dict\n')
        lines = self.lines(top)
        self.assertRegex(lines[0], 'Traced memory: .* peak ')
        rows = [line for line in lines if ' > ' in line or 'In[' in line]
        self.assertRegex('\n'.join(rows), r'In\[4\]:2 +made = \[\{1\.5: 1\}')

    def test_few_frames(self):
        *_, outputs = self.run_notebook(
            LOAD, 'def make():\n    return bytes(1_000_000)',
            '%%memory\nkept = make()', PYTHONTRACEMALLOC='1')
        self.assertIn("Much has no line of the cell in its 1 frame; "
                      "tracemalloc.start('full') records all",
                      self.lines(outputs))

    def test_what_is_refused(self):
        *cells, last = self.run_notebook(
            LOAD, '%memory', '%memory --all 1', '%%memory 1\n2',
            '%%memory --top 0\n1', '%%memory --by address\n1',
            '%memory_top', '%memory_top 1', '%memory --html=1 2',
            '%%memory\nawait None', '1 + 1')
        for outputs, problem in zip(cells[1:], (
                '%memory needs a statement; %memory_top shows',
                '--all is not known; there are --top N, --by KEY and --html',
                '%%memory takes --top N, --by KEY and --html; write',
                "--top: '0' must be a positive integer",
                "--by: 'address' is not known; there are line, function, ",
                'tracing is off; start it with tracemalloc.start(',
                "%memory_top takes --top N, --by KEY and --html, not '1'",
                '--html has no value',
                '%memory cannot wait for a coroutine; use `with '),
                strict=True):
            with self.subTest(problem=problem):
                output, = outputs
                self.assertEqual(output['text'].rstrip().count('\n'), 0)
                self.assertIn(f'UsageError: {problem}', output['text'])
        self.assertEqual(last[0]['data']['text/plain'], '2')

    def test_cell_that_stops_the_tracing(self):
        *_, outputs, after = self.run_notebook(
            LOAD, START, '%%memory\ntracemalloc.stop()\n1',
            'tracemalloc.is_tracing()')
        self.assertEqual(outputs[0]['text'], 'The cell has stopped tracing: '
                                             'its memory is not known\n')
        self.assertEqual(after[0]['data']['text/plain'], 'False')

    def test_cells_that_ipython_rewrites(self):
        *_, shell, nested = self.run_notebook(
            LOAD, '%%memory\n!echo yes\nkept = bytes(1_000_000)',
            '%%memory\n%%capture\nmore = bytes(1_000_000)')
        self.assertEqual(shell[0]['text'].split(), ['yes'])
        self.assertIn('In[2]:3  kept = bytes(1_000_000)',
                      self.shown(shell)[0])
        self.assertIn(' In[3]:2', self.shown(nested)[0])


    @unittest.skipUnless(HAVE_PAGES, 'needs the repository and its build')
    @unittest.skipUnless(AS_DESCRIBED, 'the page has figures of another build')
    def test_page_of_the_documentation(self):
        blocks = [block for block
                  in blocks_of(TOP / 'Doc' / 'howto' / 'jupyter.rst')
                  if block.not_run and 'test_ipython' in block.not_run]
        sources = [block.text.rstrip() for block in blocks
                   if block.language == 'python']
        self.assertEqual(len(sources), 4)
        shown = iter(self.run_notebook(*sources, PYTHONTRACEMALLOC='full'))
        for block in blocks:
            if block.language == 'python':
                outputs = next(shown)
            else:
                text, _ = self.shown(outputs)
                self.assertTrue(matches(block.text, text), text)


class KernelTest(MagicsTest):
    def test_status(self):
        replies = json.loads(self.run_python(
            '-c', KERNEL, text=json.dumps([
                [LOAD, '%%memory\nkept = bytes(3_000_000)\n1 / 0',
                 '%%memory\nkept'], None])))
        self.assertEqual([status for status, _ in replies],
                         ['ok', 'error', 'ok'])
        # What was used until then is shown.
        shown, = replies[1][1]
        self.assertIn('In[2]:2  kept = bytes(3_000_000)',
                      shown['data']['text/plain'])
        self.assertEqual({*shown['data']}, {'text/plain', 'text/html'})


class IPythonTest(MagicsTest):

    def test_text(self):
        output = self.run_ipython(LOAD, '%memory kept = bytes(3_000_000)',
                                  START, 'more = bytes(1_000_000)',
                                  '%memory_top --top 1')
        self.assertRegex(output, r'In\[2\]: 2\.9 MiB at the peak, 2\.9 MiB '
                                 r'left behind')
        self.assertRegex(output, r'977 KiB +1 +977 KiB  In\[5\]:1  more = byt')
        self.assertNotIn('<ipython-input', output)
        self.assertNotIn('<table', output)

    def test_traceback(self):
        output = self.run_ipython(
            LOAD, 'get_ipython().run_cell_magic("memory", "", "x = 1\\n1/0")')
        self.assertRegex(output, r'Cell In\[2\], line 3\n')
        self.assertIn('ZeroDivisionError: division by zero', output)
        self.assertIn('hidden', output)
        self.assertNotIn('magics.py', output.partition('Traceback')[2])

    @unittest.skipIf(FREE_THREADED, 'calls allocate')
    def test_nothing_of_its_own(self):
        output = self.run_ipython(
            LOAD, START, 'high = bytes(9_000_000); del high',
            'magic = get_ipython().run_cell_magic',
            'magic("memory", "", "pass")',
            'magic("memory", "", "pass")',
            'run = get_ipython().run_line_magic; '
            'old = tracemalloc.get_traced_memory(); run("memory_top", ""); '
            'new = tracemalloc.get_traced_memory(); '
            'print([a - b for a, b in zip(old, new)])')
        self.assertRegex(output, r'0 B at the peak, .*, 0 allocations')
        growth, = [line for line in output.splitlines()
                   if line.endswith(', 0]')]
        # IPython calls the magic, and keeps what it prints; a snapshot alone
        # takes many times as much.
        self.assertLess(abs(json.loads(growth.rpartition(': ')[2])[0]), 5000)


if __name__ == '__main__':
    unittest.main()
