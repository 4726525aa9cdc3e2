"""`fastlimit.testing`: the clock that moves when told to."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from fastlimit import Limiter
from fastlimit.testing import ManualClock

LAST_NS = 2**63 - 1


def test_a_clock_starts_where_it_is_told() -> None:
    assert [0, 0, 1_500_000_000, 12 * 10**9] == [
        ManualClock().now_ns,
        ManualClock(0).now_ns,
        ManualClock(1.5).now_ns,
        ManualClock(now=12).now_ns,
    ]


def test_a_clock_moves_as_told_and_only_then() -> None:
    clock = ManualClock(1.0)
    readings = [clock.now_ns, clock.now_ns]
    moves: list[tuple[Callable[[Any], None], Any]] = [
        (clock.advance, 0.25),
        (clock.advance, 0),
        (clock.advance_ns, 1),
        (clock.set, 12.0),
        (clock.set_ns, 7),
        (clock.set_ns, LAST_NS),
    ]
    for move, argument in moves:
        move(argument)
        readings.append(clock.now_ns)
    assert [10**9, 10**9, 1_250_000_000, 1_250_000_000, 1_250_000_001, 12 * 10**9, 7, LAST_NS] == readings


def test_seconds_become_the_nearest_nanosecond() -> None:
    assert [100_000_000, 300_000_000, 1_700_000_000_123_456_717, 1] == [
        ManualClock(seconds).now_ns for seconds in (0.1, 0.1 + 0.2, 1_700_000_000.123456789, 1.4e-9)
    ]


def test_a_limiter_lives_by_its_clock() -> None:
    clock = ManualClock(100.0)
    limiter = Limiter("1/s", clock=clock)
    assert [True, False] == [limiter.allow("a"), limiter.allow("a")]
    clock.advance(0.999999999)
    assert not limiter.allow("a")
    clock.advance_ns(1)
    assert limiter.allow("a")


def test_it_is_the_wall_clock_as_well() -> None:
    clock = ManualClock(86_400.0 - 1)
    limiter = Limiter("fixed-window 1/day", clock=clock)
    assert (True, 1.0) == (limiter.acquire("a").allowed, limiter.acquire("a").retry_after)
    clock.advance(1)
    assert (True, 86_400.0) == (limiter.acquire("a").allowed, limiter.acquire("a").retry_after)


def test_several_limiters_share_a_clock_and_keep_it_alive() -> None:
    limiters = [Limiter("1/s", clock=clock) for clock in [ManualClock(5.0)] for _ in range(2)]
    assert [True, True, False, False] == [limiter.allow("a") for limiter in limiters * 2]


RANGE = "a clock must stay from 1970 to 2262 (0 to 2^63 - 1 ns), not"


@pytest.mark.parametrize(
    ("method", "argument", "error", "message"),
    [
        ("set", -1, ValueError, f"{RANGE} -1000000000 ns"),
        ("set", 9.3e9, ValueError, f"{RANGE} 9300000000000000000 ns"),
        ("set", 1e10, ValueError, "seconds must be within about 292 years, not 10000000000.0"),
        ("set", float("inf"), ValueError, "seconds must be within about 292 years, not inf"),
        ("set", float("nan"), ValueError, "seconds must be within about 292 years, not nan"),
        ("set", "1", TypeError, "seconds must be a number, not str"),
        ("set", True, TypeError, "seconds must be a number, not bool"),
        ("set", None, TypeError, "seconds must be a number, not NoneType"),
        ("advance", "1", TypeError, "seconds must be a number, not str"),
        (
            "advance",
            -0.5,
            ValueError,
            "a clock advances by 0 or more, not -500000000 ns; to step back, set it",
        ),
        ("advance", 9.3e9, ValueError, f"{RANGE} 9300000001000000000 ns"),
        ("advance_ns", -1, ValueError, "a clock advances by 0 or more, not -1 ns; to step back, set it"),
        ("advance_ns", LAST_NS, ValueError, f"{RANGE} {LAST_NS + 10**9} ns"),
        ("set_ns", -1, ValueError, f"{RANGE} -1 ns"),
        ("set_ns", 2**63, ValueError, f"{RANGE} {2**63} ns"),
    ],
)
def test_a_bad_move_is_refused_and_changes_nothing(
    method: str, argument: Any, error: type[Exception], message: str
) -> None:
    clock = ManualClock(1.0)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        getattr(clock, method)(argument)
    assert 10**9 == clock.now_ns
    if method == "set":
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            ManualClock(argument)


@pytest.mark.parametrize("method", ["set_ns", "advance_ns"])
@pytest.mark.parametrize("argument", [1.5, True, "1", None])
def test_nanoseconds_are_ints(method: str, argument: Any) -> None:
    clock = ManualClock(1.0)
    with pytest.raises(TypeError, match=f"ns must be an int, not {type(argument).__name__}"):
        getattr(clock, method)(argument)
    assert 10**9 == clock.now_ns


def test_now_ns_is_read_only() -> None:
    clock: Any = ManualClock()
    with pytest.raises(AttributeError, match="not writable"):
        clock.now_ns = 1
    assert 0 == clock.now_ns


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_clock_is_not_copied(duplicate: Any) -> None:
    message = "^a ManualClock cannot be pickled or copied: limiters read this very one$"
    with pytest.raises(TypeError, match=message):
        duplicate(ManualClock())


def test_a_clock_prints_its_time() -> None:
    assert "ManualClock(1.5)" == repr(ManualClock(1.5))
