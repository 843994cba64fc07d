"""Sizes, names and colours of the text reports."""

import io
import unittest
from datetime import datetime
from test.support import os_helper

from tracemalloc.printable import printable
from tracemalloctext import text


class SizeTests(unittest.TestCase):

    def test_unit_switches_at_five_thousand(self):
        self.assertEqual(text.format_size(0), "0 B")
        self.assertEqual(text.format_size(5 * 1024 - 1), "5119 B")
        self.assertEqual(text.format_size(5 * 1024), "5 KiB")
        self.assertEqual(text.format_size(5 * 1024 ** 2 - 1), "5119 KiB")
        self.assertEqual(text.format_size(5 * 1024 ** 2), "5 MiB")
        self.assertEqual(text.format_size(5 * 1024 ** 3), "5 GiB")
        self.assertEqual(text.format_size(5 * 1024 ** 4), "5 TiB")
        self.assertEqual(text.format_size(7000 * 1024 ** 4), "7000 TiB")

    def test_rounds_towards_zero(self):
        self.assertEqual(text.format_size(6 * 1024 - 1), "5 KiB")
        self.assertEqual(text.format_size(-6 * 1024 + 1), "-5 KiB")

    def test_sign(self):
        self.assertEqual(text.format_size(66, True), "+66 B")
        self.assertEqual(text.format_size(-66, True), "-66 B")
        self.assertEqual(text.format_size(0, True), "+0 B")

    def test_other_formats(self):
        self.assertEqual(text.format_value(0.042, "percent"), "4.2%")
        self.assertEqual(text.format_value(-0.01, "percent", True), "-1.0%")
        self.assertEqual(text.format_value(7, "int"), "7")
        self.assertEqual(text.format_value(7, "int", True), "+7")
        self.assertEqual(text.format_value(7, "size", True), "+7 B")


class NameTests(unittest.TestCase):

    def test_shorten_filename(self):
        self.assertEqual(text.shorten_filename("/usr/lib/a/b.py", 3),
                         ".../lib/a/b.py")
        self.assertEqual(text.shorten_filename("/usr/lib/a/b.py", 1),
                         ".../b.py")
        self.assertEqual(text.shorten_filename("a/b.py", 3), "a/b.py")
        self.assertEqual(text.shorten_filename("<frozen x>", 3), "<frozen x>")

    def test_unknown_filename(self):
        self.assertEqual(text.shorten_filename(None, 3), "???")
        self.assertEqual(text.shorten_filename("<unknown>", 3), "???")

    def test_terminal_commands_are_escaped(self):
        self.assertEqual(printable("a\x1b[2J\n.py"), "a\\x1b[2J\\n.py")
        self.assertEqual(printable("\u00e9t\u00e9.py"), "\u00e9t\u00e9.py")
        self.assertEqual(printable("\udc80"), "\\udc80")

    def test_date(self):
        self.assertEqual(
            text.format_date(datetime(2013, 9, 12, 15, 16, 50, 999)),
            "2013-09-12 15:16:50")


class WriteTests(unittest.TestCase):

    def test_what_the_encoding_lacks(self):
        raw = io.BytesIO()
        file = io.TextIOWrapper(raw, encoding="ascii")
        text.write_line(file, "\u00e9")
        file.flush()
        self.assertEqual(raw.getvalue(), b"\\xe9\n")


class Terminal(io.StringIO):

    def isatty(self):
        return True


class ColorTests(unittest.TestCase):

    def setUp(self):
        environ = self.enterContext(os_helper.EnvironmentVarGuard())
        environ.unset("NO_COLOR")
        environ.set("TERM", "xterm")
        self.environ = environ

    def test_terminal_only(self):
        self.assertTrue(text.wants_color(Terminal()))
        self.assertFalse(text.wants_color(io.StringIO()))
        self.assertFalse(text.wants_color(object()))

    def test_as_told(self):
        self.assertTrue(text.wants_color(io.StringIO(), True))
        self.assertFalse(text.wants_color(Terminal(), False))

    def test_no_color(self):
        self.environ.set("NO_COLOR", "1")
        self.assertFalse(text.wants_color(Terminal()))
        self.assertTrue(text.wants_color(Terminal(), True))
        self.environ.set("NO_COLOR", "")
        self.assertTrue(text.wants_color(Terminal()))

    def test_dumb_terminal(self):
        self.environ.set("TERM", "dumb")
        self.assertFalse(text.wants_color(Terminal()))


if __name__ == "__main__":
    unittest.main()
