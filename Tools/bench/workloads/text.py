"""Workloads of text and data formats: parsing, printing, round trips."""

import io
import json
import logging
import pickle
import re
import string
import tomllib
import xml.etree.ElementTree as ElementTree

from . import workload

ROWS = [{'id': i, 'name': f'name {i}', 'price': i * 1.5,
         'tags': ['a', 'b', str(i)], 'more': {'x': None, 'y': True}}
        for i in range(200)]


@workload(1500)
def json_round_trip(loops):
    """json.dumps() and json.loads() with the C accelerator."""
    for _ in range(loops):
        json.loads(json.dumps(ROWS))


@workload(160)
def json_pure(loops):
    """json encoded chunk by chunk, by Python code."""
    encoder = json.JSONEncoder(indent=1)
    for _ in range(loops * 3):
        for _ in encoder.iterencode(ROWS):
            pass


@workload(3600)
def pickle_round_trip(loops):
    """pickle, protocol 5, with the C accelerator."""
    for _ in range(loops):
        pickle.loads(pickle.dumps(ROWS, 5))


@workload(27)
def pickle_pure(loops):
    """pickle by its Python implementation."""
    for _ in range(loops * 4):
        out = io.BytesIO()
        pickle._Pickler(out, 4).dump(ROWS)
        out.seek(0)
        pickle._Unpickler(out).load()


@workload(960)
def regex(loops):
    """re: searching, splitting, substituting; and compiling."""
    text = ' '.join(f'user{i}@host{i % 7}.example, +{i:05d};'
                    for i in range(300))
    word = re.compile(r'(?P<user>\w+)@(?P<host>[a-z0-9.]+)')
    for i in range(loops):
        [match.groupdict() for match in word.finditer(text)]
        word.sub(lambda match: match['host'].upper(), text)
        re.split(r'[,;]\s*', text)
        re.purge()
        re.compile(rf'(a|b)*c{{{i % 5 + 1},9}}[^x-z]+(?:\d\d)?$')


@workload(320)
def toml(loops):
    """tomllib: a parser written in Python."""
    text = '\n'.join(
        f'[table{i}]\nnumber = {i}\nfloat = {i}.5\nlist = [1, 2, "x{i}"]\n'
        f'when = 2024-01-02T03:04:05Z\ninline = {{ a = 1, b = "two" }}'
        for i in range(50))
    for _ in range(loops):
        tomllib.loads(text)


@workload(330)
def xml_round_trip(loops):
    """xml.etree: built, printed, parsed, searched."""
    for _ in range(loops):
        root = ElementTree.Element('rows')
        for row in ROWS:
            item = ElementTree.SubElement(root, 'row', id=str(row['id']))
            item.text = row['name']
            for tag in row['tags']:
                ElementTree.SubElement(item, 'tag').text = tag
        parsed = ElementTree.fromstring(ElementTree.tostring(root))
        [tag.text for tag in parsed.findall('.//tag')]


@workload(130)
def log(loops):
    """logging: records formatted, and records dropped by level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(
        '%(asctime)s %(levelname)s %(name)s: %(message)s'))
    logger = logging.Logger('bench')
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    for _ in range(loops):
        for i in range(500):
            logger.info('number %d of %s', i, 'many')
            logger.debug('unseen %d', i)
        stream.seek(0)
        stream.truncate()


@workload(820)
def templates(loops):
    """Strings: templates, f-strings, format(), join and split."""
    template = string.Template('<tr><td>$name</td><td>${price}</td></tr>')
    for _ in range(loops):
        parts = []
        for row in ROWS:
            parts.append(template.substitute(row))
            parts.append(f"<p>{row['name']!r:>20} {row['price']:.2f}</p>")
            parts.append('<a>{id} {more[y]}</a>'.format(**row))
        '\n'.join(parts).upper().split('<')


@workload(1300)
def string_building(loops):
    """Bytes and str: concatenation, translation, encodings."""
    table = str.maketrans('abc', 'xyz')
    for _ in range(loops):
        text = ''
        for i in range(1500):
            text += chr(97 + i % 26) + str(i)
        data = text.translate(table).encode('utf-16')
        words = [text[i:i + 5] for i in range(0, len(text), 5)]
        data.decode('utf-16').replace('1', 'one').partition('two')
        {word.strip('0123456789') for word in words}


@workload(34)
def tokenizer(loops):
    """tokenize and ast over a module of the standard library."""
    import ast
    import inspect
    import textwrap
    import tokenize
    source = inspect.getsource(textwrap)
    for _ in range(loops * 3):
        list(tokenize.generate_tokens(io.StringIO(source).readline))
        ast.unparse(ast.parse(source))
