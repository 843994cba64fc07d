"""Workloads of classes and instances: simulations, solvers, games."""

import collections
import dataclasses
import math
import random

from . import workload


class Packet:
    def __init__(self, kind, origin):
        self.kind = kind
        self.origin = origin
        self.data = [0] * 4
        self.next = None


class Task:
    def __init__(self, name, priority):
        self.name = name
        self.priority = priority
        self.queue = collections.deque()
        self.done = 0

    def step(self, scheduler):
        raise NotImplementedError


class Worker(Task):
    def step(self, scheduler):
        packet = self.queue.popleft()
        packet.data = [(x + self.done) % 26 for x in packet.data]
        self.done += 1
        scheduler.send(Packet(packet.kind, self), self.done % 5)


class Device(Task):
    def step(self, scheduler):
        packet = self.queue.popleft()
        self.done += 1
        target = 0 if packet.kind else 1
        scheduler.send(Packet(1 - packet.kind, self), target)


class Scheduler:
    def __init__(self):
        self.tasks = [Worker('a', 1), Worker('b', 2), Device('c', 3),
                      Device('d', 4), Device('e', 5)]
        for i in range(10):
            self.send(Packet(i & 1, None), i % 5)

    def send(self, packet, index):
        self.tasks[index].queue.append(packet)

    def run(self, steps):
        while steps:
            for task in self.tasks:
                if task.queue:
                    task.step(self)
                    steps -= 1
                    if not steps:
                        break


@workload(61)
def richards(loops):
    """Method calls and short-lived instances: an operating system."""
    for _ in range(loops):
        Scheduler().run(15000)


class Variable:
    def __init__(self, value):
        self.value = value
        self.users = []
        self.maker = None


class Constraint:
    def __init__(self, source, target, factor, offset):
        self.source = source
        self.target = target
        self.factor = factor
        self.offset = offset
        source.users.append(self)
        target.maker = self

    def execute(self):
        self.target.value = self.source.value * self.factor + self.offset


@workload(260)
def deltablue(loops):
    """Constraints planned and propagated along a chain and a fan."""
    for _ in range(loops):
        chain = [Variable(0) for _ in range(800)]
        for a, b in zip(chain, chain[1:]):
            Constraint(a, b, 1, 1)
        fan = [Variable(i) for i in range(800)]
        for variable in fan:
            Constraint(chain[-1], variable, 3, variable.value)
        for value in range(4):
            chain[0].value = value
            plan = []
            todo = [chain[0]]
            while todo:
                for constraint in todo.pop().users:
                    plan.append(constraint)
                    todo.append(constraint.target)
            for constraint in plan:
                constraint.execute()


class Vector:
    __slots__ = ('x', 'y', 'z')

    def __init__(self, x, y, z):
        self.x = x
        self.y = y
        self.z = z

    def __add__(self, other):
        return Vector(self.x + other.x, self.y + other.y, self.z + other.z)

    def __sub__(self, other):
        return Vector(self.x - other.x, self.y - other.y, self.z - other.z)

    def __mul__(self, factor):
        return Vector(self.x * factor, self.y * factor, self.z * factor)

    def dot(self, other):
        return self.x * other.x + self.y * other.y + self.z * other.z

    def unit(self):
        return self * (1 / math.sqrt(self.dot(self)))


@workload(380)
def raytrace(loops):
    """Instances with slots and floats: spheres in parallel light."""
    spheres = [(Vector(i - 2, (i % 3) - 1, 6 + i), 1.0) for i in range(5)]
    light = Vector(1, 1, -1).unit()
    for _ in range(loops):
        for py in range(24):
            for px in range(24):
                ray = Vector((px - 12) / 12, (py - 12) / 12, 1.5).unit()
                nearest = None
                for centre, radius in spheres:
                    along = centre.dot(ray)
                    gap = (radius * radius - centre.dot(centre)
                           + along * along)
                    if gap > 0:
                        distance = along - math.sqrt(gap)
                        if nearest is None or distance < nearest[0]:
                            nearest = (distance, centre)
                if nearest:
                    point = ray * nearest[0]
                    max(0.0, (point - nearest[1]).unit().dot(light))


@dataclasses.dataclass
class Point:
    x: float
    y: float

    def toward(self, other, share):
        return Point(self.x + (other.x - self.x) * share,
                     self.y + (other.y - self.y) * share)


@workload(310000)
def chaos(loops):
    """Dataclass instances and random numbers: the chaos game."""
    source = random.Random(7)
    corners = [Point(0.0, 0.0), Point(1.0, 0.0), Point(0.5, 1.0)]
    grid = [[0] * 64 for _ in range(64)]
    point = Point(0.3, 0.3)
    for _ in range(loops * 3):
        point = point.toward(corners[source.randrange(3)], 0.5)
        grid[int(point.y * 63)][int(point.x * 63)] += 1


@workload(92)
def go(loops):
    """A board game played at random: groups and liberties by flood fill."""
    size = 9
    source = random.Random(3)
    near = {}
    for p in range(size * size):
        y, x = divmod(p, size)
        near[p] = [q * size + r for q, r in
                   ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
                   if 0 <= q < size and 0 <= r < size]

    def group(board, start):
        stones, liberties, todo = {start}, set(), [start]
        while todo:
            for q in near[todo.pop()]:
                if board[q] == 0:
                    liberties.add(q)
                elif board[q] == board[start] and q not in stones:
                    stones.add(q)
                    todo.append(q)
        return stones, liberties

    for _ in range(loops * 5):
        board = [0] * (size * size)
        colour = 1
        for _ in range(150):
            free = [p for p in near if not board[p]]
            if not free:
                break
            p = source.choice(free)
            board[p] = colour
            for q in near[p]:
                if board[q] == -colour:
                    stones, liberties = group(board, q)
                    if not liberties:
                        for stone in stones:
                            board[stone] = 0
            colour = -colour


@workload(1200)
def hexiom(loops):
    """A puzzle solver: constraint propagation over copies of a state."""
    def solve(cells, index):
        if index == len(cells):
            return 1
        found = 0
        for value in sorted(cells[index]):
            trial = [set(cell) for cell in cells]
            trial[index] = {value}
            consistent = True
            for other in range(index + 1, len(trial)):
                trial[other].discard(value)
                trial[other].discard(value + other - index)
                if not trial[other]:
                    consistent = False
                    break
            if consistent:
                found += solve(trial, index + 1)
        return found

    for _ in range(loops):
        solve([set(range(6)) for _ in range(6)], 0)


@workload(81)
def gc_cycles(loops):
    """Cyclic garbage: nodes that refer to each other and are dropped."""
    for _ in range(loops * 12):
        ring = [Variable(i) for i in range(1500)]
        for a, b in zip(ring, ring[1:] + ring[:1]):
            a.users.append(b)
            b.maker = a
