"""Sliding log: `sliding_log.py` says what it means. body = newest, count = units admitted mod 2^32.

The log is the slot's ring; entry `count - 1` is the newest unit.
"""

from libc.stdint cimport uint32_t, uint64_t

from fastlimit._kernel.ring cimport Entry, Ring, entry_of, instant_of, is_newer, label_of, read_entry
from .outcome cimport Limit, Report, State, at_least, at_most


cdef inline uint64_t reading(const State *state, uint64_t now) noexcept nogil:
    return at_least(at_least(now, state.body), 1)


cdef inline bint is_fresh(const State *state, uint64_t now, const Limit *limit) noexcept nogil:
    return state.body == 0 or state.body + limit.window <= now


cdef inline uint32_t inside(
    const State *state, uint64_t at, uint64_t most, const Limit *limit, const Ring *ring
) noexcept nogil:
    """How many units are in the window, or `most`: the log is in order, so by bisection."""
    cdef uint32_t low = 0
    cdef uint32_t high = <uint32_t> most
    cdef uint32_t middle
    cdef uint64_t instant
    if is_fresh(state, at, limit):
        return 0
    while low < high:
        middle = (low + high) // 2
        instant = instant_of(ring, state.count - 1 - middle)
        if instant != 0 and instant + limit.window > at:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline void log(State *state, uint64_t at, uint32_t units, Ring *ring) noexcept nogil:
    """Add units to the state; their entries are written when the word is swapped."""
    ring.first = state.count
    ring.units = units
    state.body = at
    state.count += units


cdef inline bint step(
    State *state, uint64_t now, uint64_t cost, const Limit *limit, Ring *ring
) noexcept nogil:
    cdef uint64_t at = reading(state, now)
    cdef uint32_t seq = state.count + <uint32_t> cost - 1 - <uint32_t> limit.capacity
    cdef Entry seen
    if cost > limit.capacity:  # an update may have put it out of reach
        ring.blocked = at + limit.window
        return False
    if not is_fresh(state, at, limit):
        seen = read_entry(entry_of(ring, seq))
        if seen.label == label_of(ring.gen, seq):
            if seen.time != 0 and seen.time + limit.window > at:
                ring.blocked = seen.time + limit.window
                return False
        elif is_newer(&seen, ring, seq) and <uint32_t> (seen.label >> 32) == ring.gen:
            # Overwritten by a later unit, if only by an intent: out of the window, as of that one's time.
            at = at_least(at, seen.time)
    log(state, at, <uint32_t> cost, ring)
    return True


cdef inline Report report(
    const State *before, const State *after, uint64_t now, uint64_t cost, bint allowed, const Limit *limit,
    const Ring *ring
) noexcept nogil:
    cdef Report report
    report.remaining = limit.capacity - inside(after, reading(after, now), limit.capacity, limit, ring)
    report.allowed_at = now if allowed else ring.blocked
    report.fresh_at = now if is_fresh(after, now, limit) else after.body + limit.window
    report.starts_at = now
    return report


cdef inline bint debit(
    State *state, uint64_t now, uint64_t cost, const Limit *limit, Ring *ring
) noexcept nogil:
    cdef uint64_t at = reading(state, now)
    cdef uint64_t owed = inside(state, at, 2 * limit.capacity, limit, ring)
    cdef uint64_t charged = at_most(cost, 2 * limit.capacity - owed)
    if charged:
        log(state, at, <uint32_t> charged, ring)
    return charged == cost


cdef inline void refund(
    State *state, uint64_t now, uint64_t cost, const Limit *limit, const Ring *ring
) noexcept nogil:
    cdef uint32_t owed = inside(state, reading(state, now), ring.mask + 1, limit, ring)
    if cost >= owed > 0:
        reset(state, ring)
    elif owed:
        state.body += 1
        state.count -= <uint32_t> cost


cdef inline void reset(State *state, const Ring *ring) noexcept nogil:
    """No entry, nor intent, has a sequence that will be asked for after this."""
    state.body = 0
    state.count += 2 * (ring.mask + 1)
