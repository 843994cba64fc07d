"""The extension; pyproject.toml has the rest.

It is built with the limited API, so that one wheel serves all series from 3.11
on; a CPython without the GIL has no such API. With GLIB=static in the
environment it contains what it needs of GLib.
"""
import os
import subprocess
import sysconfig
from glob import glob

from setuptools import Extension, setup

LIMITED = not sysconfig.get_config_var('Py_GIL_DISABLED')
STATIC = os.environ.get('GLIB') == 'static'


def ask_pkg_config(*options):
    command = [os.environ.get('PKG_CONFIG', 'pkg-config'), *options,
               'glib-2.0 >= 2.60']
    try:
        return subprocess.run(command, check=True, text=True,
                              stdout=subprocess.PIPE).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        raise SystemExit('GLib 2.60 or later is missing, or pkg-config, which '
                         'finds it; install them (Debian: libglib2.0-dev '
                         'pkg-config)') from None


def link_options():
    if not STATIC:
        return ask_pkg_config('--libs')
    # Archives of GLib, but not of the C library.
    words = ask_pkg_config('--libs', '--static')
    ours = [word for word in words
            if not word.startswith('-l') or word in ('-lm', '-ldl', '-lrt')]
    return ['-Wl,-Bstatic', *[word for word in words if word not in ours],
            '-Wl,-Bdynamic', *ours, '-Wl,--gc-sections',
            '-Wl,--exclude-libs,ALL']


setup(
    ext_modules=[Extension(
        'pytracemalloc._tracemalloc_snapshot',
        sorted(glob('Modules/_snapshot/*.c')),
        include_dirs=['Include/internal'],
        define_macros=[('Py_LIMITED_API', '0x030b0000')] * LIMITED,
        extra_compile_args=['-std=c11', '-fvisibility=hidden', '-g0',
                            '-ffunction-sections', '-Wall', '-Wextra',
                            '-Wno-missing-field-initializers',
                            '-Wno-cast-function-type',
                            *ask_pkg_config('--cflags')],
        extra_link_args=link_options(),
        py_limited_api=LIMITED)],
    options={'bdist_wheel': {'py_limited_api': 'cp311'}} if LIMITED else {})
