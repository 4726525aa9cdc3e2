"""The numbers of a Decision, from the traces of the tables that took it."""

from libc.stdint cimport int64_t, uint64_t

from fastlimit.algorithms cimport dispatch
from fastlimit.algorithms.outcome cimport Report
from .atomics cimport load_relaxed_i64
from .decide cimport CHARGE, PEEK, Operation, Trace
from .scale cimport ns_until
from .table cimport Table


cdef struct Answer:
    bint allowed
    uint64_t limit
    uint64_t remaining
    int64_t retry_ns
    int64_t reset_ns
    int64_t delay_ns


cdef inline int64_t wait(const Table *table, const Trace *trace, uint64_t instant) noexcept nogil:
    return ns_until(instant, trace.now, trace.now_ns, load_relaxed_i64(&table.header.base), &trace.limit)


cdef inline void answer(
    const Table *table, const Trace *trace, Operation operation, Answer *given
) noexcept nogil:
    cdef Report report = dispatch.report(
        &trace.before, &trace.after, trace.now, trace.cost, trace.allowed, &trace.limit, &trace.ring
    )
    given.allowed = trace.allowed
    given.limit = trace.limit.capacity
    given.remaining = report.remaining
    given.retry_ns = 0
    given.delay_ns = 0
    if trace.full_until:
        given.remaining = 0
        given.retry_ns = wait(table, trace, trace.full_until)
    elif not trace.allowed:
        given.retry_ns = wait(table, trace, report.allowed_at)
    elif operation == CHARGE or operation == PEEK:
        given.delay_ns = wait(table, trace, report.starts_at)
    given.reset_ns = wait(table, trace, report.fresh_at)


cdef inline bint combine(Answer *total, const Answer *one) noexcept nogil:
    """Add one limit's answer to those before it; True if it is now the binding one.

    Denied, that is the limit with the longest wait; allowed, the one with the least left.
    """
    cdef bint binding
    if total.allowed and one.allowed:
        binding = one.remaining < total.remaining
    else:
        binding = one.retry_ns > total.retry_ns
    if binding:
        total.limit = one.limit
    total.allowed = total.allowed and one.allowed
    total.remaining = min(total.remaining, one.remaining)
    total.retry_ns = max(total.retry_ns, one.retry_ns)
    total.reset_ns = max(total.reset_ns, one.reset_ns)
    total.delay_ns = max(total.delay_ns, one.delay_ns) if total.allowed else 0
    return binding
