# cython: language_level=3, binding=False, freethreading_compatible=True, wraparound=False, cdivision=True
"""The kernel laid open for its tests: words, steps of a claim, calls that race each other, and the clock.

Compiled from the engine's headers, with every atomic access passing through `interpose.h`. It looks at, and
works on, what limiters of `fastlimit._core` hold; its clock is its own.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastlimit._core cimport Bucket, Limiter, ManualClock, bucket_allow
from fastlimit._kernel cimport clock, decide, slot as slots, table as tables
from fastlimit._kernel.arguments cimport hash_key
from fastlimit._kernel.atomics cimport add, cas_u64, load_relaxed, load_relaxed_i64
from fastlimit._kernel.build cimport limit_of, log_bytes, table_bytes
from fastlimit._kernel.decide cimport CHARGE, DEBIT, PEEK, REFUND, RESET, Trace
from fastlimit._kernel.engine cimport prepare
from fastlimit._kernel.hashing cimport SECRET_WORDS, Hash
from fastlimit._kernel.ring cimport Entry
from fastlimit._kernel.slot cimport Slot, Word
from fastlimit._kernel.table cimport Table
from fastlimit._kernel.together cimport Charge

from collections import namedtuple

from calls cimport (
    ADVANCE, BUCKET_ALLOW, CARELESS_CLAIM, CHARGE_ALL, CLOCK, EARLY_VERSION, HASTY_REFUSAL, LATE_CLOCK,
    LOAD_THEN_STORE, NO_ROLL_BACK, NONE, OPERATE, REFUND_IN_NO_TIME, RIVALS, SERIAL, UPDATE, Action,
    BucketAllow, Plan, perform,
)
from siege cimport ANY, OLDEST, charge_evicting, find_without_window

cdef extern from "stage.h" nogil:
    struct Caller "probe_caller":
        int mode
        unsigned long swaps
        unsigned long lost
        unsigned long raced
        unsigned long long random
        unsigned one_in
    struct Range "probe_range":
        const char *start "from"
        const char *stop "to"
    struct Stage:
        Range *watched
        int ranges
        int preemptions
        int deaths
        const unsigned char *choices
        long given
        long points
        long steps
        unsigned long long random
        unsigned one_in
        unsigned char *options
        const void *died_at
        unsigned long long died
    struct Looks:
        const char *home
        const char *from_ "from"
        const char *to
        const char *last
        long looks
        long reach
        long strays
    Caller caller "probe_self"
    Stage stage "probe_stage"
    Looks seen "probe_looks"
    int CAST "PROBE_CAST"
    int COUNT "PROBE_COUNT"
    int JITTER "PROBE_JITTER"
    int STRAIGHT "PROBE_RUN"
    bint play_parts "probe_play"(void **parts, int cast, void (*act)(void *) noexcept nogil) noexcept
    int sched_yield() noexcept

cdef extern from "pthread.h" nogil:
    ctypedef unsigned long pthread_t
    int pthread_create(
        pthread_t *thread, const void *attributes, void *(*start)(void *) noexcept nogil, void *given
    ) noexcept
    int pthread_join(pthread_t thread, void **result) noexcept

WINDOW = tables.WINDOW
OVERFLOW_SLOTS = tables.OVERFLOW_SLOTS
VERSIONS = tables.VERSIONS
SLOT_BYTES = sizeof(Slot)

Key = namedtuple("Key", "tag ext home")
Cell = namedtuple("Cell", "lo hi identity reported denied")


# ---- keys

cdef Hash hash_of(Limiter limiter, object key):
    cdef Hash hash
    hash_key(key, limiter.core.secret, &hash)
    return hash


def set_secret(Limiter limiter not None, words):
    """Make a limiter that has seen no key yet place its keys the same way in every run."""
    limiter.core.secret = words


def key_of(Limiter limiter not None, key):
    """What the tables of a limiter know of a key."""
    cdef Hash hash = hash_of(limiter, key)
    return Key(hash.tag, hash.ext, hash.home)


def key_with(words, key):
    """What tables under these secret words would know of a key."""
    cdef uint64_t[SECRET_WORDS] secret = words
    cdef Hash hash
    hash_key(key, secret, &hash)
    return Key(hash.tag, hash.ext, hash.home)


# ---- slots

cdef Slot *slot_at(Limiter limiter, Py_ssize_t index, int table=0) except NULL:
    cdef Table *its = &limiter.core.tables[table]
    if not 0 <= index < <Py_ssize_t> its.slot_count + tables.OVERFLOW_SLOTS:
        raise IndexError(f"there is no slot {index}")
    return its.slots + index


def version(Limiter limiter not None):
    """Of the limit in force."""
    return limiter.core.tables[0].header.version


def slot_count(Limiter limiter not None):
    """Slots of each table; the overflow slots come after them."""
    return limiter.core.tables[0].slot_count


def line_offset(Limiter limiter not None):
    """Where in a cache line the slots begin."""
    return <uintptr_t> limiter.core.tables[0].slots % tables.CACHE_LINE


def home(Limiter limiter not None, key):
    """The first slot of a key's window."""
    cdef Hash hash = hash_of(limiter, key)
    return tables.home_of(&limiter.core.tables[0], &hash) - limiter.core.tables[0].slots


def overflow(Limiter limiter not None, key):
    """The slot that a key shares when its window is full."""
    cdef Hash hash = hash_of(limiter, key)
    return tables.overflow_of(&limiter.core.tables[0], &hash) - limiter.core.tables[0].slots


def read(Limiter limiter not None, index, table=0):
    cdef Slot *slot = slot_at(limiter, index, table)
    return Cell(slot.lo, slot.hi, slot.identity, slot.reported, slot.denied)


def write(Limiter limiter not None, index, cell, table=0):
    cdef Slot *slot = slot_at(limiter, index, table)
    slot.lo, slot.hi, slot.identity, slot.reported, slot.denied = cell


def memory(Limiter limiter not None):
    """All that the tables of a limiter hold, heads and logs included."""
    cdef Table *table
    cdef int i
    found = []
    for i in range(limiter.core.limit_count):
        table = &limiter.core.tables[i]
        found.append((
            PyBytes_FromStringAndSize(<const char *> table.header, table_bytes(table.slot_count)),
            PyBytes_FromStringAndSize(
                <const char *> table.entries, log_bytes(table.slot_count, table.ring_length)
            ),
        ))
    return found


def restore(Limiter limiter not None, list memory):
    """Bring the tables of a limiter back to what `memory` returned."""
    cdef bytes cells, log
    cdef int i
    for i in range(limiter.core.limit_count):
        cells, log = memory[i]
        memcpy(limiter.core.tables[i].header, PyBytes_AS_STRING(cells), len(cells))
        if log:
            memcpy(limiter.core.tables[i].entries, PyBytes_AS_STRING(log), len(log))


# ---- steps of a claim

cdef Word word_of(tuple pair):
    cdef Word word
    word.lo, word.hi = pair
    return word


def take(Limiter limiter not None, key, index, pair):
    """Claim a slot from the word (lo, hi) that was read there: the claim's word, None if it came too late."""
    cdef Hash hash = hash_of(limiter, key)
    cdef Word word = word_of(pair)
    taken = tables.take(&limiter.core.tables[0], &hash, slot_at(limiter, index), &word)
    return (word.lo, word.hi) if taken else None


def settle_identity(Limiter limiter not None, key, index, pair):
    """Whether the slot's identity now is this claim's."""
    cdef Hash hash = hash_of(limiter, key)
    cdef Word word = word_of(pair)
    return tables.settle_identity(slot_at(limiter, index), &hash, &word)


def confirm(Limiter limiter not None, key, index, pair):
    """Turn a claim live with a charge of 1: "refused", "done" or "lost"."""
    cdef Hash hash = hash_of(limiter, key)
    cdef Word word = word_of(pair)
    cdef Trace trace
    result = decide.confirm(&limiter.core.tables[0], &hash, slot_at(limiter, index), &word, CHARGE, 1, &trace)
    return ("refused", "done", "lost")[result]


def newer_gen(uint32_t a, uint32_t b):
    return slots.newer_gen(a, b)


# ---- calls, made without the GIL

PRECAUTIONS = {"none": NONE, "rivals": RIVALS, "clock": CLOCK, "late clock": LATE_CLOCK, "serial": SERIAL}
OPERATIONS = {"peek": PEEK, "debit": DEBIT, "refund": REFUND, "reset": RESET}


cdef class Call:
    """A call prepared from `charge` and the others below; counts how often it was allowed and refused."""
    cdef Plan plan
    cdef object kept

    @property
    def allowed(self):
        return self.plan.allowed

    @property
    def refused(self):
        return self.plan.refused

    def clear(self):
        self.plan.allowed = self.plan.refused = 0
        self.plan.called = self.plan.returned = 0

    def record(self):
        """From the next time on, take tickets."""
        self.plan.recorded = True
        return self

    def recorded(self):
        """Of the last time: tickets of call and return, 0 for what did not happen; allowed; what remained."""
        if not self.plan.returned:
            return self.plan.called, 0, False, None
        remaining = None if self.plan.number == 0 or self.plan.operation == RESET else self.plan.remaining
        return self.plan.called, self.plan.returned, bool(self.plan.outcome), remaining


cdef Call call_of(Action action, triples):
    cdef Call call = Call()
    cdef Limiter limiter
    cdef Hash *hash
    call.kept = triples
    call.plan.action = action
    for limiter, key, cost in triples:
        hash = &call.plan.keys[call.plan.number]
        hash[0] = hash_of(limiter, key)
        prepare(&limiter.core, hash, NULL, cost, &call.plan.charges[call.plan.number])
        call.plan.number += limiter.core.limit_count
        call.plan.engine = &limiter.core
    return call


def charge(*triples):
    """Charge each (limiter, key, cost), all or nothing."""
    return call_of(CHARGE_ALL, triples)


def charge_keeping(*triples):
    """A charge of several that does not roll back."""
    return call_of(NO_ROLL_BACK, triples)


def operate(name, Limiter limiter not None, key, cost=1):
    cdef Call call = call_of(OPERATE, ((limiter, key, cost),))
    if name == "refund in no time":
        call.plan.action = REFUND_IN_NO_TIME
    else:
        call.plan.operation = OPERATIONS[name]
    return call


cdef Call update_by(Action action, Limiter limiter, limit):
    cdef Call call = call_of(action, ())
    call.kept, call.plan.engine = limiter, &limiter.core
    call.plan.limit = limit_of(limit.parameters())
    return call


def update(Limiter limiter not None, limit):
    return update_by(UPDATE, limiter, limit)


def early_version(Limiter limiter not None, limit):
    return update_by(EARLY_VERSION, limiter, limit)


def advance(ManualClock manual not None, ns):
    cdef Call call = call_of(ADVANCE, ())
    call.kept = manual
    call.plan.time = &manual.cell.ns
    call.plan.ns = ns
    return call


def allow(Bucket bucket not None):
    cdef Call call = call_of(BUCKET_ALLOW, ((bucket.limiter, bucket.key, 1),))
    call.kept = bucket
    call.plan.bucket = <void *> bucket
    call.plan.allow = <BucketAllow> bucket_allow
    return call


def load_then_store(Limiter limiter not None, key, cost=1):
    return call_of(LOAD_THEN_STORE, ((limiter, key, cost),))


def hasty_refusal(Limiter limiter not None, key, cost=1):
    return call_of(HASTY_REFUSAL, ((limiter, key, cost),))


def careless_claim(left_out, Limiter limiter not None, key, cost=1):
    cdef Call call = call_of(CARELESS_CLAIM, ((limiter, key, cost),))
    call.plan.left_out = PRECAUTIONS[left_out]
    return call


cdef void perform_part(void *given) noexcept nogil:
    cdef Plan *plan = <Plan *> given
    while plan != NULL:
        perform(plan)
        plan = plan.next


cdef void *part_of(list calls) except NULL:
    cdef Call call, next
    call = calls[0]
    for next in calls[1:]:
        call.plan.next = &next.plan
        call = next
    call.plan.next = NULL
    call = calls[0]
    return &call.plan


cdef int watch_range(const void *start, size_t size) except -1:
    stage.watched[stage.ranges].start = <const char *> start
    stage.watched[stage.ranges].stop = <const char *> start + size
    stage.ranges += 1
    return 0


cdef int watch_some(Table *table, Slot *start, int number) except -1:
    cdef size_t ring = table.ring_length * sizeof(Entry)
    watch_range(start, number * sizeof(Slot))
    if table.entries != NULL:
        watch_range(table.entries + (start - table.slots) * table.ring_length, number * ring)
    return 0


def watch_slots(Limiter limiter=None, int number=0, shared=(), ManualClock manual=None):
    """Let turns change only where a call touches the version, the first slots of a table, the overflow slots
    of the keys `shared`, at most four, their logs, or a clock; else anywhere."""
    cdef Hash hash
    cdef Table *table
    stage.ranges = 0
    if limiter is None:
        return
    table = &limiter.core.tables[0]
    watch_range(&table.header.version, sizeof(uint32_t))
    watch_some(table, table.slots, number)
    for key in shared[:4]:
        hash = hash_of(limiter, key)
        watch_some(table, tables.overflow_of(table, &hash), 1)
    if manual is not None:
        watch_range(&manual.cell.ns, sizeof(manual.cell.ns))


cdef int play_calls(list parts) except -1:
    cdef void *cast[16]
    cdef int number = 0
    if not 1 <= len(parts) <= CAST:
        raise ValueError(f"1 to {CAST} take part, not {len(parts)}")
    for calls in parts:
        cast[number] = part_of(calls)
        number += 1
    caller.lost = caller.raced = 0
    if not play_parts(cast, number, perform_part):
        raise RuntimeError("a call does not come to an end")
    return 0


def play(list parts, bytes choices, int preemptions, int deaths):
    """Make several lists of calls in turns, as the choices say (see `stage.h`).

    Returns how many options there were at each point, and how many swaps were lost.
    """
    stage.choices, stage.given, stage.one_in = choices, len(choices), 0
    stage.preemptions, stage.deaths = preemptions, deaths
    play_calls(parts)
    return stage.options[:stage.points], caller.lost


Drawn = namedtuple("Drawn", "preemptions died hook steps lost raced")


def play_drawn(list parts, seed, one_in, int preemptions, int deaths):
    """The same with choices drawn from a seed: at a point, one time in `one_in`, a caller is held up or dies.

    Returns how many preemptions there were; the ticket of the one that died, 0 if none did, and where in the
    code that was; atomic accesses; swaps lost, and those of them that were part of a claim.
    """
    stage.random, stage.one_in = seed * 0x9E3779B97F4A7C15 % 2**64 or 1, one_in
    stage.preemptions, stage.deaths = preemptions, deaths
    play_calls(parts)
    return Drawn(
        preemptions - stage.preemptions, stage.died, <uintptr_t> stage.died_at if stage.died else 0,
        stage.steps, caller.lost, caller.raced,
    )


def live_slots(Limiter limiter not None, key):
    """In how many slots of the first table a key is live, those shared by others apart."""
    cdef Hash hash = hash_of(limiter, key)
    cdef Table *table = &limiter.core.tables[0]
    cdef Word word
    cdef int number = 0
    cdef uint64_t i
    for i in range(table.slot_count):
        word = slots.read_word(&table.slots[i])
        number += slots.is_live_key(&table.slots[i], &word, &hash)
    return number


# ---- a siege

Looked = namedtuple("Looked", "looks reach strays")


def flood_evicting(Limiter limiter not None, keys, oldest):
    """Charge each key 1 on a table that evicts when a window is full: verdicts as of `allow_many`."""
    cdef Charge charge
    cdef Hash hash
    verdicts = bytearray()
    for key in keys:
        hash = hash_of(limiter, key)
        prepare(&limiter.core, &hash, NULL, 1, &charge)
        now = clock.clock_now(limiter.core.clock)
        verdicts.append(charge_evicting(&charge, now, OLDEST if oldest else ANY))
    return bytes(verdicts)


def looks(Limiter limiter not None, key, what):
    """The slots that one "look-up", "charge" or "look-up without window" reads, and how far from home."""
    cdef Table *table = &limiter.core.tables[0]
    cdef Hash hash = hash_of(limiter, key)
    cdef Charge charge
    cdef Word word
    prepare(&limiter.core, &hash, NULL, 1, &charge)
    seen.home = <const char *> tables.home_of(table, &hash)
    seen.from_, seen.to = <const char *> table.slots, <const char *> (table.slots + table.slot_count)
    seen.looks = seen.reach = seen.strays = 0
    seen.last = NULL
    caller.mode = COUNT
    if what == "look-up":
        tables.find(table, &hash, &word)
    elif what == "charge":
        decide.decide(table, &hash, NULL, 1, clock.clock_now(limiter.core.clock), &charge.trace)
    else:
        find_without_window(table, &hash)
    caller.mode = STRAIGHT
    return Looked(seen.looks, seen.reach, seen.strays)


# ---- threads

cdef struct Crew:  # of one thread
    Plan **plans
    int number
    int rounds
    unsigned one_in          # how rare jitter is; 0: none
    unsigned long long random
    uint64_t *waiting        # how many threads are, in common
    uint64_t expected
    unsigned long swaps
    unsigned long lost
    pthread_t thread

cdef unsigned long long enlisted = 0  # seeds of jitter, so that no two storms are alike


cdef void *work(void *given) noexcept nogil:
    cdef Crew *crew = <Crew *> given
    cdef int _, i
    add(crew.waiting, 1)
    while load_relaxed(crew.waiting) < crew.expected:
        sched_yield()
    caller.random = crew.random
    caller.one_in = crew.one_in
    caller.mode = JITTER if crew.one_in else STRAIGHT
    for _ in range(crew.rounds):
        for i in range(crew.number):
            perform(crew.plans[i])
    caller.mode = STRAIGHT
    crew.swaps = caller.swaps
    crew.lost = caller.lost
    return NULL


cdef int enlist(Crew *crew, list calls) except -1:
    global enlisted
    cdef Call call
    enlisted += 1
    crew.random = enlisted * 0x9E3779B9
    crew.plans = <Plan **> calloc(len(calls), sizeof(Plan *))
    if crew.plans == NULL:
        raise MemoryError
    for call in calls:
        crew.plans[crew.number] = &call.plan
        crew.number += 1
    return 0


cdef int let_loose(Crew *crews, int threads) noexcept nogil:
    """Returns how many threads could be started."""
    cdef int started = 0
    cdef int i
    while started < threads and pthread_create(&crews[started].thread, NULL, work, &crews[started]) == 0:
        started += 1
    add(crews[0].waiting, threads - started)
    for i in range(started):
        pthread_join(crews[i].thread, NULL)
    return started


def storm(list parts, int rounds, unsigned one_in=16):
    """Let a thread for each list of calls make them, `rounds` times, all at once: swaps tried, swaps lost.

    At one in so many atomic accesses a thread yields its processor, in the middle of a call; never if 0.
    """
    cdef uint64_t waiting = 0
    cdef int threads = <int> len(parts)
    cdef int started, i
    cdef Crew *crews = <Crew *> calloc(threads, sizeof(Crew))
    if crews == NULL:
        raise MemoryError
    try:
        for i in range(threads):
            enlist(&crews[i], parts[i])
            crews[i].rounds = rounds
            crews[i].one_in = one_in
            crews[i].waiting = &waiting
            crews[i].expected = threads
        with nogil:
            started = let_loose(crews, threads)
        if started < threads:
            raise RuntimeError(f"only {started} of {threads} threads could be started")
        return sum([crews[i].swaps for i in range(threads)]), sum([crews[i].lost for i in range(threads)])
    finally:
        for i in range(threads):
            free(crews[i].plans)
        free(crews)


include "clock.pxi"
include "edges.pxi"
