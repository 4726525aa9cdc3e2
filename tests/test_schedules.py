"""The compiled kernel under drawn schedules: a few calls, held up and killed at any atomic access.

`schedules` says what is drawn and what must hold. `test_kernel_turns.py` plays chosen scenes under every
order of turns; here nobody chose. Each control leaves out one precaution; the same search must find it.

A failure names its program and schedule, and the variables FASTLIMIT_SEED and FASTLIMIT_SCHEDULE repeat it
alone, as in FASTLIMIT_SCHEDULE=12/3.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count, islice
from types import ModuleType
from typing import Any

import pytest
from kernel_probe import Table
from scale import SEED, by_mode
from schedules import LIMITS, SCHEDULES, Change, Make, Program, Ran, charge, update

from fastlimit.limits import Limit

pytestmark = pytest.mark.schedules

PROGRAMS = by_mode(20, quick=80, full=-(-100_000 // (SCHEDULES * len(LIMITS))))
"""Of each kind of limit."""
ONLY = os.environ.get("FASTLIMIT_SCHEDULE", "")
MOST = 40_000
"""Schedules in which a control must be found."""


def runs(
    probe: ModuleType, kind: str, make: Make = charge, change: Change = update
) -> Iterator[tuple[str, Ran]]:
    """No end of them, each with its name."""
    wanted = [int(number) for number in ONLY.split("/")] if ONLY else []
    for number in wanted[:1] or count():
        program = Program(probe, kind, number, make, change)
        for schedule in wanted[1:] or range(SCHEDULES):
            yield f"{number}/{schedule}", program.run(schedule)


@pytest.mark.parametrize("kind", LIMITS)
def test_every_schedule_is_explained_and_leaves_the_table_whole(
    probe: ModuleType, evidence: Callable[..., None], kind: str
) -> None:
    ran = []
    for name, one in islice(runs(probe, kind), PROGRAMS * SCHEDULES):
        assert not one.complaint, (
            f"FASTLIMIT_SEED={SEED} FASTLIMIT_SCHEDULE={name} repeats this: {one.complaint}"
        )
        ran.append(one)
    hooks = {one.died_at for one in ran if one.died_at}
    evidence(
        schedules=len(ran),
        preemptions=sum(one.preemptions for one in ran),
        deaths=sum(one.died_at > 0 for one in ran),
        hooks_died_at=len(hooks),
        lost_swaps=sum(one.lost for one in ran),
        schedules_with_raced_claims=sum(one.raced > 0 for one in ran),
        schedules_with_full_windows=sum(one.full_events > 0 for one in ran),
        schedules_with_updates=sum(one.updates > 0 for one in ran),
    )
    if ONLY:
        return
    assert PROGRAMS * SCHEDULES == len(ran)
    assert sum(one.preemptions for one in ran) >= len(ran)
    assert sum(one.died_at > 0 for one in ran) >= 0.3 * len(ran)
    assert len(hooks) >= 20
    assert sum(one.lost > 0 for one in ran) >= 0.02 * len(ran)
    assert sum(one.raced > 0 for one in ran) >= 0.01 * len(ran)


def without(precaution: str) -> Make:
    return lambda table, key, cost: table.probe.careless_claim(precaution, table.limiter, key, cost)


def load_then_store(table: Table, key: str, cost: int) -> Any:
    return table.probe.load_then_store(table.limiter, key, cost)


def early_version(table: Table, limit: Limit) -> Any:
    return table.probe.early_version(table.limiter, limit)


CONTROLS: dict[str, tuple[Make, Change]] = {
    "a charge that loads, then stores": (load_then_store, update),
    "no look for rivals": (without("rivals"), update),
    "no clock read after a claim": (without("clock"), update),
    "an identity set by a plain store": (without("serial"), update),
    "a version published before its limit": (charge, early_version),
}


def complaints(probe: ModuleType, control: str) -> Iterator[str]:
    """What is found in each schedule, over the kinds of limits in turn."""
    kinds = [runs(probe, kind, *CONTROLS[control]) for kind in LIMITS]
    for tried in range(MOST):
        try:
            yield next(kinds[tried % len(kinds)])[1].complaint
        except RuntimeError as error:  # a call that does not come to an end
            yield str(error)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_weakened_kernel_is_found(probe: ModuleType, evidence: Callable[..., None], control: str) -> None:
    """By the same search."""
    tried, found = next((each for each in enumerate(complaints(probe, control), 1) if each[1]), (MOST, ""))
    evidence(schedules=tried, found=found.partition("\n")[0])
    assert found, f"not found in {MOST} schedules"


@pytest.mark.parametrize("kind", LIMITS)
def test_the_controls_own_claim_is_explained_with_every_precaution(probe: ModuleType, kind: str) -> None:
    for name, ran in islice(runs(probe, kind, without("none")), PROGRAMS * SCHEDULES):
        assert not ran.complaint, f"{name}: {ran.complaint}"
