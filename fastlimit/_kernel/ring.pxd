"""The ring of a slot: the instants of its newest units of cost, for the sliding log.

An entry is one unit: {gen, seq, time}, swapped whole. `seq` is the slot's running count when the unit was
logged, which says where in the ring it lies; `gen` is the slot's generation, so a key never reads what an
earlier key of its slot left behind. All zero means never written.

An entry is only an intent until the slot's count has gone past it: that swap of the word is the grant. So a
writer that dies or loses its race leaves intents that nobody counts, and that the next writer takes over. An
entry never goes back to an older generation, sequence or time, whoever comes late.

A ring has room for four times the capacity: up to twice as much may be in the window, by debits; a refund may
take all of that back while a writer that began before still holds intents for as much again. So an entry is
overwritten only when it is out of the window, and what lies in the way of a late writer is of a later unit.
"""

from libc.stdint cimport uint32_t, uint64_t

from .atomics cimport cas_word, load_acquire
from .slot cimport GEN_MASK, Slot, Word, is_still

cdef extern from * nogil:
    """
    typedef struct __attribute__((aligned(16))) { uint64_t time, label; } fl_entry;
    """
    ctypedef struct Entry "fl_entry":
        uint64_t time
        uint64_t label  # gen:32 (28 used) seq:32


cdef struct Ring:
    Entry *entries
    uint32_t mask     # its length less 1
    uint32_t gen      # of the key that has the slot
    uint32_t first    # the sequence from which units are to be logged when the word is swapped
    uint32_t units    # how many
    uint64_t blocked  # until when the entry in the way of a refused call is in the window


cdef inline Entry *entry_of(const Ring *ring, uint32_t seq) noexcept nogil:
    return ring.entries + (seq & ring.mask)


cdef inline Entry read_entry(Entry *entry) noexcept nogil:
    """Both halves of one and the same entry: a label never comes back."""
    cdef Entry seen
    cdef uint64_t label = load_acquire(&entry.label)
    while True:
        seen.label = label
        seen.time = load_acquire(&entry.time)
        label = load_acquire(&entry.label)
        if label == seen.label:
            return seen


cdef inline uint64_t label_of(uint32_t gen, uint32_t seq) noexcept nogil:
    return <uint64_t> gen << 32 | seq


cdef inline bint is_newer(const Entry *entry, const Ring *ring, uint32_t seq) noexcept nogil:
    """Whether an entry is of a later key (by serial number arithmetic, RFC 1982) or a later unit of this one.

    Later units are few rounds ahead; what seems further ahead was left there 2^32 units ago, nearly.
    """
    cdef uint32_t gen = <uint32_t> (entry.label >> 32)
    cdef uint32_t ahead = <uint32_t> entry.label - seq
    if gen != ring.gen:
        return ((gen - ring.gen) & GEN_MASK) < (GEN_MASK >> 1)
    return 0 < ahead < 4 * (ring.mask + 1)


cdef inline uint64_t instant_of(const Ring *ring, uint32_t seq) noexcept nogil:
    """When the unit `seq` was logged; 0 if the ring does not have it."""
    cdef Entry seen = read_entry(entry_of(ring, seq))
    return seen.time if seen.label == label_of(ring.gen, seq) else 0


cdef inline bint log_unit(
    Ring *ring, uint32_t seq, uint64_t *time, Slot *slot, const Word *word
) noexcept nogil:
    """Write an intent; `time` becomes a later one that is there already. False: too late, or overtaken.

    Nothing is overwritten but what was there while the slot still held the word from which the writer began.
    Else resets may have taken the count too far for `is_newer`, or the unit may be another's, granted before
    this writer read its clock, and would count from that reading on.
    """
    cdef Entry *entry = entry_of(ring, seq)
    cdef Entry seen = read_entry(entry)
    cdef uint64_t label = label_of(ring.gen, seq)
    if seen.label == label and seen.time >= time[0]:
        time[0] = seen.time
        return True
    if (seen.label != label and is_newer(&seen, ring, seq)) or not is_still(slot, word):
        return False
    return cas_word(&entry.time, seen.time, seen.label, time[0], label)


cdef inline bint log_units(Ring *ring, uint64_t *time, Slot *slot, const Word *word) noexcept nogil:
    cdef uint32_t i
    for i in range(ring.units):
        if not log_unit(ring, ring.first + i, time, slot, word):
            return False
    return True
