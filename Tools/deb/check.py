"""Tests of the packages that `make deb` has made; Tools/deb/check starts them.

InstalledTests run inside a minimal Debian, where apt has installed them with
what they depend on.
"""
import gzip
import hashlib
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parent))
from packed import (ENVIRONMENT, IMPORTS, InsideTests, debugging_texts,
                    files_with, run)

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
PREFIX = sys.argv.pop(1)
DIST = BUILD / 'deb' / 'dist'
ROOT = BUILD / 'deb' / 'root'
PLACE = PREFIX if PREFIX.startswith('/opt/') else '/opt/mypython'
# What these packages do not own: what apt and dpkg note.
NOTED = re.compile(r'/(proc|var/(lib|cache|log)|tmp|etc/ld\.so\.cache)(/|\Z)')


def digests():
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in DIST.iterdir()}


class PackageCase(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        packages = {path.name.partition('_')[0]: path
                    for path in DIST.glob('*.deb')}
        cls.assertEqual(cls(), sorted(packages),
                        ['pytracemalloc', 'pytracemalloc-dbgsym'],
                        f'{DIST}: run `make deb`')
        cls.package, cls.symbols = map(packages.get, sorted(packages))

    def field(self, name, package=None):
        return run(['dpkg-deb', '--field', package or self.package,
                    name]).strip()


class ContentTests(PackageCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, folder)
        cls.tree, cls.debug = (pathlib.Path(folder, name)
                               for name in ('tree', 'debug'))
        run(['dpkg-deb', '--raw-extract', cls.package, cls.tree])
        run(['dpkg-deb', '--raw-extract', cls.symbols, cls.debug])

    def programs(self):
        for path in sorted(self.tree.rglob('*')):
            if path.is_file() and not path.is_symlink():
                with open(path, 'rb') as file:
                    if file.read(4) == b'\x7fELF' and path.suffix != '.o':
                        yield path

    def test_fields(self):
        version = self.field('Version')
        self.assertRegex(version, r'\A\d[\d.]*\+3\.\d+\.\d+.*-1\Z')
        self.assertEqual(self.field('Depends', self.symbols),
                         f'pytracemalloc (= {version})')
        self.assertEqual(self.field('Architecture'),
                         run(['dpkg', '--print-architecture']).strip())
        # Nothing is configured, and nothing runs at installation.
        self.assertEqual(sorted(os.listdir(self.tree / 'DEBIAN')),
                         ['control', 'md5sums'])

    def test_dependencies(self):
        """They name the package of each library, some with the oldest version
        that has the functions in use, and none but these."""
        depends = dict(re.findall(r'([^ ,(]+)(?: \(>= (.*?)\))?(?=,|\Z)',
                                  self.field('Depends')))
        owners = set()
        for path in self.programs():
            needed = re.findall(r'\(NEEDED\).*\[(.*)\]',
                                run(['readelf', '-d', path]))
            shown = run(['ldd', path])
            self.assertNotIn('not found', shown)
            # Not the loader, which comes with the C library.
            places = dict(re.findall(r'(\S+) => (/\S+)', shown))
            for name in {*needed} & {*places}:
                real = os.path.basename(os.path.realpath(places[name]))
                found = {line.partition(':')[0] for line in run(
                    ['dpkg-query', '--search', f'*/{real}']).splitlines()}
                self.assertTrue(found & {*depends}, (path, name))
                owners |= found
        self.assertLessEqual({*depends}, owners)
        self.assertTrue(depends['libc6'])
        self.assertIn('libsqlite3-0', depends)

    def test_files(self):
        """They are root's, of one time, and below /opt but for the command."""
        tar = subprocess.check_output(['dpkg-deb', '--fsys-tarfile',
                                       self.package])
        with tarfile.open(fileobj=io.BytesIO(tar)) as file:
            members = file.getmembers()
        self.assertEqual({(member.uid, member.gid) for member in members},
                         {(0, 0)})
        self.assertEqual(len({member.mtime for member in members}), 1)
        for member in members:
            self.assertFalse(not member.issym() and member.mode & 0o6022,
                             member.name)
        others = {member.name for member in members if not member.isdir()
                  and not member.name.startswith(f'.{PLACE}/')}
        self.assertEqual(others, {
            './usr/bin/pytracemalloc',
            './usr/share/bash-completion/completions/pytracemalloc',
            './usr/share/doc/pytracemalloc/changelog.Debian.gz',
            './usr/share/doc/pytracemalloc/changelog.gz',
            './usr/share/doc/pytracemalloc/copyright',
            './usr/share/fish/vendor_completions.d/pytracemalloc.fish',
            './usr/share/lintian/overrides/pytracemalloc',
            './usr/share/man/man1/pytracemalloc.1.gz',
            './usr/share/man/man7/python-tracemalloc.7.gz',
            './usr/share/zsh/vendor-completions/_pytracemalloc'})

    def test_checksums(self):
        for tree in self.tree, self.debug:
            lines = (tree / 'DEBIAN/md5sums').read_text().splitlines()
            listed = dict(reversed(line.split('  ', 1)) for line in lines)
            self.assertEqual(listed, {
                str(path.relative_to(tree)):
                hashlib.md5(path.read_bytes()).hexdigest()
                for path in tree.rglob('*') if path.is_file()
                and not path.is_symlink() and path.parent.name != 'DEBIAN'})

    def test_documents(self):
        share = self.tree / 'usr/share'
        copyright = (share / 'doc/pytracemalloc/copyright').read_text()
        text = ' '.join(re.sub(r'(?m)^ \.$', '', copyright).split())
        for file in (BUILD / 'src/LICENSE', HERE.parents[1] / 'LICENSE'):
            words = file.read_text()
            if 'MIT License' in words:
                words = words[words.index('Permission'):]
            self.assertIn(' '.join(words.split()), text)
        self.assertIn('Mersenne Twister', text)
        page = gzip.open(share / 'man/man1/pytracemalloc.1.gz', 'rt').read()
        self.assertIn('.TH "PYTRACEMALLOC" "1"', page)
        log = gzip.open(share / 'doc/pytracemalloc/changelog.Debian.gz',
                        'rt').read()
        self.assertIn(f'pytracemalloc ({self.field("Version")})', log)

    def test_debugging_information(self):
        """Of each program, and gdb finds it."""
        listed = self.field('Build-Ids', self.symbols).split()
        found = []
        for path in self.programs():
            id, = re.findall('Build ID: (.*)', run(['readelf', '-n', path]))
            self.assertNotIn('.debug_info', run(['readelf', '-SW', path]))
            place = (self.debug / 'usr/lib/debug/.build-id' / id[:2]
                     / f'{id[2:]}.debug')
            self.assertIn('.debug_info', run(['readelf', '-SW', place]))
            self.assertNotIn(str(BUILD.parent), debugging_texts(place))
            found.append(id)
        self.assertEqual(sorted(found), listed)
        if shutil.which('gdb'):
            program = (self.tree / PLACE[1:] / 'bin/python3').resolve()
            shown = run(['gdb', '-nx', '-batch', '-iex',
                         f'set debug-file-directory '
                         f'{self.debug}/usr/lib/debug',
                         '-ex', 'info line PyObject_Malloc', program])
            self.assertRegex(shown, r'Line \d+ of ".*obmalloc\.c"')

    def test_no_paths_of_this_machine(self):
        self.assertEqual(files_with(self.tree, os.fsencode(BUILD.parent)), [])


class PackingTests(PackageCase):

    def test_same_bytes_again(self):
        before = digests()
        run([HERE / 'build', BUILD, PREFIX],
            env=os.environ | {'TZ': 'Asia/Kolkata', 'LANG': 'C'}, umask=0o077)
        self.assertEqual(digests(), before)

    def test_lintian(self):
        shown = run(['lintian', '--fail-on', 'error,warning', '--display-info',
                     '--tag-display-limit', '0', self.package, self.symbols])
        self.assertNotRegex(shown, r'\b(unused|mismatched)-override\b')
        # It does look: without our reasons it refuses.
        shown = run(['lintian', '--no-override', '--fail-on', 'error',
                     '--tags', 'dir-or-file-in-opt', self.package], status=2)
        self.assertIn('E: pytracemalloc: dir-or-file-in-opt', shown)

    def test_overrides_have_reasons(self):
        """A comment stands before each group."""
        for group in (HERE / 'overrides').read_text().split('\n\n'):
            self.assertRegex(group, r'\A(# .*\n)+(pytracemalloc: .*\n?)+\Z')


class InstalledTests(InsideTests, PackageCase):

    root = ROOT

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for package in cls.package, cls.symbols:
            shutil.copy(package, ROOT / 'tmp')
        cls.inside('apt-get', '-qq', 'update')
        cls.inside('apt-get', '-qq', 'install', '-y',
                   *(f'/tmp/{package.name}'
                     for package in (cls.package, cls.symbols)))

    @staticmethod
    def inside(*command, **options):
        environment = ENVIRONMENT | {'DEBIAN_FRONTEND': 'noninteractive'} | {
            name: value for name, value in os.environ.items()
            if name.lower().endswith('_proxy')}
        return run(['chroot', ROOT, *command], env=environment, **options)

    def python(self, *arguments):
        return self.inside(f'{PLACE}/bin/python3', *arguments)

    def command(self, *arguments):
        return self.inside('pytracemalloc', *arguments)

    def test_is_whole(self):
        self.assertEqual(self.inside('dpkg', '--verify', 'pytracemalloc',
                                     'pytracemalloc-dbgsym'), '')
        self.assertEqual(self.inside('dpkg', '--audit'), '')

    def test_pip(self):
        self.inside(f'{PLACE}/bin/pip', '--version')

    def test_follows_its_place(self):
        shown = self.python('-c', '''
import sys, sysconfig
print(sys.prefix, *map(sysconfig.get_config_var, ('prefix', 'BINDIR',
      'LIBDIR', 'LIBPL', 'INCLUDEPY')), sep="\\n")
''')
        for path in shown.split():
            self.assertTrue(f'{path}/'.startswith(f'{PLACE}/'), path)
            self.assertTrue((ROOT / path[1:]).exists(), path)

    def listing(self):
        """Return all paths but those of notes."""
        found = set()
        for folder, folders, files in os.walk(ROOT):
            place = '/' + os.path.relpath(folder, ROOT)
            folders[:] = [name for name in folders
                          if not NOTED.match(os.path.join(place, name))]
            found |= {os.path.join(place, name) for name in folders + files
                      if not NOTED.match(os.path.join(place, name))}
        return found

    def test_removal(self):
        """It leaves nothing, also after use by root."""
        names = 'pytracemalloc-dbgsym', 'pytracemalloc'
        self.inside('dpkg', '--purge', *names)
        before = self.listing()
        self.assertFalse([path for path in before if 'mypython' in path
                          or 'tracemalloc' in path])
        self.inside('dpkg', '--install', *(
            f'/tmp/{package.name}' for package in (self.package,
                                                   self.symbols)))
        self.assertIn(f'{PLACE}/bin/python3', self.listing())
        self.python('-c', IMPORTS)
        self.inside('pytracemalloc', '--version')
        output = self.inside('apt-get', '-qq', 'purge', '-y', *names)
        self.assertNotIn('not empty', output)
        self.assertEqual(self.listing(), before)
        self.inside('dpkg', '--install', *(
            f'/tmp/{package.name}' for package in (self.package,
                                                   self.symbols)))


if __name__ == '__main__':
    unittest.main()
