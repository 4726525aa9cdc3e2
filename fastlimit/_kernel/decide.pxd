"""A decision: find the bucket, let the algorithm step, swap the word. Only here do table and algorithm meet.

`decide` tries the common case once: the key has a slot, in the current version, and nobody interferes
(`evaluate`, then `commit`). Everything else is `operate`: retries, changed limits, clocks that stepped back,
keys without a slot, full windows.

Every function takes `now` in nanoseconds of the table's clock. Only the outermost call reads the clock, but
each retry reads it again: who lost a race may have lost time, and a claim confirmed with an old reading could
grant twice.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastlimit.algorithms cimport dispatch, fixed_window, sliding_log
from fastlimit.algorithms.outcome cimport Limit, Report, State, copy_limit
from .atomics cimport add, load_relaxed_u32, store_relaxed_u32
from .clock cimport clock_now
from .hashing cimport Hash
from .ring cimport Ring, instant_of, log_unit, log_units
from .scale cimport MAX_UNITS, units_at
from .slot cimport (
    BODY_MASK, NOBODY, VERSION_SHIFT, Slot, Word, claimed_ext, count_of, is_live_key, is_still,
    is_tentative, is_unused, live_word, load_hint, read_word, store_hint, swap, tag_of,
)
from .table cimport (
    CLAIM_ROUNDS, FULL_ALLOW, FULL_SHARE, OVERFLOW_SLOTS, VERSIONS, WINDOW, Found, Header, Table, bind_ring,
    find, home_of, is_in_force, kill_claim, limit_at, limit_version, overflow_key, overflow_of, scan,
    settle_claim, take,
)

cdef enum Operation:
    CHARGE
    PEEK
    DEBIT
    REFUND
    RESET

cdef enum Result:
    REFUSED = 0
    DONE = 1
    LOST = 2  # somebody interfered: start over


cdef struct Trace:  # what one table decided, for the report
    State before
    State after
    Limit limit          # a copy
    uint64_t now         # in the limit's units
    uint64_t full_until  # when a full window next has a free slot, if that is why it refused; else 0
    uint64_t cost
    int64_t now_ns
    uint32_t version     # of that limit, counted on
    bint allowed
    bint clamped         # a debit met the bottom
    Ring ring            # of a sliding log only


# ---- one word

cdef inline uint32_t version_of(const Word *word) noexcept nogil:
    return <uint32_t> (word.lo >> VERSION_SHIFT) % VERSIONS


cdef inline State state_of(const Word *word) noexcept nogil:
    return State(word.lo & BODY_MASK, count_of(word))


cdef inline uint64_t units(Table *table, const Limit *limit, int64_t now) noexcept nogil:
    return units_at(now, &table.header.base, table.clock, limit)


cdef inline void begin(Table *table, Trace *trace, uint64_t cost, int64_t now) noexcept nogil:
    trace.version = limit_version(table.header)
    copy_limit(&trace.limit, limit_at(table.header, trace.version))
    trace.now_ns = now
    trace.now = units(table, &trace.limit, now)
    trace.cost = cost
    trace.full_until = 0
    trace.clamped = False


cdef inline State current_state(
    Table *table, const Word *word, uint32_t version, const Limit *limit, int64_t now
) noexcept nogil:
    """The state of a live word in terms of the current limit, whichever it was written under."""
    cdef State state = state_of(word)
    cdef const Limit *old = limit_at(table.header, version_of(word))
    if old != limit_at(table.header, version):
        dispatch.convert(&state, units(table, old, now), units(table, limit, now), old, limit)
    return state


cdef inline bint is_free(Table *table, const Word *word, int64_t now) noexcept nogil:
    """Whether a live word may go to another key: it cannot be told from fresh."""
    cdef const Limit *limit = limit_at(table.header, version_of(word))
    cdef State state = state_of(word)
    return dispatch.is_fresh(&state, units(table, limit, now), limit)


cdef inline bint commit(Slot *slot, const Word *word, const Trace *trace, uint32_t tag) noexcept nogil:
    cdef Word next = live_word(trace.version % VERSIONS, trace.after.body, tag, trace.after.count)
    return swap(slot, word, &next)


cdef inline bint log_and_commit(Slot *slot, const Word *word, Trace *trace, uint32_t tag) noexcept nogil:
    """The entries of a log come first, as intents; the swap of the word is what grants them."""
    if trace.limit.algorithm == dispatch.SLIDING_LOG:
        if not log_units(&trace.ring, &trace.after.body, slot, word):
            return False
    return commit(slot, word, trace, tag)


# ---- the common case

cdef inline Result evaluate(
    Table *table, Slot *slot, const Word *word, uint64_t cost, int64_t now, Trace *trace
) noexcept nogil:
    """What charging would do, without doing it; not of a log. LOST: not the common case, or out of date.

    It reads the limit in place, since a copy would cost each decision, and leaves of the trace only now and
    what a swap needs.
    """
    cdef Header *header = table.header
    cdef uint32_t version = limit_version(header)
    cdef const Limit *limit = limit_at(header, version)
    cdef dispatch.Attempt attempted
    if word.lo >> VERSION_SHIFT != version % VERSIONS:
        return LOST
    trace.version = version
    trace.now = units(table, limit, now)
    trace.after = state_of(word)
    attempted = dispatch.attempt(&trace.after, trace.now, cost, limit)
    if attempted == dispatch.ALLOWED:
        return DONE
    if attempted == dispatch.DENIED and is_still(slot, word) and is_in_force(header, version):
        return REFUSED
    return LOST


cdef inline Result evaluate_for_report(
    Table *table, Slot *slot, const Word *word, uint64_t cost, int64_t now, Trace *trace
) noexcept nogil:
    """`evaluate`, with the rest of the trace."""
    cdef Result result = evaluate(table, slot, word, cost, now, trace)
    if result == LOST:
        return LOST
    copy_limit(&trace.limit, limit_at(table.header, trace.version))
    trace.before = state_of(word)
    trace.now_ns = now
    trace.cost = cost
    trace.full_until = 0
    trace.allowed = result == DONE
    trace.clamped = False
    return result if is_in_force(table.header, trace.version) else LOST


cdef inline Slot *look_up(Table *table, const Hash *key, Slot **hint, Word *word) noexcept nogil:
    """The key's live slot, NULL if it has none. `hint` is where a handle last found it; NULL: no handle."""
    cdef Slot *slot
    if hint == NULL:
        return find(table, key, word)
    slot = load_hint(hint)
    if slot != NULL:
        word[0] = read_word(slot)
        if is_live_key(slot, word, key):
            return slot
    slot = find(table, key, word)
    store_hint(hint, slot)
    return slot


cdef inline void note_denied(Slot *slot) noexcept nogil:
    store_relaxed_u32(&slot.denied, load_relaxed_u32(&slot.denied) + 1)


cdef inline Result decide(
    Table *table, const Hash *key, Slot **hint, uint64_t cost, int64_t now, Trace *trace
) noexcept nogil:
    """Charge `cost`, which is above 0 and not above what the limit can ever grant."""
    cdef Word word
    cdef Slot *slot = look_up(table, key, hint, &word)
    cdef Result result
    if table.entries != NULL:
        return decide_by_log(table, key, slot, &word, cost, now, trace)
    if slot != NULL:
        result = evaluate_for_report(table, slot, &word, cost, now, trace)
        if result == DONE and commit(slot, &word, trace, key.tag):
            return DONE
        if result == REFUSED:
            note_denied(slot)
            return REFUSED
    return operate(table, key, CHARGE, cost, now, trace)


cdef inline bint admit(
    Table *table, const Hash *key, Slot **hint, uint64_t cost, int64_t *now
) noexcept nogil:
    """`decide` without a report: the trace of the common case is its own, so it stays in registers.

    `now` is brought forward if the clock had to be read again: what follows in a batch must not be earlier.
    """
    cdef Trace quick, full
    cdef Word word
    cdef Slot *slot = look_up(table, key, hint, &word)
    cdef Result result
    if table.entries != NULL:
        result = decide_by_log(table, key, slot, &word, cost, now[0], &full)
        now[0] = max(now[0], full.now_ns)
        return result == DONE
    if slot != NULL:
        result = evaluate(table, slot, &word, cost, now[0], &quick)
        if result == DONE and commit(slot, &word, &quick, key.tag):
            return True
        if result == REFUSED:
            note_denied(slot)
            return False
    result = operate(table, key, CHARGE, cost, now[0], &full)
    now[0] = max(now[0], full.now_ns)
    return result == DONE


# ---- any operation, whatever happens

cdef inline bint apply_to(Table *table, Trace *trace, Operation operation) noexcept nogil:
    """The state after an operation; False if it is refused, which changes nothing."""
    trace.after = trace.before
    trace.allowed = True
    if operation == CHARGE or (operation == PEEK and trace.cost > 0):
        trace.allowed = dispatch.step(&trace.after, trace.now, trace.cost, &trace.limit, &trace.ring)
        if operation == PEEK:
            trace.after = trace.before
    elif operation == DEBIT:
        trace.clamped = not dispatch.debit(&trace.after, trace.now, trace.cost, &trace.limit, &trace.ring)
    elif operation == REFUND:
        dispatch.refund(&trace.after, trace.now, trace.cost, &trace.limit, &trace.ring)
    elif operation == RESET:
        dispatch.reset(&trace.after, table.header.cumulative, &trace.limit, &trace.ring)
    return trace.allowed


cdef inline bint is_ahead(const Trace *trace) noexcept nogil:
    return trace.limit.epoch and fixed_window.is_ahead(&trace.before, trace.now, &trace.limit)


cdef inline bint pulled_back(Slot *slot, const Word *word, Trace *trace) noexcept nogil:
    """Bring a state that is over a window ahead of now, because the clock stepped back, to now's window.

    False if it is not: one window ahead, now counts as that window.
    """
    trace.after = trace.before
    fixed_window.settle(&trace.after, trace.now, &trace.limit)
    if trace.after.body == trace.before.body:
        return False
    commit(slot, word, trace, tag_of(word))
    return True


cdef inline Result operate_on(
    Table *table, const Hash *key, Slot *slot, Word *word, Operation operation, uint64_t cost, int64_t now,
    Trace *trace
) noexcept nogil:
    """Swap until it succeeds, on a slot whose `word` was just found to be the key's. LOST: no longer is.

    A state ahead of now may be another thread's, from a later reading: the clock is read again before it is
    taken for one that stepped back.
    """
    cdef bint read_again = False
    while True:
        begin(table, trace, cost, now)
        bind_ring(table, slot, &trace.ring)
        trace.before = current_state(table, word, trace.version, &trace.limit, now)
        if is_ahead(trace) and not read_again:
            read_again = True
            now = clock_now(table.clock)
            continue
        if not is_ahead(trace) or not pulled_back(slot, word, trace):
            if apply_to(table, trace, operation) and operation != PEEK:
                if log_and_commit(slot, word, trace, key.tag):
                    return DONE
            elif is_still(slot, word) and is_in_force(table.header, trace.version):
                return DONE if trace.allowed else REFUSED
        word[0] = read_word(slot)
        if not is_live_key(slot, word, key):
            return LOST
        now = clock_now(table.clock)


cdef inline void begin_unseen(
    Table *table, const Hash *key, Trace *trace, uint64_t cost, int64_t now
) noexcept nogil:
    """Start from fresh, or from the debt of the overflow bucket that the key may have been charged to.

    Its word is read before the limit in force: nothing is converted back to a limit that is not any more. And
    again after it, since the slot is not swapped.
    """
    cdef Slot *slot = overflow_of(table, key)
    cdef Word word
    cdef bint shares = table.header.when_full == FULL_SHARE
    while True:
        if shares:
            word = read_word(slot)
        begin(table, trace, cost, now)
        bind_ring(table, slot, &trace.ring)
        trace.before = State(0, 0)
        if shares:
            trace.before = current_state(table, &word, trace.version, &trace.limit, now)
            if dispatch.is_fresh(&trace.before, trace.now, &trace.limit):
                trace.before = State(0, 0)
        if (not shares or is_still(slot, &word)) and is_in_force(table.header, trace.version):
            break


cdef inline bint inherit_log(Table *table, Slot *slot, const Word *claim, Trace *trace) noexcept nogil:
    """Begin a log in a claimed slot with what the key may have logged in its overflow bucket.

    Those are intents, too, until the claim is confirmed. What is overwritten there meanwhile was out of the
    window. False: the claim is no longer ours.
    """
    cdef Ring ring
    cdef uint32_t units, i
    cdef uint64_t time
    bind_ring(table, slot, &ring)
    units = sliding_log.inside(
        &trace.before, sliding_log.reading(&trace.before, trace.now), ring.mask + 1, &trace.limit, &trace.ring
    )
    for i in range(units):
        time = instant_of(&trace.ring, trace.before.count - units + i)
        if time == 0:
            time = 1
        if not log_unit(&ring, count_of(claim) + i, &time, slot, claim):
            return False
    trace.ring = ring
    trace.before.count = count_of(claim) + units
    return True


cdef inline Result confirm(
    Table *table, const Hash *key, Slot *slot, const Word *claim, Operation operation, uint64_t cost,
    Trace *trace
) noexcept nogil:
    """Turn a claim live and charged, if it is still there and has no rival."""
    if not settle_claim(table, key, slot, claim):
        return LOST
    # After the search for rivals, not before: a bucket of this key that the search found gone was still owed
    # until it was reclaimed, so a reading from before that would grant again what was granted there.
    begin_unseen(table, key, trace, cost, clock_now(table.clock))
    if table.entries != NULL:
        if not inherit_log(table, slot, claim, trace):
            return LOST
    elif table.header.cumulative:
        trace.before.count = count_of(claim)
    if not apply_to(table, trace, operation):
        return REFUSED
    if not log_and_commit(slot, claim, trace, key.tag):
        return LOST
    store_relaxed_u32(&slot.denied, 0)
    return DONE


cdef inline uint64_t earliest_free(Table *table, const Hash *key, const Trace *trace) noexcept nogil:
    """When the first slot of a full window comes free."""
    cdef uint64_t earliest = trace.now + 2 * MAX_UNITS
    cdef Slot *slot = home_of(table, key)
    cdef Slot *end = slot + WINDOW
    cdef Word word
    cdef State state
    cdef Report report
    cdef Ring ring
    while slot != end:
        word = read_word(slot)
        if not is_tentative(&word):
            bind_ring(table, slot, &ring)
            state = current_state(table, &word, trace.version, &trace.limit, trace.now_ns)
            report = dispatch.report(&state, &state, trace.now, 0, True, &trace.limit, &ring)
            earliest = min(earliest, report.fresh_at)
        slot += 1
    return max(earliest, trace.now + 1)


cdef inline Result operate_full(
    Table *table, const Hash *key, Operation operation, uint64_t cost, int64_t now, Trace *trace
) noexcept nogil:
    """Every slot of the window owes: what the caller chose to do then."""
    cdef Slot *slot = overflow_of(table, key)
    cdef Hash shared_key = overflow_key(table, slot)
    cdef Word word = read_word(slot)
    if operation != PEEK:
        add(&table.header.full_events, 1)
    if table.header.when_full == FULL_SHARE:
        return operate_on(table, &shared_key, slot, &word, operation, cost, now, trace)
    while True:
        begin(table, trace, cost, now)
        trace.before = trace.after = State(0, 0)
        trace.allowed = table.header.when_full == FULL_ALLOW or cost == 0
        if not trace.allowed:
            trace.full_until = earliest_free(table, key, trace)
        if is_in_force(table.header, trace.version):
            return DONE if trace.allowed else REFUSED


cdef inline Result give_to_unseen(Table *table, Trace *trace) noexcept nogil:
    """A refund or reset of a key that has no slot: it is fresh already, or shares an overflow bucket."""
    if trace.before.body != 0 or trace.before.count != 0:
        add(&table.header.lost_on_full, 1)
    trace.after = trace.before
    trace.allowed = True
    return DONE


cdef inline Result operate_unseen(
    Table *table, const Hash *key, Operation operation, uint64_t cost, int64_t now, Trace *trace
) noexcept nogil:
    """The key was not found: look closely, and claim a slot if the operation charges anything.

    The limit is read before the search: a limit from after it may never have been in force without the key.
    """
    cdef Found found
    cdef Result result
    cdef int _attempt
    for _attempt in range(CLAIM_ROUNDS):
        begin_unseen(table, key, trace, cost, now)
        found = scan(table, key, now, is_free)
        if found.live != NULL:
            result = operate_on(table, key, found.live, &found.live_word, operation, cost, now, trace)
            if result != LOST:
                return result
        elif operation == REFUND or operation == RESET:
            return give_to_unseen(table, trace)
        elif found.claim == NULL and found.free == NULL:
            break
        elif not apply_to(table, trace, operation):
            return REFUSED
        elif operation == PEEK:
            return DONE
        elif found.claim != NULL or take(table, key, found.free, &found.free_word):
            if found.claim == NULL:
                found.claim = found.free
                found.claim_word = found.free_word
            result = confirm(table, key, found.claim, &found.claim_word, operation, cost, trace)
            if result != LOST:
                return result
        now = clock_now(table.clock)
    return operate_full(table, key, operation, cost, now, trace)


cdef inline Result operate(
    Table *table, const Hash *key, Operation operation, uint64_t cost, int64_t now, Trace *trace
) noexcept nogil:
    """One operation on one table, with its trace."""
    cdef Word word
    cdef Slot *slot = find(table, key, &word)
    cdef Result result = LOST
    if slot != NULL:
        result = operate_on(table, key, slot, &word, operation, cost, now, trace)
    if result == LOST:
        result = operate_unseen(table, key, operation, cost, clock_now(table.clock), trace)
    if operation == DEBIT and trace.clamped:
        add(&table.header.clamped_debits, 1)
    return result


cdef inline Result decide_by_log(
    Table *table, const Hash *key, Slot *slot, Word *word, uint64_t cost, int64_t now, Trace *trace
) noexcept nogil:
    """`decide` of a sliding log, whose trace cannot stay in registers anyway; `slot` may be NULL."""
    cdef Result result
    if slot != NULL:
        result = operate_on(table, key, slot, word, CHARGE, cost, now, trace)
        if result == REFUSED:
            note_denied(slot)
        if result != LOST:
            return result
    return operate(table, key, CHARGE, cost, now, trace)


# ---- the whole table

cdef inline void sweep(Table *table) noexcept nogil:
    """After a change of the limit: bring every slot to the current version; pending claims start over.

    A claim that read the old version and was confirmed later stays in it until its next charge or the next
    sweep; a claim never survives a sweep, so a version's parameters are not replaced while a word may yet be
    written under it.
    """
    cdef uint32_t version = limit_version(table.header)
    cdef const Limit *limit = limit_at(table.header, version)
    cdef Slot *slot = table.slots
    cdef Slot *end = table.slots + table.slot_count + OVERFLOW_SLOTS
    cdef Word word, next
    cdef State state
    while slot != end:
        word = read_word(slot)
        if is_unused(&word) or (not is_tentative(&word) and version_of(&word) == version % VERSIONS):
            slot += 1
        elif is_tentative(&word):
            slot += claimed_ext(&word) == NOBODY or kill_claim(slot, &word)
        else:
            state = current_state(table, &word, version, limit, clock_now(table.clock))
            next = live_word(version % VERSIONS, state.body, tag_of(&word), state.count)
            slot += swap(slot, &word, &next)


cdef inline uint64_t count_keys(Table *table) noexcept nogil:
    """How many keys owe anything now."""
    cdef uint64_t keys = 0
    cdef int64_t now = clock_now(table.clock)
    cdef Slot *slot = table.slots
    cdef Slot *end = table.slots + table.slot_count
    cdef Word word
    while slot != end:
        word = read_word(slot)
        keys += not is_unused(&word) and not is_tentative(&word) and not is_free(table, &word, now)
        slot += 1
    return keys
