"""What a Decision promises, whichever algorithm it came from."""

from __future__ import annotations

import copy
import math
import pickle
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, find, given
from hypothesis import strategies as st

from fastlimit import Decision, Limiter
from fastlimit._core import restore_decision
from fastlimit.testing import ManualClock

FIELDS = ("allowed", "limit", "remaining", "retry_after_ns", "reset_after_ns", "delay_ns", "name")
SECONDS = ("retry_after", "reset_after", "delay")

nanoseconds = st.integers(0, 2**63 - 1) | st.integers(0, 10**12)


def decision(**changed: Any) -> Decision:
    fields: dict[str, Any] = {
        "allowed": False,
        "limit": 5,
        "remaining": 0,
        "retry_after_ns": 1,
        "reset_after_ns": 2,
        "delay_ns": 3,
        "name": "api",
    }
    return restore_decision(*(fields | changed).values())


def is_rounded_up(seconds: float, ns: int) -> bool:
    """Whether `seconds` is the smallest float that is no less than `ns` nanoseconds."""
    exact = Fraction(ns, 10**9)
    return Fraction(seconds) >= exact and (ns == 0 or Fraction(math.nextafter(seconds, -math.inf)) < exact)


@given(nanoseconds, nanoseconds, nanoseconds)
@example(2**63 - 1, 2**53 + 1, 1)
@example(2**63 - 512, 2**63 - 513, 2**62 + 1)
def test_seconds_are_rounded_up_to_the_next_float(retry: int, reset: int, delay: int) -> None:
    one = decision(retry_after_ns=retry, reset_after_ns=reset, delay_ns=delay)
    assert (retry, reset, delay) == (one.retry_after_ns, one.reset_after_ns, one.delay_ns)
    assert is_rounded_up(one.retry_after, retry)
    assert is_rounded_up(one.reset_after, reset)
    assert is_rounded_up(one.delay, delay)


def test_a_plain_division_would_be_seen_to_round_down() -> None:
    shortest = find(nanoseconds, lambda ns: not is_rounded_up(ns / 10**9, ns))
    assert Fraction(shortest / 10**9) < Fraction(shortest, 10**9)


def test_whole_numbers_of_seconds_stay_whole() -> None:
    assert [0.0, 1.0, 0.25, 86_400.0] == [
        decision(retry_after_ns=ns).retry_after for ns in (0, 10**9, 10**9 // 4, 86_400 * 10**9)
    ]


def test_types_of_the_fields() -> None:
    one = Limiter("leaky-bucket 5/min", name="api", clock=ManualClock()).acquire("a")
    assert {"allowed": bool, "name": str} | dict.fromkeys(SECONDS, float) == {
        name: type(getattr(one, name)) for name in ("allowed", "name", *SECONDS)
    }
    assert {int} == {type(getattr(one, name)) for name in FIELDS[1:-1]}


def test_a_decision_is_true_if_the_call_was_allowed() -> None:
    assert [True, False] == [bool(decision(allowed=allowed)) for allowed in (True, False)]


@pytest.mark.parametrize("name", [*FIELDS, *SECONDS])
def test_no_field_can_be_changed(name: str) -> None:
    one = decision()
    before = getattr(one, name)
    with pytest.raises(AttributeError, match=f"attribute '{name}' .* is not writable"):
        setattr(one, name, before)
    with pytest.raises(AttributeError, match=f"attribute '{name}' .* is not writable"):
        delattr(one, name)
    assert before == getattr(one, name)


def test_nothing_can_be_added() -> None:
    one: Any = decision()
    with pytest.raises(AttributeError, match="has no attribute 'note'"):
        one.note = 1
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Own", (Decision,), {})


@pytest.mark.parametrize("name", FIELDS)
def test_decisions_are_equal_by_all_their_fields(name: str) -> None:
    one, twin = decision(), decision()
    assert one == twin
    assert hash(one) == hash(twin)
    other = decision(**{name: "other" if name == "name" else True if name == "allowed" else 4})
    assert one != other
    assert {one, twin, other} == {one, other}


def test_a_decision_is_no_tuple_and_has_no_order() -> None:
    one: Any = decision()
    assert one != tuple(getattr(one, name) for name in FIELDS)
    with pytest.raises(TypeError, match="'<' not supported"):
        sorted([one, one])


@given(st.booleans(), nanoseconds, nanoseconds, nanoseconds, st.text())
def test_copies_are_equal(allowed: bool, retry: int, reset: int, delay: int, name: str) -> None:
    one = decision(allowed=allowed, retry_after_ns=retry, reset_after_ns=reset, delay_ns=delay, name=name)
    twins = [pickle.loads(pickle.dumps(one, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for twin in [*twins, copy.copy(one), copy.deepcopy(one)]:
        assert (one, hash(one)) == (twin, hash(twin))


def test_a_decision_cannot_be_made_of_nothing() -> None:
    with pytest.raises(TypeError):
        Decision()


@pytest.mark.parametrize(
    ("limit", "calls", "sentence"),
    [
        ("5/min", 1, "allowed by 'api'; 4 of 5 left, all in 12 s"),
        ("5/min", 6, "denied by 'api', retry after 12 s; 0 of 5 left, all in 60 s"),
        ("leaky-bucket 5/min", 2, "allowed by 'api' after a delay of 12 s; 3 of 5 left, all in 24 s"),
        ("10/s; 3/min", 4, "denied by 'api[1]', retry after 20 s; 0 of 3 left, all in 60 s"),
    ],
)
def test_a_decision_reads_like_a_sentence(limit: str, calls: int, sentence: str) -> None:
    limiter = Limiter(limit, name="api", clock=ManualClock(1_000.0))
    decisions = [limiter.acquire("a") for _ in range(calls)]
    assert f"<Decision: {sentence}>" == repr(decisions[-1])
