"""Between nanoseconds of a clock and the units of a limit (`fastlimit.limits.Parameters` says how those are chosen)."""

from libc.stdint cimport INT64_MAX, int64_t, uint64_t

from fastlimit.algorithms.outcome cimport Limit, high_product, shifted_ratio_up
from .clock cimport Clock, clock_wall_offset

cdef extern from * nogil:
    """
    #define FL_MAX_UNITS (3 * (UINT64_C(1) << 58) - 1)
    """
    const uint64_t MAX_UNITS "FL_MAX_UNITS"  # a later now stands still, so that now + 2 * 2^57 fits a body's 60 bits


cdef inline uint64_t units_at(int64_t now, int64_t base, Clock *clock, const Limit *limit) noexcept nogil:
    """`now` in units since `base`, or of wall time since 1970 for windows that are aligned to it."""
    cdef uint64_t elapsed
    if limit.epoch:
        return <uint64_t> (now + clock_wall_offset(clock)) + limit.offset
    elapsed = <uint64_t> now - <uint64_t> base
    if elapsed <= MAX_UNITS and limit.multiplier == 0:
        return elapsed
    return scaled_units(now, base, limit)


cdef inline uint64_t scaled_units(int64_t now, int64_t base, const Limit *limit) noexcept nogil:
    cdef uint64_t elapsed = <uint64_t> now - <uint64_t> base if now > base else 0
    if limit.multiplier:
        elapsed = high_product(elapsed, limit.multiplier)
    return elapsed if elapsed < MAX_UNITS else MAX_UNITS


cdef inline int64_t ns_until(
    uint64_t instant, uint64_t now_units, int64_t now, int64_t base, const Limit *limit
) noexcept nogil:
    """Nanoseconds from `now` to the first one at which the limit's units have reached `instant`."""
    cdef uint64_t wait
    if instant <= now_units:
        return 0
    if limit.epoch or (limit.multiplier == 0 and <uint64_t> now - <uint64_t> base == now_units):
        wait = instant - now_units
    else:
        wait = scaled_ns_until(instant, now, base, limit)
    return <int64_t> wait if wait < INT64_MAX else INT64_MAX


cdef inline uint64_t scaled_ns_until(uint64_t instant, int64_t now, int64_t base, const Limit *limit) noexcept nogil:
    """The same where a unit is longer than a nanosecond, or now is outside of what the units can say."""
    cdef uint64_t elapsed = instant if limit.multiplier == 0 else shifted_ratio_up(instant, limit.multiplier)
    if now < base:
        return elapsed + (<uint64_t> base - <uint64_t> now)
    return elapsed - (<uint64_t> now - <uint64_t> base)
