"""Memory over time as a curve: in text, in the summary of a run, on the page."""

import os
import re
import time
import tracemalloc
import unittest
from tracemalloc.history import Note

from pytracemalloc import curve
from pytracemalloc.units import format_duration
from test.test_pytracemalloc import support
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.report_page import PageCase

MIB = 1 << 20
PROGRAM = '''\
import time
keep = bytearray(2_000_000)
time.sleep(.5)
keep += bytes(6_000_000)
time.sleep(.3)
bytearray(30_000_000)
keep = keep[:3_000_000]
time.sleep(.5)
'''


def note(time, traced, most=0, peak=None, rss=50 * MIB, snapshots=0):
    traced *= MIB
    most = max(traced, most * MIB)
    return Note(time, traced, most, (peak or 0) * MIB or most, rss, rss, 7,
                (1, 0, 0), int(snapshots))


class Snapshot(support.Snapshot):

    def __init__(self, history):
        super().__init__()
        self.history = history


STEPS = [note(100 + i, [1, 4, 4, 8, 2][i // 4],
              peak=[1, 4, 4, 8, 8][i // 4], snapshots=i in (5, 19))
         for i in range(20)]


class TextTests(unittest.TestCase):

    def test_steps(self):
        title, traced, resident, snapshots = curve.lines(Snapshot(STEPS))
        self.assertEqual(title, 'Memory over time, 19.0 s:')
        drawn, figures = re.fullmatch(r' {4}traced  (\S{40})  (.*)',
                                      traced).groups()
        self.assertEqual(figures, '2.0 MiB, at most 8.0 MiB')
        self.assertEqual(re.sub(r'(.)\1+', r'\1', drawn), '▂▅█▃')
        # 4 of 19 seconds, and those that a step takes.
        for level, seconds in ('▂', 4), ('▅', 8), ('█', 5), ('▃', 3):
            self.assertAlmostEqual(drawn.count(level), seconds * 40 / 19,
                                   delta=3)
        self.assertEqual(resident.split(), [
            'resident', '█' * 40, '50.0', 'MiB,', 'at', 'most', '50.0',
            'MiB'])
        self.assertEqual(snapshots, f'{"snapshots":>10}  {" " * 10}^')

    def test_what_was_between_notes(self):
        notes = [note(0, 1), note(1, 1), note(2, 1, peak=9), note(3, 1, peak=9)]
        self.assertEqual(curve.curve_of(Snapshot(notes)).highs,
                         [MIB, MIB, 9 * MIB, MIB])
        notes[1] = note(1, 1, most=3)
        self.assertEqual(curve.curve_of(Snapshot(notes)).highs,
                         [MIB, 3 * MIB, 9 * MIB, MIB])

    def test_each_column_has_what_was_highest(self):
        notes = [note(i, (i * 37) % 11 + 1) for i in range(300)]
        highs = [note.traced for note in notes]
        for columns in 5, 40, 299, 1000:
            spread = curve.spread(highs, notes, columns)
            self.assertEqual(len(spread), columns)
            self.assertEqual(max(spread), max(highs))
            for column, value in enumerate(spread):
                begin, end = (299 * part / columns
                              for part in (column, column + 1))
                self.assertIn(value, highs[int(begin):int(end) + 2])

    def test_no_curve(self):
        for history in [], [note(0, 1)], [note(0, 1), note(.9, 2)]:
            self.assertEqual(curve.lines(Snapshot(history)), [])
            self.assertIsNone(curve.columns_of(Snapshot(history)))
        self.assertEqual(curve.lines(support.Snapshot()), [])

    def test_width(self):
        for width in range(20, 120):
            drawn = curve.lines(Snapshot(STEPS), width)
            self.assertEqual(drawn == [], width < 49)
            for line in drawn:
                self.assertLessEqual(len(line), width)

    def test_ascii(self):
        drawn = '\n'.join(curve.lines(Snapshot(STEPS), unicode=False))
        self.assertTrue(drawn.isascii())
        self.assertIn('.....++++', drawn)

    def test_unknown_resident_memory(self):
        notes = [each._replace(rss=None, most_rss=None) for each in STEPS]
        self.assertNotIn('resident', '\n'.join(curve.lines(Snapshot(notes))))

    def test_strange_times(self):
        """A file may say anything that is in order."""
        for times in ([0, 9e12], [5, 5, 5, 1e9], [1e9, 1e9 + 1]):
            notes = [note(time, 3) for time in times]
            self.assertEqual(len(curve.lines(Snapshot(notes))), 3)

    def test_durations(self):
        for seconds, text in ((1.25, '1.2 s'), (59.94, '59.9 s'),
                              (60, '1 min 0 s'), (3599.9, '59 min 59 s'),
                              (9000, '2 h 30 min'), (4 * 86400, '4 d 0 h')):
            self.assertEqual(format_duration(seconds), text)


class CommandTests(CommandCase):

    def check(self, text):
        found = re.search(r'Memory over time, (\S+) s:\n +traced  (\S+)  '
                          r'(.*) MiB, at most (.*) MiB\n +resident', text)
        self.assertIsNotNone(found, text)
        self.assertGreater(float(found[1]), 1.2)
        self.assertAlmostEqual(float(found[3]), 2.9, delta=.3)
        self.assertAlmostEqual(float(found[4]), 36.5, delta=2)
        # It was there for less than a tenth of a second.
        self.assertIn(found[2].count('█'), (1, 2, 3, 4))
        self.assertTrue(found[2].startswith('▁'))

    def test_run_and_report(self):
        path = self.write('app.py', PROGRAM)
        self.check(self.said('run', '-o', 'x', path))
        self.check(self.said('report', 'x'))
        snapshot = tracemalloc.Snapshot.load('x')
        self.assertEqual(max(curve.curve_of(snapshot).highs),
                         snapshot.traced_memory[1])
        self.assertNotIn('over time', self.said(
            'run', '--no-history', '-o', 'y', path))
        self.assertEqual(tracemalloc.Snapshot.load('y').history, [])
        self.assertNotIn('over time', self.said('report', 'y'))

    def said(self, *args):
        done = command(*args, env=os.environ | {'PYTHONIOENCODING': 'utf-8'})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stderr + done.stdout


class CurvePageTests(PageCase):

    def open_steps(self):
        self.open(Snapshot(STEPS))

    def said(self):
        return self.text('#moment')

    def test_draws(self):
        self.open_steps()
        self.assertFalse(self.browser.run("$('history').hidden"))
        shapes = self.browser.run(
            "Object.fromEntries(['area', 'traced', 'resident', 'peak', "
            "'taken', 'cursor'].map(name => [name, "
            "document.querySelectorAll(`#curve .${name}`).length]))")
        self.assertEqual(shapes, {'area': 1, 'traced': 1, 'resident': 1,
                                  'peak': 1, 'taken': 2, 'cursor': 1})
        # Each note is where its time and its value are.
        points = self.browser.run(
            "document.querySelector('#curve .traced').getAttribute('d')")
        points = [tuple(map(float, point.split()))
                  for point in points[1:].split('L')]
        self.assertEqual(len(points), len(STEPS))
        for (x, y), each in zip(points, STEPS):
            self.assertAlmostEqual(x, (each.time - 100) / 19 * 1000, delta=.01)
            self.assertAlmostEqual(y, 100 - each.traced / MIB / 50 * 100,
                                   delta=.01)
        self.assertEqual(self.text('#curve-top'), '50.0 MiB')
        self.assertEqual(self.text('#curve-end'), '19.0 s')

    def test_no_history(self):
        self.open(support.Snapshot())
        self.assertTrue(self.browser.run("$('history').hidden"))

    def test_mouse(self):
        self.open_steps()
        left, top, width, height = self.browser.run(
            "(() => { const r = $('curve').getBoundingClientRect(); "
            "return [r.left, r.top, r.width, r.height]; })()")
        for number in 0, 7, 12, 19:
            self.browser.move(left + 1 + (width - 2) * number / 19,
                              top + height / 2)
            each = STEPS[number]
            self.assertIn(f'{each.time - 100:.1f} s, ', self.said())
            self.assertIn(f'traced {each.traced / MIB:.1f} MiB', self.said())
        self.assertTrue(self.browser.run(
            "getComputedStyle(document.querySelector('#curve .cursor'))"
            ".visibility === 'visible'"))

    def test_keyboard(self):
        self.open_steps()
        self.browser.run("$('curve').focus()")
        self.assertIn('19.0 s', self.said())
        self.assertIn('a snapshot', self.said())
        for key, said in (('ArrowLeft', '18.0 s'), ('PageUp', 'the peak'),
                          ('PageUp', 'a snapshot'), ('Home', '0.0 s'),
                          ('ArrowRight', '1.0 s'), ('PageDown', '5.0 s'),
                          ('End', '19.0 s'), ('ArrowRight', '19.0 s')):
            self.browser.press(key)
            self.assertIn(said, self.said(), key)
            self.assertEqual(self.browser.run(
                "$('curve').getAttribute('aria-valuetext')"), self.said())
        # Keys of the page are not taken away.
        self.browser.press('2')
        self.assertEqual(self.browser.run('view.measure'), 'peak')

    def test_real_snapshot(self):
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        tracemalloc.start_history(.01)
        self.addCleanup(tracemalloc.stop_history)
        end = time.monotonic() + 1.2
        keep = []
        while time.monotonic() < end:
            keep.append(bytearray(50_000))
            time.sleep(.01)
        snapshot = tracemalloc.take_snapshot()
        tracemalloc.stop()
        self.open(snapshot)
        self.assertIn('a snapshot', self.said())
        self.assertGreater(self.browser.run('history_.count'), 20)
        self.assertEqual(self.browser.run(
            'history_.notes.highest_traced[history_.peak]'),
            snapshot.traced_memory[1])


if __name__ == '__main__':
    unittest.main()
