"""A batch job of pandas: the table is largest where it is made wider."""

import numpy
import pandas

ROWS = 200_000


def load():
    return pandas.DataFrame({'month': numpy.arange(ROWS) % 12,
                             'price': numpy.arange(ROWS) * 0.5})


def widen(table):
    wide = numpy.zeros((ROWS, 20))    # peak
    wide[:, 0] = table['price']
    return wide.sum()


table = load()
total = widen(table)
table.groupby('month')['price'].sum()
print('peak of the job', ROWS * 20 * 8)
