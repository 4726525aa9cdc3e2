"""Several charges, all or nothing: the limits of one limiter, or of several."""

from libc.stdint cimport int64_t, uint64_t

from .clock cimport clock_now
from .decide cimport (
    CHARGE, DONE, LOST, PEEK, REFUND, REFUSED, Result, Trace, commit, evaluate, evaluate_for_report, look_up,
    operate,
)
from .hashing cimport Hash
from .slot cimport Slot, Word
from .table cimport Table


cdef struct Charge:
    Table *table
    const Hash *key  # a pointer: to copy what was stored a moment ago, in other pieces, would stall
    Slot *slot  # where the key was last found, or NULL
    Word word
    uint64_t cost
    Trace trace


cdef inline bint peek_all(Charge *charges, int count, int64_t now) noexcept nogil:
    """Whether every one would be allowed."""
    cdef bint allowed = True
    cdef int i
    for i in range(count):
        operate(charges[i].table, charges[i].key, PEEK, charges[i].cost, now, &charges[i].trace)
        allowed = allowed and charges[i].trace.allowed
    return allowed


cdef inline bint evaluate_all(Charge *charges, int count, int64_t now, bint reports) noexcept nogil:
    """Work all of them out, writing nothing; a charge that may be committed as it is keeps its slot."""
    cdef Charge *charge
    cdef Result result
    cdef bint allowed = True
    cdef int i
    for i in range(count):
        charge = &charges[i]
        result = LOST
        if charge.cost == 0 or charge.table.entries != NULL:
            pass
        elif look_up(charge.table, charge.key, &charge.slot, &charge.word) != NULL:
            if reports:
                result = evaluate_for_report(
                    charge.table, charge.slot, &charge.word, charge.cost, now, &charge.trace
                )
            else:
                result = evaluate(charge.table, charge.slot, &charge.word, charge.cost, now, &charge.trace)
                charge.trace.now_ns = now
                charge.trace.allowed = result == DONE
        if result == LOST:
            charge.slot = NULL
            operate(charge.table, charge.key, PEEK, charge.cost, now, &charge.trace)
        allowed = allowed and charge.trace.allowed
    return allowed


cdef inline void roll_back(Charge *charges, int refused, int count, int64_t now) noexcept nogil:
    """Give back what was charged before the refusal of number `refused`, and see how the others stand."""
    cdef Trace given_back
    cdef int i
    for i in range(refused):
        if charges[i].cost > 0:
            operate(charges[i].table, charges[i].key, REFUND, charges[i].cost, now, &given_back)
    for i in range(count):
        if i != refused:
            operate(charges[i].table, charges[i].key, PEEK, charges[i].cost, now, &charges[i].trace)


cdef inline bint charge_all(Charge *charges, int count, int64_t now, bint reports) noexcept nogil:
    """Evaluate all, then charge in order; a refusal on the way rolls back. `reports`: traces are answered.

    Never admits too much. A concurrent call may be refused by a charge that is about to be rolled back, and a
    kill leaves at most the charged prefix.
    """
    cdef Charge *charge
    cdef int i
    if not evaluate_all(charges, count, now, reports):
        for i in range(count if reports else 0):
            charges[i].trace.after = charges[i].trace.before
        return False
    for i in range(count):
        charge = &charges[i]
        if charge.cost == 0 or (
            charge.slot != NULL and commit(charge.slot, &charge.word, &charge.trace, charge.key.tag)
        ):
            continue
        if operate(charge.table, charge.key, CHARGE, charge.cost, now, &charge.trace) == REFUSED:
            roll_back(charges, i, count, clock_now(charge.table.clock))
            return False
    return True
