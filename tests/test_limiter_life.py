"""How limiters are born, copied, called from odd places, and die."""

from __future__ import annotations

import copy
import gc
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from fastlimit import Bucket, InvalidLimit, Limiter, acquire_all
from fastlimit.testing import ManualClock

# --- built and not built


class Forgetful(Limiter):
    """Does not call the constructor it inherits."""

    def __init__(self) -> None:
        self.note = "mine"


CALLS: dict[str, Callable[[Limiter], object]] = {
    "allow": lambda limiter: limiter.allow("a"),
    "acquire": lambda limiter: limiter.acquire("a"),
    "peek": lambda limiter: limiter.peek("a"),
    "refund": lambda limiter: limiter.refund("a"),
    "debit": lambda limiter: limiter.debit("a"),
    "reset": lambda limiter: limiter.reset("a"),
    "allow_many": lambda limiter: limiter.allow_many(["a"] * 40),
    "allow_many of none": lambda limiter: limiter.allow_many([]),
    "bucket": lambda limiter: limiter.bucket("a"),
    "Bucket": lambda limiter: Bucket(limiter, "a"),
    "acquire_all": lambda limiter: acquire_all([(limiter, "a", 1)]),
    "update": lambda limiter: limiter.update("5/min"),
    "stats": lambda limiter: limiter.stats(),
    "top": lambda limiter: limiter.top(),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_limiter_that_is_not_built_says_so(name: str) -> None:
    unbuilt: list[Limiter] = [Forgetful(), Limiter.__new__(Limiter)]
    for limiter in unbuilt:
        with pytest.raises(RuntimeError, match=r"this limiter is not built: its __init__ was not called$"):
            CALLS[name](limiter)
        assert "<Limiter ''>" == repr(limiter)


def test_a_constructor_that_failed_can_be_called_again() -> None:
    limiter = Limiter.__new__(Limiter)
    with pytest.raises(InvalidLimit):
        limiter.__init__("5/fortnight")  # type: ignore[misc]
    with pytest.raises(RuntimeError, match="not built"):
        limiter.allow("a")
    limiter.__init__("5/min")  # type: ignore[misc]
    assert limiter.allow("a")


def test_a_limiter_is_built_once() -> None:
    limiter = Limiter("5/min", clock=ManualClock())
    limiter.acquire("a", 3)
    with pytest.raises(RuntimeError, match="this limiter is built already; make another one"):
        limiter.__init__("9/min")  # type: ignore[misc]
    assert (2, 5) == (limiter.peek("a").remaining, limiter.peek("a").limit)


def test_a_subclass_adds_and_overrides() -> None:
    class Padded(Limiter):
        __slots__ = ("asked",)

        def __init__(self, limit: str, **options: Any) -> None:
            super().__init__(limit, **options)
            self.asked: list[object] = []

        def allow(self, key: Any, /) -> bool:
            self.asked.append(key)
            return super().allow(("padded", key))

    limiter = Padded("1/min", clock=ManualClock())
    assert [True, False, True] == [limiter.allow("a"), limiter.allow("a"), limiter.allow("b")]
    assert (["a", "a", "b"], [(("padded", "a"), 1)]) == (limiter.asked, limiter.top())
    assert acquire_all([(limiter, "c", 1)])
    assert limiter is limiter.bucket("d").limiter


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_limiters_and_buckets_are_not_copied(duplicate: Callable[[object], object]) -> None:
    limiter = Limiter("5/min")
    with pytest.raises(TypeError, match=r"^a limiter cannot be pickled or copied: its buckets live"):
        duplicate(limiter)
    with pytest.raises(TypeError, match=r"^a Bucket cannot be pickled or copied: its limiter lives"):
        duplicate(limiter.bucket("a"))


# --- the end of a limiter


def test_a_bucket_keeps_its_limiter_alive() -> None:
    limiter = Limiter("5/min", clock=ManualClock())
    bucket, alive = limiter.bucket("a"), weakref.ref(limiter)
    del limiter
    gc.collect()
    assert alive() is not None
    assert 4 == bucket.acquire().remaining
    del bucket
    assert alive() is None


class Knot(Limiter):
    """A limiter that is reachable from itself, by a bucket too."""

    def __init__(self) -> None:
        super().__init__("5/min", max_keys=1_000_000, clock=ManualClock())
        self.me = self
        self.handle = self.bucket("a")
        self.handle.acquire()


def mapped_bytes() -> int:
    return 4_096 * int(Path("/proc/self/statm").read_text().split()[0])


def test_limiters_in_cycles_are_collected_with_their_tables() -> None:
    before = mapped_bytes()
    knots = [Knot() for _ in range(50)]
    table_bytes = knots[0].stats().table_bytes
    refs = [weakref.ref(knot) for knot in knots]
    assert mapped_bytes() - before > 40 * table_bytes
    knots.clear()
    gc.collect()
    assert [None] * 50 == [ref() for ref in refs]
    assert mapped_bytes() - before < 10 * table_bytes


# --- called in the middle of something


def test_a_signal_handler_may_use_the_limiter_that_it_interrupts() -> None:
    limiter = Limiter("1000M/h burst 1000M; 100M/h burst 100M", clock=ManualClock())
    bucket, hits, wrong = limiter.bucket("a"), 0, 0

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal hits, wrong
        hits += 1
        wrong += not (limiter.allow("a") and bucket.allow() and limiter.acquire("a"))
        wrong += bytes([1] * 40) != limiter.allow_many(["a"] * 40)
        limiter.stats()
        limiter.top()
        if hits % 8 == 0:
            limiter.update(["1000M/h burst 1000M", "100M/h burst 100M"])

    calls = 0
    previous = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        while hits < 40 and calls < 10**7:
            limiter.allow("a")
            bucket.acquire()
            limiter.allow_many(["a"] * 64)
            calls += 66
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert 40 <= hits
    assert (0, calls + 43 * hits, 0) == (wrong, limiter.stats().allowed, limiter.stats().denied)
    assert 10**8 - (calls + 43 * hits) == limiter.peek("a").remaining


def test_a_batch_may_come_from_code_that_uses_the_limiter() -> None:
    limiter = Limiter("5/min", clock=ManualClock())

    def keys() -> Any:
        for _ in range(40):
            limiter.acquire("a", 1)
            yield "a"

    assert bytes(40) == limiter.allow_many(keys())
    assert 5 == limiter.stats().allowed


class Nested(list[str]):
    """Limits that, when they are read, update the very limiter that reads them."""

    limiter: Limiter

    def __iter__(self) -> Any:
        self.limiter.update("7/min")
        return super().__iter__()


def test_update_may_be_interrupted_by_update() -> None:
    limiter = Limiter("5/min", clock=ManualClock())
    limits = Nested(["6/min"])
    limits.limiter = limiter
    worker = threading.Thread(target=limiter.update, args=(limits,), daemon=True)
    worker.start()
    worker.join(5)
    assert not worker.is_alive()
    assert 6 == limiter.peek("a").limit


# --- processes

FORK = """
import os
from fastlimit import Limiter
from fastlimit.testing import ManualClock

limiter = Limiter("5/min", clock=ManualClock(60.0))
real = Limiter("5/h")
bucket = limiter.bucket("a")
print(bucket.acquire(2).remaining, real.acquire("a", 2).remaining, flush=True)
child = os.fork()
if child == 0:
    print(bucket.peek().remaining, bucket.acquire(2).remaining, limiter.allow("new"), flush=True)
    print(real.acquire("a").remaining, real.allow_many(["a"] * 100).count(1), flush=True)
    limiter.update("7/min")
    print(bucket.peek().remaining, limiter.stats().allowed, limiter.stats().keys, flush=True)
    print(Limiter("9/s").acquire("a").remaining, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
print(bucket.peek().remaining, limiter.peek("new").remaining, limiter.stats().allowed)
print(real.peek("a").remaining)
"""


def test_a_forked_child_goes_its_own_way() -> None:
    command = [sys.executable, "-c", FORK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    parent_then_child = ["3 3", "3 1 True", "2 2", "3 3 2", "8"]
    parent_again = ["0", "3 5 1", "3"]
    assert ("", 0) == (done.stderr, done.returncode)
    assert [*parent_then_child, *parent_again] == done.stdout.splitlines()


def test_more_threads_than_counters_lose_no_count() -> None:
    limiter = Limiter("1000/min", clock=ManualClock())
    all_here = threading.Barrier(100)

    def work() -> None:
        limiter.allow("a")
        all_here.wait(60)
        limiter.allow_many(["a"] * 6)

    for _ in range(2):  # the second ones take over the counters of the first
        workers = [threading.Thread(target=work) for _ in range(100)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert (1_000, 400, 0) == (limiter.stats().allowed, limiter.stats().denied, limiter.peek("a").remaining)
