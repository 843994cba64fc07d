"""Workloads of numbers: floats (a free list of their own) and integers."""

import decimal
import math
import random

from . import workload


@workload(120000)
def nbody(loops):
    """Floats: five bodies under gravity; the float free list is the path."""
    bodies = [[math.cos(i) * i, math.sin(i) * i, i / 10, 0.0, i / 50, 0.0,
               1.0 / (i + 1)] for i in range(5)]
    pairs = [(a, b) for i, a in enumerate(bodies) for b in bodies[i + 1:]]
    for _ in range(loops):
        for a, b in pairs:
            dx = a[0] - b[0]
            dy = a[1] - b[1]
            dz = a[2] - b[2]
            pull = 0.001 / (dx * dx + dy * dy + dz * dz + 0.01) ** 1.5
            a[3] -= dx * b[6] * pull
            a[4] -= dy * b[6] * pull
            a[5] -= dz * b[6] * pull
            b[3] += dx * a[6] * pull
            b[4] += dy * a[6] * pull
            b[5] += dz * a[6] * pull
        for body in bodies:
            body[0] += 0.001 * body[3]
            body[1] += 0.001 * body[4]
            body[2] += 0.001 * body[5]


@workload(130)
def spectral_norm(loops):
    """Floats in comprehensions and calls: power iteration."""
    def entry(i, j):
        return 1.0 / ((i + j) * (i + j + 1) // 2 + i + 1)

    def times(v):
        return [sum(entry(i, j) * x for j, x in enumerate(v))
                for i in range(len(v))]

    vector = [1.0] * 120
    for _ in range(loops):
        vector = times(times(vector))
        scale = max(vector)
        vector = [x / scale for x in vector]


@workload(17)
def fannkuch(loops):
    """Integers and list slices: pancake flips of all permutations of 8."""
    import itertools
    for _ in range(loops):
        worst = 0
        for permutation in itertools.permutations(range(8)):
            deck = list(permutation)
            flips = 0
            while deck[0]:
                top = deck[0] + 1
                deck[:top] = deck[top - 1::-1] if top else deck
                flips += 1
            worst = max(worst, flips)


@workload(700)
def pidigits(loops):
    """Big integers that grow: the digits of pi by a spigot."""
    q, r, t, k, n, l = 1, 0, 1, 1, 3, 3
    digits = 0
    while digits < loops * 5:
        if 4 * q + r - t < n * t:
            digits += 1
            q, r, n = 10 * q, 10 * (r - n * t), \
                10 * (3 * q + r) // t - 10 * n
        else:
            q, r, t, k, n, l = q * k, (2 * q + r) * l, t * l, k + 1, \
                (q * (7 * k + 2) + r * l) // (t * l), l + 2


@workload(160000)
def telco(loops):
    """decimal: the price of calls, rounded, taxed, printed."""
    cents = decimal.Decimal('0.01')
    rates = [decimal.Decimal('0.0013'), decimal.Decimal('0.00894')]
    tax = decimal.Decimal('0.0675')
    total = decimal.Decimal(0)
    for call in range(loops * 5):
        price = (rates[call & 1] * (call % 3600)).quantize(
            cents, decimal.ROUND_HALF_EVEN)
        price += (price * tax).quantize(cents, decimal.ROUND_DOWN)
        total += price
        str(total)


@workload(67)
def crypto(loops):
    """Integers of 32 bits: a block cipher of additions and rotations."""
    mask = 0xffffffff
    key = [0x9e3779b9 * (i + 1) & mask for i in range(4)]
    for _ in range(loops):
        out = []
        for block in range(1000):
            left, right = block, block ^ mask
            total = 0
            for _ in range(16):
                total = (total + 0x9e3779b9) & mask
                left = (left + (((right << 4) + key[0]) ^ (right + total)
                                ^ ((right >> 5) + key[1]))) & mask
                right = (right + (((left << 4) + key[2]) ^ (left + total)
                                  ^ ((left >> 5) + key[3]))) & mask
            out.append((left, right))


@workload(190)
def scimark_lu(loops):
    """Lists of lists of floats: factor a matrix of 60 by 60."""
    source = random.Random(1)
    for _ in range(loops):
        a = [[source.random() + (i == j) for j in range(60)]
             for i in range(60)]
        for k in range(60):
            pivot = a[k]
            for row in a[k + 1:]:
                factor = row[k] / pivot[k]
                row[k] = factor
                for j in range(k + 1, 60):
                    row[j] -= factor * pivot[j]


@workload(16000)
def mdp(loops):
    """Fractions: value iteration over a small decision process."""
    from fractions import Fraction
    states = [Fraction(i, 7) for i in range(5)]
    for _ in range(loops):
        states = [max((states[(i + 1) % 5] * Fraction(2, 3)
                       + states[i] * Fraction(1, 3)),
                      states[(i + 2) % 5] - Fraction(1, 100)
                      ).limit_denominator(10000)
                  for i in range(5)]
