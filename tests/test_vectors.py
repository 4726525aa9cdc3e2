"""Golden vectors: calls with the answers that the specification asks for, worked out by hand (see `why`).

A file is read like a tape, row by row: when, which call ("acquire other": for another key), every field of
the answer. Times are ns or sums such as "1d - 1ns" and count from `start`. A duration without a column is 0.
Both implementations play every tape, and every planted bug must be heard.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mutants import MUTANTS, Mutant, planted

from fastlimit import CostExceedsLimit, FixedWindow, Limiter, acquire_all
from fastlimit.reference import ReferenceLimiter, reference_acquire_all
from fastlimit.testing import ManualClock

SECOND = 10**9
UNITS = {"d": 86_400 * SECOND, "h": 3_600 * SECOND, "s": SECOND, "ms": 10**6, "us": 10**3, "ns": 1}
TERM = re.compile(r"([+-]?)\s*([0-9]+)([a-z]+)\s*")
FIELDS = ("allowed", "remaining", "limit", "name")
DURATIONS = ("retry_after", "reset_after", "delay")
GROUPS = {
    f"{path.stem}: {group['name']}": {"columns": tape["columns"], **group}
    for path in sorted((Path(__file__).parent / "vectors").glob("*.json"))
    for tape in [json.loads(path.read_text(encoding="utf-8"))]
    for group in tape["groups"]
}


class Implementation(NamedTuple):
    limiter: Any
    acquire_all: Any


REFERENCE = Implementation(ReferenceLimiter, reference_acquire_all)
COMPILED = Implementation(Limiter, acquire_all)


def ns(time: int | str) -> int:
    if isinstance(time, int):
        return time
    assert TERM.sub("", time) == "", f"{time!r} is no sum of times"
    return sum(int(sign + number) * UNITS[unit] for sign, number, unit in TERM.findall(time))


def start_ns(start: int | str) -> int:
    return start if isinstance(start, int) else int(datetime.fromisoformat(start).timestamp()) * SECOND


def limit_of(given: Any) -> Any:
    """The text form, or the parts of the one limit that has none."""
    return FixedWindow(given["rate"], given["anchor"]) if isinstance(given, dict) else given


def duration(decision: Any, column: str) -> int:
    """In ns, after a look at the seconds: they must be the smallest float that is no less."""
    exact: int = getattr(decision, f"{column}_ns")
    seconds: float = getattr(decision, column)
    assert Fraction(math.nextafter(seconds, -math.inf)) < Fraction(exact, SECOND) <= Fraction(seconds)
    return exact


def answer_to(row: dict[str, Any], limiters: dict[str, Any], implementation: Implementation) -> Any:
    call, _, key = row["call"].partition(" ")
    cost = row["cost"]
    if call == "acquire_all":
        return implementation.acquire_all([(limiters[name], key, cost) for name, key, cost in cost])
    [limiter] = limiters.values()
    if call == "update":
        return limiter.update(limit_of(cost))
    return getattr(limiter, call)(key or "key", *([] if cost is None else [cost]))


def heard(row: dict[str, Any], limiters: dict[str, Any], implementation: Implementation) -> dict[str, Any]:
    """The row as it should have been."""
    try:
        answer = answer_to(row, limiters, implementation)
    except CostExceedsLimit:
        return {**row, "allowed": "CostExceedsLimit"}
    if answer is None or isinstance(answer, bool):
        return {**row, "allowed": answer}
    seen: dict[str, Any] = {column: duration(answer, column) for column in DURATIONS}
    seen |= {field: getattr(answer, field) for field in FIELDS if field in row}
    return {**row, **seen}


def play(group: dict[str, Any], implementation: Implementation) -> None:
    clock = ManualClock()
    clock.set_ns(start_ns(group["start"]))
    given = group.get("limiters", {group.get("as"): group.get("limit")})
    limiters = {
        name: implementation.limiter(limit_of(limit), name=name, clock=clock) for name, limit in given.items()
    }
    for cells in group["rows"]:
        row = dict(zip(group["columns"], cells, strict=True))
        clock.set_ns(start_ns(group["start"]) + ns(row["at"]))
        if row["retry_after"] is not None:
            row |= {column: ns(row.get(column, 0)) for column in DURATIONS}
        assert row == heard(row, limiters, implementation)


@pytest.mark.parametrize("implementation", [REFERENCE, COMPILED], ids=["reference", "compiled"])
@pytest.mark.parametrize("group", GROUPS)
def test_vector(group: str, implementation: Implementation) -> None:
    play(GROUPS[group], implementation)


def hears(mutant: Mutant) -> bool:
    model = planted(mutant)
    for group in GROUPS.values():
        try:
            play(group, Implementation(model.ReferenceLimiter, model.reference_acquire_all))
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_vectors_hear_a_planted_bug(mutant: Mutant) -> None:
    assert hears(mutant)
