"""Fixed window: `fixed_window.py` says what it means. body = index:28 previous:32, count = current."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from .outcome cimport Limit, Report, State, at_least, at_most, high_product, less

cdef enum:
    INDEX_MASK = (1 << 28) - 1
    AHEAD = (1 << 28) - (1 << 17)
    EPOCH_YEAR = 1970
    DAYS_PER_CYCLE = 146_097  # 400 years, 4,800 months
    DAYS_BEFORE_EPOCH = 719_468

cdef extern from * nogil:
    """
    #define FL_DAY UINT64_C(86400000000000)
    """
    const uint64_t DAY "FL_DAY"


cdef inline uint64_t days_before_month(uint64_t months) noexcept nogil:
    cdef uint64_t year = (EPOCH_YEAR * 12 + months - 2) // 12
    cdef uint64_t month = (EPOCH_YEAR * 12 + months - 2) % 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 - DAYS_BEFORE_EPOCH


cdef inline uint64_t start_of(uint64_t index, const Limit *limit) noexcept nogil:
    return days_before_month(index * limit.months) * DAY if limit.months else index * limit.window


cdef inline uint64_t month_index(uint64_t now, uint32_t window) noexcept nogil:
    cdef uint64_t days = now // DAY
    cdef uint64_t months = less(days * 4_800 // DAYS_PER_CYCLE, 1)
    while days_before_month(months + 1) <= days:
        months += 1
    return months // window


cdef inline uint64_t index_of(uint64_t now, const Limit *limit) noexcept nogil:
    """now // window by the reciprocal, at most one too low; a division would take longer than the rest."""
    cdef uint32_t months = limit.months  # read once: an update may just be making it 0
    if months:
        return month_index(now, months)
    cdef uint64_t index = high_product(now, limit.reciprocal)
    return index + (now - index * limit.window >= limit.window)


cdef inline uint32_t index(const State *state) noexcept nogil:
    return <uint32_t> (state.body >> 32)


cdef inline uint32_t previous(const State *state) noexcept nogil:
    return <uint32_t> state.body


cdef inline State pack(uint64_t index, uint64_t previous, uint64_t current) noexcept nogil:
    return State((index & INDEX_MASK) << 32 | previous, <uint32_t> current)


cdef inline uint32_t distance(const State *state, uint64_t to_index) noexcept nogil:
    return (<uint32_t> to_index - index(state)) & INDEX_MASK


cdef inline State roll(const State *state, uint64_t to_index) noexcept nogil:
    cdef uint32_t apart = distance(state, to_index)
    cdef bint empty = previous(state) == 0 and state.count == 0
    if apart == 0 or (apart == INDEX_MASK and not empty):
        return state[0]
    if apart == 1:
        return pack(to_index, state.count, 0)
    if apart >= AHEAD:
        return pack(to_index, previous(state), state.count)
    return pack(to_index, 0, 0)


cdef inline bint is_ahead(const State *state, uint64_t now, const Limit *limit) noexcept nogil:
    """The clock seems to have stepped back, by one window or more."""
    return distance(state, index_of(now, limit)) >= AHEAD


cdef inline void settle(State *state, uint64_t now, const Limit *limit) noexcept nogil:
    if is_ahead(state, now, limit):
        state[0] = roll(state, index_of(now, limit))


cdef inline uint64_t end_of(const State *rolled, uint64_t now, const Limit *limit) noexcept nogil:
    cdef uint64_t at = index_of(now, limit)
    return start_of(at + ((index(rolled) - <uint32_t> at) & INDEX_MASK) + 1, limit)


cdef inline State fresh() noexcept nogil:
    return State(0, 0)


cdef inline bint is_fresh(const State *state, uint64_t now, const Limit *limit) noexcept nogil:
    return roll(state, index_of(now, limit)).count == 0


cdef inline bint step_in(State *rolled, uint64_t cost, const Limit *limit) noexcept nogil:
    """`step` of a state that stands in now's window already."""
    if rolled.count + cost > limit.capacity:
        return False
    rolled.count += <uint32_t> cost
    return True


cdef inline bint step(State *state, uint64_t now, uint64_t cost, const Limit *limit) noexcept nogil:
    cdef State rolled = roll(state, index_of(now, limit))
    if not step_in(&rolled, cost, limit):
        return False
    state[0] = rolled
    return True


cdef inline Report report(
    const State *before, const State *after, uint64_t now, uint64_t cost, bint allowed, const Limit *limit
) noexcept nogil:
    cdef State state = roll(after, index_of(now, limit))
    cdef uint64_t end = end_of(&state, now, limit)
    cdef Report report
    report.remaining = less(limit.capacity, state.count)
    report.allowed_at = now if allowed else end
    report.fresh_at = end if state.count else now
    report.starts_at = now
    return report


cdef inline bint debit(State *state, uint64_t now, uint64_t cost, const Limit *limit) noexcept nogil:
    state[0] = roll(state, index_of(now, limit))
    cdef uint64_t wanted = state.count + at_most(cost, 2 * limit.capacity + 1)
    state.count = <uint32_t> at_least(state.count, at_most(wanted, 2 * limit.capacity))
    return state.count == wanted


cdef inline void refund(State *state, uint64_t now, uint64_t cost, const Limit *limit) noexcept nogil:
    state[0] = roll(state, index_of(now, limit))
    state.count = <uint32_t> less(state.count, cost)


cdef inline void convert(
    State *state, uint64_t was, uint64_t now, const Limit *old, const Limit *new
) noexcept nogil:
    state[0] = roll(state, index_of(was, old))
    state.count = <uint32_t> at_most(state.count, 2 * new.capacity)
    if old.window != new.window or old.months != new.months or was != now:
        state[0] = pack(index_of(now, new), 0, state.count)
