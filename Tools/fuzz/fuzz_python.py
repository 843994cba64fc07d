"""Fuzz one of targets.py by atheris, which is libFuzzer for Python.

    python Tools/fuzz/fuzz_python.py TARGET [libFuzzer's arguments]

Bytes that are changed at random are seldom a pickle or a command line, so
these two are changed operation by operation and word by word as well.
"""
import pickletools
import random
import sys

import atheris

with atheris.instrument_imports(
        include=['tracemalloc', 'tracemalloctext', 'pytracemalloc', 'json',
                 'argparse', 'http', 'email.feedparser', 'email._policybase']):
    import targets

WORDS = [word.encode() for word in '''
    report diff run serve top completion text legacy --by --format --what --top
    --cumulative --include --exclude --all-frames --title -o --output -f
    --force --help --version -n -a -b -t -c -g -i -I -x -X -M -S -C -A -P
    --references --keys --first --color --no-color --every --on-growth --follow
    -q --port --host --once a.tracemalloc b.tracemalloc old.pickle input
    out.html - . / -- line
    function module type type+line traceback address domain filename peak total
    garbage size count text csv json html pprof speedscope collapsed flamegraph
    heapsnapshot dot
    bash zsh fish 0 1 -1 3.5 1e9 99999999999999999999 0x10 100MiB *.py:3 * é
    '''.split()] + [b'', b'\xff', b'%s', b'{', b'a b']
VALUES = [b'N.', b'K\x01', b'M\xff\xff', b'J\x00\x00\x00\x80', b'\x8a\x01\x05',
          b'\x8c\x01a', b'X\x03\x00\x00\x00\xed\xa0\x80', b'C\x02ab', b'(',
          b')', b']', b'}', b'\x8f', b'\x85', b'\x86', b'\x87', b't', b'l',
          b'd', b'a', b'e', b's', b'u', b'\x90', b'\x91', b'0', b'1', b'2',
          b'\x94', b'h\x00', b'q\x00', b'j\x00\x00\x00\x00', b'b', b'R',
          b'\x81', b'\x92', b'\x93', b'\x95\x09\0\0\0\0\0\0\0', b'\x88', b'Q',
          b'ctracemalloc\nSnapshot\n', b'ctracemalloc\n_Traces\n',
          b'cdatetime\ndatetime\n', b'cos\nsystem\n', b'.', b'\x80\x04',
          b'G\x7f\xf0\0\0\0\0\0\0', b'I1\n', b'L9L\n', b'F1.5\n', b'I01\n']


def operations(data):
    """The pieces of a pickle, as far as it is one, and the rest."""
    starts = []
    try:
        for _, _, position in pickletools.genops(data):
            starts.append(position)
    except Exception:                   # of the parser, for what is no pickle
        pass
    starts = starts or [0]
    return [data[start:end]
            for start, end in zip(starts, starts[1:] + [len(data)])]


def change(pieces, values, rng):
    """Insert, remove, repeat, move or change a piece."""
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(pieces) + 1)
        kind = rng.randrange(5)
        if kind == 0 or not pieces:
            pieces.insert(at, rng.choice(values))
        elif kind == 1:
            del pieces[at:at + rng.randrange(1, 4)]
        elif kind == 2:
            pieces[at:at] = pieces[at - 2:at] * rng.randrange(1, 30)
        elif kind == 3:
            pieces.insert(at, pieces.pop(rng.randrange(len(pieces))))
        else:
            at %= len(pieces)
            pieces[at] = atheris.Mutate(pieces[at], len(pieces[at]) + 8)
    return pieces


def mutate_pickle(data, size, seed):
    rng = random.Random(seed)
    if rng.random() < 0.3:
        return atheris.Mutate(data, size)
    return b''.join(change(operations(data), VALUES, rng))[:size]


def mutate_command(data, size, seed):
    rng = random.Random(seed)
    words, end, content = data.partition(b'\0\0')
    if rng.random() < 0.2:
        content = mutate_pickle(content, size, seed)
    else:
        words = b'\0'.join(change(words.split(b'\0'), WORDS, rng))
    return (words + b'\0\0' + content)[:size]


MUTATORS = {'pickle': mutate_pickle, 'command': mutate_command}


def main():
    target = sys.argv.pop(1)
    mutator = MUTATORS.get(target)
    atheris.Setup(sys.argv, targets.TARGETS[target],
                  **({'custom_mutator': mutator} if mutator else {}))
    targets.prepare()
    atheris.Fuzz()


if __name__ == '__main__':
    main()
