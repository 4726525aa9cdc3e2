"""Sliding window: `sliding_window.py` says what it means. body = index:28 previous:32, count = current."""

from libc.stdint cimport uint32_t, uint64_t

from . cimport fixed_window
from .fixed_window cimport end_of, index, index_of, pack, previous as previous_of, roll
from .outcome cimport Limit, Report, State, at_most, less, product_above, ratio_down, ratio_up


cdef inline uint64_t start_of(const State *rolled, uint64_t now, const Limit *limit) noexcept nogil:
    return end_of(rolled, now, limit) - limit.window


cdef inline uint64_t in_sight(const State *rolled, uint64_t now, const Limit *limit) noexcept nogil:
    """How much of the previous window is, in time; `previous` times this is what `sliding_window.py` has."""
    return limit.window - less(now, start_of(rolled, now, limit))


cdef inline uint64_t weighed(const State *rolled, uint64_t now, const Limit *limit) noexcept nogil:
    return ratio_up(previous_of(rolled), in_sight(rolled, now, limit), limit.window)


cdef inline uint64_t passes_at(
    uint64_t previous, uint64_t current, uint64_t cost, const Limit *limit
) noexcept nogil:
    cdef uint64_t room = limit.capacity - current - cost
    return limit.window - ratio_down(room, limit.window, previous) if previous > room else 0


cdef inline bint is_fresh(const State *state, uint64_t now, const Limit *limit) noexcept nogil:
    cdef State rolled = roll(state, index_of(now, limit))
    return previous_of(&rolled) == 0 and rolled.count == 0


cdef inline bint step_in(State *rolled, uint64_t sight, uint64_t cost, const Limit *limit) noexcept nogil:
    """`step` of a state that stands in now's window already, with so much of the previous one in sight."""
    if rolled.count + cost > limit.capacity:
        return False
    if product_above(previous_of(rolled), sight, limit.capacity - rolled.count - cost, limit.window):
        return False
    rolled.count += <uint32_t> cost
    return True


cdef inline bint step(State *state, uint64_t now, uint64_t cost, const Limit *limit) noexcept nogil:
    cdef State rolled = roll(state, index_of(now, limit))
    if not step_in(&rolled, in_sight(&rolled, now, limit), cost, limit):
        return False
    state[0] = rolled
    return True


cdef inline Report report(
    const State *before, const State *after, uint64_t now, uint64_t cost, bint allowed, const Limit *limit
) noexcept nogil:
    cdef State state = roll(after, index_of(now, limit))
    cdef uint64_t start = start_of(&state, now, limit)
    cdef uint64_t end = start + limit.window
    cdef Report report
    if allowed:
        report.allowed_at = now
    elif state.count + cost <= limit.capacity:
        report.allowed_at = start + passes_at(previous_of(&state), state.count, cost, limit)
    else:
        report.allowed_at = end + passes_at(state.count, 0, cost, limit)
    report.remaining = less(limit.capacity, state.count + weighed(&state, now, limit))
    report.fresh_at = end + limit.window if state.count else end if previous_of(&state) else now
    report.starts_at = now
    return report


cdef inline void refund(State *state, uint64_t now, uint64_t cost, const Limit *limit) noexcept nogil:
    cdef State rolled = roll(state, index_of(now, limit))
    cdef uint64_t rest = less(cost, rolled.count)
    state[0] = pack(index(&rolled), less(previous_of(&rolled), rest), less(rolled.count, cost))


cdef inline void convert(
    State *state, uint64_t was, uint64_t now, const Limit *old, const Limit *new
) noexcept nogil:
    cdef State rolled = roll(state, index_of(was, old))
    cdef uint64_t most = 2 * new.capacity
    if old.window == new.window and was == now:
        state[0] = pack(index(&rolled), at_most(previous_of(&rolled), most), at_most(rolled.count, most))
        return
    state[0] = pack(index_of(now, new), 0, at_most(rolled.count + weighed(&rolled, was, old), most))
