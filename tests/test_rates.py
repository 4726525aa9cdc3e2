"""The text form of limits: what is read, what is refused and where the caret points."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from fastlimit import rates
from fastlimit.errors import FastlimitError, InvalidLimit
from fastlimit.rates import LimitText, Rate, parse_limits, parse_rate

MS = 10**6
SECOND = 10**9
MINUTE = 60 * SECOND
HOUR = 3_600 * SECOND
DAY = 86_400 * SECOND
WEEK = 7 * DAY
MONDAY = 4 * DAY

ACCEPTED_RATES = [
    ("100/s", Rate(100, SECOND)),
    ("100/sec", Rate(100, SECOND)),
    ("100/secs", Rate(100, SECOND)),
    ("100/second", Rate(100, SECOND)),
    ("100/seconds", Rate(100, SECOND)),
    ("5/m", Rate(5, MINUTE)),
    ("5/M", Rate(5, MINUTE)),
    ("5/min", Rate(5, MINUTE)),
    ("5/mins", Rate(5, MINUTE)),
    ("10/minute", Rate(10, MINUTE)),
    ("10/minutes", Rate(10, MINUTE)),
    ("7/h", Rate(7, HOUR)),
    ("7/hr", Rate(7, HOUR)),
    ("7/hrs", Rate(7, HOUR)),
    ("7/hour", Rate(7, HOUR)),
    ("10 per 2 hours", Rate(10, 2 * HOUR)),
    ("10 PER 2 HOURS", Rate(10, 2 * HOUR)),
    ("10per2hours", Rate(10, 2 * HOUR)),
    ("100/d", Rate(100, DAY)),
    ("100/day", Rate(100, DAY)),
    ("100/7days", Rate(100, WEEK)),
    ("5/w", Rate(5, WEEK, 0, MONDAY)),
    ("5/wk", Rate(5, WEEK, 0, MONDAY)),
    ("5/wks", Rate(5, WEEK, 0, MONDAY)),
    ("5/week", Rate(5, WEEK, 0, MONDAY)),
    ("5 per 2 weeks", Rate(5, 2 * WEEK, 0, MONDAY)),
    ("100/month", Rate(100, 0, 1)),
    ("100/3months", Rate(100, 0, 3)),
    ("100/year", Rate(100, 0, 12)),
    ("100/2 years", Rate(100, 0, 24)),
    ("250/500ms", Rate(250, 500 * MS)),
    ("250/500MS", Rate(250, 500 * MS)),
    ("3/50us", Rate(3, 50_000)),
    ("3/70ns", Rate(3, 70)),
    ("1/20s", Rate(1, 20 * SECOND)),
    ("100/10m", Rate(100, 10 * MINUTE)),
    ("1/1_000s", Rate(1, 1_000 * SECOND)),
    ("1_000/s", Rate(1_000, SECOND)),
    ("10k/s", Rate(10_000, SECOND)),
    ("10K/s", Rate(10_000, SECOND)),
    ("2M/day", Rate(2_000_000, DAY)),
    ("1.5k/s", Rate(1_500, SECOND)),
    ("0.000001M/s", Rate(1, SECOND)),
    ("5.0/s", Rate(5, SECOND)),
    ("007/s", Rate(7, SECOND)),
    ("1_000_000M/s", Rate(10**12, SECOND)),
    ("1/200years", Rate(1, 0, 2_400)),
    ("1/73050days", Rate(1, 73_050 * DAY)),
    ("  10 k \t/ 2\n h  ", Rate(10_000, 2 * HOUR)),
    ("10\u00a0/\u00a0s", Rate(10, SECOND)),
]


@pytest.mark.parametrize(("text", "rate"), ACCEPTED_RATES)
def test_reads_rate(text: str, rate: Rate) -> None:
    assert rate == parse_rate(text)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (Rate(100, SECOND), "100/s"),
        (Rate(60, MINUTE), "60/min"),
        (Rate(60, 10 * MINUTE), "60/10min"),
        (Rate(10, 2 * HOUR), "10/2h"),
        (Rate(250, 500 * MS), "250/500ms"),
        (Rate(1, 20 * SECOND), "1/20s"),
        (Rate(1, 90 * SECOND), "1/90s"),
        (Rate(1, 1_500), "1/1500ns"),
        (Rate(100, DAY), "100/day"),
        (Rate(5, WEEK), "5/7days"),
        (Rate(5, WEEK, 0, MONDAY), "5/week"),
        (Rate(5, 2 * WEEK, 0, MONDAY), "5/2weeks"),
        (Rate(100, 0, 1), "100/month"),
        (Rate(100, 0, 18), "100/18months"),
        (Rate(100, 0, 12), "100/year"),
        (Rate(100, 0, 24), "100/2years"),
        (Rate(2_000_000, SECOND), "2000000/s"),
    ],
)
def test_writes_rate_with_the_largest_unit(rate: Rate, text: str) -> None:
    assert text == str(rate)


ACCEPTED_LIMITS = [
    ("100/s", [("token-bucket", Rate(100, SECOND), None, "100/s")]),
    ("100/s burst 200", [("token-bucket", Rate(100, SECOND), 200, "100/s burst 200")]),
    ("100/s burst=200", [("token-bucket", Rate(100, SECOND), 200, "100/s burst=200")]),
    ("100/s BURST 2k", [("token-bucket", Rate(100, SECOND), 2_000, "100/s BURST 2k")]),
    ("token_bucket 1/s", [("token-bucket", Rate(1, SECOND), None, "token_bucket 1/s")]),
    ("Leaky-Bucket 5/m capacity 9", [("leaky-bucket", Rate(5, MINUTE), 9, "Leaky-Bucket 5/m capacity 9")]),
    ("leaky_bucket 5/m", [("leaky-bucket", Rate(5, MINUTE), None, "leaky_bucket 5/m")]),
    ("fixed-window 1/month", [("fixed-window", Rate(1, 0, 1), None, "fixed-window 1/month")]),
    ("FIXED_WINDOW 9/year", [("fixed-window", Rate(9, 0, 12), None, "FIXED_WINDOW 9/year")]),
    ("sliding-window 3 per day", [("sliding-window", Rate(3, DAY), None, "sliding-window 3 per day")]),
    ("sliding_log 3/d", [("sliding-log", Rate(3, DAY), None, "sliding_log 3/d")]),
    (
        " 1/second; fixed-window 5/minute ,\n9/h burst 3 ",
        [
            ("token-bucket", Rate(1, SECOND), None, "1/second"),
            ("fixed-window", Rate(5, MINUTE), None, "fixed-window 5/minute"),
            ("token-bucket", Rate(9, HOUR), 3, "9/h burst 3"),
        ],
    ),
]


@pytest.mark.parametrize(("text", "limits"), ACCEPTED_LIMITS)
def test_reads_limits(text: str, limits: list[tuple[str, Rate, int | None, str]]) -> None:
    assert tuple(LimitText(*limit) for limit in limits) == parse_limits(text)


REFUSED_LIMITS = [
    ("", 0, "a rate such as 100/s, or an algorithm (token-bucket,"),
    ("   ", 0, "a rate such as 100/s"),
    (";", 0, "a rate such as 100/s"),
    ("10/s;;5/m", 5, "a rate such as 100/s"),
    ("10/s; ", 5, "a rate such as 100/s"),
    (",10/s", 0, "a rate such as 100/s"),
    (
        "unlimited",
        0,
        "or an algorithm (token-bucket, leaky-bucket, fixed-window, sliding-window, sliding-log)",
    ),
    ("tokenbucket 10/s", 0, "or an algorithm"),
    ("10/s; fixed 5/m", 6, "or an algorithm"),
    ("token-bucket", 12, "a count"),
    ("token-bucket fixed-window 10/s", 13, "a count"),
    ("/s", 0, "a count"),
    ("-1/s", 0, "a count"),
    ("+1/s", 0, "a count"),
    (".5/s", 0, "a count"),
    ("\u0661/s", 0, "a count"),
    ("\ud800", 0, "a count"),
    ("0/s", 0, "a count of at least 1 (to allow none, deny by policy instead)"),
    ("0.0k/s", 0, "a count of at least 1"),
    ("5/m; 0/s", 5, "deny by policy instead"),
    ("0.5/s", 0, "a whole count (write 1/2s for one every two seconds)"),
    ("1.2345k/s", 0, "a whole count"),
    ("1000001M/s", 0, "a count of at most 10^12"),
    ("9" * 60 + "/s", 0, "a count of at most 10^12"),
    ("10m/s", 2, "a capital M for a million (a small m is a minute)"),
    ("10", 2, "'/' or 'per'"),
    ("10 s", 3, "'/' or 'per'"),
    ("10G/s", 2, "'/' or 'per'"),
    ("10\u212a/s", 2, "'/' or 'per'"),
    ("1e3/s", 1, "'/' or 'per'"),
    ("1__0/s", 1, "'/' or 'per'"),
    ("1,000/s", 1, "a comma separates limits: write 1_000, not 1,000"),
    ("10/", 3, "a unit (ns, us, ms, s, minute, hour, day, week, month, year)"),
    ("10/2", 4, "a unit"),
    ("10//s", 3, "a unit"),
    ("10/fortnight", 3, "a unit"),
    ("10 per every minute", 7, "a unit"),
    ("5/m, 10/3 fortnights", 10, "a unit"),
    ("10/0s", 3, "a whole number of units, at least 1"),
    ("10/1.5s", 3, "write 1500ms for 1.5s"),
    ("10/201years", 3, "a period of at most 200 years"),
    ("10/73051 days", 3, "a period of at most 200 years"),
    ("10/" + "9" * 60 + "s", 3, "a period of at most 200 years"),
    ("100/month", 4, "or 'fixed-window 100/month'"),
    ("token-bucket 100/2 years", 19, "a period of fixed length, or 'fixed-window 100/2years'"),
    ("sliding-window 100/month", 19, "it alone counts by the calendar"),
    ("10/s 20/m", 5, "the end of the limit, or ';' and another"),
    ("10/s!", 4, "the end of the limit"),
    ("10/s|5/m", 4, "the end of the limit"),
    ("10/s burst 5 burst 6", 13, "the end of the limit"),
    ("10/s burst", 10, "a burst (a whole number from 1)"),
    ("10/s burst x", 11, "a burst"),
    ("10/s burst 0", 11, "a burst of at least 1"),
    ("10/s burst 1.5", 11, "a whole burst"),
    ("10/s burst 2m", 12, "a capital M"),
    ("10/s burst 9999999M", 11, "a burst of at most 10^12"),
    ("leaky-bucket 10/s capacity 0", 27, "a capacity of at least 1"),
    (
        "10/s capacity 5",
        5,
        "'burst' or the end of the limit ('capacity' is for leaky-bucket, not token-bucket)",
    ),
    ("leaky-bucket 10/s burst 5", 18, "'capacity' or the end of the limit ('burst' is for token-bucket"),
    ("fixed-window 10/s burst 5", 18, "the end of the limit ('burst' is for token-bucket, not fixed-window)"),
    ("10/s, burst=20", 6, "a rate before 'burst', without ',' or ';' between them"),
]


def caret_of(error: InvalidLimit) -> tuple[str, int]:
    """The line shown in a message, and the column to which its caret points."""
    _, line, caret = str(error).split("\n")
    assert caret.lstrip(" ") == "^"
    return line[2:], len(caret) - 3


@pytest.mark.parametrize(("text", "column", "expected"), REFUSED_LIMITS)
def test_refuses_limit_and_points_at_the_place(text: str, column: int, expected: str) -> None:
    with pytest.raises(InvalidLimit) as caught:
        parse_limits(text)
    assert column == caret_of(caught.value)[1]
    assert expected in str(caught.value).splitlines()[0].partition(": expected ")[2]


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("", 0, "a count"),
        ("token-bucket 10/s", 0, "a count"),
        ("10/fortnight", 3, "a unit"),
        ("10/s burst 5", 5, "the end of the rate (a burst or a further limit is no part of a rate)"),
        ("10/s; 5/m", 4, "the end of the rate"),
    ],
)
def test_refuses_rate_and_points_at_the_place(text: str, column: int, expected: str) -> None:
    with pytest.raises(InvalidLimit) as caught:
        parse_rate(text)
    assert column == caret_of(caught.value)[1]
    assert expected in str(caught.value)


def test_message_in_full() -> None:
    with pytest.raises(InvalidLimit) as caught:
        parse_limits("5/m; 10/fortnight")
    assert (
        "cannot read limit '5/m; 10/fortnight': "
        "expected a unit (ns, us, ms, s, minute, hour, day, week, month, year)\n"
        "  5/m; 10/fortnight\n"
        "          ^"
    ) == str(caught.value)


def test_unprintable_characters_do_not_move_the_caret() -> None:
    with pytest.raises(InvalidLimit) as caught:
        parse_limits("10/\ts\nx\x1b")
    assert ("10/ s x ", 6) == caret_of(caught.value)
    assert r"'10/\ts\nx\x1b'" in str(caught.value)


def test_long_text_is_not_quoted_in_full() -> None:
    longest = "1/s" + " " * 997
    assert parse_limits("1/s") == parse_limits(longest)
    with pytest.raises(InvalidLimit, match="at most 1000 characters, not 1001\n") as caught:
        parse_limits(longest + " ")
    assert ("1/s" + " " * 37 + "...", 40) == caret_of(caught.value)


def test_invalid_limit_is_a_value_error_of_ours() -> None:
    with pytest.raises(ValueError, match="cannot read limit") as caught:
        parse_rate("10")
    assert isinstance(caught.value, FastlimitError)


@pytest.mark.parametrize("parse", [parse_rate, parse_limits])
@pytest.mark.parametrize("value", [None, 10, 1.5, b"10/s", ["10/s"]])
def test_refuses_what_is_no_str(parse: Callable[[object], object], value: object) -> None:
    with pytest.raises(TypeError, match=f"a str such as '100/s', not from {type(value).__name__}$"):
        parse(value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((0, SECOND), "count must be 1 to 10\\^12, not 0"),
        ((10**12 + 1, SECOND), "count must be"),
        ((1, 0), "period_ns=0, months=0"),
        ((1, -1), "period_ns=-1"),
        ((1, 73_051 * DAY), "up to 200 years"),
        ((1, 0, 2_401), "months=2401"),
        ((1, SECOND, 1), "the other 0"),
        ((1, -1, 1), "the other 0"),
        ((1, SECOND, 0, MONDAY), "origin_ns must be 0"),
        ((1, WEEK, 0, 1), "not 1"),
        ((1, 0, 1, MONDAY), "origin_ns must be 0"),
    ],
)
def test_rate_refuses_fields_that_no_text_has(fields: tuple[int, ...], words: str) -> None:
    with pytest.raises(InvalidLimit, match=words):
        Rate(*fields)


deterministic = settings(derandomize=True, deadline=None, max_examples=300)

counts = st.integers(1, 10**12)
units_ns = st.sampled_from([1, 1_000, MS, SECOND, MINUTE, HOUR, DAY, WEEK])
valid_rates = st.one_of(
    st.builds(Rate, counts, st.integers(1, 73_050 * DAY)),
    st.builds(lambda count, unit, n: Rate(count, unit * n), counts, units_ns, st.integers(1, 10_000)),
    st.builds(lambda count, n: Rate(count, n * WEEK, 0, MONDAY), counts, st.integers(1, 10_435)),
    st.builds(lambda count, months: Rate(count, 0, months), counts, st.integers(1, 2_400)),
)
# For each place of the grammar: what belongs there, and what does not.
places = [
    (["", "token-bucket", "LEAKY_bucket", "fixed-window"], ["sliding", "per"]),
    (["1", "10", "1_000"], ["2.5", "0", "", "-1", "9999999999999", "\u0661"]),
    (["", "k", "M"], ["m", "G"]),
    (["/", "per"], ["", "\ud800"]),
    (["", "2"], ["0", "1.5", "9999999999999"]),
    (["s", "min", "hours", "week", "month", "years"], ["fortnight", "", "\u00b5s"]),
    (["", "burst 5", "capacity=5"], ["burst 0", "burst", "!", "\0"]),
    (["", ";", ",\t\n"], ["|"]),
]
near_limit = st.builds(
    lambda parts, space: space.join(parts),
    st.tuples(*(st.sampled_from(right * 6 + wrong) for right, wrong in places)),
    st.sampled_from(["", " "]),
)
any_text = st.one_of(
    st.text(max_size=30),
    st.text("10/s;,. kMburstpe", max_size=30),
    near_limit,
    st.lists(near_limit, max_size=3).map("".join),
)


def reads_back(rate: Rate, write: Callable[[Rate], str]) -> bool:
    return rate == parse_rate(write(rate))


def is_read_or_refused_in_place(text: str) -> bool:
    """Whether both parsers return, or raise InvalidLimit with a caret inside the text or just behind it."""
    for parse in (parse_rate, parse_limits):
        try:
            parse(text)
        except InvalidLimit as error:
            line, column = caret_of(error)
            if len(line) != len(text) or not 0 <= column <= len(text):
                return False
        except Exception:
            return False
    return True


@deterministic
@given(valid_rates)
def test_text_of_a_rate_reads_back(rate: Rate) -> None:
    assert reads_back(rate, str)


@deterministic
@given(any_text)
def test_any_text_is_read_or_refused_in_place(text: str) -> None:
    assert is_read_or_refused_in_place(text)


@deterministic
@given(st.lists(valid_rates.filter(lambda rate: not rate.months), min_size=1, max_size=8), st.data())
def test_limits_are_read_independently(several: list[Rate], data: st.DataObject) -> None:
    names = st.sampled_from(["", "leaky-bucket ", "fixed_window ", "sliding-log "])
    texts = [data.draw(names) + str(rate) for rate in several]
    joined = texts[0] + "".join(
        data.draw(st.sampled_from([";", ",", " ; ", ",\t"])) + text for text in texts[1:]
    )
    assert tuple(parse_limits(text)[0] for text in texts) == parse_limits(joined)


def test_control_round_trip_notices_a_lost_monday() -> None:
    def without_weeks(rate: Rate) -> str:
        return str(Rate(rate.count, rate.period_ns, rate.months))

    lost = find(
        valid_rates,
        lambda rate: not reads_back(rate, without_weeks),
        settings=deterministic,
        random=Random(1),
    )
    assert MONDAY == lost.origin_ns


def test_control_fuzz_notices_another_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strict:
        get = rates._UNIT_BY_WORD.__getitem__

    monkeypatch.setattr(rates, "_UNIT_BY_WORD", Strict)
    text = find(
        any_text, lambda text: not is_read_or_refused_in_place(text), settings=deterministic, random=Random(1)
    )
    with pytest.raises(KeyError):
        parse_rate(text)


def test_control_fuzz_notices_a_caret_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    unreadable = rates._unreadable
    monkeypatch.setattr(rates, "_unreadable", lambda text, at, expected: unreadable(text, at + 1, expected))
    text = find(
        any_text, lambda text: not is_read_or_refused_in_place(text), settings=deterministic, random=Random(1)
    )
    with pytest.raises(InvalidLimit) as caught:
        parse_limits(text)
    assert len(text) + 1 == caret_of(caught.value)[1]
