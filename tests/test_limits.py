"""The limits: which numbers they take, which integers they become, and that they are values."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastlimit import FixedWindow, InvalidLimit, LeakyBucket, Rate, SlidingLog, SlidingWindow, TokenBucket
from fastlimit.limits import Algorithm, Limit, Parameters, bucket_parameters, limits_from
from fastlimit.value import Value

SECOND = 10**9
HOUR = 3_600 * SECOND
DAY = 86_400 * SECOND
CENTURY = 36_525 * DAY
SLOWEST_PERIOD = 3_653 * DAY
MAX_UNITS = 2**57

Build = Callable[[], Limit]


# --- numbers


@pytest.mark.parametrize(
    "build",
    [
        lambda: TokenBucket("1000M/s"),
        lambda: TokenBucket("1/ns"),
        lambda: TokenBucket("1/3653days"),
        lambda: TokenBucket("1/3652days", burst=10),
        lambda: TokenBucket("10/36525days"),
        lambda: TokenBucket("20/200days", burst=1),
        lambda: TokenBucket("1/s", burst=10**9),
        lambda: TokenBucket(Rate(10**12, HOUR), burst=1),
        lambda: LeakyBucket("1000M/s"),
        lambda: LeakyBucket("1/3653days"),
        lambda: LeakyBucket("1/3652days", capacity=10),
        lambda: LeakyBucket("1/s", capacity=10**9),
        lambda: FixedWindow("1/ms"),
        lambda: FixedWindow("10/36525days"),
        lambda: FixedWindow(Rate(2**31 - 1, 10 * SECOND)),
        lambda: FixedWindow("1/month"),
        lambda: FixedWindow("1/100years"),
        lambda: FixedWindow(Rate(2**31 - 1, 0, 1_200)),
        lambda: FixedWindow("1/ms", anchor="first"),
        lambda: FixedWindow("10/36525days", anchor="first"),
        lambda: FixedWindow(Rate(2**31 - 1, 10 * SECOND), anchor="first"),
        lambda: SlidingWindow("1M/ms"),
        lambda: SlidingWindow("10/36525days"),
        lambda: SlidingWindow(Rate(2**31 - 1, 10 * SECOND)),
        lambda: SlidingLog("65536/ms"),
        lambda: SlidingLog("147/1461days"),
    ],
)
def test_numbers_up_to_the_edges_are_taken(build: Build) -> None:
    assert 1 <= build().parameters().capacity


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TokenBucket("2/ns"), "TokenBucket: the rate must be at most 10^9 per second, not 2/ns"),
        (
            lambda: TokenBucket("1/3654days"),
            "TokenBucket: the rate must be at least 1 per 10 years, not 1/3654days",
        ),
        (
            lambda: TokenBucket("1/s", burst=10**9 + 1),
            "TokenBucket: burst must be between 1 and 1,000,000,000, not 1,000,000,001",
        ),
        (
            lambda: TokenBucket("2000M/min"),
            "TokenBucket: burst must be between 1 and 1,000,000,000, not 2,000,000,000",
        ),
        (
            lambda: TokenBucket("1/s", burst=0),
            "TokenBucket: burst must be between 1 and 1,000,000,000, not 0;"
            " to deny everything, deny by policy",
        ),
        (
            lambda: TokenBucket("1/s", burst=-1),
            "TokenBucket: burst must be between 1 and 1,000,000,000, not -1",
        ),
        (
            lambda: TokenBucket("1/3653days", burst=10),
            "TokenBucket: burst 10 at 1/3653days takes over 100 years to come back;"
            " lower burst or raise the rate",
        ),
        (
            lambda: TokenBucket("1/month"),
            "TokenBucket: months and years have no fixed length, so 1/month needs a FixedWindow",
        ),
        (
            lambda: LeakyBucket("1/s", capacity=10**9 + 1),
            "LeakyBucket: capacity must be between 1 and 1,000,000,000, not 1,000,000,001",
        ),
        (
            lambda: LeakyBucket("1/4s", capacity=10**9),
            "LeakyBucket: capacity 1,000,000,000 at 1/4s takes over 100 years to come back;"
            " lower capacity or raise the rate",
        ),
        (lambda: LeakyBucket("2/ns"), "LeakyBucket: the rate must be at most 10^9 per second, not 2/ns"),
        (
            lambda: FixedWindow(Rate(2**31, 10 * SECOND)),
            "FixedWindow: count must be between 1 and 2,147,483,647, not 2,147,483,648",
        ),
        (
            lambda: FixedWindow(Rate(2**31, 0, 1)),
            "FixedWindow: count must be between 1 and 2,147,483,647, not 2,147,483,648",
        ),
        (
            lambda: FixedWindow("1/999us"),
            "FixedWindow: a window must last from 1 ms to 100 years, not 0.000999 s (1/999us);"
            " a TokenBucket has no window and takes any period",
        ),
        (
            lambda: FixedWindow("10/36526days"),
            "FixedWindow: a window must last from 1 ms to 100 years, not 3.15585e+09 s (10/36526days);"
            " a TokenBucket has no window and takes any period",
        ),
        (lambda: FixedWindow("1/101years"), "FixedWindow: months must be between 1 and 1,200, not 1,212"),
        (
            lambda: FixedWindow("1001k/ms"),
            "FixedWindow: the rate must be at most 10^9 per second, not 1001000/ms",
        ),
        (
            lambda: FixedWindow("1/3654days"),
            "FixedWindow: the rate must be at least 1 per 10 years, not 1/3654days",
        ),
        (
            lambda: FixedWindow("1/year", anchor="first"),
            "FixedWindow: 1/year follows the calendar, so its anchor must be 'epoch'",
        ),
        (
            lambda: FixedWindow("1/s", anchor="last"),  # type: ignore[arg-type]
            "FixedWindow: anchor must be 'epoch' or 'first', not 'last'",
        ),
        (
            lambda: SlidingWindow(Rate(2**31, 10 * SECOND)),
            "SlidingWindow: count must be between 1 and 2,147,483,647, not 2,147,483,648",
        ),
        (
            lambda: SlidingWindow("1/500us"),
            "SlidingWindow: a window must last from 1 ms to 100 years, not 0.0005 s (1/500us);"
            " a TokenBucket has no window and takes any period",
        ),
        (
            lambda: SlidingLog("65537/s"),
            "SlidingLog: count must be between 1 and 65,536, not 65,537",
        ),
        (
            lambda: SlidingLog("1000/1462days"),
            "SlidingLog: a window must last 1,461 days at most, not 1462 (1000/1462days);"
            " a SlidingWindow takes up to 100 years",
        ),
        (
            lambda: SlidingLog("10/500us"),
            "SlidingLog: a window must last from 1 ms to 100 years, not 0.0005 s (10/500us);"
            " a TokenBucket has no window and takes any period",
        ),
        (
            lambda: SlidingWindow("1/year"),
            "SlidingWindow: months and years have no fixed length, so 1/year needs a FixedWindow",
        ),
        (
            lambda: TokenBucket("1/s", burst=10**5_000),
            "TokenBucket: burst must be between 1 and 1,000,000,000, not an int of 16,610 bits",
        ),
        (
            lambda: TokenBucket(Rate(10**5_000, SECOND)),
            "count must be 1 to 10^12, not an int of 16,610 bits (to allow none, deny by policy)",
        ),
    ],
)
def test_numbers_outside_are_refused_with_the_reason(build: Build, message: str) -> None:
    with pytest.raises(InvalidLimit, match=f"^{re.escape(message)}$"):
        build()


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (TokenBucket, (100,), "a limit is read from a str such as '100/s', not from int"),
        (TokenBucket, ("1/s", 2.0), "TokenBucket: burst must be an int, not float"),
        (TokenBucket, ("1/s", True), "TokenBucket: burst must be an int, not bool"),
        (LeakyBucket, ("1/s", "2"), "LeakyBucket: capacity must be an int, not str"),
        (Rate, (1.5, SECOND), "count must be an int, not float"),
        (Rate, (1, 0.1), "period_ns must be an int, not float"),
        (Rate, (1, 0, True), "months must be an int, not bool"),
        (Rate, (1, SECOND, 0, None), "origin_ns must be an int, not NoneType"),
    ],
)
def test_other_types_are_refused_by_name(
    build: Callable[..., object], arguments: tuple[object, ...], message: str
) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        build(*arguments)


# --- the integers that a limit becomes


@pytest.mark.parametrize(
    ("limit", "parameters"),
    [
        (
            TokenBucket("100/s", burst=200),
            Parameters(Algorithm.TOKEN_BUCKET, 200, emission_interval=10**7, tolerance=2 * 10**9),
        ),
        (
            LeakyBucket("1/min"),
            Parameters(Algorithm.LEAKY_BUCKET, 1, emission_interval=60 * 10**9, tolerance=60 * 10**9),
        ),
        # A third of a second is no whole number of nanoseconds; ten years' worth does not fit 2^57 of them.
        (
            TokenBucket("3/s"),
            Parameters(
                Algorithm.TOKEN_BUCKET,
                3,
                emission_interval=333_333_333,
                tolerance=999_999_999,
                multiplier=round(Fraction(999_999_999, SECOND) * 2**64),
            ),
        ),
        (
            TokenBucket("1/3652days", burst=10),
            Parameters(
                Algorithm.TOKEN_BUCKET,
                10,
                emission_interval=MAX_UNITS // 10,
                tolerance=MAX_UNITS // 10 * 10,
                multiplier=round(Fraction(MAX_UNITS // 10, 3_652 * DAY) * 2**64),
            ),
        ),
        (
            FixedWindow("5/day"),
            Parameters(Algorithm.FIXED_WINDOW, 5, window=DAY, epoch=True),
        ),
        (
            FixedWindow("5/week"),
            Parameters(Algorithm.FIXED_WINDOW, 5, window=7 * DAY, offset=3 * DAY, epoch=True),
        ),
        (FixedWindow("5/month"), Parameters(Algorithm.FIXED_WINDOW, 5, months=1, epoch=True)),
        (FixedWindow("5/day", anchor="first"), Parameters(Algorithm.FIRST_WINDOW, 5, window=DAY)),
        (
            FixedWindow("10/36525days", anchor="first"),
            Parameters(
                Algorithm.FIRST_WINDOW,
                10,
                window=MAX_UNITS,
                multiplier=int(Fraction(MAX_UNITS - 1, CENTURY) * 2**64),
            ),
        ),
        (
            SlidingWindow("5/2weeks"),
            Parameters(Algorithm.SLIDING_WINDOW, 5, window=14 * DAY, offset=10 * DAY, epoch=True),
        ),
    ],
)
def test_a_limit_in_integers(limit: Limit, parameters: Parameters) -> None:
    assert parameters == limit.parameters()


def units_per_ns(parameters: Parameters) -> Fraction:
    return Fraction(parameters.multiplier or 2**64, 2**64)


def rate_error(asked: Rate, parameters: Parameters) -> Fraction:
    """How far the rate that is enforced is from the one that was asked for, relative to it."""
    enforced = units_per_ns(parameters) / parameters.emission_interval  # tokens per ns
    return abs(enforced / Fraction(asked.count, asked.period_ns) - 1)


@st.composite
def rates_and_capacities(draw: st.DrawFn) -> tuple[Rate, int]:
    """From 1 per 10 years to 10^9 per second, and up to 10^9 at once or 100 years' worth."""
    count = draw(st.integers(1, 10**12) | st.integers(0, 12).map(lambda digits: 10**digits))
    slowest = min(count * SLOWEST_PERIOD, 73_050 * DAY)
    period = draw(st.integers(count, max(count, slowest)))
    most = min(10**9, CENTURY * count // period)
    return Rate(count, period), draw(st.integers(1, most) | st.just(most))


WORST_RATE_ERROR = Fraction(1, 2**59)


@given(rates_and_capacities())
@example((Rate(1, SLOWEST_PERIOD), 9))
@example((Rate(10**9, SECOND), 10**9))
@example((Rate(10**9 - 1, SECOND), 10**9))
@example((Rate(1, 3 * SECOND), 10**9))
@example((Rate(10**9, CENTURY), 10**9))
def test_the_enforced_rate_is_the_asked_one(drawn: tuple[Rate, int]) -> None:
    rate, capacity = drawn
    parameters = TokenBucket(rate, burst=capacity).parameters()
    assert LeakyBucket(rate, capacity=capacity).parameters()[1:] == parameters[1:]
    assert WORST_RATE_ERROR >= rate_error(rate, parameters)
    assert MAX_UNITS >= parameters.tolerance == capacity * parameters.emission_interval
    assert 1 <= parameters.emission_interval
    assert 0 <= parameters.multiplier < 2**64


def test_the_documented_bound_on_the_rate_is_kept_with_room(capsys: pytest.CaptureFixture[str]) -> None:
    print(f"worst error of an enforced rate: {float(WORST_RATE_ERROR):.1e}, documented: 1e-06")
    assert "1.7e-18" in capsys.readouterr().out
    assert Fraction(1, 10**6) > WORST_RATE_ERROR


def test_an_unscaled_interval_would_break_the_bound() -> None:
    rate = Rate(
        10**9 - 1, SECOND
    )  # control: whole nanoseconds, as a limiter without its own unit would count
    scaled = bucket_parameters(Algorithm.TOKEN_BUCKET, rate, 1)
    assert Fraction(1, 10**9) <= rate_error(rate, scaled._replace(multiplier=0))
    slow = Rate(7 * 10**8, SECOND)
    assert Fraction(1, 10**6) < rate_error(
        slow, bucket_parameters(Algorithm.TOKEN_BUCKET, slow, 1)._replace(multiplier=0)
    )


@given(st.integers(10**6, CENTURY))
@example(MAX_UNITS)
@example(MAX_UNITS + 1)
@example(CENTURY)
def test_a_window_lasts_what_was_asked(period: int) -> None:
    count = -(-period // SLOWEST_PERIOD)
    aligned = FixedWindow(Rate(count, period)).parameters()
    assert (period, 0) == (aligned.window, aligned.multiplier)
    assert aligned[1:] == SlidingWindow(Rate(count, period)).parameters()[1:]
    first = FixedWindow(Rate(count, period), anchor="first").parameters()
    shortest = (first.window - (first.multiplier > 0)) / units_per_ns(first)  # from a unit's last moment
    assert period <= shortest < period + 1 + 1 / units_per_ns(first)
    assert MAX_UNITS >= first.window
    assert 0 <= first.multiplier < 2**64


def test_algorithms_print_as_their_text_form() -> None:
    labels = ["token-bucket", "leaky-bucket", "fixed-window", "first-window", "sliding-window", "sliding-log"]
    assert labels == [algorithm.label for algorithm in Algorithm]


# --- limits as values

LIMITS: list[Limit] = [
    TokenBucket("100/s"),
    TokenBucket("100/s", burst=200),
    TokenBucket("100/2s"),
    LeakyBucket("100/s"),
    LeakyBucket("100/s", capacity=200),
    FixedWindow("100/s"),
    FixedWindow("100/s", anchor="first"),
    FixedWindow("5/week"),
    FixedWindow("5/7days"),
    FixedWindow("5/month"),
    SlidingWindow("100/s"),
    SlidingLog("100/s"),
]
VALUES: list[Value] = [*LIMITS, Rate(100, SECOND), Rate(100, 2 * SECOND), Rate(5, 0, 1), Rate(5, 0, 12)]


def test_no_two_are_equal() -> None:
    assert [(i, i) for i in range(len(VALUES))] == [
        (i, j) for i, one in enumerate(VALUES) for j, other in enumerate(VALUES) if one == other
    ]
    assert len(VALUES) == len(set(VALUES))


def test_the_same_numbers_in_another_class_are_another_limit() -> None:
    token, leaky = TokenBucket("100/s", burst=200), LeakyBucket("100/s", capacity=200)
    assert [token.rate, token.burst] == [leaky.rate, leaky.capacity]
    assert token != leaky
    assert token != (token.rate, token.burst)
    assert token != type("Own", (TokenBucket,), {})("100/s", burst=200)


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_copies_are_equal_and_hash_alike(value: Value) -> None:
    pickled = [pickle.loads(pickle.dumps(value, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for twin in [copy.copy(value), copy.deepcopy(value), *pickled]:
        assert (value, hash(value), repr(value), type(value)) == (twin, hash(twin), repr(twin), type(twin))


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_repr_builds_an_equal_one(value: Value) -> None:
    assert value == eval(repr(value))


def test_reprs_read_as_they_are_written() -> None:
    assert [
        "TokenBucket('100/s', burst=200)",
        "LeakyBucket('1/min', capacity=1)",
        "FixedWindow('5/month', anchor='epoch')",
        "FixedWindow('5/day', anchor='first')",
        "SlidingWindow('5/2weeks')",
        "Rate(count=5, period_ns=0, months=1, origin_ns=0)",
    ] == [
        repr(TokenBucket("100/s", burst=200)),
        repr(LeakyBucket("1/min")),
        repr(FixedWindow("5/month")),
        repr(FixedWindow("5/day", anchor="first")),
        repr(SlidingWindow("5/2weeks")),
        repr(Rate(5, 0, 1)),
    ]


def test_the_text_of_a_limit() -> None:
    assert [
        "100/s",
        "100/s burst 200",
        "100/2s",
        "leaky-bucket 100/s",
        "leaky-bucket 100/s capacity 200",
        "fixed-window 100/s",
        "fixed-window 100/s from the first hit",
        "fixed-window 5/week",
        "fixed-window 5/7days",
        "fixed-window 5/month",
        "sliding-window 100/s",
        "sliding-log 100/s",
    ] == [str(limit) for limit in LIMITS]


@pytest.mark.parametrize(
    "limit", [limit for limit in LIMITS if getattr(limit, "anchor", "epoch") == "epoch"], ids=str
)
def test_the_text_of_a_limit_reads_back(limit: Limit) -> None:
    assert (limit,) == limits_from(str(limit))


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_nothing_of_a_value_can_be_changed(value: Value) -> None:
    before = repr(value)
    for name in (*value.__match_args__, "other"):
        with pytest.raises(
            AttributeError, match=f"a {type(value).__name__} is immutable: cannot set '{name}'"
        ):
            setattr(value, name, 1)
        with pytest.raises(AttributeError, match=f"cannot delete '{name}'"):
            delattr(value, name)
    assert before == repr(value)


# --- what a limiter takes


@pytest.mark.parametrize(
    ("asked", "limits"),
    [
        ("100/s", [TokenBucket("100/s")]),
        ("100/s burst 200", [TokenBucket("100/s", burst=200)]),
        ("leaky-bucket 5/s capacity 10", [LeakyBucket("5/s", capacity=10)]),
        ("fixed-window 5/month", [FixedWindow("5/month")]),
        ("sliding-window 5/min", [SlidingWindow("5/min")]),
        ("sliding-log 5/min", [SlidingLog("5/min")]),
        ("10/s; 1000/h", [TokenBucket("10/s"), TokenBucket("1000/h")]),
        (["10/s, 20/min", SlidingWindow("1000/h")], ["10/s", "20/min", SlidingWindow("1000/h")]),
        (("10/s",), ["10/s"]),
        (LeakyBucket("5/s"), [LeakyBucket("5/s")]),
        (["1/s"] * 8, [TokenBucket("1/s")] * 8),
    ],
)
def test_limits_from_what_a_caller_names(asked: Any, limits: list[str | Limit]) -> None:
    wanted = tuple(TokenBucket(limit) if isinstance(limit, str) else limit for limit in limits)
    assert wanted == limits_from(asked)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ([], InvalidLimit, "a limiter takes from 1 to 8 limits, not 0"),
        (["1/s"] * 9, InvalidLimit, "a limiter takes from 1 to 8 limits, not 9"),
        ("; ".join(["1/s"] * 9), InvalidLimit, "a limiter takes from 1 to 8 limits, not 9"),
        (100, TypeError, "limit must be a text, a limit or a list of them, not int"),
        (None, TypeError, "limit must be a text, a limit or a list of them, not NoneType"),
        (b"1/s", TypeError, "limit must be a text, a limit or a list of them, not bytes"),
        ({"1/s"}, TypeError, "limit must be a text, a limit or a list of them, not set"),
        (Rate(1, SECOND), TypeError, "limit must be a text, a limit or a list of them, not Rate"),
        (["1/s", 2], TypeError, "limit must be a text, a limit or a list of them, not a list with int"),
    ],
)
def test_limits_from_anything_else_is_refused(asked: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        limits_from(asked)


def test_a_text_within_a_list_is_refused_where_it_is_wrong() -> None:
    with pytest.raises(
        InvalidLimit,
        match=r"(?s)^cannot read limit '10/fortnight': expected a unit .*\n  10/fortnight\n     \^$",
    ):
        limits_from(["1/s", "10/fortnight"])
