"""Those who wait while processes fork and end, and signals and finalizers come in between."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from types import FrameType

from fastlimit import Limiter
from fastlimit.testing import ManualClock

from . import KEY, Interrupt, done, fork, go, interrupt, scene, wait_for

INTERVAL_S = 0.0003


def used_up(limit: str, clock: ManualClock | None = None) -> Limiter:
    limiter = Limiter(limit, clock=clock)
    limiter.acquire(KEY, limiter.peek(KEY).remaining)
    return limiter


def waiters(limiter: Limiter, number: int) -> list[threading.Thread]:
    """Threads that are in the queue."""
    threads = [threading.Thread(target=limiter.wait, args=(KEY,), daemon=True) for _ in range(number)]
    for count, thread in enumerate(threads, limiter.stats().waiting + 1):
        thread.start()
        while limiter.stats().waiting < count:
            time.sleep(0)
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


@scene()
def handler_that_raises() -> None:
    """In one that waits, wherever it is: it leaves the queue, and those behind are not forgotten."""

    limiter, hits, admitted, over = used_up("100k/s burst 5"), 0, 0, threading.Event()

    def others() -> None:
        while not over.is_set():
            limiter.wait(KEY)

    threads = [threading.Thread(target=others) for _ in range(3)]
    for thread in threads:
        thread.start()
    signal.signal(signal.SIGALRM, interrupt)
    go()
    while hits < 300:
        try:
            signal.setitimer(signal.ITIMER_REAL, INTERVAL_S)
            while True:
                limiter.wait(KEY)
                admitted += 1
        except Interrupt:
            hits += 1
    over.set()
    join(threads)
    assert 0 == limiter.stats().waiting
    assert 0 < admitted <= limiter.stats().allowed
    done(interrupts=hits, admitted=admitted)


@scene()
def handler_that_gives_back() -> None:
    """Also while the thread that it interrupts is busy with the queue."""
    clock = ManualClock(60.0)
    limiter, hits = used_up("1000/s burst 1", clock), 0

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal hits
        hits += 1
        clock.advance(0.001)
        limiter.refund(KEY)
        limiter.update("1000/s burst 1")
        if hits % 10 == 0:
            limiter.reset(KEY)
        signal.setitimer(signal.ITIMER_REAL, INTERVAL_S)  # by itself it would go off in here, again and again

    threads = waiters(limiter, 100)
    signal.signal(signal.SIGALRM, handler)
    go()
    signal.setitimer(signal.ITIMER_REAL, INTERVAL_S)
    while limiter.stats().waiting:
        limiter.wait(KEY, timeout=0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)  # before the timer: a last handler would set it again
    signal.setitimer(signal.ITIMER_REAL, 0)
    join(threads)
    assert hits
    done(signals=hits)


@scene()
def handler_in_an_idle_loop() -> None:
    """An event loop that sleeps does not notice what a handler does unless it is told."""
    clock, hits = ManualClock(60.0), 0
    limiter = used_up("10/s burst 10", clock)

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal hits
        hits += 1
        if hits % 2:
            clock.advance(0.1)
        else:
            limiter.refund(KEY)

    async def wait() -> None:
        for _ in range(100):
            signal.setitimer(signal.ITIMER_REAL, 0.002)
            await limiter.wait_async(KEY)

    signal.signal(signal.SIGALRM, handler)
    go()
    asyncio.run(wait())
    assert hits >= 100
    done(signals=hits)


class Garbage:
    """A call that waits, and is found by the garbage collector only."""

    def __init__(self, limiter: Limiter) -> None:
        self.me = self
        self.call = limiter.wait_async(KEY)
        self.call.send(None)


@scene()
def finalizers_that_leave() -> None:
    """The collector closes calls that wait wherever something is allocated; threads wait behind them."""
    clock = ManualClock(60.0)
    limiter, abandoned = used_up("1000/s burst 1", clock), 200
    loop, thresholds = asyncio.new_event_loop(), gc.get_threshold()

    async def enter() -> list[Garbage]:
        return [Garbage(limiter) for _ in range(abandoned)]

    garbage = loop.run_until_complete(enter())
    threads = waiters(limiter, 5)
    assert abandoned + 5 == limiter.stats().waiting
    gc.set_threshold(1, 1, 1)
    go()
    while garbage:
        garbage.pop(0)
        limiter.wait(KEY, timeout=0)
        clock.advance(0.0001)
    gc.set_threshold(*thresholds)
    gc.collect()
    while limiter.stats().waiting:
        clock.advance(0.001)
    join(threads)
    loop.close()
    assert 6 == limiter.stats().allowed
    done(finalizers=abandoned)


@scene()
def fork_amid_waits() -> None:
    """In the child nobody waits; in the parent everybody still does."""
    clock = ManualClock(60.0)
    limiter = used_up("5/min", clock)
    threads = waiters(limiter, 3)

    def child() -> None:
        assert (0, False) == (limiter.stats().waiting, limiter.wait(KEY, timeout=0).allowed)
        clock.advance(12)
        assert (True, 0) == (limiter.wait(KEY, timeout=0).allowed, limiter.peek(KEY).remaining)
        behind = waiters(limiter, 2)
        limiter.refund(KEY)
        limiter.update("5/min burst 10")
        limiter.reset(KEY)
        join(behind)

    go()
    for _ in range(5):
        wait_for(fork(child))
    assert 3 == limiter.stats().waiting
    clock.advance(36)
    join(threads)
    assert (0, 4) == (limiter.stats().waiting, limiter.stats().allowed)
    done(forks=5)


@scene()
def daemon_threads_that_wait() -> None:
    """At the interpreter's end, on either kind of clock."""
    waiters(used_up("5/day", ManualClock(60.0)), 5)
    waiters(used_up("5/day"), 5)
    go()
    done()


@scene()
def interrupt_of_an_event_loop() -> None:
    """By SIGINT, as `asyncio.run` handles it: its tasks are cancelled, and leave their queues."""
    limiter = used_up("5/day")

    async def wait() -> None:
        tasks = [asyncio.create_task(limiter.wait_async(KEY)) for _ in range(1_000)]
        await asyncio.sleep(0)
        assert 1_000 == limiter.stats().waiting
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.gather(*tasks)

    go()
    try:
        asyncio.run(wait())
    except KeyboardInterrupt:
        assert 0 == limiter.stats().waiting
        done(tasks=1_000)
