"""What the siege needs to be noticed: a table that evicts, and a look-up that goes on beyond its window."""

from libc.stdint cimport int64_t, uint32_t

from fastlimit._kernel.decide cimport DONE, decide, is_free
from fastlimit._kernel.hashing cimport Hash
from fastlimit._kernel.slot cimport GEN_MASK, Slot, Word, is_live_key, read_word
from fastlimit._kernel.table cimport WINDOW, Found, Table, find, home_of, scan, take
from fastlimit._kernel.together cimport Charge

from calls cimport NONE, confirm_without

cdef enum Evicts:
    OLDEST   # the slot that was claimed least often
    ANY      # whichever the key's hash names


cdef inline Slot *evicted(Table *table, const Hash *key, Evicts evicts) noexcept nogil:
    cdef Slot *home = home_of(table, key)
    cdef Slot *oldest = home
    cdef int i
    if evicts == ANY:
        return home + key.ext % WINDOW
    for i in range(1, WINDOW):
        if (home[i].identity & GEN_MASK) < (oldest.identity & GEN_MASK):
            oldest = home + i
    return oldest


cdef inline bint charge_evicting(Charge *one, int64_t now, Evicts evicts) noexcept nogil:
    """A charge as `decide` makes it, but for a full window: it takes a slot that owes."""
    cdef Word word
    cdef Slot *slot = find(one.table, one.key, &word)
    cdef Found found
    if slot == NULL:
        found = scan(one.table, one.key, now, is_free)
        if found.free == NULL and found.claim == NULL:
            slot = evicted(one.table, one.key, evicts)
            word = read_word(slot)
            return take(one.table, one.key, slot, &word) and (
                confirm_without(NONE, one, slot, &word, now) == DONE
            )
    return decide(one.table, one.key, NULL, one.cost, now, &one.trace) == DONE


cdef inline Slot *find_without_window(Table *table, const Hash *key) noexcept nogil:
    """Linear probing as textbooks have it: on to the first slot that was never used."""
    cdef Slot *slot = home_of(table, key)
    cdef Slot *end = table.slots + table.slot_count
    cdef Word word
    while slot != end:
        word = read_word(slot)
        if word.hi == 0:
            return NULL
        if is_live_key(slot, &word, key):
            return slot
        slot += 1
    return NULL
