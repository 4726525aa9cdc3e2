"""Between nanoseconds of a clock and the units of a limit (`fastlimit.limits` says how those are chosen)."""

from libc.stdint cimport INT64_MAX, int64_t, uint64_t

from fastlimit.algorithms.outcome cimport Limit, high_product, shifted_ratio_up
from .atomics cimport cas_u64, load_relaxed_i64
from .clock cimport Clock, clock_wall_offset

cdef extern from * nogil:
    """
    #define FL_MAX_UNITS (3 * (UINT64_C(1) << 58) - 1)
    #define FL_PAST_NS (INT64_C(1) << 57)
    """
    const int64_t PAST_NS "FL_PAST_NS"
    const int64_t NO_BASE "INT64_MIN"  # no reading is within MAX_UNITS of it
    # A later now stands still, so that now + 2 * 2^57 fits a body's 60 bits.
    const uint64_t MAX_UNITS "FL_MAX_UNITS"


cdef inline uint64_t units_at(int64_t now, int64_t *base, Clock *clock, const Limit *limit) noexcept nogil:
    """`now` in units since `base`, or of wall time since 1970 for windows that are aligned to it."""
    cdef uint64_t elapsed
    if limit.epoch:
        return <uint64_t> (now + clock_wall_offset(clock)) + limit.offset
    elapsed = <uint64_t> now - <uint64_t> load_relaxed_i64(base)
    if elapsed <= MAX_UNITS and limit.multiplier == 0:
        return elapsed
    return scaled_units(now, base, clock, limit)


cdef inline uint64_t scaled_units(
    int64_t now, int64_t *base, Clock *clock, const Limit *limit
) noexcept nogil:
    """The same where a unit is longer than a nanosecond, units cannot say now, or there is no base yet."""
    cdef int64_t since = load_relaxed_i64(base)
    cdef uint64_t elapsed
    if since == NO_BASE:
        since = set_base(now, base, clock, limit)
    elapsed = <uint64_t> now - <uint64_t> since if now > since else 0
    if limit.multiplier:
        elapsed = high_product(elapsed, limit.multiplier)
    return elapsed if elapsed < MAX_UNITS else MAX_UNITS


cdef inline int64_t set_base(int64_t now, int64_t *base, Clock *clock, const Limit *limit) noexcept nogil:
    """Count from some years before a table's first use, so that a manual clock may step back to before it.

    A manual clock learns up to when the units reach, and refuses to be set beyond.
    """
    cdef uint64_t reach = MAX_UNITS
    cdef int64_t since
    if limit.multiplier:
        reach = shifted_ratio_up(MAX_UNITS, limit.multiplier)
    cas_u64(<uint64_t *> base, <uint64_t> NO_BASE, <uint64_t> (now - PAST_NS))
    since = load_relaxed_i64(base)
    # since < 0 takes from a reach that is longer than that; else a reach beyond all readings is no bound.
    if clock.manual and (since < 0 or reach <= <uint64_t> INT64_MAX):
        reach += <uint64_t> since
        clock.latest = min(clock.latest, <int64_t> min(reach, <uint64_t> INT64_MAX))
    return since


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


cdef inline uint64_t scaled_ns_until(
    uint64_t instant, int64_t now, int64_t base, const Limit *limit
) noexcept nogil:
    """The same where a unit is longer than a nanosecond, or now is outside of what the units can say."""
    cdef uint64_t elapsed = instant if limit.multiplier == 0 else shifted_ratio_up(instant, limit.multiplier)
    if now < base:
        return elapsed + (<uint64_t> base - <uint64_t> now)
    return elapsed - (<uint64_t> now - <uint64_t> base)
