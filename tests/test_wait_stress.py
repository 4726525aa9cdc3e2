"""Threads and several loops on one key, with cancellations and timeouts: none forgotten, none too many.

On a manual clock, which a thread of its own moves as fast as it goes, it is known what may be admitted by
when. Tasks note when they take their place and when they are admitted; of two of which one surely came first,
it must not surely have been admitted last. Fleets set out until enough of them have collided.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple

import pytest
from scale import SEED, by_mode
from waiters import PATIENCE_S, until

from fastlimit import Decision, FixedWindow, LeakyBucket, Limiter, SlidingLog, SlidingWindow, TokenBucket
from fastlimit._core import Waiter
from fastlimit.limits import Limit
from fastlimit.testing import ManualClock
from fastlimit.waiting import TaskWaiter

pytestmark = [pytest.mark.waiting, pytest.mark.stress]

START_S = 60_000.0
LIMITS: list[Limit] = [
    TokenBucket("100/s", burst=5),
    LeakyBucket("100/s", capacity=5),
    FixedWindow("10/100ms"),
    SlidingWindow("10/100ms"),
    SlidingLog("10/100ms"),
]
LOOPS = 2
THREADS = 6
CALLS_OF_A_LOOP = by_mode(150, 400, 6_000)
CALLS_OF_A_THREAD = by_mode(25, 70, 1_000)
COLLISIONS = ("turns given from elsewhere", "turns given in a loop")
MOST_FLEETS = 50


class Passage(NamedTuple):
    """Of an admitted task: stamps before and after it took its place, before and after it was admitted."""

    entering: int
    entered: int
    looking: int
    admitted: int


class Books:
    """What tasks did, noted by their own threads."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen: Counter[str] = Counter()
        self.passages: list[Passage] = []
        self.stamps = count()
        self.places: dict[TaskWaiter, tuple[int, int]] = {}
        patch.setattr(TaskWaiter, "enter", self.enter(), raising=False)
        patch.setattr(TaskWaiter, "look", self.look(), raising=False)
        patch.setattr(TaskWaiter, "turn", self.turn(TaskWaiter.turn))

    def enter(self) -> Callable[[TaskWaiter, int], Decision | None]:
        def entered(waiter: TaskWaiter, timeout: int) -> Decision | None:
            before = next(self.stamps)
            refused = Waiter.enter(waiter, timeout)
            self.places[waiter] = before, next(self.stamps)
            return refused

        return entered

    def look(self) -> Callable[[TaskWaiter], Decision | None]:
        def looked(waiter: TaskWaiter) -> Decision | None:
            before = next(self.stamps)
            decision = Waiter.look(waiter)
            if decision:
                self.passages.append(Passage(*self.places[waiter], before, next(self.stamps)))
            return decision

        return looked

    def turn(self, turn: Callable[[TaskWaiter], bool]) -> Callable[[TaskWaiter], bool]:
        def given(waiter: TaskWaiter) -> bool:
            elsewhere = asyncio._get_running_loop() is not waiter.loop
            self.seen["turns given from elsewhere" if elsewhere else "turns given in a loop"] += 1
            return turn(waiter)

        return given

    def overtaken(self) -> int:
        """How many were admitted after one that had come after them."""
        by_admission = sorted(self.passages, key=lambda passage: passage.looking)
        latest = -1  # to take its place of those that are surely admitted before
        pending = sorted(self.passages, key=lambda passage: passage.admitted)
        overtaken = 0
        i = 0
        for passage in by_admission:
            while pending[i].admitted < passage.looking:
                latest = max(latest, pending[i].entering)
                i += 1
            overtaken += passage.entered < latest
        return overtaken


class Fleet:
    """Loops and threads that wait on one key over and over."""

    def __init__(self, limit: Limit) -> None:
        self.clock = ManualClock(START_S)
        self.limiter = Limiter(limit, clock=self.clock)
        self.outcomes: Counter[str] = Counter()
        self.units = 0
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.workers = [threading.Thread(target=self.loop, args=(i,), daemon=True) for i in range(LOOPS)]
        self.workers += [threading.Thread(target=self.thread, args=(i,), daemon=True) for i in range(THREADS)]

    def run(self) -> None:
        driver = threading.Thread(target=self.drive, daemon=True)
        for worker in [driver, *self.workers]:
            worker.start()
        for worker in self.workers:
            worker.join(60 * PATIENCE_S)
            assert not worker.is_alive(), f"somebody is forgotten, of {self.limiter.stats().waiting}"
        self.over.set()
        driver.join(PATIENCE_S)

    def drive(self) -> None:
        chance = random.Random(SEED)
        while not self.over.is_set():
            self.clock.advance_ns(chance.choice([1_000, 10**6, 10**7]))
            if chance.random() < 0.05:
                self.limiter.refund("k", 0)  # which changes nothing, and tells the first
            time.sleep(0)

    def thread(self, number: int) -> None:
        chance = random.Random(SEED + number)
        for _ in range(CALLS_OF_A_THREAD):
            cost = chance.randint(1, 3)
            self.note(cost, self.limiter.wait("k", cost, chance.choice([None, 0.5, 0.05])))

    def loop(self, number: int) -> None:
        asyncio.run(self.tasks(random.Random(-SEED - number)))

    async def tasks(self, chance: random.Random) -> None:
        pending: list[asyncio.Task[None]] = []
        for _ in range(CALLS_OF_A_LOOP):
            pending.append(
                asyncio.create_task(self.task(chance.randint(1, 3), chance.choice([None, 0.5, 0.05])))
            )
            await asyncio.sleep(0)
            if chance.random() < 0.3:
                chance.choice(pending).cancel()
            if len(pending) > 40:
                await self.finish(pending)
        await self.finish(pending)

    async def task(self, cost: int, timeout: float | None) -> None:
        self.note(cost, await self.limiter.wait_async("k", cost, timeout))

    async def finish(self, pending: list[asyncio.Task[None]]) -> None:
        for result in await asyncio.gather(*pending, return_exceptions=True):
            if result is not None:
                assert isinstance(result, asyncio.CancelledError)
                self.note(0, None)
        pending.clear()

    def note(self, cost: int, decision: Decision | None) -> None:
        with self.lock:
            self.units += cost if decision else 0
            self.outcomes["cancelled" if decision is None else "allowed" if decision else "refused"] += 1


@pytest.fixture
def eager_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def most_units(limit: Limit, elapsed_ns: int) -> float:
    """What may pass in a time at most: a burst and the rate, or full windows and one at each end."""
    rate = limit.rate.count * elapsed_ns / limit.rate.period_ns
    if isinstance(limit, TokenBucket | LeakyBucket):
        return limit.parameters().capacity + rate
    return rate + 2 * limit.rate.count


def voyage(limit: Limit, books: Books, outcomes: Counter[str]) -> None:
    """One fleet, and that all of its calls returned, in order, and not too many of them admitted."""
    books.passages.clear()
    fleet = Fleet(limit)
    fleet.run()
    assert LOOPS * CALLS_OF_A_LOOP + THREADS * CALLS_OF_A_THREAD == fleet.outcomes.total()
    assert 0 == fleet.limiter.stats().waiting
    assert 0 == books.overtaken(), "overtaken"
    assert fleet.units <= most_units(limit, fleet.clock.now_ns - round(START_S * 10**9))
    outcomes.update(fleet.outcomes)


@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_fleets_on_one_key(
    limit: Limit, monkeypatch: pytest.MonkeyPatch, evidence: Callable[..., None], eager_switches: None
) -> None:
    books = Books(monkeypatch)
    outcomes: Counter[str] = Counter()
    for _ in range(MOST_FLEETS):
        voyage(limit, books, outcomes)
        collisions = [books.seen[kind] for kind in COLLISIONS]
        if min(collisions) >= 10 and len(outcomes) == 3:
            break
    assert (3, True) == (len(outcomes), min(collisions) >= 10), f"{books.seen}: nobody was in anybody's way"
    counted = {kind.replace(" ", "_"): number for kind, number in books.seen.items()}
    evidence(calls=outcomes.total(), **outcomes, **counted)


def test_overtaking_is_seen(monkeypatch: pytest.MonkeyPatch, eager_switches: None) -> None:
    """Control: tasks that are admitted though it is not their turn, whenever they find room."""

    books = Books(monkeypatch)
    monkeypatch.setattr(TaskWaiter, "look", overtaking(TaskWaiter.look, books))
    with pytest.raises(AssertionError, match="overtaken"):
        voyage(LIMITS[0], books, Counter())


def overtaking(look: Any, books: Books) -> Callable[[TaskWaiter], Decision | None]:
    def looked(waiter: TaskWaiter) -> Decision | None:
        before = next(books.stamps)
        decision = waiter.bucket.acquire(waiter.cost)
        if decision:
            books.passages.append(Passage(*books.places[waiter], before, next(books.stamps)))
        return decision or look(waiter)

    return looked


def test_who_leaves_without_a_word_holds_up_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a first that tells nobody that it goes, so that the rest waits though there is room."""
    clock = ManualClock(START_S)
    limiter = Limiter("1/s", clock=clock)
    limiter.allow("k")
    silent: list[TaskWaiter] = []

    async def cancelled() -> None:
        task = asyncio.create_task(limiter.wait_async("k"))
        await asyncio.sleep(0)
        task.cancel()

    with monkeypatch.context() as patch:
        patch.setattr(TaskWaiter, "leave", lambda waiter: silent.append(waiter), raising=False)
        asyncio.run(cancelled())
    behind = threading.Thread(target=limiter.wait, args=("k",), daemon=True)
    behind.start()
    until(lambda: limiter.stats().waiting == 2)
    clock.advance(2)
    assert (2, True, True) == (limiter.stats().waiting, bool(limiter.peek("k")), behind.is_alive())
    silent[0].leave()
    behind.join(PATIENCE_S)
    assert (False, 0) == (behind.is_alive(), limiter.stats().waiting)


# --- with the system's clock


def test_real_threads_and_loops_keep_the_rate(evidence: Callable[..., None], eager_switches: None) -> None:
    limiter = Limiter("2000/s burst 20")
    calls = by_mode(400, 1_000, 10_000)
    started = time.monotonic()

    def thread() -> None:
        for _ in range(calls // 4):
            assert limiter.wait("k")

    async def tasks() -> None:
        assert all(await asyncio.gather(*(limiter.wait_async("k") for _ in range(calls // 4))))

    workers = [threading.Thread(target=thread) for _ in range(2)]
    workers += [threading.Thread(target=lambda: asyncio.run(tasks())) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60 * PATIENCE_S)
    took_s = time.monotonic() - started
    stats = limiter.stats()
    assert (calls, 0, 0) == (stats.allowed, stats.denied, stats.waiting)
    assert took_s >= (calls - 20) / 2000 * (1 - 1e-3)
    evidence(calls=calls, seconds=round(took_s, 3), at_the_rate=(calls - 20) / 2000)
