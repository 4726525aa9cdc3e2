"""Nobody who owes is forgotten, however many keys come: each algorithm, each way to treat a full table.

Random keys, 100 times as many as the table was built for (in `test` 20 times), arrive in as many rounds
within 50 minutes, on a table whose every slot was used before. A thousand victims owe twice the capacity, a
hundred bystanders all but one unit; after each round all are compared with the reference model, which has
no table. Debts of buckets come back within the siege, so that slots are claimed again and again; windows
stay full until it is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

import pytest
from scale import by_mode
from siege import (
    BYSTANDERS,
    CAPACITY,
    MOST_GROWTH,
    OVERFLOW_SLOTS,
    ROUNDS,
    STEP_S,
    VICTIMS,
    Looks,
    Siege,
    WhenFull,
    as_the_engine_does,
)

from fastlimit import FixedWindow, LeakyBucket, Limiter, SlidingLog, SlidingWindow, TokenBucket
from fastlimit.limits import Limit

pytestmark = pytest.mark.siege

MAX_KEYS = by_mode(2_048, quick=4_096, full=65_536)
WINDOW = 48
PASSES = 4
"""Over the window, by a key without a place: two look-ups, a scan, and one for rivals or the wait."""
KINDS: dict[str, Limit] = {
    "token-bucket": TokenBucket("10/h", burst=CAPACITY),
    "leaky-bucket": LeakyBucket("10/h", capacity=CAPACITY),
    "fixed-window": FixedWindow("10/day"),
    "from-first": FixedWindow("10/day", anchor="first"),
    "sliding-window": SlidingWindow("10/day"),
    "sliding-log": SlidingLog("10/day"),
}
POLICIES: tuple[WhenFull, ...] = ("share", "deny", "allow")
each_kind = pytest.mark.parametrize("kind", KINDS)
each_policy = pytest.mark.parametrize("when_full", POLICIES)


def show(what: str, looks: Looks, bound: int) -> None:
    print(f"slots per {what}: p50 {looks.p50}, p99.99 {looks.p9999}, most {looks.most}; documented: {bound}")


@each_kind
@each_policy
def test_a_siege(probe: ModuleType, kind: str, when_full: WhenFull, evidence: Callable[..., None]) -> None:
    siege = Siege(probe, KINDS[kind], when_full, MAX_KEYS).run()
    lookups = siege.looks("look-up", siege.keys(20_000))
    known = siege.looks("look-up", VICTIMS + BYSTANDERS)
    charges = siege.looks("charge", siege.keys(10_000))
    events = siege.limiter.stats().full_events - siege.events_before
    siege.check_usable()
    grown = siege.end.resident - siege.full.resident
    show("look-up", lookups, WINDOW)
    show("charge", charges, PASSES * WINDOW)
    print(f"resident memory: {siege.full.resident} bytes, {grown} more at the end; bound: {MOST_GROWTH}")
    evidence(
        victims=len(VICTIMS),
        random_keys=siege.flooded,
        max_keys=MAX_KEYS,
        slots_claimed=siege.slots_claimed,
        admitted=siege.admitted,
        full_events=events,
        overflow_grants=siege.overflow_grants,
        resident_full=siege.full.resident,
        resident_end=siege.end.resident,
        blocks_grown=siege.end.blocks - siege.full.blocks,
        slots_per_lookup=lookups[:3],
        slots_per_lookup_of_known=known[:3],
        slots_per_charge=charges[:3],
    )
    assert {} == siege.findings
    assert ROUNDS * MAX_KEYS == siege.flooded
    assert siege.flooded - siege.slots_claimed > siege.flooded // 2
    assert events > MAX_KEYS
    for looks, bound in [(lookups, WINDOW), (known, WINDOW), (charges, PASSES * WINDOW)]:
        assert (True, True, 0) == (looks.most <= bound, looks.reach <= WINDOW, looks.strays)
    assert siege.overflow_grants <= OVERFLOW_SLOTS * most_of(KINDS[kind])


def most_of(limit: Limit) -> int:
    """The most that one bucket can let through in a siege."""
    rate_per_siege = 10 * ROUNDS * STEP_S // 3_600 + 1
    return CAPACITY + rate_per_siege * isinstance(limit, (TokenBucket, LeakyBucket))


# --- controls: what a siege must notice

SHORT = 3
"""Rounds are enough."""


@each_kind
@pytest.mark.parametrize("oldest", [True, False], ids=["oldest", "any"])
def test_a_table_that_evicts_forgets_its_victims(probe: ModuleType, kind: str, oldest: bool) -> None:
    def evicting(limiter: Limiter, keys: Sequence[str]) -> bytes:
        verdicts: bytes = probe.flood_evicting(limiter, keys, oldest)
        return verdicts

    findings = Siege(probe, KINDS[kind], "deny", 2_048, flood=evicting).run(SHORT).findings
    assert {"victims", "bystanders", "victims' wait", "victims let in", "full events"} <= set(findings)


def test_a_flood_through_the_probe_that_evicts_nobody_finds_nothing(probe: ModuleType) -> None:
    """So the control above is caught by its evictions: where there is room, it does as the engine."""
    siege = Siege(probe, KINDS["fixed-window"], "deny", 16_384)
    few = siege.keys(4_096)
    before = siege.limiter.stats()
    verdicts = probe.flood_evicting(siege.limiter, few, True)
    after = siege.limiter.stats()
    siege.account(
        len(few), sum(verdicts), after.keys - before.keys, after.full_events - before.full_events, 0
    )
    siege.check_people()
    assert {} == siege.findings


@pytest.mark.parametrize(("policy", "told"), [("share", "deny"), ("deny", "allow"), ("allow", "share")])
def test_another_policy_than_promised_is_noticed(probe: ModuleType, policy: WhenFull, told: WhenFull) -> None:
    findings = Siege(probe, KINDS["token-bucket"], policy, 2_048, account=told).run(SHORT).findings
    assert "full events" in findings


def test_a_flood_that_is_remembered_is_noticed(probe: ModuleType) -> None:
    hoard: list[str] = []

    def remembering(limiter: Limiter, keys: Sequence[str]) -> bytes:
        hoard.extend(keys)
        hoard.append("key" * 2**24)  # too large for what earlier tests gave back to the heap
        return as_the_engine_does(limiter, keys)

    findings = Siege(probe, KINDS["token-bucket"], "deny", 8_192, flood=remembering).run(5).findings
    assert {"resident memory", "allocations"} == set(findings)


def test_a_search_without_a_window_is_noticed(probe: ModuleType) -> None:
    siege = Siege(probe, KINDS["token-bucket"], "deny", 2_048).run(1)
    looks = siege.looks("look-up without window", siege.keys(1_000))
    assert looks.most > 10 * WINDOW
    assert looks.reach > 10 * WINDOW


def test_a_table_that_stays_full_is_noticed(probe: ModuleType) -> None:
    siege = Siege(probe, KINDS["sliding-window"], "deny", 2_048).run(SHORT)
    siege.check_usable(rest_s=60)
    assert {"nobody owes", "as new", "slots as new"} <= set(siege.findings)
