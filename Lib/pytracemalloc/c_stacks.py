"""C stacks in an answer of a traced program: it sends what it has, files and
addresses in them, and the command that asked finds the names, as a report
does."""

from tracemalloc import native

# The innermost: more than enough to find one that does not allocate for
# others.
_MAX_FRAMES = 16
_MAX_FILES = 4096                 # that an answer may name


def pack(rows):
    """Return the fields of an answer, of rows of Snapshot._c_stacks()."""
    files, places, stacks = {}, {}, []
    for frames, _, size, count, *_ in rows:
        if frames is not None:
            frames = [
                places.setdefault((files.setdefault((path, build_id),
                                                    len(files)), offset),
                                  len(places))
                for path, build_id, offset, _ in frames[:_MAX_FRAMES]]
        stacks.append([frames, size, count])
    return {'files': [*files], 'places': [*places], 'stacks': stacks}


def check(answer):
    """Raise ValueError if numbers lead nowhere, or there is too much."""
    files, places, stacks = (answer[name]
                             for name in ('files', 'places', 'stacks'))
    longest = max([len(stack or ()) for stack, *_ in stacks], default=0)
    if len(files) > _MAX_FILES or longest > _MAX_FRAMES:
        raise ValueError('too much')
    if any(file >= len(files) for file, _ in places) or any(
            place >= len(places) for stack, *_ in stacks
            for place in stack or ()):
        raise ValueError('no such number')


def name(answer, root, order='size'):
    """Return the answer with rows, as `statistics` has them, for its stacks.

    *root*: the program's root directory, as seen from here.
    """
    files = [(root + path if path.startswith('/') else path, build_id)
             for path, build_id in answer['files']]
    places = [(*files[file], offset, 0) for file, offset in answer['places']]
    named = native.group_by_function(
        (None if stack is None else [places[number] for number in stack],
         None, size, count) for stack, size, count in answer['stacks'])
    rows = [[name, size, count, None, None, None]
            for name, _, size, count in named]
    rows.sort(key=lambda row: (-row[2 if order == 'count' else 1], row[0]))
    # The stacks that were left out, as one.
    left_out = answer['groups'] > len(answer['stacks'])
    shown = {key: value for key, value in answer.items()
             if key not in ('files', 'places', 'stacks')}
    return shown | {'groups': len(rows) + left_out, 'rows': rows}
