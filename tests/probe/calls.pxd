"""Calls of the kernel, prepared with the GIL and made without; and controls, which leave out a precaution.

What goes wrong in those is what the tests must notice.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastlimit._kernel.answer cimport Answer, answer
from fastlimit._kernel.atomics cimport load_relaxed_i64, publish_u32, store_relaxed, store_relaxed_i64
from fastlimit._kernel.clock cimport clock_now
from fastlimit._kernel.decide cimport (
    CHARGE, DONE, LOST, REFUND, REFUSED, Operation, Result, apply_to, begin, begin_unseen, commit,
    current_state, decide, inherit_log, is_free, log_and_commit, operate, operate_on, state_of, sweep,
    version_of,
)
from fastlimit._kernel.engine cimport Engine, change_limit
from fastlimit._kernel.hashing cimport Hash
from fastlimit._kernel.ring cimport log_units
from fastlimit._kernel.slot cimport Slot, Word, claimed_gen, count_of, live_word
from fastlimit._kernel.table cimport (
    CLAIM_ROUNDS, VERSIONS, Found, Header, bind_ring, find, limit_at, outlives_rivals, scan, settle_identity,
    take,
)
from fastlimit._kernel.together cimport Charge, charge_all, evaluate_all
from fastlimit.algorithms.outcome cimport Limit, copy_limit

cdef enum Action:
    CHARGE_ALL         # `Limiter.acquire`, or `acquire_all`
    OPERATE            # `Limiter.debit`, `refund`, `reset`, `peek`
    UPDATE             # `Limiter.update`
    ADVANCE            # `ManualClock.advance_ns`
    BUCKET_ALLOW       # the engine's own compiled code, not the probe's
    LOAD_THEN_STORE    # what a charge would be without compare-and-swap
    HASTY_REFUSAL      # a charge that refuses by what it read, whole or torn
    EARLY_VERSION      # an update that publishes its version before its parameters
    CARELESS_CLAIM     # a claim that leaves out one precaution
    NO_ROLL_BACK       # several charges, of which a refusal keeps the first ones
    REFUND_IN_NO_TIME  # a refund of a sliding log that leaves the newest instant as it was

cdef enum Precaution:
    NONE
    RIVALS             # look for rivals once the claim is visible
    CLOCK              # read the clock again once the claim is visible
    LATE_CLOCK         # read it after the look for rivals, not before
    SERIAL             # never set an older identity over a newer one

ctypedef bint (*BucketAllow)(void *bucket, int64_t now, uint64_t cost) noexcept nogil


cdef struct Plan:  # of one call
    Action action
    Operation operation
    Precaution left_out
    int number
    Charge[8] charges
    Hash[8] keys
    Limit limit
    int64_t *time
    int64_t ns
    BucketAllow allow
    void *bucket
    Engine *engine
    Plan *next           # in a part of several calls
    uint64_t allowed
    uint64_t refused
    bint recorded        # whether to take tickets: one at the call and one at the return, in order of time
    uint64_t called
    uint64_t returned
    bint outcome
    uint64_t remaining   # worked out before the return, as in a Decision

cdef extern from * nogil:
    """
    static unsigned long long probe_tickets;
    #define probe_ticket() __atomic_add_fetch(&probe_tickets, 1, __ATOMIC_SEQ_CST)
    """
    uint64_t ticket "probe_ticket"() noexcept


cdef inline bint load_then_store(Charge *one, int64_t now) noexcept nogil:
    cdef Word word, next
    cdef Slot *slot
    cdef bint logged = False
    while not logged:
        slot = find(one.table, one.key, &word)
        if slot == NULL:
            break
        begin(one.table, &one.trace, one.cost, now)
        if version_of(&word) != one.trace.version % VERSIONS:
            break
        bind_ring(one.table, slot, &one.trace.ring)
        one.trace.before = state_of(&word)
        if not apply_to(one.table, &one.trace, CHARGE):
            return False
        logged = one.table.entries == NULL or log_units(
            &one.trace.ring, &one.trace.after.body, slot, &word
        )
    if not logged:
        return decide(one.table, one.key, NULL, one.cost, now, &one.trace) == DONE
    next = live_word(one.trace.version % VERSIONS, one.trace.after.body, one.key.tag, one.trace.after.count)
    store_relaxed(&slot.lo, next.lo)
    store_relaxed(&slot.hi, next.hi)
    return True


cdef inline bint refuse_hastily(Charge *one, int64_t now) noexcept nogil:
    cdef Word word
    cdef Slot *slot = find(one.table, one.key, &word)
    if slot != NULL:
        begin(one.table, &one.trace, one.cost, now)
        bind_ring(one.table, slot, &one.trace.ring)
        one.trace.before = current_state(one.table, &word, one.trace.version, &one.trace.limit, now)
        if not apply_to(one.table, &one.trace, CHARGE):
            return False
        if log_and_commit(slot, &word, &one.trace, one.key.tag):
            return True
    return decide(one.table, one.key, NULL, one.cost, now, &one.trace) == DONE


cdef inline bint settle(Charge *one, Slot *slot, const Word *claim, Precaution left_out) noexcept nogil:
    if left_out != RIVALS and not outlives_rivals(one.table, one.key, slot):
        return False
    if left_out != SERIAL:
        return settle_identity(slot, one.key, claim)
    store_relaxed(&slot.identity, <uint64_t> one.key.ext << 32 | claimed_gen(claim))
    return True


cdef inline Result confirm_without(
    Precaution left_out, Charge *one, Slot *slot, const Word *claim, int64_t now
) noexcept nogil:
    if left_out == LATE_CLOCK:
        now = clock_now(one.table.clock)
    if not settle(one, slot, claim, left_out):
        return LOST
    if left_out != CLOCK and left_out != LATE_CLOCK:
        now = clock_now(one.table.clock)
    begin_unseen(one.table, one.key, &one.trace, one.cost, now)
    if one.table.entries != NULL:
        if not inherit_log(one.table, slot, claim, &one.trace):
            return LOST
    elif one.table.header.cumulative:
        one.trace.before.count = count_of(claim)
    if not apply_to(one.table, &one.trace, CHARGE):
        return REFUSED
    return DONE if log_and_commit(slot, claim, &one.trace, one.key.tag) else LOST


cdef inline bint claim_without(Precaution left_out, Charge *one, int64_t now) noexcept nogil:
    """A charge of a key that may have no slot, as `decide` makes it, but for the precaution."""
    cdef Found found
    cdef Result result
    cdef int _
    for _ in range(CLAIM_ROUNDS):
        result = LOST
        found = scan(one.table, one.key, now, is_free)
        if found.live != NULL:
            result = operate_on(
                one.table, one.key, found.live, &found.live_word, CHARGE, one.cost, now, &one.trace
            )
        elif found.claim != NULL:
            result = confirm_without(left_out, one, found.claim, &found.claim_word, now)
        elif found.free == NULL:
            break
        elif take(one.table, one.key, found.free, &found.free_word):
            result = confirm_without(left_out, one, found.free, &found.free_word, now)
        if result != LOST:
            return result == DONE
        now = clock_now(one.table.clock)
    return decide(one.table, one.key, NULL, one.cost, now, &one.trace) == DONE


cdef inline bint charge_keeping(Charge *charges, int number, int64_t now) noexcept nogil:
    cdef Charge *one
    cdef int i
    if not evaluate_all(charges, number, now, True):
        return False
    for i in range(number):
        one = &charges[i]
        if operate(one.table, one.key, CHARGE, one.cost, now, &one.trace) != DONE:
            return False
    return True


cdef inline bint refund_in_no_time(Charge *one, int64_t now) noexcept nogil:
    cdef Word word
    cdef Slot *slot
    while True:
        slot = find(one.table, one.key, &word)
        begin(one.table, &one.trace, one.cost, now)
        bind_ring(one.table, slot, &one.trace.ring)
        one.trace.before = state_of(&word)
        apply_to(one.table, &one.trace, REFUND)
        one.trace.after.body = one.trace.before.body
        if commit(slot, &word, &one.trace, one.key.tag):
            return True


cdef inline void publish_early(Engine *engine, const Limit *limit) noexcept nogil:
    cdef Header *header = engine.tables[0].header
    cdef uint32_t version = header.version + 1
    publish_u32(&header.version, version)
    copy_limit(limit_at(header, version), limit)
    sweep(&engine.tables[0])


cdef inline bint change(Plan *plan) noexcept nogil:
    """What is no call on a key."""
    if plan.action == ADVANCE:
        store_relaxed_i64(plan.time, load_relaxed_i64(plan.time) + plan.ns)
    elif plan.action == EARLY_VERSION:
        publish_early(plan.engine, &plan.limit)
    else:
        change_limit(plan.engine, 0, &plan.limit)
    return True


cdef inline bint make(Plan *plan) noexcept nogil:
    cdef Charge *one = &plan.charges[0]
    cdef int64_t now
    cdef int i
    if plan.action == ADVANCE or plan.action == UPDATE or plan.action == EARLY_VERSION:
        return change(plan)
    for i in range(plan.number):
        plan.charges[i].slot = NULL
    now = clock_now(one.table.clock)
    if plan.action == BUCKET_ALLOW:
        return plan.allow(plan.bucket, now, one.cost)
    if plan.action == OPERATE:
        return operate(one.table, one.key, plan.operation, one.cost, now, &one.trace) == DONE
    if plan.action == LOAD_THEN_STORE:
        return load_then_store(one, now)
    if plan.action == HASTY_REFUSAL:
        return refuse_hastily(one, now)
    if plan.action == CARELESS_CLAIM:
        return claim_without(plan.left_out, one, now)
    if plan.action == REFUND_IN_NO_TIME:
        return refund_in_no_time(one, now)
    if plan.action == NO_ROLL_BACK:
        return charge_keeping(plan.charges, plan.number, now)
    if plan.number == 1:
        return decide(one.table, one.key, NULL, one.cost, now, &one.trace) == DONE
    return charge_all(plan.charges, plan.number, now, True)


cdef inline void perform(Plan *plan) noexcept nogil:
    """Make a call, and count how it ended."""
    cdef Answer whole
    if plan.recorded:
        plan.called = ticket()
    plan.outcome = make(plan)
    if plan.recorded:
        if plan.number:
            answer(plan.charges[0].table, &plan.charges[0].trace, plan.operation, &whole)
            plan.remaining = whole.remaining
        plan.returned = ticket()
    plan.allowed += plan.outcome
    plan.refused += not plan.outcome
