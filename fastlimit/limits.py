"""The limits a caller can ask for, and the integers that the kernel and the reference model make of them.

A limit is immutable, compares by value, pickles, and its `str` is its text form. All numbers are checked
here, at construction, so that nothing below this module meets one that it cannot hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Literal, NamedTuple

from .errors import InvalidLimit
from .rates import LimitText, Rate, parse_limits, parse_rate, shown
from .value import Value

SECOND = 10**9
DAY = 86_400 * SECOND
MAX_BURST = 10**9
MAX_COUNT = 2**31 - 1
MAX_LIMITS = 8
MIN_WINDOW = SECOND // 1_000
CENTURY = 36_525 * DAY
SLOWEST_PERIOD = 3_653 * DAY  # one per ten years
MAX_LOGGED = 65_536
LONGEST_LOG = 1_461 * DAY  # in nanoseconds, which a log keeps whole
MAX_UNITS = 2**57  # the whole of a bucket or window, so that now + twice that fits a slot's 60 bits


class Algorithm(IntEnum):
    """The numbers by which the kernel knows the algorithms."""

    TOKEN_BUCKET = 0
    LEAKY_BUCKET = 1
    FIXED_WINDOW = 2
    FIRST_WINDOW = 3
    SLIDING_WINDOW = 4
    SLIDING_LOG = 5

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", "-")


class Parameters(NamedTuple):
    """One limit in integers: what the algorithms read (`fastlimit.algorithms.outcome.Limit`) and how to scale
    time.

    The units of a limit are nanoseconds where they fit, else coarser ones: `units = elapsed_ns * multiplier
    >> 64`, where a multiplier of 0 stands for 2^64. With `epoch`, time is wall time since 1970 plus `offset`
    nanoseconds.
    """

    algorithm: Algorithm
    capacity: int
    emission_interval: int = 0
    tolerance: int = 0
    window: int = 0
    months: int = 0
    multiplier: int = 0
    offset: int = 0
    epoch: bool = False


def as_rate(rate: str | Rate) -> Rate:
    return rate if isinstance(rate, Rate) else parse_rate(rate)


def check_range(limit: Limit, what: str, value: int, most: int) -> None:
    if type(value) is not int:
        raise TypeError(f"{type(limit).__name__}: {what} must be an int, not {type(value).__name__}")
    if not 1 <= value <= most:
        hint = "; to deny everything, deny by policy" if value == 0 else ""
        name = type(limit).__name__
        raise InvalidLimit(f"{name}: {what} must be between 1 and {most:,}, not {shown(value)}{hint}")


def check_rate(limit: Limit, rate: Rate) -> None:
    if rate.months:
        raise InvalidLimit(
            f"{type(limit).__name__}: months and years have no fixed length, so {rate} needs a FixedWindow"
        )
    if rate.count * SECOND > MAX_BURST * rate.period_ns:
        raise InvalidLimit(f"{type(limit).__name__}: the rate must be at most 10^9 per second, not {rate}")
    if rate.count * SLOWEST_PERIOD < rate.period_ns:
        raise InvalidLimit(f"{type(limit).__name__}: the rate must be at least 1 per 10 years, not {rate}")


def check_window(limit: Limit, rate: Rate) -> None:
    check_range(limit, "count", rate.count, MAX_COUNT)
    check_rate(limit, rate)
    if not MIN_WINDOW <= rate.period_ns <= CENTURY:
        raise InvalidLimit(
            f"{type(limit).__name__}: a window must last from 1 ms to 100 years,"
            f" not {rate.period_ns / SECOND:g} s ({rate}); a TokenBucket has no window and takes any period"
        )


def bucket_parameters(algorithm: Algorithm, rate: Rate, capacity: int) -> Parameters:
    """Nanoseconds as units if the whole bucket fits `MAX_UNITS` of them and an interval is a whole number,
    else scaled.

    Scaled, an interval is as many units as fit; the multiplier's rounding, below 2^-60, is then all that the
    rate is off by.
    """
    whole, rest = divmod(rate.period_ns, rate.count)
    interval = min(whole, MAX_UNITS // capacity)
    exact = rest == 0 and interval == whole
    multiplier = 0 if exact else round_half_up(interval * rate.count << 64, rate.period_ns)
    return Parameters(algorithm, capacity, interval, capacity * interval, multiplier=multiplier)


def round_half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def check_bucket(limit: Limit, what: str, rate: Rate, capacity: int) -> None:
    check_rate(limit, rate)
    check_range(limit, what, capacity, MAX_BURST)
    if capacity * rate.period_ns > CENTURY * rate.count:
        raise InvalidLimit(
            f"{type(limit).__name__}: {what} {capacity:,} at {rate} takes over 100 years to come back;"
            f" lower {what} or raise the rate"
        )


class RatedLimit(Value):
    """What the limits have in common: a rate, which their `repr` gives as text."""

    __slots__ = ()
    rate: Rate

    def __repr__(self) -> str:
        others = [f", {name}={getattr(self, name)!r}" for name in self.__match_args__ if name != "rate"]
        return f"{type(self).__name__}({str(self.rate)!r}{''.join(others)})"


class TokenBucket(RatedLimit):
    """At most `burst` at once, `rate` in the long run; a new key starts full.

    Kept as a GCRA (ITU-T I.371), so the long-run rate is exact. `rate` is a text such as "100/s", from 1 per
    10 years to 10^9 per second; `burst` (units of cost, 1 to 10^9, at most 100 years' worth) defaults to the
    rate's count. Raises InvalidLimit for numbers outside, TypeError for other types.
    """

    __slots__ = __match_args__ = ("rate", "burst")
    burst: int

    def __init__(self, rate: str | Rate, burst: int | None = None) -> None:
        rate = as_rate(rate)
        self._set(rate, rate.count if burst is None else burst)
        check_bucket(self, "burst", self.rate, self.burst)

    def parameters(self) -> Parameters:
        return bucket_parameters(Algorithm.TOKEN_BUCKET, self.rate, self.burst)

    def __str__(self) -> str:
        return f"{self.rate}" if self.burst == self.rate.count else f"{self.rate} burst {self.burst}"


class LeakyBucket(RatedLimit):
    """A queue drained at `rate`: admits while there is room, and a Decision's `delay` spaces the output
    evenly.

    `capacity` (units of cost, as `burst` of a TokenBucket) includes the request in service and defaults to
    the rate's count. The output is smooth only for callers that hold each admitted request for its `delay`.
    Raises InvalidLimit for numbers outside, TypeError for other types.
    """

    __slots__ = __match_args__ = ("rate", "capacity")
    capacity: int

    def __init__(self, rate: str | Rate, capacity: int | None = None) -> None:
        rate = as_rate(rate)
        self._set(rate, rate.count if capacity is None else capacity)
        check_bucket(self, "capacity", self.rate, self.capacity)

    def parameters(self) -> Parameters:
        return bucket_parameters(Algorithm.LEAKY_BUCKET, self.rate, self.capacity)

    def __str__(self) -> str:
        tail = "" if self.capacity == self.rate.count else f" capacity {self.capacity}"
        return f"leaky-bucket {self.rate}{tail}"


class FixedWindow(RatedLimit):
    """A counter per window: at most the rate's count in each, so up to twice that around an edge.

    `anchor="epoch"`: windows of n units count from 1970-01-01 UTC (weeks from Monday 1970-01-05), months and
    years follow the calendar. `anchor="first"`: a key's window begins with its first hit; no months or years.
    Windows last from 1 ms to 100 years, counts go to 2^31 - 1. Raises InvalidLimit for numbers outside,
    TypeError for other types.
    """

    __slots__ = __match_args__ = ("rate", "anchor")
    anchor: Literal["epoch", "first"]

    def __init__(self, rate: str | Rate, anchor: Literal["epoch", "first"] = "epoch") -> None:
        if anchor not in ("epoch", "first"):
            raise InvalidLimit(f"FixedWindow: anchor must be 'epoch' or 'first', not {anchor!r}")
        self._set(as_rate(rate), anchor)
        if not self.rate.months:
            check_window(self, self.rate)
        elif anchor == "first":
            raise InvalidLimit(
                f"FixedWindow: {self.rate} follows the calendar, so its anchor must be 'epoch'"
            )
        else:
            check_range(self, "count", self.rate.count, MAX_COUNT)
            check_range(self, "months", self.rate.months, 1_200)

    def parameters(self) -> Parameters:
        rate = self.rate
        if self.anchor == "first":
            return first_parameters(rate)
        return epoch_parameters(Algorithm.FIXED_WINDOW, rate)

    def __str__(self) -> str:
        return f"fixed-window {self.rate}" + (" from the first hit" if self.anchor == "first" else "")


class SlidingWindow(RatedLimit):
    """At most the rate's count in any window (t - W, t], estimated from two counters.

    The estimate takes the previous window's hits as evenly spread, so it can be off where they were not; it
    never jumps at an edge. Windows last from 1 ms to 100 years, counts go to 2^31 - 1. Raises InvalidLimit
    for numbers outside, TypeError for other types.
    """

    __slots__ = __match_args__ = ("rate",)

    def __init__(self, rate: str | Rate) -> None:
        self._set(as_rate(rate))
        check_window(self, self.rate)

    def parameters(self) -> Parameters:
        return epoch_parameters(Algorithm.SLIDING_WINDOW, self.rate)

    def __str__(self) -> str:
        return f"sliding-window {self.rate}"


class SlidingLog(RatedLimit):
    """At most the rate's count in any window (t - W, t], exactly: the instant of each unit is kept.

    Memory grows with the count: 64 to 128 bytes for each unit of it and key, so counts go to 65,536, and
    `max_keys` of a limiter is lower by default. Windows last from 1 ms to 4 years (1,461 days). Raises
    InvalidLimit for numbers outside, TypeError for other types.
    """

    __slots__ = __match_args__ = ("rate",)

    def __init__(self, rate: str | Rate) -> None:
        self._set(as_rate(rate))
        check_range(self, "count", self.rate.count, MAX_LOGGED)
        check_window(self, self.rate)
        if self.rate.period_ns > LONGEST_LOG:
            raise InvalidLimit(
                f"SlidingLog: a window must last 1,461 days at most, not {self.rate.period_ns / DAY:g}"
                f" ({self.rate}); a SlidingWindow takes up to 100 years"
            )

    def parameters(self) -> Parameters:
        return Parameters(Algorithm.SLIDING_LOG, self.rate.count, window=self.rate.period_ns)

    def __str__(self) -> str:
        return f"sliding-log {self.rate}"


def first_parameters(rate: Rate) -> Parameters:
    """Nanoseconds as units if the window fits `MAX_UNITS` of them, else coarser ones, and one of them more.

    A window begins at the start of a unit, so up to one early, and must not end before its time.
    """
    if rate.period_ns <= MAX_UNITS:
        return Parameters(Algorithm.FIRST_WINDOW, rate.count, window=rate.period_ns)
    multiplier = (MAX_UNITS - 1 << 64) // rate.period_ns
    return Parameters(Algorithm.FIRST_WINDOW, rate.count, window=MAX_UNITS, multiplier=multiplier)


def epoch_parameters(algorithm: Algorithm, rate: Rate) -> Parameters:
    offset = -rate.origin_ns % rate.period_ns if rate.period_ns else 0
    return Parameters(
        algorithm, rate.count, window=rate.period_ns, months=rate.months, offset=offset, epoch=True
    )


Limit = TokenBucket | LeakyBucket | FixedWindow | SlidingWindow | SlidingLog


def limit_from(text: LimitText) -> Limit:
    match text.algorithm:
        case "token-bucket":
            return TokenBucket(text.rate, text.burst)
        case "leaky-bucket":
            return LeakyBucket(text.rate, text.burst)
        case "fixed-window":
            return FixedWindow(text.rate)
        case "sliding-window":
            return SlidingWindow(text.rate)
    return SlidingLog(text.rate)


def limits_from(given: str | Limit | Sequence[str | Limit]) -> tuple[Limit, ...]:
    """The 1 to 8 limits that a caller named: one or several, as text ("10/s; 1000/h") or as objects."""
    pieces = [given] if isinstance(given, str | Limit) else given
    if not isinstance(pieces, Sequence) or isinstance(pieces, bytes):
        raise TypeError(f"limit must be a text, a limit or a list of them, not {type(given).__name__}")
    limits: list[Limit] = []
    for piece in pieces:
        if isinstance(piece, str):
            limits.extend(map(limit_from, parse_limits(piece)))
        elif isinstance(piece, Limit):
            limits.append(piece)
        else:
            raise TypeError(
                f"limit must be a text, a limit or a list of them, not a list with {type(piece).__name__}"
            )
    if not 1 <= len(limits) <= MAX_LIMITS:
        raise InvalidLimit(f"a limiter takes from 1 to {MAX_LIMITS} limits, not {len(limits)}")
    return tuple(limits)
