"""Waiting against a model, call by call; estimates; wake-ups; and planted bugs that these must notice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scale import SEED, by_mode
from waiters import Call, Expected, InTask, InThread, Model, WakeUps, settle, turn, until, until_over

from fastlimit import (
    Decision,
    FixedWindow,
    LeakyBucket,
    Limiter,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from fastlimit import limiter as limiter_module
from fastlimit._core import Waiter, earliest
from fastlimit.estimate import earliest_ns
from fastlimit.limiter import FOREVER_NS, install_all, timeout_ns
from fastlimit.limits import Limit
from fastlimit.testing import ManualClock
from fastlimit.waiting import TaskWaiter

pytestmark = pytest.mark.waiting

SECOND = 10**9
START_S = 60_000.0

LIMITS: list[Limit] = [
    TokenBucket("5/min"),
    TokenBucket("7/s", burst=4),  # whose interval is no whole number of nanoseconds
    TokenBucket("1/100 days", burst=40),  # in units of several nanoseconds
    LeakyBucket("5/min"),
    FixedWindow("5/min"),
    FixedWindow("5/month"),
    FixedWindow("5/min", anchor="first"),
    SlidingWindow("5/min"),
    SlidingLog("5/min"),
]
BUCKETS = (TokenBucket, LeakyBucket)
JUST_ENOUGH, NOT_ENOUGH = -1.0, -2.0  # in place of a share


class Play:
    """A program of waits, cancellations, other calls, moves of the clock: on a limiter and on the model."""

    def __init__(self, limit: Limit, loop: asyncio.AbstractEventLoop, threads: bool) -> None:
        self.limit, self.loop, self.threads = limit, loop, threads
        self.clock = ManualClock(START_S)
        self.limiter = Limiter(limit, clock=self.clock)
        self.model = Model(limit, self.clock)
        for one in (self.limiter, self.model.limiter):  # the time of a limiter begins with its first use
            one.peek("k")
        self.calls: dict[int, Call] = {}
        self.cancelled: set[int] = set()
        self.most = min(self.limiter.peek("k").limit, 6)
        self.exact = isinstance(limit, BUCKETS) and not limit.parameters().multiplier
        self.period_ns = limit.rate.period_ns or 30 * 86_400 * SECOND

    def run(self, steps: list[tuple[str, int, float | None]]) -> None:
        for name, number, share in steps:
            getattr(self, name)(number, share)
            self.compare()
        while self.model.queue or self.model.delayed:
            self.advance(0, 1.0)
            self.compare()
        assert 0 == self.limiter.stats().waiting
        assert len(self.calls) - len(self.cancelled) == len(self.model.returned)

    def compare(self) -> None:
        settle(self.loop, self.limiter)
        if self.threads:  # which take their time
            until(self.is_settled)
        over = {number for number, call in self.calls.items() if call.is_over} - self.cancelled
        assert self.model.returned == {number: bool(self.calls[number].result) for number in over}
        assert len(self.model.queue) == self.limiter.stats().waiting
        assert self.model.limiter.peek("k").remaining == self.limiter.peek("k").remaining

    def is_settled(self) -> bool:
        settle(self.loop, self.limiter)
        over = all(self.calls[number].is_over for number in self.model.returned)
        return over and len(self.model.queue) == self.limiter.stats().waiting

    # --- the steps

    def wait(self, number: int, share: float | None) -> None:
        cost = number % self.most + 1
        timeout = None if share is None else self.timeout_ns(cost, share) / SECOND
        arguments = (self.limiter, "k", cost, timeout)
        in_thread = self.threads and number % 2 == 0
        call: Call = InThread(*arguments) if in_thread else InTask(self.loop, *arguments)
        turn(self.loop)
        number = len(self.calls)
        self.calls[number] = call
        deadline_ns = None if timeout is None else self.clock.now_ns + timeout_ns(timeout)
        expected = Expected(number, cost, deadline_ns)
        self.model.enter(expected, call.is_over and not call.result, self.exact)

    def timeout_ns(self, cost: int, share: float) -> int:
        """A share of the period; below 0 just enough, or a nanosecond less."""
        if share >= 0:
            return int(share * self.period_ns)
        last = Expected(-1, cost, None)
        self.model.queue.append(last)
        takes_ns = self.model.begins_ns(last) - self.clock.now_ns
        self.model.queue.pop()
        return takes_ns if share == JUST_ENOUGH else max(takes_ns - 1, 0)

    def cancel(self, number: int, share: float | None) -> None:
        tasks = [n for n, call in self.calls.items() if isinstance(call, InTask) and not call.is_over]
        if tasks:
            chosen = tasks[number % len(tasks)] if number % 2 else tasks[0]  # who may be the head
            call = self.calls[chosen]
            assert isinstance(call, InTask)
            call.task.cancel()
            self.cancelled.add(chosen)
            turn(self.loop)
            self.model.cancel(chosen)

    def advance(self, number: int, share: float | None) -> None:
        """By a share of the period, or to the very instant at which the head can pass."""
        retry_ns = 0
        if share is None and self.model.queue:
            retry_ns = self.model.limiter.peek("k", self.model.queue[0].cost).retry_after_ns
        self.clock.advance_ns(retry_ns or int(abs(share or 0) * self.period_ns))
        self.model.work()

    def acquire(self, number: int, share: float | None) -> None:
        cost = number % self.most + 1
        assert self.model.limiter.acquire("k", cost).allowed == self.limiter.acquire("k", cost).allowed

    def refund(self, number: int, share: float | None) -> None:
        cost = number % self.most + 1
        self.model.limiter.refund("k", cost)
        self.limiter.refund("k", cost)
        self.model.work(told=True)

    def reset(self, number: int, share: float | None) -> None:
        self.model.limiter.reset("k")
        self.limiter.reset("k")
        self.model.work(told=True)


names = st.sampled_from(["wait"] * 6 + ["advance"] * 4 + ["cancel", "acquire", "refund", "reset"])
shares = st.one_of(st.none(), st.sampled_from([0.0, 0.2, 0.5, 1.0, JUST_ENOUGH, NOT_ENOUGH]), st.floats(0, 3))
programs = st.lists(st.tuples(names, st.integers(0, 11), shares), max_size=25)


@pytest.fixture(scope="module")
def loop() -> Any:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.mark.parametrize("limit", LIMITS, ids=str)
@settings(max_examples=by_mode(60, 200, 4_000))
@given(program=programs)
def test_tasks_wait_as_the_model_does(
    loop: asyncio.AbstractEventLoop, limit: Limit, program: list[tuple[str, int, float | None]]
) -> None:
    Play(limit, loop, threads=False).run(program)


@pytest.mark.parametrize("limit", LIMITS, ids=str)
@settings(max_examples=by_mode(30, 100, 1_000))
@given(program=programs)
def test_threads_and_tasks_wait_as_the_model_does(
    loop: asyncio.AbstractEventLoop, limit: Limit, program: list[tuple[str, int, float | None]]
) -> None:
    Play(limit, loop, threads=True).run(program)


# --- how far the estimate is from what happens

costs = st.lists(st.integers(1, 5), min_size=1, max_size=12)
histories = st.lists(st.tuples(st.integers(-5, 5), st.floats(-0.2, 1.5)), max_size=4)


@pytest.mark.parametrize("limit", LIMITS, ids=str)
@settings(max_examples=by_mode(60, 200, 4_000))
@given(start=st.sampled_from([0, 0, -1, -2, 1, 10**9]), history=histories, costs=costs)
@example(start=-1, history=[(1, 0.0)], costs=[1, 1])
def test_estimates_are_exact_for_buckets_and_never_too_late(
    limit: Limit, start: int, history: list[tuple[int, float]], costs: list[int]
) -> None:
    """Against an admission one after the other on the engine itself, each as soon as it can be.

    Around an edge of windows, after debits and refunds, and a clock that also stepped back.
    """
    period_ns = limit.rate.period_ns or 2_600_000 * SECOND
    clock = ManualClock(START_S + 2 * period_ns / SECOND)
    clock.set_ns(clock.now_ns + start)
    limiter = Limiter(limit, clock=clock)
    most = limiter.peek("k").limit
    for cost, pause in history:
        (limiter.debit if cost > 0 else limiter.refund)("k", abs(cost))
        clock.set_ns(clock.now_ns + int(pause * period_ns))
    *ahead, own = [min(cost, most) for cost in costs]
    estimate = earliest(limiter.bucket("k"), sum(ahead), own)
    asked_ns = clock.now_ns
    for cost in [*ahead, own]:
        while not (decision := limiter.acquire("k", cost)):
            clock.advance_ns(decision.retry_after_ns)
    took = clock.now_ns + decision.delay_ns - asked_ns
    assert estimate <= took
    if isinstance(limit, BUCKETS):
        assert took - estimate <= (2 if limit.parameters().multiplier else 0)


def test_an_estimate_of_several_limits_is_the_longest() -> None:
    clock = ManualClock(START_S)
    limiter = Limiter(["10/s", "5/min"], clock=clock)
    limiter.acquire("k", 5)
    first, second = (InThread(limiter, "k", 1, None) for _ in range(2))
    refused = limiter.wait("k", 1, 35.999)
    assert (False, 36.0) == (refused.allowed, refused.retry_after)
    clock.advance(24)
    until(lambda: first.is_over and second.is_over)
    assert (True, True) == (bool(first.result), bool(second.result))


# --- wake-ups


def check_wake_ups(loop: asyncio.AbstractEventLoop, threads: bool, patch: pytest.MonkeyPatch) -> None:
    """Each of 60 waiters takes a wake-up, and a thread one more: to hear that it is the first."""
    wake_ups = WakeUps(patch)
    clock = ManualClock(START_S)
    limiter = Limiter("1/s", clock=clock)
    limiter.allow("k")
    calls: list[Call] = []
    for number in range(60):
        in_thread = threads and number % 2 == 0
        calls.append(InThread(limiter, "k", 1, None) if in_thread else InTask(loop, limiter, "k", 1, None))
        turn(loop)
    for call in calls:
        clock.advance(1)
        until_over(loop, call)
    assert 61 == limiter.stats().allowed
    # From a thread to a task it takes one more, too, as it is not in its loop.
    assert 60 <= wake_ups.number <= 60 * (2 if threads else 1)


@pytest.mark.parametrize("threads", [False, True], ids=["tasks", "threads and tasks"])
def test_one_admission_takes_one_wake_up(
    loop: asyncio.AbstractEventLoop, threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_wake_ups(loop, threads, monkeypatch)


# --- planted bugs, which the play against the model or the count of wake-ups must notice


def look_without_a_turn(waiter: TaskWaiter) -> Decision | None:
    decision = waiter.bucket.acquire(waiter.cost)
    return decision if decision else Waiter.look(waiter)


def look_in_place_of_a_charge(waiter: TaskWaiter) -> Decision | None:
    decision = waiter.bucket.peek(waiter.cost)
    return decision if decision else Waiter.look(waiter)


def enter_without_a_deadline(waiter: TaskWaiter, timeout: int) -> Decision | None:
    return Waiter.enter(waiter, FOREVER_NS)


def say_yes(waiter: TaskWaiter) -> bool:
    return True


def estimate_off_by(ns: int) -> Callable[..., int]:
    return lambda *arguments: earliest_ns(*arguments) + ns


PLANTED: dict[str, tuple[Any, str, Any]] = {
    "whoever is awake is admitted": (TaskWaiter, "look", look_without_a_turn),
    "admits without a charge": (TaskWaiter, "look", look_in_place_of_a_charge),
    "no hand-over by who leaves": (TaskWaiter, "turn", say_yes),
    "deaf to the clock": (TaskWaiter, "wake", say_yes),
    "forgets deadlines": (TaskWaiter, "enter", enter_without_a_deadline),
    "estimates 1 ns too much": (limiter_module, "earliest_ns", estimate_off_by(1)),
    "estimates 1 ns too little": (limiter_module, "earliest_ns", estimate_off_by(-1)),
}


def plays_of_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Programs drawn from a seed, on each limit in turn."""
    chance = random.Random(SEED)
    shares = [None, 0.0, 0.2, 0.4, 0.5, 1.0, JUST_ENOUGH, NOT_ENOUGH]
    kinds = ["wait"] * 6 + ["advance"] * 4 + ["cancel"] * 2 + ["acquire", "refund", "reset"]
    for number in range(180):
        program = [(chance.choice(kinds), chance.randrange(12), chance.choice(shares)) for _ in range(25)]
        Play(LIMITS[number % len(LIMITS)], loop, threads=False).run(program)


def test_the_plays_pass_with_nothing_planted(loop: asyncio.AbstractEventLoop) -> None:
    plays_of_tasks(loop)
    assert not asyncio.all_tasks(loop)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.new_event_loop()
    try:
        monkeypatch.setattr(*PLANTED[name], raising=False)
        install_all()
        with pytest.raises(AssertionError):
            plays_of_tasks(loop)
    finally:
        monkeypatch.undo()
        install_all()
        abandon(loop)


def test_waking_everybody_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.new_event_loop()

    def resume_all(waiter: TaskWaiter) -> bool:
        for one in waiter.alarms.members:
            one.resume()
        return True

    try:
        monkeypatch.setattr(TaskWaiter, "turn", resume_all)
        with pytest.raises(AssertionError):
            check_wake_ups(loop, False, monkeypatch)
    finally:
        monkeypatch.undo()
        abandon(loop)


def abandon(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop in which tasks were left waiting."""
    for task in asyncio.all_tasks(loop):
        task.cancel()
    turn(loop)
    loop.close()
