"""What the proofs draw: limits over the whole range of numbers, and schedules of calls with time between.

A schedule is drawn without looking at its limits: gaps and costs are relative (`Gap`, `Cost`), and become
nanoseconds and units of cost when it is played. So limits and schedules shrink each by itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from hypothesis import strategies as st

from fastlimit import FixedWindow, LeakyBucket, SlidingLog, SlidingWindow, TokenBucket
from fastlimit.limits import (
    CENTURY,
    DAY,
    LONGEST_LOG,
    MAX_BURST,
    MAX_COUNT,
    SLOWEST_PERIOD,
    Algorithm,
    Limit,
)
from fastlimit.rates import Rate

SECOND = 10**9
WEEK = 7 * DAY
MONDAY = 4 * DAY  # 1970-01-05
MONTH = CENTURY // 1_200
LAST_NS = 2**63 - 1
LIFE_NS = 3 * 2**58 - 2**57 - 1  # how long the time of a bucket goes on after its first use
MOST_COST = 2**63 - 1
LONGEST_PERIOD = 2 * CENTURY
MOST_RATE_COUNT = 10**12
MAX_MONTHS = 1_200
MOST_LOGGED = 2_000  # the model of a log takes its time
WRAP = 2**28  # windows after which a window's number repeats
AHEAD = 2**17  # windows that a clock may step back and be recognised

COMMON_UNITS = (10**6, SECOND, 60 * SECOND, 3_600 * SECOND, DAY, WEEK, 365 * DAY, CENTURY)
BUCKET_UNITS = (1, 10**3, SLOWEST_PERIOD, *COMMON_UNITS)
WINDOW_UNITS = (1_000_003, 16_666_667, *COMMON_UNITS)
T = TypeVar("T")

KEYS = ("a", b"a", ("a", "b"))


def span_ns(limit: Limit) -> int:
    """How long the whole of a limit takes to come back, about."""
    match limit:
        case TokenBucket():
            return -(-limit.burst * limit.rate.period_ns // limit.rate.count)
        case LeakyBucket():
            return -(-limit.capacity * limit.rate.period_ns // limit.rate.count)
    return limit.rate.period_ns or limit.rate.months * MONTH


def capacity(limit: Limit) -> int:
    return limit.parameters().capacity


def magnitude(position: int, low: int, high: int) -> int:
    """From low at position 0 to high at TOP, each order of magnitude as wide as any other."""
    exponent = math.log2(low) + (math.log2(high) - math.log2(low)) * position / TOP
    return high if position == TOP else min(max(round(2**exponent), low), high)


# Limits are made from few draws, of strategies made once: schedules by the ten thousand are to take minutes.
TOP = 2**16
positions = st.integers(0, TOP) | st.sampled_from((0, TOP))
few = st.integers(1, 6) | st.none()


def period(unit: int, position: int, longest: int) -> int:
    return unit * magnitude(position, 1, min(1_000, longest // unit))


def bucket_numbers(
    unit: int, period_at: int, count_at: int, capacity_at: int, few: int | None
) -> tuple[Rate, int]:
    """A rate and a capacity; a `few` stands for a capacity that a short schedule exhausts."""
    period_ns = period(unit, period_at, LONGEST_PERIOD)
    count = magnitude(count_at, -(-period_ns // SLOWEST_PERIOD), min(period_ns, MOST_RATE_COUNT))
    most = min(MAX_BURST, CENTURY * count // period_ns)
    return Rate(count, period_ns), min(few, most) if few else magnitude(capacity_at, 1, most)


def window_rate(unit: int, period_at: int, count_at: int, few: int | None, by_weeks: bool) -> Rate:
    period_ns = period(unit, period_at, CENTURY)
    least, most = -(-period_ns // SLOWEST_PERIOD), min(period_ns, MAX_COUNT)
    count = max(few, least) if few else magnitude(count_at, least, most)
    return Rate(count, period_ns, origin_ns=MONDAY if by_weeks and period_ns % WEEK == 0 else 0)


def log_rate(rate: Rate) -> Rate:
    return Rate(min(rate.count, MOST_LOGGED), min(rate.period_ns, LONGEST_LOG))


def calendar_rate(months_at: int, count_at: int, few: int | None) -> Rate:
    return Rate(few or magnitude(count_at, 1, MAX_COUNT), 0, months=magnitude(months_at, 1, MAX_MONTHS))


buckets = st.builds(bucket_numbers, st.sampled_from(BUCKET_UNITS), positions, positions, positions, few)
window_rates = st.builds(window_rate, st.sampled_from(WINDOW_UNITS), positions, positions, few, st.booleans())
calendar_rates = st.builds(calendar_rate, positions, positions, few)

LIMITS: dict[Algorithm, st.SearchStrategy[Limit]] = {
    Algorithm.TOKEN_BUCKET: buckets.map(lambda numbers: TokenBucket(*numbers)),
    Algorithm.LEAKY_BUCKET: buckets.map(lambda numbers: LeakyBucket(*numbers)),
    Algorithm.FIXED_WINDOW: (window_rates | calendar_rates).map(FixedWindow),
    Algorithm.FIRST_WINDOW: window_rates.map(lambda rate: FixedWindow(rate, anchor="first")),
    Algorithm.SLIDING_WINDOW: window_rates.map(SlidingWindow),
    Algorithm.SLIDING_LOG: window_rates.map(log_rate).map(SlidingLog),
}


def sibling(limit: Limit, few: int, turn: int) -> Limit:
    """What a limit is likely to be changed to: another count or burst, twice the period, other edges."""
    match limit:
        case TokenBucket(rate=rate, burst=burst):
            return TokenBucket(rate, max(burst // few, 1))
        case LeakyBucket(rate=rate, capacity=most):
            return LeakyBucket(rate, max(most // few, 1))
        case SlidingLog(rate=rate):
            return SlidingLog(Rate(max(rate.count // few, 1), rate.period_ns))
    rate = limit.rate
    longer = rate.period_ns * 2 if turn == 1 and rate.period_ns * 2 <= CENTURY else rate.period_ns
    origin = MONDAY - rate.origin_ns if turn == 2 and longer > 0 == longer % WEEK else rate.origin_ns
    count = max(rate.count // few, -(-longer // SLOWEST_PERIOD), 1)
    rate = Rate(count, longer, rate.months, origin)
    return FixedWindow(rate, limit.anchor) if isinstance(limit, FixedWindow) else SlidingWindow(rate)


def siblings_of(limits: st.SearchStrategy[Limit]) -> st.SearchStrategy[tuple[Limit, Limit]]:
    return st.tuples(limits, st.integers(1, 4), st.integers(0, 2)).map(lambda of: (of[0], sibling(*of)))


def pairs(limits: st.SearchStrategy[Limit]) -> st.SearchStrategy[tuple[Limit, Limit]]:
    return siblings_of(limits) | st.tuples(limits, limits)


PAIRS = {algorithm: pairs(limits) for algorithm, limits in LIMITS.items()}
# An update keeps a log's window.
PAIRS[Algorithm.SLIDING_LOG] = siblings_of(LIMITS[Algorithm.SLIDING_LOG])


class Start(NamedTuple):
    """Where the clock stands first, in words."""

    edge: str
    spans: int
    jitter: int

    def at(self, limit: Limit) -> int:
        span = span_ns(limit)
        match self.edge:
            case "1970":
                edge = 0
            case "today":
                edge = 1_700_000_000 * SECOND
            case "before its time":
                edge = 2**57
            case "end":
                edge = LAST_NS
            case "wrap":
                edge = span * (WRAP - 1)
        return clamped(edge + self.spans * span + self.jitter)


edges = ("1970", "today", "today", "today", "before its time", "end", "wrap")
early_edges = ("1970", "today", "today", "before its time", "wrap")
starts = st.builds(Start, st.sampled_from(edges), st.integers(-4, 4), st.sampled_from((0, -1, 1)))
early_starts = st.builds(Start, st.sampled_from(early_edges), st.integers(-4, 4), st.sampled_from((0, -1, 1)))


def clamped(ns: int) -> int:
    return min(max(ns, 0), LAST_NS)


class Gap(NamedTuple):
    """What the clock does before a call: `number` of something, and `jitter` ticks."""

    kind: str
    number: int
    jitter: int

    def after(self, now_ns: int, limit: Limit, retry_after_ns: int, reset_after_ns: int) -> int:
        span = span_ns(limit)
        match self.kind:
            case "none":
                return now_ns
            case "ticks":
                far = self.number
            case "tokens":
                far = span * self.number // capacity(limit)
            case "quarters":
                far = span * self.number // 4
            case "back":
                far = -span * self.number // 4
            case "retry":
                far = retry_after_ns
            case "reset":
                far = reset_after_ns
            case "years":
                far = 2 ** (50 + self.number)
            case "years back":
                far = -(2 ** (50 + self.number))
            case "wrap":
                far = span * (WRAP + self.number - 4)
            case "ahead":
                far = span * (WRAP - AHEAD + self.number - 4)
            case "far back":
                far = -span * (AHEAD + self.number - 4)
        return clamped(now_ns + far + self.jitter)


class Cost(NamedTuple):
    """A cost as `parts` / `of` of a limit's capacity, plus `more`; never negative."""

    parts: int
    of: int
    more: int

    def units(self, limit: Limit) -> int:
        return min(max(capacity(limit) * self.parts // self.of + self.more, 0), MOST_COST)


# One draw each for the clock, and for the call: these lists hold every combination, as often as it is to come
# up, and the simplest first, towards which Hypothesis shrinks.
COMMON_GAPS = ("none", "none", "none", "none", "tokens", "quarters", "retry", "retry", "reset", "ticks")
RARE_GAPS = ("back", "back", "years", "years back", "wrap", "ahead", "far back")


def choice(table: Sequence[T]) -> st.SearchStrategy[T]:
    """As `sampled_from`, whose text would hold the whole table."""
    return st.integers(0, len(table) - 1).map(table.__getitem__)


def gaps_of(kinds: Sequence[str], jitters: Sequence[int]) -> st.SearchStrategy[Gap]:
    return choice([Gap(*parts) for parts in itertools.product(kinds, range(10), jitters)])


gaps = gaps_of(3 * COMMON_GAPS + RARE_GAPS, (0, 0, -1, 1))
forward_gaps = gaps_of(COMMON_GAPS, (0, 0, 1))

ONE = Cost(0, 1, 1)
COSTS = (
    *(Cost(0, 1, more) for more in (0, 2, 3)),
    *(Cost(1, 1, more) for more in (-1, 0, 1)),
    *(Cost(1, of, 0) for of in (2, 3)),
    *(Cost(2, 1, more) for more in (0, 1)),
    Cost(0, 1, MOST_COST),
)
PRICES = len(COSTS) * (ONE,) + COSTS
costs = st.sampled_from(PRICES)

BATCHES = ("allow_many", "update")
METHODS = (*["acquire"] * 6, *["debit", "refund"] * 2, "allow", "peek", "reset", *BATCHES)
HANDLED = ("allow", "acquire", "peek", "refund", "debit", "reset")


class Deed(NamedTuple):
    method: str
    cost: Cost
    key: int


def deeds_of(methods: Sequence[str]) -> st.SearchStrategy[Deed]:
    chances = itertools.product(methods, PRICES, (0, 0, 0, 0, 1, 2))
    return choice([Deed(*parts) for parts in chances])


class Charge(NamedTuple):
    """One of an `acquire_all`."""

    limiter: int
    key: int
    cost: Cost


deeds = deeds_of(METHODS + tuple(f"bucket.{method}" for method in HANDLED))


def lists(elements: st.SearchStrategy[T], most: int) -> st.SearchStrategy[list[T]]:
    """Lists of 1 to `most`, each length as likely: Hypothesis's own are mostly short."""
    of_length = [st.lists(elements, min_size=n, max_size=n) for n in range(1, most + 1)]
    return choice(of_length).flatmap(lambda of: of)


charges = lists(choice([Charge(*parts) for parts in itertools.product((0, 1), (0, 0, 1), PRICES)]), 4)
schedules = lists(st.tuples(gaps, deeds), 20)


def approaches(methods: Sequence[str]) -> st.SearchStrategy[list[tuple[Gap, Deed]]]:
    """What brings a key somewhere, with a clock that only goes forward."""
    return lists(st.tuples(forward_gaps, deeds_of(methods)), 8)
