"""`wait` in threads: what it returns, when, and what it refuses; on a clock that is moved, unless said."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from waiters import InThread, until

from fastlimit import (
    Bucket,
    CostExceedsLimit,
    FixedWindow,
    LeakyBucket,
    Limiter,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from fastlimit._core import ThreadWaiter, Waiter
from fastlimit.limiter import FOREVER_NS
from fastlimit.limits import Limit
from fastlimit.testing import ManualClock

NOON = 60_000.0

ALGORITHMS: list[tuple[Limit, float]] = [  # and how long one more has to wait when all 5 are used up
    (TokenBucket("5/min"), 12.0),
    (LeakyBucket("5/min"), 12.0),
    (FixedWindow("5/min"), 60.0),
    (FixedWindow("5/min", anchor="first"), 60.0),
    (SlidingWindow("5/min"), 72.0),
    (SlidingLog("5/min"), 60.0),
]
by_algorithm = pytest.mark.parametrize(("limit", "pause"), ALGORITHMS, ids=str)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


def used_up(limit: Any, clock: ManualClock | None, **options: Any) -> Limiter:
    limiter = Limiter(limit, clock=clock, **options)
    limiter.acquire("a", limiter.peek("a").remaining)
    return limiter


def ended(call: InThread) -> bool:
    until(lambda: call.is_over)
    return bool(call.result)


# --- what it returns


@by_algorithm
def test_a_call_with_room_returns_at_once(limit: Limit, pause: float, clock: ManualClock) -> None:
    limiter, plain = Limiter(limit, name="api", clock=clock), Limiter(limit, name="api", clock=clock)
    assert plain.acquire("a") == limiter.wait("a")
    bucket = limiter.bucket("b")
    assert [plain.acquire("b"), plain.peek("b", 0)] == [bucket.wait(timeout=0), bucket.wait(0)]
    assert plain.stats() == limiter.stats()


@by_algorithm
def test_a_call_waits_to_the_nanosecond(limit: Limit, pause: float, clock: ManualClock) -> None:
    limiter = used_up(limit, clock)
    call = InThread(limiter, "a", 1, None)
    clock.advance_ns(round(pause * 10**9) - 1)
    assert (1, False) == (limiter.stats().waiting, call.is_over)
    clock.advance_ns(1)
    if isinstance(limit, LeakyBucket):  # admitted, and 48 seconds to keep
        until(lambda: not limiter.stats().waiting)
        assert not call.is_over
        clock.advance_ns(48 * 10**9 - 1)
        assert not call.is_over
        clock.advance_ns(1)
    assert ended(call)
    assert (0, 2, 0) == (limiter.stats().waiting, limiter.stats().allowed, limiter.stats().denied)


def test_calls_are_admitted_in_their_order(clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)
    calls = [InThread(limiter, "a", cost, None) for cost in (5, 1, 1)]
    limiter.refund("a", 1)  # room for the second, who is not the first
    assert [False] * 3 == [call.is_over for call in calls]
    for seconds, over in ((47, [0, 0, 0]), (1, [1, 0, 0]), (11, [1, 0, 0]), (1, [1, 1, 0]), (12, [1, 1, 1])):
        clock.advance(seconds)
        for call, is_over in zip(calls, over, strict=True):
            assert ended(call) if is_over else not call.is_over
        assert 3 - sum(over) == limiter.stats().waiting


def test_keys_and_limiters_wait_apart(clock: ManualClock) -> None:
    limiter, other = used_up("5/min", clock), used_up("5/min", clock)
    calls = [InThread(limiter, "a", 5, None), InThread(other, "a", 1, None)]
    assert [True] * 3 == [limiter.wait(key, timeout=0).allowed for key in (b"a", ("a",), "b")]
    clock.advance(12)
    assert [True, False] == [ended(calls[1]), calls[0].is_over]
    clock.advance(48)
    assert ended(calls[0])


def test_several_limits_are_waited_for_together(clock: ManualClock) -> None:
    limiter = Limiter(["2/s", "3/min"], clock=clock)
    assert limiter.wait("a", 2)
    calls = [InThread(limiter, "a", 1, None), InThread(limiter, "a", 1, None)]
    clock.advance(0.5)
    assert ended(calls[0])
    clock.advance(1)
    assert not calls[1].is_over
    clock.advance(18.5)
    assert ended(calls[1])


# --- timeouts


@by_algorithm
def test_a_timeout_is_refused_as_soon_as_it_cannot_be_met(
    limit: Limit, pause: float, clock: ManualClock
) -> None:
    limiter = used_up(limit, clock, name="api")
    if isinstance(limit, LeakyBucket):
        pause += 48  # which is how long the last of five is held
    refused = limiter.wait("a", timeout=pause - 1e-6)
    assert (False, "api", 5) == (refused.allowed, refused.name, refused.limit)
    assert 0 < refused.retry_after <= pause
    assert [("a", 1)] == limiter.top()
    call = InThread(limiter, "a", 1, pause)
    assert not call.is_over
    clock.advance(pause)
    assert ended(call)
    assert (2, 1) == (limiter.stats().allowed, limiter.stats().denied)


def test_those_ahead_count_in_the_timeout(clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)
    calls = [InThread(limiter, "a", 5, None), InThread(limiter, "a", 2, None)]
    refused = limiter.wait("a", timeout=95.999)
    assert (False, 96.0) == (refused.allowed, refused.retry_after)
    in_time = InThread(limiter, "a", 1, 96)
    for seconds, call in ((60, calls[0]), (24, calls[1]), (12, in_time)):
        clock.advance(seconds)
        assert ended(call)


def test_no_timeout_at_all_is_one_attempt_behind_those_who_wait(clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)
    assert not limiter.wait("a", timeout=0)
    call = InThread(limiter, "a", 5, None)
    clock.advance_ns(1)
    limiter.refund("a", 2)
    assert (True, False) == (limiter.peek("a").allowed, limiter.wait("a", timeout=0).allowed)
    clock.advance(60)
    assert ended(call)


def test_a_deadline_is_kept_behind_those_who_were_overtaken(clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)
    first, second = InThread(limiter, "a", 1, None), InThread(limiter, "a", 1, 24)
    limiter.debit("a", 5)
    clock.advance(23.999)
    assert 2 == limiter.stats().waiting
    clock.advance(0.001)
    assert (False, False) == (ended(second), first.is_over)
    assert second.result is not None
    assert 48 <= second.result.retry_after
    clock.advance(48)
    assert ended(first)


def test_the_delay_of_a_leaky_bucket_counts_in_the_timeout(clock: ManualClock) -> None:
    limiter = Limiter("leaky-bucket 5/min", clock=clock)
    assert limiter.wait("a", 3)
    assert 2 == limiter.peek("a").remaining
    refused = limiter.wait("a", timeout=35.999)
    assert (False, 2) == (refused.allowed, limiter.peek("a").remaining)
    assert refused.retry_after == pytest.approx(0.001)
    call = InThread(limiter, "a", 1, 36)
    behind = InThread(limiter, "a", 1, None)  # which the delay of another does not hold up
    assert (0, 0) == (limiter.peek("a").remaining, limiter.stats().waiting)
    clock.advance(36)
    assert (True, False) == (ended(call), behind.is_over)
    clock.advance(12)
    assert ended(behind)


NOT_A_NUMBER = "timeout must be a number of seconds or None, not"
NEGATIVE = r"timeout must be 0 or more seconds, not .*; None waits as long as it takes"


@pytest.mark.parametrize(
    ("timeout", "error", "message"),
    [
        (True, TypeError, f"{NOT_A_NUMBER} bool"),
        ("1", TypeError, f"{NOT_A_NUMBER} str"),
        (1j, TypeError, f"{NOT_A_NUMBER} complex"),
        (-1, ValueError, NEGATIVE),
        (-1e-9, ValueError, NEGATIVE),
        (float("nan"), ValueError, NEGATIVE),
        (float("-inf"), ValueError, NEGATIVE),
    ],
)
def test_what_is_no_timeout_is_refused_before_anything(
    timeout: Any, error: type[Exception], message: str, clock: ManualClock
) -> None:
    limiter = Limiter("5/min", clock=clock)
    calls = [limiter.wait, limiter.wait_async]
    for call in calls:
        with pytest.raises(error, match=f"^{message}$"):
            call("a", 1, timeout)
    with pytest.raises(error, match=f"^{message}$"):
        limiter.bucket("a").wait(timeout=timeout)
    assert (5, 0) == (limiter.peek("a").remaining, limiter.stats().allowed)


@pytest.mark.parametrize("timeout", [float("inf"), 10**400, 1e300, 9e9])
def test_a_timeout_may_be_for_ever(timeout: float, clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)
    call = InThread(limiter, "a", 1, timeout)
    clock.advance(12)
    assert ended(call)


def test_bad_keys_and_costs_are_refused_before_anything(clock: ManualClock) -> None:
    limiter = used_up("5/min", clock, name="api")
    bucket = limiter.bucket("a")
    for call in (limiter.wait, limiter.wait_async):
        with pytest.raises(CostExceedsLimit, match=r"^cost 6 is above what api can ever grant, 5;"):
            call("a", 6, 0)
        with pytest.raises(TypeError, match=r"^key must be"):
            call(1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^cost must be an int"):
            call("a", 1.5)  # type: ignore[arg-type]
        with pytest.raises(CostExceedsLimit):
            getattr(bucket, call.__name__)(6)
    assert limiter.wait("a", 0)
    assert (1, 0) == (limiter.stats().allowed, limiter.stats().denied)


# --- what may happen meanwhile


def test_refund_reset_and_update_are_noticed_at_once(clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)
    calls = [InThread(limiter, "a", 5, None) for _ in range(4)]
    limiter.refund("a", 4)
    assert not calls[0].is_over
    limiter.bucket("a").refund(1)
    assert ended(calls[0])
    limiter.reset("a")
    assert ended(calls[1])
    limiter.bucket("a").reset()
    assert ended(calls[2])
    limiter.update("5/min burst 10")
    assert ended(calls[3])


def test_a_cost_that_an_update_puts_out_of_reach_is_told_so(clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)
    calls = [InThread(limiter, "a", cost, None) for cost in (5, 1)]
    limiter.update("3/min")
    until(lambda: calls[0].is_over)
    assert isinstance(calls[0].error, CostExceedsLimit)
    assert not calls[1].is_over
    limiter.reset("a")
    assert ended(calls[1])


def test_a_clock_that_is_set_back_makes_nobody_forgotten(clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)
    call = InThread(limiter, "a", 1, 20)
    clock.set(NOON - 30)
    assert not call.is_over
    clock.set(NOON + 12)
    assert ended(call)


def test_a_queue_keeps_its_limiter_and_nothing_after(clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)
    alive = weakref.ref(limiter)
    worker = threading.Thread(target=limiter.wait, args=("a",), daemon=True)
    worker.start()
    until(lambda limiter=limiter: bool(limiter.stats().waiting))  # type: ignore[misc]
    del limiter
    gc.disable()
    try:
        assert alive() is not None
        clock.advance(12)
        worker.join(10)
        del worker
        assert alive() is None
    finally:
        gc.enable()


def test_a_clock_that_is_set_back_while_one_goes_to_sleep_is_noticed(clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)
    waiter = ThreadWaiter(limiter.bucket("a"), 1)
    waiter.enter(FOREVER_NS)
    assert (None, -1.0) == (waiter.look(), waiter.pause())
    assert waiter.look() is None
    clock.set(NOON - 30)
    assert waiter.pause() == 0.0  # it looks again
    assert (None, -1.0) == (waiter.look(), waiter.pause())
    waiter.leave()
    assert 0 == limiter.stats().waiting


class Interrupted(Waiter):
    """Its first wake-up is interrupted."""

    def __init__(self, bucket: Bucket, cost: int) -> None:
        self.wake_ups = 0

    def wake(self) -> bool:
        self.wake_ups += 1
        if self.wake_ups == 1:
            raise KeyboardInterrupt
        return True


@pytest.mark.parametrize("name", ["clock", "update", "refund"])
def test_an_interrupt_amid_wake_ups_keeps_nobody_asleep(name: str, clock: ManualClock) -> None:
    limiter = Limiter("5/min", clock=clock)
    waiters = []
    for key in "abc":
        limiter.acquire(key, 5)
        waiters.append(Interrupted(limiter.bucket(key), 1))
        waiters[-1].enter(FOREVER_NS)
        assert (None, -1.0) == (waiters[-1].look(), waiters[-1].pause())
    ways: dict[str, Callable[[], object]] = {
        "clock": lambda: clock.advance(60),
        "update": lambda: limiter.update("6/min"),
        "refund": lambda: [limiter.refund(key) for key in "abc"],
    }
    for _ in waiters:
        with contextlib.suppress(KeyboardInterrupt):
            ways[name]()
    assert all(waiter.wake_ups >= 2 for waiter in waiters)
    for waiter in waiters:
        waiter.leave()
    assert 0 == limiter.stats().waiting


def test_a_timeout_ends_behind_a_first_that_stands_still(clock: ManualClock) -> None:
    """A task whose loop does not run, though it is due: it is let go before, but once only."""
    limiter, loop = used_up("5/min", clock), asyncio.new_event_loop()

    async def enter() -> None:
        task = loop.create_task(limiter.wait_async("a"))
        await asyncio.sleep(0)
        tasks.append(task)

    tasks: list[asyncio.Task[Any]] = []
    loop.run_until_complete(enter())
    behind = InThread(limiter, "a", 1, 24)
    clock.advance(24)

    def is_over_as_time_goes_on() -> bool:
        clock.advance(0.001)
        return behind.is_over

    until(is_over_as_time_goes_on)
    assert not behind.result
    tasks[0].cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert 0 == limiter.stats().waiting


def test_a_thread_does_not_wait_for_the_loop_that_it_blocks(clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)

    async def behind_a_task() -> None:
        task = asyncio.create_task(limiter.wait_async("a"))
        await asyncio.sleep(0)
        with pytest.raises(
            RuntimeError, match=r"^wait on 'a' would block the event loop .*limiter.wait_async"
        ):
            limiter.wait("a")
        assert (1, False) == (limiter.stats().waiting, limiter.wait("a", timeout=0).allowed)
        task.cancel()

    asyncio.run(behind_a_task())
    assert 0 == limiter.stats().waiting


# --- with the system's clock, in which waits are short but real


@pytest.mark.parametrize("limit", ["1000/s burst 1", "leaky-bucket 1000/s capacity 3"])
def test_real_waits_never_return_early(limit: str) -> None:
    limiter = Limiter(limit)
    start = time.monotonic()
    assert [True] * 20 == [limiter.wait("a", timeout=60).allowed for _ in range(20)]
    assert time.monotonic() - start >= 0.019 * (1 - 1e-3)


def test_real_threads_are_admitted_at_the_rate() -> None:
    limiter = used_up("500/s burst 5", None)
    start = time.monotonic()
    calls = [InThread(limiter, "a", 1, None) for _ in range(20)]
    until(lambda: all(call.is_over for call in calls))
    assert all(call.result for call in calls)
    assert time.monotonic() - start >= 20 / 500 * (1 - 1e-3)
    assert (21, 0) == (limiter.stats().allowed, limiter.stats().denied)


def test_real_timeouts_are_refused_at_once_or_at_the_end() -> None:
    limiter = Limiter("1/day burst 5")
    limiter.acquire("a", 5)
    assert not limiter.wait("a", timeout=3600)
    first = threading.Thread(target=limiter.wait, args=("a",), daemon=True)
    first.start()
    until(lambda: limiter.stats().waiting == 1)
    limiter.refund("a", 1)
    first.join(30)
    assert (False, 0) == (first.is_alive(), limiter.stats().waiting)
    assert (2, 1) == (limiter.stats().allowed, limiter.stats().denied)
