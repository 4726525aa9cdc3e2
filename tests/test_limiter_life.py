"""How limiters are born, called from odd places, and die.

What needs an interpreter of its own is in `tests/lifecycle`.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
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


# --- many threads


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
