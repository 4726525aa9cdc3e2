"""How soon a call can pass that waits behind others: never too late, so that nobody is sent away for nothing.

For buckets the answer is exact (2 ns too early where a unit is no nanosecond), since what they owe grows and
drains evenly. Windows and logs may take longer: by what costs above 1 leave unused in each window, sliding
ones by up to a window.
"""

from __future__ import annotations

from collections.abc import Sequence

from .limits import Algorithm, Parameters

__all__ = ["earliest_ns"]

SHORTEST_MONTH = 28 * 86_400 * 10**9


def span_ns(limit: Parameters, units: int) -> int:
    """Nanoseconds that so many of a limit's units take, at least."""
    return (units << 64) // limit.multiplier - 1 if limit.multiplier and units else units


def window_ns(limit: Parameters, windows: int) -> int:
    if limit.months:
        return windows * limit.months * SHORTEST_MONTH
    return span_ns(limit, windows * limit.window)


def windows_for(cost: int, limit: Parameters) -> int:
    """How many windows it takes to grant `cost`."""
    return -(-cost // limit.capacity)


def earliest_ns(
    limits: Sequence[Parameters], looks: Sequence[tuple[int, int, int]], ahead: int, cost: int
) -> int:
    """Nanoseconds, at least, until `cost` may begin after `ahead` was granted, if nobody else calls.

    `looks` say of each limit what a look at `ahead + cost`, or at the capacity, found: remaining, and the
    nanoseconds of retry_after and reset_after. In a leaky bucket a call begins when its delay is over.
    """
    return max([earliest_of(limit, *look, ahead, cost) for limit, look in zip(limits, looks, strict=True)])


def earliest_of(
    limit: Parameters, remaining: int, retry_ns: int, reset_ns: int, ahead: int, cost: int
) -> int:
    total = ahead + cost
    match limit.algorithm:
        case Algorithm.TOKEN_BUCKET | Algorithm.LEAKY_BUCKET:
            excess = max(total - limit.capacity, 0)
            admitted = retry_ns + span_ns(limit, excess * limit.emission_interval)
            if limit.algorithm == Algorithm.TOKEN_BUCKET:
                return admitted
            return max(admitted, reset_ns + span_ns(limit, ahead * limit.emission_interval))
        case Algorithm.FIXED_WINDOW | Algorithm.FIRST_WINDOW:
            if total <= remaining:
                return 0
            return retry_ns + window_ns(limit, windows_for(total - remaining, limit) - 1)
        case Algorithm.SLIDING_LOG:
            if total <= limit.capacity:
                return retry_ns
            more = windows_for(total - limit.capacity, limit)
            return max(retry_ns + window_ns(limit, more - 1), window_ns(limit, more))
        case Algorithm.SLIDING_WINDOW:
            # Where the window of now holds nothing, `reset_ns` is its end; else the end of the next.
            longest_ns = window_ns(limit, 1) + 2
            is_next = reset_ns > window_ns(limit, 1)
            edge = max(reset_ns - longest_ns, 0) if is_next else reset_ns
            if total <= limit.capacity:
                return min(retry_ns, edge)
            return edge + window_ns(limit, windows_for(total - limit.capacity, limit) - 1)
