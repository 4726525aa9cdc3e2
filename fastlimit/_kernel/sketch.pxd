"""The worst offenders by name, in bounded memory: Space-Saving with 64 entries, fed where a call is refused.

Source: Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data streams", ICDT 2005.
A key not among the entries replaces the smallest and starts from its count, so a count is never too low, and too high by
at most the refusals seen divided by 64. Any key that was refused more often than that is among the entries.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from .arguments cimport KIND_BYTES, KIND_TUPLE
from .hashing cimport Hash

cdef enum:
    ENTRIES = 64
    NAME_BYTES = 64
    HINTS = 256

cdef extern from * nogil:
    """
    #ifdef Py_GIL_DISABLED
    #define fl_try_lock(lock) (!__atomic_exchange_n((lock), 1, __ATOMIC_ACQUIRE))
    #define fl_unlock(lock) __atomic_store_n((lock), 0, __ATOMIC_RELEASE)
    #else  /* fed with the GIL held only */
    #define fl_try_lock(lock) (1)
    #define fl_unlock(lock) ((void)0)
    #endif
    """
    bint try_lock "fl_try_lock"(uint64_t *lock) noexcept
    void unlock "fl_unlock"(uint64_t *lock) noexcept


cdef struct Entry:
    uint64_t id
    uint64_t count
    uint8_t kind             # of the key, as in its hash
    uint8_t length
    uint8_t[NAME_BYTES] name


cdef struct Sketch:
    uint64_t lock            # a feeder that does not get it at once goes without: an offender will be back
    uint8_t[HINTS] hints     # where an id was last found
    Entry[ENTRIES] entries


cdef inline Entry *entry_of(Sketch *sketch, uint64_t id) noexcept nogil:
    """The entry of a key, NULL if it has none; sets its hint."""
    cdef int i
    for i in range(ENTRIES):
        if sketch.entries[i].id == id:
            sketch.hints[id % HINTS] = <uint8_t> i
            return &sketch.entries[i]
    return NULL


cdef inline Entry *replace_smallest(Sketch *sketch, uint64_t id) noexcept nogil:
    """The entry that a new key takes over, with its count; the caller writes the name."""
    cdef int smallest = 0
    cdef int i
    for i in range(ENTRIES):
        if sketch.entries[i].count < sketch.entries[smallest].count:
            smallest = i
    sketch.entries[smallest].id = id
    sketch.hints[id % HINTS] = <uint8_t> smallest
    return &sketch.entries[smallest]


cdef inline int note(Sketch *sketch, object key, const Hash *hash) except -1:
    """Count a refusal of `key`; does nothing without a sketch."""
    cdef uint64_t id = <uint64_t> hash.ext << 32 | hash.tag
    cdef Entry *entry
    if sketch == NULL or not try_lock(&sketch.lock):
        return 0
    entry = &sketch.entries[sketch.hints[id % HINTS]]
    if entry.id == id:
        entry.count += 1
        unlock(&sketch.lock)
        return 0
    try:
        note_other(sketch, key, id)
    finally:
        unlock(&sketch.lock)
    return 0


cdef inline int note_other(Sketch *sketch, object key, uint64_t id) except -1:
    """The key is not where its hint points: it is another entry, or takes over the smallest."""
    cdef Entry *entry = entry_of(sketch, id)
    if entry == NULL:
        name = display_name(key)
        entry = replace_smallest(sketch, id)
        memcpy(entry.name, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
        entry.length = <uint8_t> PyBytes_GET_SIZE(name)
        entry.kind = KIND_TUPLE if isinstance(key, tuple) else KIND_BYTES if isinstance(key, bytes) else 1
    entry.count += 1
    return 0


cdef inline bytes display_name(object key):
    """The first bytes of a key; a tuple as (kind, length, bytes) of each part."""
    if isinstance(key, bytes):
        return (<bytes> key)[:NAME_BYTES]
    if isinstance(key, str):
        return (<str> key)[:NAME_BYTES].encode("utf-8", "surrogatepass")[:NAME_BYTES]
    name = b""
    for part in <tuple> key:
        kind = KIND_BYTES if isinstance(part, bytes) else 1
        room = NAME_BYTES - len(name) - 2
        if room < 0:
            break
        cut = display_name(part)[:room]
        name += bytes((kind, len(cut))) + cut
    return name


cdef inline object name_of(const Entry *entry):
    name = PyBytes_FromStringAndSize(<const char *> entry.name, entry.length)
    if entry.kind != KIND_TUPLE:
        return part_of(entry.kind, name)
    parts = []
    at = 0
    while at < len(name):
        end = at + 2 + name[at + 1]
        parts.append(part_of(name[at], name[at + 2:end]))
        at = end
    return tuple(parts)


cdef inline object part_of(int kind, bytes name):
    if kind == KIND_BYTES:
        return name
    try:
        return name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as cut:  # within a character
        return name[:cut.start].decode("utf-8", "surrogatepass")
