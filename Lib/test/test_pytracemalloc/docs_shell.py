"""The shell of a page of documentation: one for all of its console blocks.

So a variable that one block exports is there in the next, a program may run
in the background, and all of it ends with the page.
"""
import os
import re
import signal
import subprocess
import time

SECONDS = 60                    # for one command
MARK = re.compile(r'\n<<end of command, status (\d+)>>\n')


class Shell:
    def __init__(self, folder, output, environment):
        """Start a shell in *folder* that writes to the file *output*."""
        self._file = open(output, 'w+')
        self._process = subprocess.Popen(
            ['sh'], cwd=folder, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=self._file, stderr=self._file,
            start_new_session=True)
        self._position = 0
        self._status = 0

    def run(self, command, until=None):
        """Run a command; return (exit status, output).

        With a function *until*, wait for output for which it is true: that
        of a program in the background comes later.
        """
        # In one shell, reading nothing, with $? as the last command left it.
        self._process.stdin.write(
            f'(exit {self._status})\n{{ {command}\n}} </dev/null\n'
            f'printf "\\n<<end of command, status %d>>\\n" $?\n')
        self._process.stdin.flush()
        deadline = time.monotonic() + SECONDS
        while True:
            self._file.seek(self._position)
            text = self._file.read()
            mark = MARK.search(text)
            output = MARK.sub('', text)
            if mark and (until is None or until(output)):
                break
            if time.monotonic() > deadline or (
                    not mark and self._process.poll() is not None):
                return (int(mark[1]) if mark else 1), output
            time.sleep(0.01)
        self._status = int(mark[1])
        self._position = self._file.tell()
        return self._status, output

    def close(self):
        """End all that the shell has started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.stdin.close()
        self._process.wait()
        self._file.close()


def commands_of(text):
    """Return [(offset of the line, command, expected output)] of a block."""
    found = []
    for offset, line in enumerate(text.splitlines()):
        if line.startswith('$ '):
            found.append((offset, [line[2:]], []))
        elif not found:
            raise ValueError('a console block starts with "$ "')
        elif line.startswith('> ') and not found[-1][2]:
            found[-1][1].append(line[2:])
        elif found[-1][1][-1].endswith('\\') and not found[-1][2]:
            found[-1][1].append(line)
        else:
            found[-1][2].append(line)
    return [(offset, '\n'.join(command), '\n'.join(output))
            for offset, command, output in found]
