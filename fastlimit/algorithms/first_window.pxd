"""Window from a key's first hit: `first_window.py` says what it means. body = start, count = current."""

from libc.stdint cimport uint32_t, uint64_t

from .outcome cimport Limit, Report, State, at_least, at_most, less


cdef inline void roll(State *state, uint64_t now, const Limit *limit) noexcept nogil:
    if state.count == 0 or now >= state.body + limit.window:
        state.body = now
        state.count = 0


cdef inline State fresh() noexcept nogil:
    return State(0, 0)


cdef inline bint is_fresh(const State *state, uint64_t now, const Limit *limit) noexcept nogil:
    cdef State rolled = state[0]
    roll(&rolled, now, limit)
    return rolled.count == 0


cdef inline bint step(State *state, uint64_t now, uint64_t cost, const Limit *limit) noexcept nogil:
    cdef State rolled = state[0]
    roll(&rolled, now, limit)
    if rolled.count + cost > limit.capacity:
        return False
    state.body = rolled.body
    state.count = rolled.count + <uint32_t> cost
    return True


cdef inline Report report(
    const State *before, const State *after, uint64_t now, uint64_t cost, bint allowed, const Limit *limit
) noexcept nogil:
    cdef State state = after[0]
    cdef Report report
    roll(&state, now, limit)
    report.remaining = less(limit.capacity, state.count)
    report.allowed_at = now if allowed else state.body + limit.window
    report.fresh_at = state.body + limit.window if state.count else now
    report.starts_at = now
    return report


cdef inline bint debit(State *state, uint64_t now, uint64_t cost, const Limit *limit) noexcept nogil:
    roll(state, now, limit)
    cdef uint64_t wanted = state.count + at_most(cost, 2 * limit.capacity + 1)
    state.count = <uint32_t> at_least(state.count, at_most(wanted, 2 * limit.capacity))
    return state.count == wanted


cdef inline void refund(State *state, uint64_t now, uint64_t cost, const Limit *limit) noexcept nogil:
    roll(state, now, limit)
    state.count = <uint32_t> less(state.count, cost)


cdef inline void convert(
    State *state, uint64_t was, uint64_t now, const Limit *old, const Limit *new
) noexcept nogil:
    roll(state, was, old)
    state.count = <uint32_t> at_most(state.count, 2 * new.capacity)
    if old.window != new.window or was != now:
        state.body = now
