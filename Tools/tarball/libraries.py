"""Put the libraries of an installation beside it, and list what is in it.

    libraries.py FOLDER SOURCE LIST

The libraries go to FOLDER/lib/bundled, all but those of the C library, and
their licences to FOLDER/share/licenses.  SOURCE is CPython's; LIST becomes an
SPDX document, which FOLDER has as well.  The machine's packages are Debian's.
"""
import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import time
import urllib.parse

# Of the C library: programs and libraries must have them from one release.
SYSTEM = re.compile(r'(ld-linux.*|lib(c|m|dl|rt|util|pthread|resolv|nsl|'
                    r'anl|crypt))\.so\.\d+\Z')
BUNDLED = 'lib/bundled'


def run(*command):
    return subprocess.run(command, check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def programs(folder):
    """Yield the files that are linked with libraries."""
    for path in sorted(folder.rglob('*')):
        if path.is_file() and not path.is_symlink():
            with open(path, 'rb') as file:
                if file.read(4) == b'\x7fELF' and path.suffix != '.o':
                    yield path


def needed(path):
    return re.findall(r'\(NEEDED\).*\[(.*)\]', run('readelf', '-d', path))


def find_libraries(paths):
    """Return {name: path} of the libraries that these need, and those need."""
    found = {}
    for path in paths:
        for name, place in re.findall(r'(\S+) => (/\S+)', run('ldd', path)):
            if not SYSTEM.match(name):
                found[name] = place
    return found


def bundle(folder):
    """Return the paths of the libraries that were copied."""
    files = [*programs(folder)]
    libraries = find_libraries(files)
    place = folder / BUNDLED
    place.mkdir(parents=True)
    for name, path in sorted(libraries.items()):
        shutil.copyfile(path, place / name)
        (place / name).chmod(0o755)
    for path in [*files, *sorted(place.iterdir())]:
        if set(needed(path)) & set(libraries):
            origin = os.path.relpath(place, path.parent)
            search = '$ORIGIN' if origin == '.' else f'$ORIGIN/{origin}'
            run('patchelf', '--force-rpath', '--set-rpath', search, path)
    return [*libraries.values()]


def oldest_c_library(folder):
    """Return the version of glibc that is needed, as (2, 36)."""
    versions = [(2, 17)]
    for path in programs(folder):
        versions += [tuple(map(int, version.split('.'))) for version in
                     re.findall(r'GLIBC_(\d+\.\d+)\b',
                                run('readelf', '--version-info', path))]
    return max(versions)


def packages_of(paths):
    """Return {package: [name of a file]} of Debian's packages with these."""
    found = {}
    for path in paths:
        # dpkg may know it below /lib or below /usr/lib.
        listed = run('dpkg-query', '--search',
                     f'*/{os.path.basename(os.path.realpath(path))}')
        package = listed.splitlines()[0].partition(':')[0]
        found.setdefault(package, []).append(os.path.basename(path))
    return found


def version_of(package):
    return run('dpkg-query', '--show', '--showformat', '${Version}', package)


def copy_licences(folder, packages):
    for package in packages:
        place = folder / 'share' / 'licenses' / package
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(f'/usr/share/doc/{package}/copyright',
                        place / 'copyright')


def component(name, version, licence, place='NOASSERTION', **more):
    return {'SPDXID': f'SPDXRef-{re.sub("[^A-Za-z0-9.-]", "-", name)}',
            'name': name, 'versionInfo': version, 'filesAnalyzed': False,
            'downloadLocation': place, 'licenseConcluded': licence,
            'licenseDeclared': licence, 'copyrightText': 'NOASSERTION', **more}


def describe(folder, source, packages):
    """Return the SPDX document."""
    machine = run('dpkg', '--print-architecture').strip()
    ours = component(
        'pytracemalloc', os.environ['PYTRACEMALLOC_VERSION'], 'MIT',
        comment='needs glibc %d.%d or later' % oldest_c_library(folder))
    found = [component('CPython', platform.python_version(), 'PSF-2.0')]
    for name, files in sorted(packages.items()):
        version = version_of(name)
        found.append(component(
            f'debian-{name}', version, 'NOASSERTION',
            comment=f'has {", ".join(sorted(files))}',
            licenseComments=f'see share/licenses/{name}/copyright',
            externalRefs=[{
                'referenceCategory': 'PACKAGE_MANAGER',
                'referenceType': 'purl', 'referenceLocator':
                f'pkg:deb/debian/{name}@{urllib.parse.quote(version)}'
                f'?arch={machine}'}]))
    # What CPython's own source contains.
    inner = json.loads((source / 'Misc/sbom.spdx.json').read_text())
    found += [{**package, 'filesAnalyzed': False}
              for package in inner['packages']
              if package['name'] not in ('cpython', 'CPython')]
    for package in found:
        package.pop('primaryPackagePurpose', None)
    when = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(
        int(os.environ['SOURCE_DATE_EPOCH'])))
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    return {
        'SPDXID': 'SPDXRef-DOCUMENT', 'spdxVersion': 'SPDX-2.3',
        'dataLicense': 'CC0-1.0', 'name': folder.name,
        'documentNamespace': f'urn:pytracemalloc:{folder.name}:{digest}',
        'creationInfo': {'created': when,
                         'creators': ['Tool: pytracemalloc make tarball']},
        'packages': [ours, *found],
        'relationships': [
            {'spdxElementId': 'SPDXRef-DOCUMENT',
             'relationshipType': 'DESCRIBES',
             'relatedSpdxElement': ours['SPDXID']},
            *({'spdxElementId': ours['SPDXID'],
               'relationshipType': 'CONTAINS',
               'relatedSpdxElement': package['SPDXID']}
              for package in found)]}


def main(folder, source, output):
    packages = packages_of(bundle(folder))
    copy_licences(folder, packages)
    text = json.dumps(describe(folder, source, packages), indent=1) + '\n'
    output.write_text(text)
    (folder / 'share/pytracemalloc/contents.spdx.json').write_text(text)
    print('pytracemalloc: %d packages of Debian are beside it; it needs '
          'glibc %d.%d or later' % (len(packages), *oldest_c_library(folder)))


if __name__ == '__main__':
    main(*map(pathlib.Path, sys.argv[1:]))
