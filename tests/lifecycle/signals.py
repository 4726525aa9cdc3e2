"""Signals that call the very limiter they interrupt, that raise, and that stop the process."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from fastlimit import Limiter, acquire_all
from fastlimit.testing import ManualClock

from . import BATCH, KEY, Interrupt, ample, check_counts, crew, done, fork, go, interrupt, scene, wait_for

SMALL = [KEY] * 40
INTERVAL_S = 0.0005


def kinds_of_call(limiter: Limiter) -> list[tuple[Callable[[], object], int]]:
    """Each with how much it is allowed."""
    bucket = limiter.bucket(KEY)
    return [
        (lambda: limiter.allow(KEY), 1),
        (lambda: limiter.acquire(KEY), 1),
        (bucket.allow, 1),
        (bucket.acquire, 1),
        (lambda: limiter.allow_many(SMALL), len(SMALL)),
        (lambda: limiter.allow_many([KEY] * 5), 5),
        (lambda: acquire_all([(limiter, KEY, 1)]), 1),
        (lambda: limiter.update("1000M/h burst 1000M"), 0),
        (lambda: limiter.debit(KEY, 2) and limiter.refund(KEY, 2), 0),
        (limiter.stats, 0),
        (limiter.top, 0),
        (lambda: limiter.reset("another"), 0),
        (lambda: Limiter("5/h").allow(KEY), 0),
    ]


def storm(limiter: Limiter, hits: int) -> int:
    """Make calls of every kind, in turn, while a handler does so, too: how many were to be allowed."""
    calls, at, amount = kinds_of_call(limiter), 0, 0

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal at, amount
        call, units = calls[at % len(calls)]
        call()
        amount += units
        at += 1

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, INTERVAL_S, INTERVAL_S)
    here = 0
    while at < hits:
        for call, units in calls:
            call()
            here += units
    signal.setitimer(signal.ITIMER_REAL, 0)
    return amount + here


@scene()
def handler_that_calls() -> None:
    limiter, hits = ample(), 200
    go()
    check_counts(limiter, storm(limiter, hits))
    done(signals=hits)


@scene()
def handler_that_calls_while_threads_do() -> None:
    limiter, hits = ample(), 100
    with crew(lambda: limiter.allow_many(BATCH), 2) as others:
        go()
        amount = storm(limiter, hits)
    check_counts(limiter, amount + others.stop() * len(BATCH))
    done(signals=hits)


@scene()
def handler_that_raises() -> None:
    """Between two calls, or while one waits to be told; none is half made, and no lock stays held."""

    limiter, hits = ample(), 0
    signal.signal(signal.SIGALRM, interrupt)
    go()
    while hits < 200:
        try:
            signal.setitimer(signal.ITIMER_REAL, INTERVAL_S)
            while True:
                limiter.allow(KEY)
                limiter.allow_many(SMALL)
                limiter.update("1000M/h burst 1000M")
        except Interrupt:
            hits += 1
    check_counts(limiter, limiter.stats().allowed)
    done(signals=hits)


@scene()
def finalizers_that_update() -> None:
    """The garbage collector may call anything wherever something is allocated, in an update too."""
    limiter, finalized = ample(), 0

    class Garbage:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            nonlocal finalized
            finalized += 1
            limiter.update("1000M/h burst 1000M")
            limiter.allow(KEY)
            if finalized < 500:
                Garbage()

    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    go()
    Garbage()
    while finalized < 500:
        limiter.update("1000M/h burst 1000M")
    gc.set_threshold(*thresholds)
    check_counts(limiter, finalized)
    done(finalizers=finalized)


@scene()
def interrupt_from_the_keyboard() -> None:
    """SIGINT waits until a batch is decided, then raises as everywhere."""
    limiter = Limiter("1000M/h burst 1000M", clock=ManualClock(60.0))
    many = [KEY] * 300_000
    interrupted = 0
    go()
    for _ in range(5):
        killer = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
        try:
            killer.start()
            while True:
                limiter.allow_many(many)
        except KeyboardInterrupt:
            interrupted += 1
        killer.join()
    check_counts(limiter, limiter.stats().allowed)
    assert 5 == interrupted
    done(signals=interrupted)


@scene()
def signals_to_threads_in_batches() -> None:
    """They interrupt the kernel's own code; the handler runs in the main thread."""
    limiter, hits = ample(), 0

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal hits
        hits += limiter.allow(KEY)

    signal.signal(signal.SIGUSR1, handler)
    with crew(lambda: limiter.allow_many(BATCH)) as workers:
        go()
        while hits < 100:
            for thread in workers.threads:
                assert thread.ident is not None
                signal.pthread_kill(thread.ident, signal.SIGUSR1)
    check_counts(limiter, hits + workers.stop() * len(BATCH))
    done(signals=hits)


@scene()
def stopped_and_continued() -> None:
    """SIGSTOP amid calls, 50 times: time goes on, and no count is lost. The limit holds for all that time."""
    counted, bounded = ample(), Limiter("1000/s burst 10")
    told, tell = os.pipe()

    def child() -> None:
        with crew(lambda: (counted.allow_many(BATCH), bounded.allow(KEY))) as workers:
            os.read(told, 1)
        check_counts(counted, workers.stop() * len(BATCH))

    pid = fork(child)
    go()
    for _ in range(50):
        os.kill(pid, signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
        os.kill(pid, signal.SIGCONT)
        assert os.WIFCONTINUED(os.waitpid(pid, os.WCONTINUED)[1])
    os.write(tell, b"y")
    wait_for(pid)
    done(stops=50)
