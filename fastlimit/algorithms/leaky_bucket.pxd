"""Leaky bucket as a queue: `leaky_bucket.py` says what it means; all but `report` is the token bucket's."""

from libc.stdint cimport uint64_t

from . cimport token_bucket
from .outcome cimport Limit, Report, State, at_least


cdef inline Report report(
    const State *before, const State *after, uint64_t now, uint64_t cost, bint allowed, const Limit *limit
) noexcept nogil:
    cdef Report report = token_bucket.report(before, after, now, cost, allowed, limit)
    if allowed:
        report.starts_at = at_least(before.body, now)
    return report
