"""Threads in each other's way: never one grant too many, and none lost, for each algorithm and kind of call.

Clocks stand still, so that the number of grants is known. A storm is C threads without the GIL, which yield
amid calls; a crowd is Python threads that switch every microsecond. Each test shows that its threads
collided, by lost swaps or by turns taken at granting, and each kind has a control that must over-admit.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier
from types import ModuleType
from typing import Any

import pytest
from kernel_probe import SECOND, SECRET, START_S, Table
from scale import by_mode

from fastlimit import FixedWindow, LeakyBucket, Limiter, SlidingLog, SlidingWindow, TokenBucket, acquire_all
from fastlimit.limits import Limit
from fastlimit.testing import ManualClock

pytestmark = [pytest.mark.proof, pytest.mark.stress]

THREADS = 4
COLLISIONS = by_mode(1_000, quick=5_000, full=100_000)
MOST_ROUNDS = max(200, COLLISIONS)
KINDS: dict[str, Callable[[int], Limit]] = {
    "token-bucket": lambda capacity: TokenBucket("1/minute", burst=capacity),
    "leaky-bucket": lambda capacity: LeakyBucket("1/minute", capacity=capacity),
    "fixed-window": lambda capacity: FixedWindow(f"{capacity}/day"),
    "from-first": lambda capacity: FixedWindow(f"{capacity}/day", anchor="first"),
    "sliding-window": lambda capacity: SlidingWindow(f"{capacity}/day"),
    "sliding-log": lambda capacity: SlidingLog(f"{capacity}/day"),
}
MOST: dict[str, int] = {"sliding-log": 30_000}
each_kind = pytest.mark.parametrize("kind", KINDS)


def storms(
    storm: Callable[[], tuple[int, int]],
    enough: Callable[[], bool] = lambda: True,
    collisions: int = COLLISIONS,
) -> None:
    """Repeat a storm, which checks what came of it, until enough swaps were lost."""
    lost = 0
    for _ in range(MOST_ROUNDS):
        lost += storm()[1]
        if lost >= collisions and enough():
            return
    raise AssertionError(f"only {lost} collisions in {MOST_ROUNDS} storms, or too few of their kind")


def ever(storm: Callable[[], bool]) -> bool:
    """For controls: whether a storm ever finds what it must."""
    return any(storm() for _ in range(200))


def new_limiter(probe: ModuleType, limit: Any, **options: Any) -> Limiter:
    limiter = Limiter(limit, clock=options.pop("clock", None) or ManualClock(START_S), **options)
    probe.set_secret(limiter, SECRET)
    return limiter


def crews(make: Callable[[], Any], threads: int = THREADS) -> list[list[Any]]:
    return [[make()] for _ in range(threads)]


def allowed(calls: Sequence[Sequence[Any]]) -> int:
    return sum(call.allowed for crew in calls for call in crew)


# --- one key


def hot_key(probe: ModuleType, limiter: Limiter, make: Callable[[], Any]) -> tuple[tuple[int, int], int]:
    """Four times as many charges as there is room for, on a fresh key: swaps, and grants."""
    limiter.reset("k")
    capacity = limiter.peek("k").limit
    calls = crews(make)
    swaps: tuple[int, int] = probe.storm(calls, capacity)
    return swaps, allowed(calls)


@each_kind
def test_one_key_in_a_storm(probe: ModuleType, kind: str) -> None:
    limiter = new_limiter(probe, KINDS[kind](500))

    def storm() -> tuple[int, int]:
        swaps, granted = hot_key(probe, limiter, lambda: probe.charge((limiter, "k", 1)))
        assert 500 == granted
        return swaps

    storms(storm)


@each_kind
def test_costs_above_1_in_a_storm(probe: ModuleType, kind: str) -> None:
    """Costs of 3, then of 1: the capacity is used to the last unit."""
    limiter = new_limiter(probe, KINDS[kind](500))

    def storm() -> tuple[int, int]:
        limiter.reset("k")
        threes, ones = (
            crews(lambda: probe.charge((limiter, "k", 3))),
            crews(lambda: probe.charge((limiter, "k", 1))),
        )
        swaps: tuple[int, int] = probe.storm(
            [three + one for three, one in zip(threes, ones, strict=True)], 250
        )
        assert 500 == 3 * allowed(threes) + allowed(ones)
        return swaps

    storms(storm)


@each_kind
def test_one_key_in_a_storm_without_a_swap(probe: ModuleType, kind: str) -> None:
    """Control: a charge that loads, then stores."""
    limiter = new_limiter(probe, KINDS[kind](500))
    limiter.allow("k")
    assert ever(lambda: hot_key(probe, limiter, lambda: probe.load_then_store(limiter, "k"))[1] > 500)


@each_kind
def test_handles_of_the_engine_in_a_storm(probe: ModuleType, kind: str) -> None:
    """The compiled `bucket_allow`, without the GIL: its swaps cannot be counted, but grants can.

    Of threads that run after each other, at most one is granted some and refused some.
    """
    capacity = min(1_000_000, MOST.get(kind, 1_000_000))
    limiter = new_limiter(probe, KINDS[kind](capacity))
    shared = limiter.bucket("k")
    collided = 0
    for _ in range(50):
        limiter.reset("k")
        before = limiter.stats()
        calls = [probe.allow(bucket) for bucket in (shared, shared, limiter.bucket("k"), limiter.bucket("k"))]
        probe.storm([[call] for call in calls], capacity // 2, 0)
        after = limiter.stats()
        assert capacity == sum(call.allowed for call in calls)
        assert (capacity, capacity) == (after.allowed - before.allowed, after.denied - before.denied)
        collided += sum(bool(call.allowed and call.refused) for call in calls) >= 2
        if collided >= 2:
            break
    assert collided >= 2


# --- many keys


@each_kind
def test_many_keys_in_a_storm(probe: ModuleType, kind: str) -> None:
    limiter = new_limiter(probe, KINDS[kind](20), max_keys=4_096)
    names = [f"key {i}" for i in range(64)]

    def storm() -> tuple[int, int]:
        for name in names:
            limiter.reset(name)
        calls = {name: [probe.charge((limiter, name, 1)) for _ in range(THREADS)] for name in names}
        swaps: tuple[int, int] = probe.storm(
            [random.Random(i).sample([calls[name][i] for name in names], len(names)) for i in range(THREADS)],
            20,
        )
        assert dict.fromkeys(names, 20) == {name: sum(call.allowed for call in calls[name]) for name in names}
        return swaps

    storms(storm)


class Claiming:
    """Rounds of 30 fresh keys that race for slots in one window, while its first 12 slots come free."""

    def __init__(self, probe: ModuleType, kind: str, make: Callable[[Limiter, str], Any]) -> None:
        self.probe, self.kind, self.make = probe, kind, make
        self.granted: dict[str, int] = {}
        self.begin()

    def begin(self) -> None:
        self.table = Table(self.probe, KINDS[self.kind](5))
        self.rounds = 0

    def race(self) -> tuple[int, int]:
        """All threads charge all keys in the same order: swaps."""
        if self.rounds == 500:  # a table's time ends 22 years after its first use
            self.begin()
        limiter = self.table.limiter
        self.table.clock.advance_ns(10 * 86_400 * SECOND)
        front = [f"front {i}" for i in range(12)]
        assert bytes([1] * 12) == limiter.allow_many(front)
        self.rounds += 1
        names = [f"{self.rounds} {i}" for i in range(30)]
        calls = [[self.make(limiter, name) for name in names] for _ in range(THREADS)]
        going = [self.probe.operate("reset", limiter, name) for name in front]
        swaps: tuple[int, int] = self.probe.storm([*calls, going], 4)
        self.granted = {name: sum(crew[i].allowed for crew in calls) for i, name in enumerate(names)}
        return swaps

    @property
    def slots(self) -> dict[str, int]:
        """In how many slots each key of the round is live."""
        return {name: len(self.table.slots_of(name)) for name in self.granted}


@each_kind
def test_fresh_keys_race_for_slots(probe: ModuleType, kind: str) -> None:
    claiming = Claiming(probe, kind, lambda limiter, name: probe.charge((limiter, name, 1)))

    def storm() -> tuple[int, int]:
        swaps = claiming.race()
        assert dict.fromkeys(claiming.granted, 5) == claiming.granted
        assert dict.fromkeys(claiming.granted, 1) == claiming.slots
        assert 0 == claiming.table.limiter.stats().full_events
        return swaps

    storms(storm)


def test_what_buckets_admitted_is_in_their_counts_whoever_had_the_slot(probe: ModuleType) -> None:
    claiming = Claiming(probe, "token-bucket", lambda limiter, name: probe.charge((limiter, name, 1)))

    def storm() -> tuple[int, int]:
        swaps = claiming.race()
        assert claiming.rounds * (12 + 30 * 5) == sum(cell.admitted for cell in claiming.table.cells())
        return swaps

    storms(storm)


def test_fresh_keys_race_for_slots_without_a_look_for_rivals(probe: ModuleType) -> None:
    """Control: some key gets two slots, and two buckets."""
    claiming = Claiming(
        probe, "token-bucket", lambda limiter, name: probe.careless_claim("rivals", limiter, name)
    )

    def storm() -> bool:
        claiming.race()
        return max(claiming.granted.values()) > 5 and max(claiming.slots.values()) > 1

    assert ever(storm)


# --- several limits, several limiters


def together(
    probe: ModuleType, limiters: Sequence[Limiter], make: Callable[..., Any], names: Sequence[str]
) -> tuple[tuple[int, int], dict[str, int], int]:
    """Charge fresh keys on each of the limiters, by half of the threads in the opposite order.

    Returns swaps, grants of each key, and how many charges were rolled back (a swap there, a swap back).
    """
    for name in names:
        for limiter in limiters:
            limiter.allow(name)
            limiter.reset(name)
    orders = [limiters, limiters[::-1]] * (THREADS // 2)
    calls = [[make(*((limiter, name, 1) for limiter in order)) for name in names] for order in orders]
    tried, lost = probe.storm([[call for call in crew for _ in range(12)] for crew in calls], 1)
    granted = {name: sum(crew[i].allowed for crew in calls) for i, name in enumerate(names)}
    tables = sum(len(limiter.limits) for limiter in limiters)
    return (tried, lost), granted, (tried - lost - tables * sum(granted.values())) // 2


NAMES = [f"key {i}" for i in range(40)]


@each_kind
def test_several_limits_in_a_storm(probe: ModuleType, kind: str) -> None:
    """The larger limit first: what it admitted and the smaller one refused must come back."""
    larger, smaller = KINDS[kind](30), KINDS[kind](10)
    limiter = new_limiter(probe, [larger, larger])
    limiter.update([larger, smaller])
    rolled_back = 0

    def storm() -> tuple[int, int]:
        nonlocal rolled_back
        swaps, granted, backwards = together(probe, [limiter], probe.charge, NAMES)
        rolled_back += backwards
        assert dict.fromkeys(NAMES, 10) == granted
        limiter.update([larger, larger])
        assert {20} == {limiter.peek(name).remaining for name in NAMES}
        limiter.update([larger, smaller])
        return swaps

    storms(storm, lambda: rolled_back >= 20)


@each_kind
def test_acquire_all_in_opposite_orders_in_a_storm(probe: ModuleType, kind: str) -> None:
    """Some may be refused by what is about to be rolled back; afterwards all that was not granted can be."""
    clock = ManualClock(START_S)
    limiters = [new_limiter(probe, KINDS[kind](10), clock=clock) for _ in range(2)]
    rolled_back = 0

    def storm() -> tuple[int, int]:
        nonlocal rolled_back
        swaps, granted, backwards = together(probe, limiters, probe.charge, NAMES)
        rolled_back += backwards
        for name, grants in granted.items():
            assert [10 - grants] * 2 == [limiter.peek(name).remaining for limiter in limiters]
            further = [acquire_all([(one, name, 1) for one in limiters]).allowed for _ in range(11)]
            assert 10 == grants + sum(further)
        return swaps

    storms(storm, lambda: rolled_back >= 20)


@each_kind
def test_acquire_all_without_rolling_back_in_a_storm(probe: ModuleType, kind: str) -> None:
    """Control: some is lost."""
    clock = ManualClock(START_S)
    limiters = [new_limiter(probe, KINDS[kind](10), clock=clock) for _ in range(2)]

    def storm() -> bool:
        _, granted, _ = together(probe, limiters, probe.charge_keeping, NAMES)
        return any(10 - granted[name] > limiters[0].peek(name).remaining for name in NAMES)

    assert ever(storm)


# --- whatever else changes a bucket


def give_and_take(
    probe: ModuleType, limiter: Limiter, make: Callable[[], Any]
) -> tuple[tuple[int, int], int]:
    """2,000 charges, refunds of 2 and debits of 2, on a debt that stays within the capacity: swaps, debt."""
    limiter.reset("k")
    limiter.acquire("k", 4_000)
    calls = [make(), probe.operate("refund", limiter, "k", 2), probe.operate("debit", limiter, "k", 2)]
    swaps = probe.storm([[call] for call in calls], 2_000)
    assert (2_000, 0) == (calls[0].allowed, calls[0].refused)
    return swaps, 20_000 - limiter.peek("k").remaining


@each_kind
def test_charges_refunds_and_debits_add_up(probe: ModuleType, kind: str) -> None:
    limiter = new_limiter(probe, KINDS[kind](20_000))

    def storm() -> tuple[int, int]:
        swaps, debt = give_and_take(probe, limiter, lambda: probe.charge((limiter, "k", 1)))
        assert 4_000 + 2_000 - 4_000 + 4_000 == debt
        return swaps

    storms(storm)


@each_kind
def test_without_a_swap_they_do_not(probe: ModuleType, kind: str) -> None:
    """Control."""
    limiter = new_limiter(probe, KINDS[kind](20_000))
    assert ever(
        lambda: 6_000 != give_and_take(probe, limiter, lambda: probe.load_then_store(limiter, "k"))[1]
    )


@each_kind
def test_a_limit_changes_under_a_storm(probe: ModuleType, kind: str) -> None:
    """The main thread updates to one limit and back, again and again, while C threads charge."""
    limiter = new_limiter(probe, KINDS[kind](400), max_keys=1)
    updates = 0

    def storm() -> tuple[int, int]:
        nonlocal updates
        limiter.reset("k")
        calls = crews(lambda: probe.charge((limiter, "k", 1)))
        with ThreadPoolExecutor(1) as pool:
            storming = pool.submit(probe.storm, calls, 400)
            while not storming.done():
                limiter.update(KINDS[kind](200 + 200 * (updates % 2)))
                updates += 1
            swaps: tuple[int, int] = storming.result()
        limiter.update(KINDS[kind](400))
        assert 400 == allowed(calls) + sum(limiter.allow("k") for _ in range(401))
        return swaps

    storms(storm, lambda: updates > 100, collisions=COLLISIONS // 10)


# --- Python threads


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns every microsecond."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def crowd(work: Callable[[int], Any]) -> list[Any]:
    """What several threads return that begin together."""
    barrier = Barrier(THREADS)

    def begin(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


def grants_in_turn(charge: Callable[[], Any], calls: int) -> list[int]:
    """The number of the thread that got each grant, in about the order they came."""
    turns: list[int] = []

    def work(number: int) -> None:
        for _ in range(calls):
            turns.extend([number] * bool(charge()))

    crowd(work)
    return turns


def changes(turns: Sequence[int]) -> int:
    """How often another thread's turn came: fewer than there are threads if they ran after each other."""
    return sum(one != other for one, other in pairwise(turns))


def ways(kind: str, capacity: int) -> dict[str, Callable[[], Any]]:
    """Ways to charge one unit of something that has so many."""
    clock = ManualClock(START_S)
    limit, larger = KINDS[kind](capacity), KINDS[kind](capacity + capacity // 12)
    one, other, both = (
        Limiter(limit, clock=clock),
        Limiter(larger, clock=clock),
        Limiter([limit, larger], clock=clock),
    )
    orders = [[(one, "k", 1), (other, "k", 1)], [(other, "k", 1), (one, "k", 1)]]
    draw = random.Random(kind)
    return {
        "allow": lambda: one.allow("k"),
        "acquire": lambda: one.acquire("k"),
        "bucket": one.bucket("k").allow,
        "several limits": lambda: both.allow("k"),
        "acquire_all": lambda: acquire_all(draw.choice(orders)),
    }


@each_kind
@pytest.mark.parametrize("way", ["allow", "acquire", "bucket", "several limits", "acquire_all"])
@pytest.mark.usefixtures("restless")
def test_a_crowd_gets_what_there_is(kind: str, way: str) -> None:
    capacity = min(100_000, MOST.get(kind, 100_000))
    for _ in range(50):
        turns = grants_in_turn(ways(kind, capacity)[way], capacity // 2)
        assert capacity == len(turns)
        if changes(turns) > THREADS:
            break
    assert changes(turns) > THREADS


@each_kind
@pytest.mark.usefixtures("restless")
def test_batches_that_release_the_gil_get_what_there_is(kind: str) -> None:
    """Two threads that run after each other could not both be granted and refused some."""
    limiter = Limiter(KINDS[kind](40_000), clock=ManualClock(START_S))
    batch = ["k"] * 20_000
    collided = 0
    for _ in range(200):
        limiter.reset("k")
        verdicts = crowd(lambda _: limiter.allow_many(batch))
        assert 40_000 == sum(map(sum, verdicts))
        collided += sum(0 < sum(one) < len(one) for one in verdicts) >= 2
        if collided >= 5:
            break
    assert collided >= 5


@pytest.mark.usefixtures("restless")
def test_a_crowd_that_loads_then_stores_gets_more(probe: ModuleType) -> None:
    """Control: with Python in between, threads do take turns in the middle of a charge."""
    table = Table(probe, FixedWindow("2000/day"))

    def charge() -> bool:
        cell = table[0]
        if cell.admitted == 2_000:
            return False
        table[0] = cell._replace(hi=cell.hi + 1)
        return True

    def storm() -> bool:
        table.limiter.allow("k")
        table.limiter.reset("k")
        return len(grants_in_turn(charge, 1_000)) > 2_000

    assert ever(storm)
