"""The algorithms behind one set of names, chosen by a limit's number (`fastlimit.limits.Algorithm`)."""

from libc.stdint cimport uint32_t, uint64_t

from fastlimit._kernel.ring cimport Ring
from . cimport first_window, fixed_window, leaky_bucket, sliding_log, sliding_window, token_bucket
from .outcome cimport Limit, Report, State

cdef enum Algorithm:
    TOKEN_BUCKET = 0
    LEAKY_BUCKET = 1
    FIXED_WINDOW = 2
    FIRST_WINDOW = 3
    SLIDING_WINDOW = 4
    SLIDING_LOG = 5

cdef enum Attempt:
    DENIED = 0
    ALLOWED = 1
    AHEAD_OF_NOW = 2


cdef inline bint is_fresh(const State *state, uint64_t now, const Limit *limit) noexcept nogil:
    if limit.algorithm == TOKEN_BUCKET or limit.algorithm == LEAKY_BUCKET:
        return token_bucket.is_fresh(state, now, limit)
    if limit.algorithm == FIXED_WINDOW:
        return fixed_window.is_fresh(state, now, limit)
    if limit.algorithm == SLIDING_WINDOW:
        return sliding_window.is_fresh(state, now, limit)
    if limit.algorithm == SLIDING_LOG:
        return sliding_log.is_fresh(state, now, limit)
    return first_window.is_fresh(state, now, limit)


cdef inline Attempt attempt(State *state, uint64_t now, uint64_t cost, const Limit *limit) noexcept nogil:
    """`step`, but for a log, with the common cases inline; or word that the clock seems to have stepped back.
    """
    cdef uint64_t index
    cdef uint32_t apart
    if limit.algorithm == TOKEN_BUCKET or limit.algorithm == LEAKY_BUCKET:
        return ALLOWED if token_bucket.step(state, now, cost, limit) else DENIED
    if limit.epoch:
        index = fixed_window.index_of(now, limit)
        apart = fixed_window.distance(state, index)
        if apart == 0 and limit.algorithm == FIXED_WINDOW:
            return ALLOWED if fixed_window.step_in(state, cost, limit) else DENIED
        if apart == 0:
            now = (index + 1) * limit.window - now
            return ALLOWED if sliding_window.step_in(state, now, cost, limit) else DENIED
        if apart >= fixed_window.AHEAD:
            return AHEAD_OF_NOW
    return ALLOWED if step_window(state, now, cost, limit) else DENIED


cdef inline bint step(
    State *state, uint64_t now, uint64_t cost, const Limit *limit, Ring *ring
) noexcept nogil:
    if limit.algorithm == TOKEN_BUCKET or limit.algorithm == LEAKY_BUCKET:
        return token_bucket.step(state, now, cost, limit)
    if limit.algorithm == SLIDING_LOG:
        return sliding_log.step(state, now, cost, limit, ring)
    return step_window(state, now, cost, limit)


cdef inline bint step_window(State *state, uint64_t now, uint64_t cost, const Limit *limit) noexcept nogil:
    if limit.algorithm == FIXED_WINDOW:
        return fixed_window.step(state, now, cost, limit)
    if limit.algorithm == SLIDING_WINDOW:
        return sliding_window.step(state, now, cost, limit)
    return first_window.step(state, now, cost, limit)


cdef inline Report report(
    const State *before, const State *after, uint64_t now, uint64_t cost, bint allowed, const Limit *limit,
    const Ring *ring
) noexcept nogil:
    if limit.algorithm == TOKEN_BUCKET:
        return token_bucket.report(before, after, now, cost, allowed, limit)
    if limit.algorithm == LEAKY_BUCKET:
        return leaky_bucket.report(before, after, now, cost, allowed, limit)
    if limit.algorithm == FIXED_WINDOW:
        return fixed_window.report(before, after, now, cost, allowed, limit)
    if limit.algorithm == SLIDING_WINDOW:
        return sliding_window.report(before, after, now, cost, allowed, limit)
    if limit.algorithm == SLIDING_LOG:
        return sliding_log.report(before, after, now, cost, allowed, limit, ring)
    return first_window.report(before, after, now, cost, allowed, limit)


cdef inline bint debit(
    State *state, uint64_t now, uint64_t cost, const Limit *limit, Ring *ring
) noexcept nogil:
    if limit.algorithm == TOKEN_BUCKET or limit.algorithm == LEAKY_BUCKET:
        return token_bucket.debit(state, now, cost, limit)
    if limit.algorithm == FIRST_WINDOW:
        return first_window.debit(state, now, cost, limit)
    if limit.algorithm == SLIDING_LOG:
        return sliding_log.debit(state, now, cost, limit, ring)
    return fixed_window.debit(state, now, cost, limit)


cdef inline void refund(
    State *state, uint64_t now, uint64_t cost, const Limit *limit, const Ring *ring
) noexcept nogil:
    if limit.algorithm == TOKEN_BUCKET or limit.algorithm == LEAKY_BUCKET:
        token_bucket.refund(state, now, cost, limit)
    elif limit.algorithm == FIXED_WINDOW:
        fixed_window.refund(state, now, cost, limit)
    elif limit.algorithm == SLIDING_WINDOW:
        sliding_window.refund(state, now, cost, limit)
    elif limit.algorithm == SLIDING_LOG:
        sliding_log.refund(state, now, cost, limit, ring)
    else:
        first_window.refund(state, now, cost, limit)


cdef inline void reset(State *state, bint cumulative, const Limit *limit, const Ring *ring) noexcept nogil:
    """Make it fresh; a running total of the slot goes on."""
    if limit.algorithm == SLIDING_LOG:
        sliding_log.reset(state, ring)
        return
    state.body = 0
    if not cumulative:
        state.count = 0


cdef inline void convert(
    State *state, uint64_t was, uint64_t now, const Limit *old, const Limit *new
) noexcept nogil:
    """Carry a debt over to another limit; a log stays as it is."""
    if old.algorithm == TOKEN_BUCKET or old.algorithm == LEAKY_BUCKET:
        token_bucket.convert(state, was, now, old, new)
    elif old.algorithm == FIXED_WINDOW:
        fixed_window.convert(state, was, now, old, new)
    elif old.algorithm == SLIDING_WINDOW:
        sliding_window.convert(state, was, now, old, new)
    elif old.algorithm == FIRST_WINDOW:
        first_window.convert(state, was, now, old, new)
