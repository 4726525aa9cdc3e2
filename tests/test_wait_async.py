"""`wait_async` in tasks: order, cancellation, timeouts, several loops, loops that are gone."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
import uvloop
from waiters import PATIENCE_S, InTask, InThread, WakeUps, settle, turn, until

from fastlimit import CostExceedsLimit, Decision, Limiter
from fastlimit.testing import ManualClock
from fastlimit.waiting import FEW_ALARMS, Alarms, TaskWaiter, places

NOON = 60_000.0
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    made = LOOPS[request.param]()
    yield made
    if not made.is_closed():
        made.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


def used_up(limit: str, clock: ManualClock | None) -> Limiter:
    limiter = Limiter(limit, clock=clock)
    limiter.acquire("a", limiter.peek("a").remaining)
    return limiter


def tasks_of(loop: asyncio.AbstractEventLoop, limiter: Limiter, *waits: Any) -> list[InTask]:
    """Tasks in the queue, of (cost, timeout) each."""
    tasks = [InTask(loop, limiter, "a", *wait) for wait in waits]
    turn(loop)
    return tasks


def allowed(tasks: list[InTask]) -> list[bool | None]:
    """Of each whether it was allowed, or None while it waits."""
    return [bool(task.result) if task.is_over else None for task in tasks]


async def gathered(coroutines: Sequence[Awaitable[Decision]]) -> list[Decision]:
    return await asyncio.gather(*coroutines)


# --- one loop


def test_a_call_with_room_returns_at_once(loop: asyncio.AbstractEventLoop, clock: ManualClock) -> None:
    limiter, plain = Limiter("5/min", clock=clock), Limiter("5/min", clock=clock)
    bucket = limiter.bucket("a")
    calls = [limiter.wait_async("a"), bucket.wait_async(2, 0.0), bucket.wait_async(0)]
    expected = [plain.acquire("a", cost) for cost in (1, 2, 0)]
    assert expected == [loop.run_until_complete(call) for call in calls]
    assert plain.stats() == limiter.stats()


def test_a_call_that_is_not_awaited_decides_nothing(clock: ManualClock) -> None:
    limiter = Limiter("5/min", clock=clock)
    limiter.wait_async("a").close()
    assert 5 == limiter.peek("a").remaining


def test_without_a_loop_it_says_so(clock: ManualClock) -> None:
    limiter = Limiter("leaky-bucket 5/min", clock=clock)
    call = limiter.wait_async("a")
    with pytest.raises(RuntimeError, match=r"^wait_async needs a running event loop; in a thread use"):
        call.send(None)
    assert (0, 5) == (limiter.stats().waiting, limiter.peek("a").remaining)


def test_thousands_are_admitted_in_order_by_one_wake_up_each(
    loop: asyncio.AbstractEventLoop, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    wake_ups = WakeUps(monkeypatch)
    limiter = used_up("100/s burst 10", clock)
    order: list[int] = []

    async def call(number: int) -> None:
        assert await limiter.wait_async("a")
        order.append(number)

    tasks = [loop.create_task(call(number)) for number in range(2_000)]
    turn(loop)
    assert 2_000 == limiter.stats().waiting
    for admitted in range(1, 2_001):
        clock.advance_ns(10**7)
        turn(loop, 3)
        assert (admitted, admitted) == (len(order), wake_ups.number)
    assert list(range(2_000)) == order
    assert all(task.done() for task in tasks)
    assert (0, 2_001) == (limiter.stats().waiting, limiter.stats().allowed)


def test_many_keys_have_a_queue_each(loop: asyncio.AbstractEventLoop, clock: ManualClock) -> None:
    limiter = Limiter("1/s", clock=clock)
    keys = [f"user:{number}" for number in range(1_000)]
    limiter.allow_many(keys)
    tasks = [loop.create_task(limiter.wait_async(key)) for key in keys for _ in range(3)]
    turn(loop)
    for waiters in (3_000, 2_000, 1_000, 0):
        assert waiters == limiter.stats().waiting
        clock.advance(1)
        turn(loop)
    assert all(task.result().allowed for task in tasks)


def test_timeouts_end_by_the_clock(loop: asyncio.AbstractEventLoop, clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)
    tasks = tasks_of(loop, limiter, (5, None), (1, 71.9), (1, 72), (1, 84), (5, 0), (1, 100))
    assert [None, False, None, None, False, None] == allowed(tasks)
    limiter.debit("a", 1)  # everybody comes 12 seconds later
    for seconds, expected in (
        (71.999, [None, False, None, None, False, None]),
        (0.001, [True, False, False, None, False, None]),
        (12, [True, False, False, True, False, None]),
        (12, [True, False, False, True, False, True]),
    ):
        clock.advance(seconds)
        turn(loop)
        assert expected == allowed(tasks)
    assert 0 == limiter.stats().waiting


def test_a_delay_is_kept_by_the_clock(loop: asyncio.AbstractEventLoop, clock: ManualClock) -> None:
    limiter = Limiter("leaky-bucket 1/s capacity 3", clock=clock)
    tasks = tasks_of(loop, limiter, *[(1, None)] * 5, (1, 4.9), (1, 5))
    for expected in ([True], [True] * 2, [True] * 3, [True] * 4, [True] * 5):
        rest: list[bool | None] = [None] * (5 - len(expected))
        assert [*expected, *rest, False, None] == allowed(tasks)
        clock.advance(1)
        turn(loop)
    assert [True] * 5 + [False, True] == allowed(tasks)


class Counting(asyncio.SelectorEventLoop):
    """Counts the timers that it is asked for."""

    timers = 0

    _scheduled: list[asyncio.TimerHandle]

    def call_at(self, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]  # which every timer comes down to
        self.timers += 1
        return super().call_at(*arguments, **options)

    def armed(self) -> int:
        return sum(not timer.cancelled() for timer in self._scheduled)


def test_a_loop_has_one_timer_for_all_who_wait_in_it() -> None:
    loop = Counting()
    limiters = [used_up("5/day", None) for _ in range(3)]
    tasks = [task for limiter in limiters for task in tasks_of(loop, limiter, (1, None), *[(1, 10**6)] * 50)]
    assert 1 == loop.armed()
    tasks[0].task.cancel()
    turn(loop)
    assert (1, 50) == (loop.armed(), limiters[0].stats().waiting)
    for task in tasks:
        task.task.cancel()
    settle(loop, limiters[1])
    assert (0, 0) == (loop.armed(), sum(limiter.stats().waiting for limiter in limiters))
    assert loop.timers < 20
    loop.close()


def test_on_a_manual_clock_a_loop_only_hears_of_its_end(clock: ManualClock) -> None:
    loop = Counting()
    tasks = tasks_of(loop, used_up("5/min", clock), *[(1, 100)] * 5)
    assert (1, 1) == (loop.timers, loop.armed())
    clock.advance(60)
    turn(loop, 20)
    assert ([True] * 5, 1, 0) == (allowed(tasks), loop.timers, loop.armed())
    loop.close()


def test_alarms_that_are_set_anew_do_not_pile_up(loop: asyncio.AbstractEventLoop) -> None:
    limiter = used_up("fixed-window 5/day", None)
    tasks = tasks_of(loop, limiter, (1, None), (1, 80_000))

    async def tell() -> int:
        for _ in range(1_000):
            limiter.refund("a", 0)
        return len(places.alarms.heap) if places.alarms else -1

    assert 0 < loop.run_until_complete(tell()) <= 2 * len(tasks) + FEW_ALARMS
    for task in tasks:
        task.task.cancel()
    turn(loop)


def test_an_interrupt_amid_alarms_keeps_nobody_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = Limiter("200/s burst 1")
    loop = asyncio.new_event_loop()
    look = TaskWaiter.look_if_ready
    interrupts = 0

    def interrupted(waiter: TaskWaiter) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts == 1:
            raise KeyboardInterrupt
        look(waiter)

    monkeypatch.setattr(TaskWaiter, "look_if_ready", interrupted)
    waits = [loop.create_task(limiter.wait_async("a")) for _ in range(5)]
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert all(loop.run_until_complete(gathered(waits)))
    loop.close()
    assert interrupts > 1


# --- interrupted


def test_who_is_cancelled_leaves_and_the_next_takes_over(
    loop: asyncio.AbstractEventLoop, clock: ManualClock
) -> None:
    limiter = used_up("5/min", clock)
    tasks = tasks_of(loop, limiter, (5, None), (1, None), (1, None), (1, None))
    clock.advance(12)
    turn(loop)
    assert [None] * 4 == allowed(tasks)
    tasks[2].task.cancel()
    turn(loop)
    tasks[0].task.cancel()  # for the others there is room already
    turn(loop)
    assert [False, True, False, None] == allowed(tasks)
    clock.advance(12)
    turn(loop)
    assert [False, True, False, True] == allowed(tasks)
    assert (0, 0) == (limiter.stats().waiting, limiter.peek("a").remaining)


@pytest.mark.parametrize("limit", ["1/min", "fixed-window 1/min", "sliding-log 1/min", "leaky-bucket 1/min"])
def test_who_is_woken_and_cancelled_at_once_is_not_charged(
    loop: asyncio.AbstractEventLoop, clock: ManualClock, limit: str
) -> None:
    """The room goes to the next."""
    limiter = used_up(limit, clock)
    tasks = tasks_of(loop, limiter, (1, None), (1, None))

    async def cancel_at_once() -> None:
        clock.advance(60)
        tasks[0].task.cancel()

    loop.run_until_complete(cancel_at_once())
    turn(loop)
    assert ([False, True], 0) == (allowed(tasks), limiter.peek("a").remaining)
    clock.advance(60)
    assert (2, 1) == (limiter.stats().allowed, limiter.peek("a").remaining)


def test_a_turn_that_others_were_told_of_stays_taken(
    loop: asyncio.AbstractEventLoop, clock: ManualClock
) -> None:
    limiter = Limiter("leaky-bucket 1/s capacity 3", clock=clock)
    tasks = tasks_of(loop, limiter, *[(1, None)] * 3)
    tasks[1].task.cancel()
    turn(loop)
    assert 0 == limiter.peek("a").remaining
    clock.advance(1)
    turn(loop)
    assert [True, False, None] == allowed(tasks)
    clock.advance(1)
    turn(loop)
    assert ([True, False, True], 0) == (allowed(tasks), limiter.stats().waiting)


def test_wait_for_leaves_nothing_behind(loop: asyncio.AbstractEventLoop, clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)

    async def impatient() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(limiter.wait_async("a"), 0.001)

    loop.run_until_complete(impatient())
    assert (0, 0) == (limiter.stats().waiting, limiter.peek("a").remaining)


def test_a_coroutine_that_is_collected_leaves_the_queue(clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)
    loop = asyncio.new_event_loop()
    behind = None
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    tasks = tasks_of(loop, limiter, (5, None))
    behind = InThread(limiter, "a", 1, None)
    loop.close()
    del loop
    tasks.clear()
    clock.advance(12)  # finds the loop closed, and so does not keep its tasks
    until(lambda: behind.is_over)
    gc.collect()
    assert (True, 0) == (bool(behind.result), limiter.stats().waiting)
    assert ["Task was destroyed but it is pending!"] == [complaint["message"] for complaint in complaints]


def test_an_update_that_puts_a_cost_out_of_reach(loop: asyncio.AbstractEventLoop, clock: ManualClock) -> None:
    limiter = used_up("5/min", clock)
    tasks = tasks_of(loop, limiter, (1, None), (5, 200), (4, 200), (1, None))
    limiter.update("3/min")
    for expected in ([None] * 4, [True, False, False, None], [True, False, False, True]):
        assert expected == allowed(tasks)
        clock.advance(60 if expected[0] is None else 20)
        turn(loop)
    assert [CostExceedsLimit] * 2 == [type(task.error) for task in tasks[1:3]]


# --- several loops


class LoopInThread:
    """A loop that runs in a thread of its own, until it is stopped."""

    def __init__(self, make: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.loop = make()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def call(self, limiter: Limiter, timeout: float | None = None) -> Any:
        """Enters the queue before it returns."""
        before = limiter.stats().waiting
        future = asyncio.run_coroutine_threadsafe(limiter.wait_async("a", 1, timeout), self.loop)
        until(lambda: future.done() or limiter.stats().waiting > before)
        return future

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE_S)


@pytest.fixture
def others() -> Iterator[list[LoopInThread]]:
    made = [LoopInThread(make) for make in LOOPS.values()]
    yield made
    for one in made:
        if not one.loop.is_closed():
            one.stop()
            one.loop.close()


def test_loops_and_threads_share_a_queue(others: list[LoopInThread], clock: ManualClock) -> None:
    limiter = used_up("1/s", clock)
    calls: list[Any] = []
    for _ in range(5):
        calls += [others[0].call(limiter), others[1].call(limiter), InThread(limiter, "a", 1, None)]

    def over(call: Any) -> bool:
        return bool(call.is_over if isinstance(call, InThread) else call.done())

    for number in range(len(calls)):
        clock.advance(1)
        until(lambda number=number: over(calls[number]))  # type: ignore[misc]
        assert [True] * (number + 1) + [False] * (14 - number) == [over(call) for call in calls]
    assert 16 == limiter.stats().allowed


def test_deadlines_in_other_loops_are_kept(others: list[LoopInThread], clock: ManualClock) -> None:
    limiter = used_up("1/s burst 5", clock)
    first = others[0].call(limiter)
    late = [others[1].call(limiter, 2), InThread(limiter, "a", 1, 3)]
    limiter.debit("a", 5)
    clock.advance(3)
    until(lambda: late[0].done() and late[1].is_over)
    assert (False, False, False) == (bool(late[0].result()), bool(late[1].result), first.done())
    clock.advance(3)
    assert first.result(PATIENCE_S)


@pytest.mark.parametrize("make", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("real", [False, True], ids=["manual clock", "system's clock"])
@pytest.mark.parametrize("place", [0, 1], ids=["head", "behind"])
def test_a_loop_that_is_closed_holds_nobody_up(
    others: list[LoopInThread],
    clock: ManualClock,
    place: int,
    real: bool,
    make: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Closed with its tasks pending, which `asyncio.run` would never do."""
    limiter = used_up("5/min" if not real else "20/s burst 1", None if real else clock)
    if real:
        limiter.debit("a")  # a tenth of a second, in which the loop goes
    dying = make()
    dying.set_exception_handler(lambda *_: None)
    calls = [others[0].call(limiter)] if place else []
    tasks = tasks_of(dying, limiter, (1, None))
    last = others[1].call(limiter)
    behind = InThread(limiter, "a", 1, None)
    dying.close()
    if not real:
        clock.advance(36)
    for call in [*calls, last]:
        assert call.result(PATIENCE_S)
    until(lambda: behind.is_over)
    assert (True, 0) == (bool(behind.result), limiter.stats().waiting)
    assert [None] == allowed(tasks)
    tasks.clear()
    gc.collect()


def test_a_loop_that_is_closed_would_hold_up_others(
    others: list[LoopInThread], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: its queues must hear of it, or others in loops wait for the head in vain."""

    def closed_before_its_time() -> Any:
        limiter = used_up("20/s burst 1", None)
        dying = asyncio.new_event_loop()
        dying.set_exception_handler(lambda *_: None)
        tasks_of(dying, limiter, (1, None))
        behind = others[0].call(limiter)
        dying.close()
        return behind

    assert closed_before_its_time().result(PATIENCE_S)
    with monkeypatch.context() as patch:
        patch.setattr(Alarms, "timer_dropped", lambda *_: None)
        stuck = closed_before_its_time()
        with pytest.raises(TimeoutError):
            stuck.result(0.3)
        stuck.cancel()
    gc.collect()


# --- with the system's clock, in which waits are short but real


@pytest.mark.parametrize("limit", ["1000/s burst 5", "leaky-bucket 1000/s capacity 5", "fixed-window 5/5ms"])
def test_real_waits_never_return_early(loop: asyncio.AbstractEventLoop, limit: str) -> None:
    limiter = Limiter(limit)
    start = time.monotonic()
    calls = [limiter.wait_async("a", timeout=60) for _ in range(40)]
    assert all(loop.run_until_complete(gathered(calls)))
    assert time.monotonic() - start >= 0.030 * (
        1 - 1e-3
    )  # 35 units at the rate, or 7 edges and an open window
    assert (40, 0) == (limiter.stats().allowed, limiter.stats().denied)


def test_real_deadlines_of_those_overtaken_end(loop: asyncio.AbstractEventLoop) -> None:
    limiter = used_up("100/s burst 5", None)
    start = time.monotonic()

    async def overtaken() -> list[Decision]:
        calls = [limiter.wait_async("a", 1), limiter.wait_async("a", 1, 0.03)]
        tasks = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0)
        limiter.debit("a", 5)
        return list(await asyncio.gather(*tasks))

    first, second = loop.run_until_complete(overtaken())
    assert (True, False) == (first.allowed, second.allowed)
    assert time.monotonic() - start >= 0.05 * (1 - 1e-3)
