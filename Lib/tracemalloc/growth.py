"""How call sites have grown: what C packs into one object, as lists."""

import struct

_HEAD = struct.Struct('=II')
_MOMENT = struct.Struct('=dqQQ')
_SITE = struct.Struct('=III')


def unpack(packed):
    """Return [moments, sites], see Snapshot.growth."""
    nmoments, nsites = _HEAD.unpack_from(packed)
    start = _HEAD.size
    end = start + nmoments * _MOMENT.size
    moments = [[*moment] for moment in _MOMENT.iter_unpack(packed[start:end])]
    sizes = struct.Struct(f'={nmoments}Q')
    sites = []
    for _ in range(nsites):
        lineno, *lengths = _SITE.unpack_from(packed, end)
        held = sizes.unpack_from(packed, end + _SITE.size)
        end += _SITE.size + sizes.size
        names = []
        for length in lengths:
            names.append(packed[end:end + length].decode('utf-8',
                                                         'surrogatepass'))
            end += length
        sites.append([names[0], lineno, names[1], *held])
    return [moments, sites]
