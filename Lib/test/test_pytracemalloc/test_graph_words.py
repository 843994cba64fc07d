"""Small programs that keep objects alive, and the words that come out; and
what is freed when a holder lets go."""
import atexit
import gc
import sys
import textwrap
import tracemalloc
import types
import unittest

from pytracemalloc import suspects
from test.test_pytracemalloc.helpers import FREE_THREADED


def take():
    return tracemalloc.take_snapshot(references=True, pause=True)


class ProgramCase(unittest.TestCase):
    def setUp(self):
        gc.collect()
        tracemalloc.stop()
        tracemalloc.start(1)
        self.addCleanup(tracemalloc.stop)

    def run_program(self, text, **values):
        """Run a module called app; return its dictionary."""
        app = types.ModuleType('app')
        app.__dict__.update(values)
        sys.modules['app'] = app
        self.addCleanup(app.__dict__.clear)
        self.addCleanup(sys.modules.pop, 'app', None)
        exec(compile(textwrap.dedent(text), 'app.py', 'exec'), app.__dict__)
        return app.__dict__


class WordsTest(ProgramCase):
    def check(self, text, *expected, snapshot=None, **question):
        """The program ends with these paths to Row."""
        app = self.run_program('class Row: pass\n' + textwrap.dedent(text),
                               take=take)
        snapshot = app.get('snapshot') or take()
        why = snapshot.why(**(question or {'type': 'app.Row'}))
        self.assertEqual([str(path) for path in why.paths], [*expected])
        return app

    def test_lru_cache(self):
        self.check('''
            import functools
            @functools.lru_cache(maxsize=None)
            def load(n):
                return Row()
            for n in range(20):
                load(n)
            ''', 'app.load (lru_cache)[...] -> app.Row (20)')

    def test_bounded_lru_cache_of_a_method(self):
        self.check('''
            import functools
            class Model:
                @functools.lru_cache(maxsize=100)
                def load(self, n):
                    return Row()
            model = Model()
            for n in range(20):
                model.load(n)
            ''', 'app.Model.load (lru_cache) -> app.Row (20)')

    def test_re(self):
        self.check('''
            import re
            re.purge()
            for n in range(20):
                re.compile(f'unlikely{n}')
            ''', 're._cache[...] -> re.Pattern (20)',
            site='*/re/_compiler.py:%d' % self.line_of_patterns())

    def line_of_patterns(self):
        """The line that makes a pattern."""
        import inspect
        import re
        lines, first = inspect.getsourcelines(re._compiler.compile)
        return first + next(number for number, line in enumerate(lines)
                            if '_sre.compile(' in line)

    def test_linecache(self):
        import linecache
        linecache.checkcache()
        name = linecache.__file__
        self.addCleanup(linecache.clearcache)
        linecache.clearcache()
        lines = linecache.getlines(name)
        address, index = id(lines[7]), 7
        del lines
        paths = take().why(address=address).paths
        self.assertEqual([str(path) for path in paths],
                         [f'linecache.cache[...][2][{index}] -> str (1)'])

    def test_closure(self):
        self.check('''
            def make(row):
                def callback():
                    return row
                return callback
            hooks = [make(Row()) for n in range(20)]
            ''', 'app.hooks[...] -> function make.<locals>.callback, '
            'closure row -> app.Row (20)')

    def test_partial(self):
        self.check('''
            import functools
            hooks = [functools.partial(print, Row()) for n in range(20)]
            ''', 'app.hooks[...].args[...] -> app.Row (20)')

    def test_default(self):
        self.check('''
            def handle(row=Row()):
                pass
            ''', 'app.handle.__defaults__[0] -> app.Row (1)')

    def test_generator(self):
        self.check('''
            def produce():
                rows = [Row() for n in range(20)]
                yield len(rows)
            pipes = [produce()]
            next(pipes[0])
            ''', 'app.pipes[...] -> generator produce, local rows[...] -> '
            'app.Row (20)')

    def test_exception_with_a_traceback(self):
        self.check('''
            def work():
                rows = [Row() for n in range(20)]
                raise ValueError('nothing')
            errors = []
            try:
                work()
            except ValueError as exc:
                errors.append(exc)
            ''', 'app.errors[...].__traceback__.tb_next.tb_frame -> '
            'frame work, local rows[...] -> app.Row (20)')

    def test_local_variable_of_a_thread(self):
        app = self.check('''
            import threading
            started, stop = threading.Event(), threading.Event()
            def work():
                rows = [Row() for n in range(20)]
                started.set()
                stop.wait()
            thread = threading.Thread(target=work)
            thread.start()
            started.wait()
            snapshot = take()
            stop.set()
            thread.join()
            ''', 'local rows[...] of work (app.py:8) -> app.Row (20)')
        self.assertFalse(app['thread'].is_alive())

    def test_threading_local(self):
        self.check('''
            import threading
            local = threading.local()
            local.rows = [Row() for n in range(20)]
            ''', 'app.local (threading.local) -> dict[...].rows[...] -> '
            'app.Row (20)')

    def test_key(self):
        self.check('''
            import tracemalloc
            cache = {f'k{n}': n for n in range(20)}
            cache['k7'] = Row()
            snapshot = tracemalloc.take_snapshot(references=True, keys=True)
            ''', "app.cache['k7'] -> app.Row (1)")

    def test_context_variable(self):
        self.check('''
            import contextvars
            variable = contextvars.ContextVar('request')
            token = variable.set([Row() for n in range(20)])
            snapshot = take()
            variable.reset(token)
            ''', 'thread: context variables -> list[...] -> app.Row (20)')

    def test_class_registry(self):
        self.check('''
            class Meta(type):
                pass
            class Base:
                registry = {}
                def __init_subclass__(cls):
                    Base.registry[cls.__name__] = cls
            def plug(n):
                Meta(f'Plugin{n}', (Base,), {})
            for n in range(20):
                plug(n)
            ''', 'app.Base.registry[...] -> class (20)',
            type='app.Meta')

    def test_identity_map(self):
        self.check('''
            class Session:
                def __init__(self):
                    self._identity_map = {}
                def get(self, n):
                    return self._identity_map.setdefault((Row, n), Row())
            session = Session()
            for n in range(20):
                session.get(n)
            ''', 'app.session._identity_map[...] -> app.Row (20)')

    def test_asyncio_tasks(self):
        path = ('app.loop._scheduled[...]._args[...] (Future) -> Task'
               if sys.version_info >= (3, 14) else
               '_asyncio._current_tasks[...] (Task) -> coroutine main, '
               'local tasks[...] (Task)')
        app = self.check('''
            import asyncio
            async def handle(n):
                row = Row()
                await asyncio.sleep(3600)
            async def main():
                global snapshot
                tasks = [asyncio.create_task(handle(n)) for n in range(20)]
                await asyncio.sleep(0)
                snapshot = take()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            loop = asyncio.new_event_loop()
            loop.run_until_complete(main())
            loop.close()
            ''', f'{path} -> coroutine handle, local row -> app.Row (20)')
        self.assertTrue(app['loop'].is_closed())

    def test_listeners(self):
        self.check('''
            class Catalogue:
                def __init__(self):
                    self.listeners = []
            CATALOGUE = Catalogue()
            class Row:
                def refresh(self):
                    pass
            for n in range(20):
                CATALOGUE.listeners.append(Row().refresh)
            ''', 'app.CATALOGUE.listeners[...] -> bound method Row.refresh -> '
            'app.Row (20)')

    def test_deque_and_slots(self):
        self.check('''
            import collections
            class Queue:
                __slots__ = 'waiting',
            queue = Queue()
            queue.waiting = collections.deque(Row() for n in range(20))
            ''', 'app.queue.waiting[...] -> app.Row (20)')

    def test_atexit(self):
        self.addCleanup(atexit.unregister, print)
        # Of 3.13 an array in C has the callbacks.
        path = (': atexit[0][1]' if sys.version_info >= (3, 14)
               else ' -> tuple')
        self.check('''
            import atexit
            atexit.register(print, Row())
            ''', f'interpreter{path}[0] -> app.Row (1)')

    def test_linked_list(self):
        self.check('''
            class Node(Row):
                def __init__(self, next):
                    self.next = next
            head = None
            for n in range(1000):
                head = Node(head)
            ''', 'app.head -> app.Node (1, 999 behind)', type='app.Node')


class GarbageTest(ProgramCase):
    @unittest.skipIf(FREE_THREADED,
                     'without the GIL the collector has no such lists')
    def test_garbage_while_the_collector_runs(self):
        app = self.run_program('''
            import gc
            snapshots = []
            class Row: pass
            class Last:
                def __del__(self):
                    snapshots.append(take())
            def circle(made):
                made.self = made
                made.more = bytearray(5000)
            gc.collect()
            gc.disable()
            for number in range(100):
                circle(Row())
            circle(Last())
            for number in range(100):
                circle(Row())
            gc.collect()
            gc.enable()
            ''', take=take)
        why = app['snapshots'][0].why(type='app.Row')
        self.assertEqual((why.count, why.unreached, why.paths), (200, 200, []))
        self.assertGreater(why.size, 0)
        root = app['snapshots'][0].holders(1)
        garbage, = [holder for holder in root.children
                    if holder.what.startswith('held by nobody')]
        self.assertGreater(garbage.retained, 200 * 5000)


class SuspectTest(ProgramCase):
    def test_suspects_say_their_holder(self):
        app = self.run_program('''
            class Row:
                pass
            kept = []
            def work(n):
                for i in range(20_000):
                    kept.append(Row())
            for n in range(10):
                work(n)
            ''')
        lines = suspects.lines(take(), 9)
        place, = [number for number, line in enumerate(lines)
                  if 'app.py:7' in line]
        self.assertRegex(lines[place + 1], r'^ +held by app\.kept\[\.\.\.\] -> '
                                           r'app\.Row \(200,000\)$')
        self.assertLessEqual(len(suspects.lines(take(), 9, 60)[place + 1]),
                             60)
        self.assertTrue(app['kept'])


class FreedTest(ProgramCase):
    """What is retained is what is freed, to the byte."""

    def freed(self, app, name):
        gc.collect()
        # Twice: numbers like these are there the next time.
        before, peak = tracemalloc.get_traced_memory()
        before, peak = tracemalloc.get_traced_memory()
        app[name] = None
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
        return before - after

    def check(self, text, kind):
        app = self.run_program(text)
        gc.collect()
        why = take().why(type=kind)
        self.assertEqual(why.count, 1)
        self.assertEqual(why.retained, self.freed(app, 'holder'))

    def test_instances(self):
        self.check('''
            class Row:
                def __init__(self, n):
                    self.n = [n] * n
            class Shop:
                def __init__(self):
                    self.rows = {n: Row(n) for n in range(1000, 2000)}
            holder = Shop()
            ''', 'app.Shop')

    def test_shared_with_others(self):
        self.check('''
            class Shop:
                pass
            shared = [bytearray(1000 + n) for n in range(50)]
            holder = Shop()
            holder.shared = shared + [bytearray(2000)]
            holder.mine = set(range(10_000, 20_000))
            holder.circle = holder
            ''', 'app.Shop')

    @unittest.skipIf(FREE_THREADED, 'items of lists are freed when no other '
                                    'thread can look at them any more')
    def test_random_graphs(self):
        for seed in range(12):
            with self.subTest(seed=seed):
                app = self.run_program(f'''
                    import random
                    rng = random.Random({seed})
                    class Node:
                        pass
                    class Holder:
                        pass
                    def make():
                        kind = rng.randrange(5)
                        if kind == 0:
                            return []
                        if kind == 1:
                            return {{}}
                        if kind == 2:
                            return bytearray(rng.randrange(1000))
                        return Node()
                    def refer(holder, held):
                        if isinstance(holder, list):
                            holder.append(held)
                        elif isinstance(holder, dict):
                            holder[len(holder) + 1000] = held
                        elif isinstance(holder, Node):
                            name = rng.choice('abcdef')
                            setattr(holder, name, held)
                    nodes = [make() for n in range(300)]
                    for n in range(600):
                        refer(rng.choice(nodes), rng.choice(nodes))
                    keep = rng.sample(nodes, 5)
                    holder = Holder()
                    holder.nodes = rng.sample(nodes, 40)
                    del nodes
                    ''')
                gc.collect()
                why = take().why(type='app.Holder')
                self.assertEqual(why.retained, self.freed(app, 'holder'))
                self.assertGreater(why.retained, 1000)
                app.clear()


if __name__ == '__main__':
    unittest.main()
