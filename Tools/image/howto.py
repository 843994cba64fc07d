"""Run the blocks of code of a page of documentation against an engine.

The modules of test_docs read the blocks and compare what is printed. Here
`docker` may be podman, and the images that the page takes from a registry are
those of this machine.
"""
import os
import shlex
import subprocess

import docs_blocks
import docs_output
import docs_session

BASE = 'debian:bookworm-slim'
# What the page makes.
MADE = {'pod': ['shop'], 'container': ['shop'],
        'volume': ['shop', 'snapshots'],
        'image': ['shop', 'compiled', 'copied', 'pytracemalloc']}
CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
DOCKER = '''#!/bin/sh
# podman, under the name that the page uses.
command=$1
shift
case $command in
build)
    exec podman build $PODMAN_BUILD_OPTIONS {certificates} \\
        --build-context {base}=container-image://{local_base} "$@" ;;
run)
    exec podman run --pull=never "$@" ;;
*)
    exec podman "$command" "$@" ;;
esac
'''


def run(page, folder, engine, image, local_base):
    """Run *page* in *folder*; raise AssertionError for what differs."""
    for kind, names in MADE.items():
        for name in names:
            if succeeds(engine, kind, 'inspect', name):
                raise AssertionError(
                    f'there is a {kind} "{name}" already, which the page '
                    f'would replace: {engine} {kind} rm {name}')
    if engine == 'podman':
        make_docker(folder / 'docker', local_base)
    subprocess.run([engine, 'tag', image, 'pytracemalloc'], check=True)
    os.environ['PATH'] = f'{folder}:{os.environ["PATH"]}'
    docs_session.SECONDS = 900          # some commands install packages
    shell = docs_session.Shell(folder, folder / 'output')
    try:
        for block in docs_blocks.blocks_of(page):
            if block.not_run:
                continue
            if block.file:
                (folder / block.file).write_text(block.text)
            elif block.language == 'console':
                run_console(page, block, shell, engine)
    finally:
        shell.close()
        for kind, names in MADE.items():
            succeeds(engine, kind, 'rm', '--force', *names)


def succeeds(*command):
    return not subprocess.run(command, capture_output=True).returncode


def make_docker(path, local_base):
    trusted = ''
    if os.path.exists(CERTIFICATES):
        # Not over the image's own file, which installing packages replaces.
        settings = path.with_name('pip.conf')
        settings.write_text('[global]\ncert = /certificates\n')
        trusted = (f'--volume {CERTIFICATES}:/certificates:ro '
                   f'--volume {settings}:/etc/pip.conf:ro')
    path.write_text(DOCKER.format(certificates=trusted, base=BASE,
                                  local_base=shlex.quote(local_base)))
    path.chmod(0o755)


def run_console(page, block, shell, engine):
    for offset, command, expected in docs_session.commands_of(block.text):
        if engine != 'podman' and 'podman' in block.text:
            return                      # docker has no pods
        status, output = shell.run(command)
        where = f'{page}:{block.line + offset}: {command}'
        if status:
            raise AssertionError(f'{where}: exit status {status}\n{output}')
        if not docs_output.matches(expected, output):
            raise AssertionError(f'{where}: expected\n{expected}\nfound\n'
                                 f'{output}')
