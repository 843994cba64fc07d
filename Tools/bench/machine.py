"""What the figures were taken on: processor, kernel, compiler, versions."""

import os
import platform
import subprocess


def processor():
    try:
        with open('/proc/cpuinfo') as file:
            for line in file:
                if line.startswith('model name'):
                    return line.partition(':')[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory_gib():
    try:
        return round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
                     / 2 ** 30)
    except (OSError, ValueError):
        return None


def system():
    """Return kernel and distribution, without the names of builds."""
    kernel = '.'.join(platform.release().split('.')[:2])
    try:
        return (f'{platform.system()} {kernel}, '
                + platform.freedesktop_os_release()['PRETTY_NAME'])
    except (OSError, KeyError):
        return f'{platform.system()} {kernel}'


def interpreter_version(command):
    """Return what the interpreter says of itself, with its build flags."""
    code = ('import sys, sysconfig; print(sys.version.replace("\\n", " "), '
            '"|", sysconfig.get_config_var("PY_CFLAGS"))')
    try:
        done = subprocess.run([*command, '-c', code], capture_output=True,
                              text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def describe(commands):
    """Describe the machine and the interpreters: {mode: command}."""
    return {'processor': processor(), 'cores': os.cpu_count(),
            'memory_gib': memory_gib(),
            'system': system(), 'load': round(os.getloadavg()[0], 1),
            'interpreters': {name: interpreter_version(command)
                             for name, command in commands.items()}}
