"""Interpreters that end while limiters are in use, and limiters that are used while the interpreter ends."""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import signal
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

from fastlimit import CostExceedsLimit, Limiter, TokenBucket, acquire_all
from fastlimit.testing import ManualClock

from . import BATCH, DONE, KEY, Crew, ample, check_counts, crew, done, go, refused, scene


def use(limiter: Limiter) -> None:
    """Every kind of call, whatever else of the interpreter is gone."""
    bucket, before = limiter.bucket(KEY), limiter.stats().allowed
    assert limiter.allow(KEY)
    assert limiter.acquire(KEY, cost=2)
    assert bucket.allow()
    assert bytes([1] * 40) == limiter.allow_many([KEY] * 40)
    assert acquire_all([(limiter, KEY, 1)])
    assert limiter.debit(KEY, 5).remaining + 5 == limiter.refund(KEY, 5).remaining
    assert before + 44 == limiter.stats().allowed
    limiter.update("1000M/h burst 1000M")
    assert "<Decision" in f"{limiter.peek(KEY)!r} {limiter!r} {bucket!r} {limiter.top()}"
    with refused(CostExceedsLimit, "can ever grant"):
        limiter.acquire(KEY, 10**12)
    limiter.reset(KEY)
    assert Limiter(TokenBucket("5/h"), clock=ManualClock(60.0)).allow(KEY)


class Late:
    """Uses a limiter when it is deleted. By then the names of modules are None: it holds what it needs."""

    def __init__(self, last_words: bytes) -> None:
        self.limiter, self.last_words = ample(), last_words
        self.bucket, self.write = self.limiter.bucket(KEY), os.write
        self.acquire_all = acquire_all

    def __del__(self) -> None:
        limiter = self.limiter
        right = limiter.allow("k") and limiter.acquire("k", cost=2) and self.bucket.allow()
        right = right and limiter.allow_many(["k"] * 40) == b"\1" * 40
        right = right and self.acquire_all([(limiter, "k", 1)]) and limiter.debit("k") and limiter.refund("k")
        right = right and limiter.stats().allowed == 44 and limiter.top() == []
        limiter.update("1000M/h burst 900M")
        right = right and limiter.peek("k").remaining == 9 * 10**8 - 45
        if right:
            self.write(1, self.last_words)


# --- used at the end


@scene()
def atexit_callback() -> None:
    limiter = ample()

    def last() -> None:
        use(limiter)
        done()

    atexit.register(last)
    go()


@scene()
def del_of_a_global() -> None:
    """While modules are torn down."""
    sys.modules["__main__"].late = Late(DONE)  # type: ignore[attr-defined]
    go()


@scene()
def del_after_all_modules() -> None:
    """What `sys` holds goes when there are no modules left."""
    sys.late = Late(DONE)  # type: ignore[attr-defined]
    go()


@scene()
def del_in_a_cycle() -> None:
    """Garbage that only the last collection finds."""
    gc.disable()

    class Knot(Late):
        def __init__(self, last_words: bytes) -> None:
            super().__init__(last_words)
            self.me = self

    Knot(DONE)
    go()


@scene()
def weakref_callbacks() -> None:
    """Of an object that dies with its module, and by `weakref.finalize`, which is an atexit callback."""

    class Mortal:
        pass

    limiter, seen = ample(), []

    def gone(_: object) -> None:
        use(limiter)
        seen.append(1)

    def last() -> None:
        use(limiter)
        done(callbacks=len(seen) + 1)

    one, two = Mortal(), Mortal()
    reference = weakref.ref(one, gone)
    weakref.finalize(two, last)
    go()
    del one
    assert ([1], None) == (seen, reference())
    sys.two = two  # type: ignore[attr-defined]


@scene()
def limiters_in_cycles() -> None:
    """With their buckets and clocks, whose memory goes after them."""

    class Knot(Limiter):
        def __init__(self) -> None:
            super().__init__("5/h", max_keys=1_000_000, clock=ManualClock(60.0))
            self.me, self.handle = self, self.bucket(KEY)
            assert self.handle.allow()

    gc.disable()
    knots = [Knot() for _ in range(20)]
    go()
    sys.knots = knots[10:]  # type: ignore[attr-defined]
    done(knots=len(knots))


# --- threads at the end


@scene()
def daemon_threads_in_calls() -> None:
    """The interpreter ends under them, in Python code, in a batch without the GIL, in an update."""
    limiter = ample()
    for work in (
        lambda: limiter.allow(KEY),
        lambda: limiter.acquire(KEY),
        lambda: limiter.allow_many(BATCH),
        lambda: limiter.update("1000M/h burst 1000M"),
        limiter.stats,
    ):
        Crew(work, 2)
    go()
    done(threads=10)


@scene()
def daemon_threads_that_drop_limiters() -> None:
    """Each call's limiter dies after it; one that the thread still uses must not die at the exit."""
    Crew(lambda: Limiter("5/h").allow_many(BATCH), 4)
    go()
    done(threads=4)


@scene()
def threads_that_go_on() -> None:
    """Not daemons: the interpreter waits for them, then runs what atexit holds."""
    limiter, calls = ample(), 50_000
    ended = threading.Event()

    def work() -> None:
        ended.wait()
        for _ in range(calls):
            limiter.allow(KEY)

    def last() -> None:
        check_counts(limiter, 4 * calls)
        done(threads=4)

    for _ in range(4):
        threading.Thread(target=work).start()
    atexit.register(last)
    go()
    ended.set()


@scene()
def threads_that_start_and_end() -> None:
    """Two thousand, and more of them when the interpreter ends."""
    limiter = ample()
    go()
    for _ in range(40):
        workers = [threading.Thread(target=limiter.allow, args=(KEY,)) for _ in range(50)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    check_counts(limiter, 2_000)
    for _ in range(50):
        threading.Thread(target=limiter.allow, args=(KEY,)).start()
    done(threads=2_000)


@scene()
def pool_with_work_left() -> None:
    """An executor is joined at exit, its queue first."""
    limiter, calls = ample(), 500
    pool = ThreadPoolExecutor(4)
    futures = [pool.submit(limiter.allow_many, [KEY] * 100) for _ in range(calls)]

    def last() -> None:
        assert all(future.done() for future in futures)
        check_counts(limiter, 100 * calls)
        done(batches=calls)

    atexit.register(last)
    go()


@scene()
def exit_without_a_farewell() -> None:
    """`os._exit`, amid calls of other threads."""
    limiter = ample()
    with crew(lambda: limiter.allow_many(BATCH)):
        go()
        done()
        os._exit(0)


@scene()
def exit_called_in_a_thread() -> None:
    """`sys.exit` ends that thread only."""
    limiter = ample()

    def work() -> None:
        limiter.allow(KEY)
        sys.exit(3)

    thread = threading.Thread(target=work)
    go()
    thread.start()
    thread.join()
    check_counts(limiter, 1)
    done()


# --- event loops


@scene()
def event_loops_come_and_go() -> None:
    """A limiter belongs to no loop: not to the one it was built in, nor to one that was closed."""

    async def build() -> Limiter:
        return ample()

    async def work() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, limiter.allow, KEY)
        os.kill(os.getpid(), signal.SIGUSR1)
        while not loop.remove_signal_handler(signal.SIGUSR1):
            await asyncio.sleep(0)
        tasks = [asyncio.create_task(asyncio.to_thread(limiter.allow, KEY)) for _ in range(10)]
        loop.call_soon(limiter.allow, KEY)
        assert all(await asyncio.gather(*tasks))

    limiter = asyncio.run(build())
    go()
    for _ in range(10):
        asyncio.run(work())
    assert 110 <= limiter.stats().allowed <= 120
    check_counts(limiter, limiter.stats().allowed)
    done(loops=10)
