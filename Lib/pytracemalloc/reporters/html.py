"""The HTML report: one file with the page, its script and the data.

Nothing of the data is ever markup: it is JSON with every '<' escaped, and
columns of numbers in characters of which '<' is none.  The script puts it into
the page as text, and the page's policy allows no script and no style but the
two whose hashes it names.
"""

import base64
import hashlib
import html
import json
import os.path
from importlib import resources

from tracemalloc.modules import module_of
from tracemalloc.places import (IMPORTS, NOT_MINE, name_file, name_parts,
                                name_place)
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size
from tracemalloc.source_lines import read_lines
from tracemalloc.views import Files

from pytracemalloc import arenas, curve, failed, moments
from pytracemalloc.reporters import Reporter
from pytracemalloc.reporters.rows import key_text
from pytracemalloc.series import add_up
from pytracemalloc.sources import short_names
from pytracemalloc.units import format_count
from pytracemalloc.words import LOSSES

_SCRIPTS = ('model.js', 'holders.js', 'graph.js', 'table.js', 'history.js',
            'series.js', 'app.js')
_VIEWS = {'size': {}, 'count': {'unit': 'blocks'},
          'peak': {'measure': 'peak'}, 'total': {'measure': 'total'},
          'garbage': {'measure': 'garbage'}}
_BANDS = 12                       # of several snapshots, without the rest
_THINNEST = 20_000                # of a tree of holders: a part of the whole
_HOLDER_COLUMNS = ('parents', 'frames', 'names', 'sizes', 'counts', 'retained',
                   'old', 'count_diffs')
_NATIVE = 4                       # follows those of tracemalloc.views
_TABLES = {'line', 'function', 'file', 'module', 'type'}
_FIRST_DIGIT = ord('=')


class HtmlReporter(Reporter):
    suffix = '.html'
    beside = True

    def write(self, subject, file):
        data, columns = page_data(subject)
        texts = _encode(columns)
        data['columns'] = {name: len(text) for name, text in texts.items()}
        data = json.dumps(data, separators=(',', ':'))
        style = _read('page.css')
        # A single character beyond ASCII would make the browser hold the whole
        # page in wide characters, which take longer to read.
        script = _escape('\n'.join(map(_read, _SCRIPTS)), 'backslashreplace')
        title = printable(subject.title or 'pytracemalloc')
        parts = {'title': _escape(html.escape(title), 'xmlcharrefreplace'),
                 'style': style, 'style_hash': _hash(style),
                 'script': script, 'script_hash': _hash(script),
                 'data': data.replace('<', '\\u003c'),
                 'columns': ''.join(texts.values())}
        # Filled in one pass: what is put in is not looked at again.
        head, *rest = _escape(_read('page.html'),
                              'xmlcharrefreplace').split('{{')
        file.write(head)
        for part in rest:
            name, text = part.split('}}', 1)
            file.write(parts[name])
            file.write(text)


def _read(name):
    return (resources.files('pytracemalloc') / 'html' / name).read_text(
        encoding='utf-8')


def _escape(text, how):
    return text.encode('ascii', how).decode()


def _hash(text):
    digest = hashlib.sha256(text.encode()).digest()
    return base64.b64encode(digest).decode()


class _Codes(dict):
    """Numbers as model.js reads them: digits of five bits, the lowest first,
    each a character; all but the last are greater by 32."""

    def __missing__(self, number):
        code, rest = '', number
        while rest > 31:
            code += chr(_FIRST_DIGIT + 32 + rest % 32)
            rest //= 32
        self[number] = code = code + chr(_FIRST_DIGIT + rest)
        return code


def _encode(columns):
    """Return the texts of columns, without those that have only zeros."""
    codes = _Codes()
    return {name: ''.join(map(codes.__getitem__, column))
            for name, column in columns.items() if any(column)}


def page_data(subject):
    """Return what model.js reads, see the names there: plain data, and columns
    of numbers that are 0 or more."""
    tree = subject.unfolded_tree()
    strings = _Strings()
    # What the page leaves out has a place, see model.js.
    table = [*tree.frame_table, *((name, 0, None, 0) for name in
                                  (IMPORTS, NOT_MINE))]
    judge = Files(subject.new.program, subject.view.get('mine', ()))
    parts = [name_parts(*frame[:3]) for frame in table]
    # What is shown of a file: its name, once each.
    files = {file: frame[0] for (file, _), frame in zip(parts, table)}
    file_index = {file: index for index, file in enumerate(files)}
    shorts = [short if file == name else file for short, (file, name)
              in zip(short_names(list(files.values()), judge),
                     files.items())]
    lines = read_lines(frame[:2] for frame in table)
    view = dict(_VIEWS[subject.measure.name], fold=_fold(subject.view))
    if subject.old is not None and subject.measure.name in ('size', 'count'):
        view['measure'] = 'difference'
    if subject.by == 'holder':
        view['measure'] = 'held'
    if subject.by in _TABLES and (subject.by != 'type' or tree.types):
        view['by'] = subject.by
    types, type_columns = _types(tree)
    data = {
        'view': view,
        'count': len(tree.parents),
        'compared': tree.old is not None,
        'figures': _figures(subject),
        'metrics': _metrics(subject.new),
        'history': curve.columns_of(subject.new),
        'series': _series(subject),
        'files': [strings[file] for file in files],
        'short_files': [strings[short] for short in shorts],
        'file_modules': [
            strings[name_file(module_of(name, subject.new.program))]
            for name in files.values()],
        'file_categories': _categories(tree, judge, parts, files),
        'file_imports': list(map(judge.import_kind, files.values())),
        'file_code': list(map(judge.code_kind, files.values())),
        'frame_files': [file_index[file] for file, _ in parts],
        'frame_lines': [frame[1] for frame in table],
        'frame_functions': [strings[function or ''] for _, function in parts],
        'frame_first_lines': [frame[3] for frame in table],
        'frame_sources': [strings[lines[frame[:2]]] if frame[:2] in lines
                          else -1 for frame in table],
        'types': types,
        'holders': _holders(subject, table, strings),
        'retained': _retained(subject.new, table, list(files.values()),
                              strings, tree.types),
        'strings': list(strings.index),
    }
    return data, _columns(tree) | type_columns


def _categories(tree, judge, parts, files):
    native = {parts[index][0] for index in tree.native}
    return [_NATIVE if file in native else judge.category(name)
            for file, name in files.items()]


def _columns(tree):
    # A caller comes before what it calls: the distance is never negative.
    columns = {'callers': [node - parent for node, parent
                           in enumerate(tree.parents)],
               'frames': tree.frames, **tree.values}
    for name, column in (tree.old or {}).items():
        columns[f'old_{name}'] = column
    return columns


def _series(subject):
    """Return the groups that were largest at any of several snapshots, and the
    sum of all others; None: there is one snapshot."""
    series = subject.series
    rows = series.rows(subject.measure) if series is not None else []
    if not rows:
        return None
    by_count = subject.measure.order == subject.measure.count

    def values(row):
        return row.counts if by_count else row.sizes

    largest = sorted(rows, key=lambda row: -max(values(row)))[:_BANDS]
    chosen = {id(row) for row in largest}
    bands = [[printable(key_text(row.stat, subject.by)), values(row)]
             for row in largest]
    others = [row for row in rows if id(row) not in chosen]
    if others:
        bands.append([f'{len(others):,} more', values(add_up(others))])
    return {'unit': 'blocks' if by_count else 'bytes',
            'time': [taken.timestamp and taken.timestamp.timestamp()
                     for taken in series.taken],
            'names': [name for name, _ in bands],
            'values': [column for _, column in bands],
            'more': len(bands) - 1 if others else -1}


def _fold(view):
    if view.get('my_code'):
        return 'code'
    return 'none' if view.get('unfold') else 'imports'


class _Strings:
    """The texts of the page, with characters that show nothing escaped."""

    def __init__(self):
        self.index = {}

    def __getitem__(self, text):
        return self.index.setdefault(printable(text), len(self.index))


def _holders(subject, table, strings):
    """Return the tree of holders, or None if the snapshot has no references.

    Parents come first, and what is thinner than a pixel is left out.  For two
    snapshots, there are the figures of both.
    """
    if not subject.new.has_references:
        return None
    frames = {}
    for number, (filename, lineno, *_) in enumerate(table):
        frames.setdefault((filename, lineno), number)
    least = subject.new.traced_memory[0] // _THINNEST + 1
    compared = subject.old is not None and subject.old.has_references
    root = (subject.new.compare_holders(subject.old) if compared
            else subject.new.holders(least=least))
    rows = []
    todo = [(root, -1)]
    while todo:
        holder, parent = todo.pop()
        number = len(rows)
        old = holder.retained - holder.retained_diff
        if parent >= 0 and max(holder.retained, old) < least:
            continue
        rows.append((parent, frames.get((holder.filename, holder.lineno), -1),
                     strings[_name_holder(holder)], holder.size,
                     holder.count, holder.retained, old, holder.count_diff))
        todo += [(child, number) for child in reversed(holder.children)]
    columns = dict(zip(_HOLDER_COLUMNS, zip(*rows)))
    if not compared:
        columns['old'] = columns['count_diffs'] = None
    return columns


def _retained(snapshot, table, files, strings, types):
    """Return what is retained by the keys of the tables, see table.js."""
    if not snapshot.has_references:
        return None
    line, function, file, module, kind = (
        {group.key: group.retained for group in snapshot.retained(key)}
        for key in ('lineno', 'function', 'filename', 'module', 'type'))
    line = {key and key[:2]: value for key, value in line.items()}
    modules = {}
    for name in dict.fromkeys(module_of(name, snapshot.program)
                              for name in files):
        number = strings[name_file(name)]
        modules[number] = modules.get(number, 0) + module.get(name, 0)
    names = _Strings()
    types = {names[name]: kind.get(name, 0) for _, name, *_ in types or ()}
    return {
        'line': [line.get(frame[:2], 0) for frame in table],
        'function': [function.get((frame[0], frame[2], max(0, frame[3])), 0)
                     for frame in table],
        'file': [file.get(name, 0) for name in files],
        'module': modules,
        'type': list(types.values())}


def _name_holder(holder):
    if holder.type == 'module' and not holder.name:
        # What tells them apart comes first: boxes are narrow.
        return f'{holder.what.removeprefix("module ")}  module'
    name = f'{holder.name}: {holder.what}' if holder.name else holder.what
    if holder.filename is None:
        return name
    place = name_place(os.path.basename(holder.filename), holder.lineno)
    return f'{name}  {place}'


def _types(tree):
    """Return the names of types, and columns: which nodes have how much."""
    if not tree.types:
        return None, {}
    names = _Strings()
    nodes, types, sizes, counts = zip(*(
        (node, names[name], size, count)
        for node, name, size, count in tree.types))
    return ({'names': list(names.index), 'count': len(nodes)},
            {'type_nodes': nodes, 'types': types, 'type_sizes': sizes,
             'type_counts': counts})


def _figures(subject):
    snapshot = subject.new
    current, peak = snapshot.traced_memory
    figures = [('Traced memory', format_size(current)),
               ('Peak', format_size(peak)),
               *(('Next highest', moments.brief(moment, snapshot))
                 for moment in moments.find(subject.shown()))]
    if subject.old is not None:
        before, _ = subject.old.traced_memory
        figures.insert(1, ('Change', format_size(current - before,
                                                 sign=True)))
    parked = sum(size for _, size in snapshot.freelists.values())
    if parked:
        figures.append(('On free lists', format_size(parked)))
    if subject.old is None and snapshot.rss is not None:
        figures.append(('Resident', arenas.brief_rss(snapshot.rss)))
        figures += _arenas((subject.whole or snapshot).arena_use)
    limit = snapshot.traceback_limit
    figures.append(('Frames', 'all' if limit == 65535 else str(limit)))
    if snapshot.pid is not None:
        figures.append(('Process', str(snapshot.pid)))
    if snapshot.timestamp is not None:
        figures.append(('Taken', f'{snapshot.timestamp:%Y-%m-%d %H:%M:%S}'))
    return figures


def _arenas(use):
    if use.count:
        yield 'Arenas', arenas.brief_arenas(use)
    if use.given_back and use.lines:
        line = use.lines[0]
        yield 'Kept by', (f'{format_size(line.kept)}: '
                          f'{arenas.name_line(line)}')


def _metrics(snapshot):
    rows = [(f'free list: {printable(name)}', format_size(size),
             f'{format_count(count)} block{"s" if count != 1 else ""}')
            for name, (count, size) in sorted(snapshot.freelists.items())
            if count]
    rss = snapshot.rss
    for what, size in arenas.sum_owners(rss) if rss is not None else ():
        share = size / rss.total if rss.total else 0
        rows.append((f'resident: {what}', format_size(size), f'{share:.1%}'))
    request = failed.line(snapshot)
    if request:
        rows.append((*request.split(': ', 1),
                     ' '.join(failed.stack(snapshot))))
    rows += [(printable(str(name)), printable(str(value)),
              LOSSES.get(name, ''))
             for name, value in sorted(snapshot.metadata.items(), key=str)
             if not (request and name == failed.KEY)]
    return rows
