"""Token bucket as a GCRA: `token_bucket.py` says what it means. body = tat, count = admitted mod 2^32."""

from libc.stdint cimport uint32_t, uint64_t

from .outcome cimport Limit, Report, State, at_least, at_most, less, ratio_down, ratio_up


cdef inline State fresh() noexcept nogil:
    return State(0, 0)


cdef inline bint is_fresh(const State *state, uint64_t now, const Limit *limit) noexcept nogil:
    return state.body <= now


cdef inline bint step(State *state, uint64_t now, uint64_t cost, const Limit *limit) noexcept nogil:
    cdef uint64_t tat = at_least(state.body, now) + cost * limit.emission_interval
    # An update may have put a cost out of reach, even of 64 bits.
    if tat - now > limit.tolerance or cost > limit.capacity:
        return False
    state.body = tat
    state.count += <uint32_t> cost
    return True


cdef inline Report report(
    const State *before, const State *after, uint64_t now, uint64_t cost, bint allowed, const Limit *limit
) noexcept nogil:
    cdef Report report
    report.fresh_at = at_least(after.body, now)
    report.remaining = less(now + limit.tolerance, report.fresh_at) // limit.emission_interval
    report.allowed_at = now
    if not allowed:
        report.allowed_at = before.body + at_most(cost, limit.capacity) * limit.emission_interval
        report.allowed_at -= limit.tolerance
    report.starts_at = now
    return report


cdef inline bint debit(State *state, uint64_t now, uint64_t cost, const Limit *limit) noexcept nogil:
    cdef uint64_t debt = at_most(cost, 2 * limit.capacity + 1) * limit.emission_interval
    cdef uint64_t wanted = at_least(state.body, now) + debt
    state.body = at_least(state.body, at_most(wanted, now + 2 * limit.tolerance))
    state.count += <uint32_t> cost
    return state.body == wanted


cdef inline void refund(State *state, uint64_t now, uint64_t cost, const Limit *limit) noexcept nogil:
    cdef uint64_t back = less(state.body, ratio_down(cost, limit.emission_interval, 1))  # saturates
    state.body = at_least(at_most(now, state.body), back)
    state.count -= <uint32_t> cost


cdef inline void convert(
    State *state, uint64_t was, uint64_t now, const Limit *old, const Limit *new
) noexcept nogil:
    cdef uint64_t debt = ratio_up(less(state.body, was), new.emission_interval, old.emission_interval)
    state.body = now + at_most(debt, 2 * new.tolerance) if debt else 0
