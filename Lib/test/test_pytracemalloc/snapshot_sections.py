"""Sections of snapshot files, taken apart and put together in Python.

They follow Doc/library/tracemalloc_file.rst, not the code that reads and
writes files.
"""

import struct
import zlib


def sections(image):
    offset = 16
    while offset < len(image):
        tag, crc, length = struct.unpack_from('<4sIQ', image, offset)
        yield tag, image[offset + 16:offset + 16 + length]
        offset += 16 + length


def join(contents, version=8):
    """A file of sections with these contents, all sums right."""
    image = b'\x89TRM\r\n\x1a\n' + struct.pack('<Q', version)
    contents = [(tag, data) for tag, data in contents if tag != b'DONE']
    size = 16 + sum(16 + len(data) for _, data in contents) + 24
    for tag, data in [*contents, (b'DONE', struct.pack('<Q', size))]:
        image += tag + struct.pack('<IQ', zlib.crc32(data), len(data)) + data
    return image


def number(value):
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def number_of(data):
    """The number at the start."""
    value = 0
    for i, byte in enumerate(data):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value


def difference(value):
    return number(2 * value if value >= 0 else -2 * value - 1)


class Reader:
    """Of the section HEAP, as the documentation has it."""

    def __init__(self, data, texts):
        self.data = iter(data)
        self.texts = texts
        self.kind = self.number()
        self.shift = self.number()

    def number(self):
        value = shift = 0
        while True:
            byte = next(self.data)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def difference(self):
        value = self.number()
        return ~(value >> 1) if value & 1 else value >> 1

    def shapes(self):
        self.number()
        told, name = [], 0
        for _ in range(self.number()):
            kind, names = self.number(), []
            for _ in range(self.number()):
                name += self.difference()
                names.append(self.texts[name])
            told.append((kind, tuple(names)))
        return told

    def reference(self, place):
        code = self.number()
        if code == 1:
            return 0
        target = self.next if code == 0 else self.last.get(place, 0) + (
            ~(code - 2 >> 1) if code & 1 else code - 2 >> 1)
        self.last[place] = target
        if target > self.object and target not in self.expected:
            self.expected[target] = self.met.get(place)
            self.met[place] = target
        self.next = max(self.next, target + 1)
        return target

    def objects(self, shapes):
        self.number()
        self.last, self.met, self.expected = {}, {}, {}
        self.next = text = 0
        objects = []
        for self.object in range(self.number()):
            self.next = max(self.next, self.object + 1)
            like = self.expected.get(self.object)
            if like is None or like >= self.object:
                like = self.object - 1
            address, type_, shape, alone, found, references = (
                objects[like] if objects else (0, 0, 0, 0, None, ()))
            count = len(references)
            control = next(self.data)
            address += (control >> 4 if control >> 4 < 15
                        else self.difference()) << self.shift
            if control & 1:
                shape = self.number()
                type_ = self.reference((shape, 'type'))
            if control & 2:
                count = self.number()
            if control & 4:
                alone = self.number() - 2 & 0xffff_ffff
            if found is not None:
                found = text
            if control & 8:
                code = self.number()
                found = None if code == 0 else text + (
                    ~(code - 1 >> 1) if code - 1 & 1 else code - 1 >> 1)
            if found is not None:
                text = found + 1
            names = len(shapes[shape][1])
            references = [self.reference(
                (shape, i if i < names else names + (i - names) % 2))
                for i in range(count)]
            objects.append((address % 2 ** 64, type_, shape, alone, found,
                            tuple(references)))
        return objects

    def buffers(self, objects):
        told, owner = [], 0
        for _ in range(self.number()):
            owner += self.difference()
            address = objects[owner][0] + (self.difference() << self.shift)
            told.append((address % 2 ** 64, owner))
        return told

    def graph(self):
        shapes = self.shapes()
        objects = self.objects([(kind, ()) for kind in range(5)] + shapes)
        buffers = self.buffers(objects)
        if next(self.data, None) is not None:
            raise ValueError('longer than its records')
        return ([(*start, None if text is None else self.texts[text], last)
                 for *start, text, last in objects],
                shapes, buffers, self.kind == 2)


def read_texts(data):
    reader = Reader.__new__(Reader)
    reader.data = iter(data)
    lengths = [reader.number() for _ in range(reader.number())]
    rest = bytes(reader.data)
    texts = []
    for length in lengths:
        texts.append(rest[:length].decode('utf-8', 'surrogatepass'))
        rest = rest[length:]
    return texts
