"""One open-addressing table per limit: finding a key's slot, and claiming one without ever giving a key two.

A key may live in any of the `WINDOW` slots from its home line on; an unused slot ends the search, because a
claim takes the first free slot in scan order. What cannot be told from fresh is free, so nothing needs a
sweeper; what still owes is never taken, so nobody can flood a debt away.

Claiming is the hard part. Two threads that both miss a key may each see another slot become free. So a claim
is tentative first (`take`); the claimant then looks for rivals, earlier ones win and later ones are killed,
and settles the slot's identity (`settle_claim`); only then may `decide` turn exactly that tentative word
live. A tentative word owes nothing: whoever comes upon one finishes it (its own key's) or takes it
(another's), so a claimant may die anywhere.

The header lies in front of the slots and has no pointer either; `Table` is one process's view of both.
Nothing here knows an algorithm: whether a word is free is asked of the caller's `IsFree`.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from fastlimit.algorithms.outcome cimport Limit
from .atomics cimport cas_u64, dekker_fence, load_acquire, load_acquire_u32, prefetch
from .clock cimport Clock
from .hashing cimport Hash, high_product
from .ring cimport Entry, Ring
from .slot cimport (
    GEN_MASK, NOBODY, Slot, Word, claimed_ext, claimed_gen, count_of, is_live_key, is_still, is_tentative,
    is_unused, newer_gen, read_word, swap, tag_of, tentative_word,
)

cdef enum:
    WINDOW = 48           # slots from home; with all max_keys in use (load 0.75) one key in 1,200 finds none
    OVERFLOW_SLOTS = 64   # shared by newcomers that find their window full
    VERSIONS = 4          # parameter sets, so that a limit can change under live slots
    CLAIM_ROUNDS = 64     # lost races after which a claim counts as one on a full window
    HEADER_BYTES = 4096
    CACHE_LINE = 64

cdef enum WhenFull:
    FULL_SHARE = 0
    FULL_DENY = 1
    FULL_ALLOW = 2

cdef enum:
    NOT_FREE = 0
    FREE = 1


cdef struct Header:
    Limit[VERSIONS] limits
    uint32_t version         # of the current limit, counted on; a word names its own, modulo VERSIONS
    uint32_t cumulative      # counts are totals that the next key inherits (buckets)
    uint32_t when_full
    int64_t base             # slots hold time since here
    uint64_t full_events
    uint64_t clamped_debits
    uint64_t lost_on_full    # refunds and resets of keys that have no slot of their own


cdef struct Table:
    Header *header
    Slot *slots
    uint64_t lines           # home lines of two slots
    uint64_t slot_count      # with the spare window at the end, without the overflow slots behind it
    Clock *clock
    Entry *entries           # of a sliding log: a ring for each slot, else NULL
    uint32_t ring_length


ctypedef bint (*IsFree)(Table *table, const Word *word, int64_t now) noexcept nogil


cdef struct Found:
    Slot *live
    Slot *claim
    Slot *free
    Word live_word
    Word claim_word
    Word free_word


# ---- limits
#
# Three updates after a set of parameters came into force, the next is written in its place, field by field.
# By then every word that named it has been changed. So what is worked out from a word and its limit is of one
# limit if the word is swapped, or the version is what it was before the limit was read.

cdef inline uint32_t limit_version(const Header *header) noexcept nogil:
    return load_acquire_u32(&header.version)


cdef inline Limit *limit_at(Header *header, uint32_t version) noexcept nogil:
    return &header.limits[version % VERSIONS]


cdef inline bint is_in_force(const Header *header, uint32_t version) noexcept nogil:
    return limit_version(header) == version


# ---- searching

cdef inline Slot *home_of(Table *table, const Hash *key) noexcept nogil:
    return table.slots + 2 * high_product(key.home, table.lines)


cdef inline void prefetch_home(Table *table, const Hash *key) noexcept nogil:
    prefetch(home_of(table, key))


cdef inline Slot *overflow_of(Table *table, const Hash *key) noexcept nogil:
    return table.slots + table.slot_count + key.home % OVERFLOW_SLOTS


cdef inline void bind_ring(Table *table, const Slot *slot, Ring *ring) noexcept nogil:
    """The ring of a slot, for the key that has it now; nothing to log yet."""
    if table.entries != NULL:
        ring.entries = table.entries + <uint64_t> (slot - table.slots) * table.ring_length
        ring.mask = table.ring_length - 1
        ring.gen = <uint32_t> load_acquire(&slot.identity) & GEN_MASK
        ring.units = 0


cdef inline Hash overflow_key(Table *table, const Slot *slot) noexcept nogil:
    """The reserved name under which an overflow slot is live."""
    cdef Hash key
    key.tag = 1
    key.ext = <uint32_t> (slot - (table.slots + table.slot_count)) + 1
    key.home = 0
    return key


cdef inline Slot *find(Table *table, const Hash *key, Word *word) noexcept nogil:
    """The live slot of a key, with the word that was read from it; NULL if it has none."""
    cdef Slot *slot = home_of(table, key)
    cdef Slot *end = slot + WINDOW
    while slot != end:
        word[0] = read_word(slot)
        if tag_of(word) == key.tag:
            if is_live_key(slot, word, key):
                return slot
        elif word.hi == 0:
            return NULL
        slot += 1
    return NULL


cdef inline bint is_claim_of(const Word *word, const Hash *key) noexcept nogil:
    return is_tentative(word) and tag_of(word) == key.tag and claimed_ext(word) == key.ext


cdef inline Found scan(Table *table, const Hash *key, int64_t now, IsFree is_free) noexcept nogil:
    """One pass over the window: the key's live slot, its pending claim, the first slot that is free.

    Another key's tentative slot is the last choice, since its claimant may yet finish.
    """
    cdef Found found
    cdef Slot *slot = home_of(table, key)
    cdef Slot *end = slot + WINDOW
    cdef Word word
    memset(&found, 0, sizeof(found))
    while slot != end:
        word = read_word(slot)
        if is_unused(&word):
            if found.free == NULL or is_tentative(&found.free_word):
                found.free = slot
                found.free_word = word
            return found
        if is_live_key(slot, &word, key):
            found.live = slot
            found.live_word = word
            return found
        if is_claim_of(&word, key):
            if found.claim == NULL:
                found.claim = slot
                found.claim_word = word
        elif is_tentative(&word):
            if found.free == NULL:
                found.free = slot
                found.free_word = word
        elif found.free == NULL or is_tentative(&found.free_word):
            if is_free(table, &word, now):
                found.free = slot
                found.free_word = word
            elif not is_still(slot, &word):
                continue  # perhaps torn: the window is not full because of it
        slot += 1
    return found


cdef inline bint take(Table *table, const Hash *key, Slot *slot, Word *word) noexcept nogil:
    """Claim a free slot, tentatively; `word`, as it was read there, becomes the claim. False: too late."""
    cdef uint32_t gen = <uint32_t> load_acquire(&slot.identity) & GEN_MASK
    if is_tentative(word):
        gen = newer_gen(gen, claimed_gen(word))
    cdef uint32_t count = count_of(word) if table.header.cumulative else 0
    cdef Word claim = tentative_word(key.ext, (gen + 1) & GEN_MASK, key.tag, count)
    cdef bint taken = swap(slot, word, &claim)
    word[0] = claim
    return taken


cdef inline bint kill_claim(Slot *slot, const Word *word) noexcept nogil:
    """Make somebody's tentative word nobody's, under a newer generation."""
    cdef uint32_t gen = (claimed_gen(word) + 1) & GEN_MASK
    cdef Word nobody = tentative_word(NOBODY, gen, tag_of(word), count_of(word))
    return swap(slot, word, &nobody)


cdef inline bint outlives_rivals(Table *table, const Hash *key, Slot *claim) noexcept nogil:
    """Look at the whole window once the claim is visible: of two claimants at least one sees the other."""
    cdef Slot *slot = home_of(table, key)
    cdef Slot *end = slot + WINDOW
    cdef Word word
    dekker_fence()
    while slot != end:
        if slot != claim:
            word = read_word(slot)
            if is_unused(&word):
                return True
            if is_live_key(slot, &word, key):
                return False
            if is_claim_of(&word, key) and (slot < claim or not kill_claim(slot, &word)):
                return False
        slot += 1
    return True


cdef inline bint settle_identity(Slot *slot, const Hash *key, const Word *claim) noexcept nogil:
    """Set the slot's identity to this claim's; never back to an older generation."""
    cdef uint32_t gen = claimed_gen(claim)
    cdef uint64_t wanted = <uint64_t> key.ext << 32 | gen
    cdef uint64_t identity = load_acquire(&slot.identity)
    while identity != wanted:
        if newer_gen(gen, <uint32_t> identity & GEN_MASK) != gen:
            return False
        if cas_u64(&slot.identity, identity, wanted):
            return True
        identity = load_acquire(&slot.identity)
    return True


cdef inline bint settle_claim(Table *table, const Hash *key, Slot *slot, const Word *claim) noexcept nogil:
    return outlives_rivals(table, key, slot) and settle_identity(slot, key, claim)
