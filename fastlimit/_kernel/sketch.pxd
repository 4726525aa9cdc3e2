"""The worst offenders by name, in bounded memory: Space-Saving with 64 entries, fed where a call is refused.

Source: Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data streams",
ICDT 2005.
A key not among the entries replaces the smallest and starts from its count, so a count is never too low, and
too high by at most the refusals seen divided by 64. Any key that was refused more often than that is among
the entries.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from .arguments cimport (
    KIND_BYTES, KIND_TUPLE, PySequence_Fast_GET_SIZE, PySequence_Fast_ITEMS, PyUnicode_GET_LENGTH,
    PyUnicode_IS_COMPACT_ASCII, ascii_data, hash_key,
)
from .hashing cimport Hash, is_same_key

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


cdef struct Name:
    uint8_t kind             # of the key, as in its hash
    uint8_t length
    uint8_t[NAME_BYTES] text


cdef struct Sketch:
    uint64_t lock            # a feeder that does not get it at once goes without: an offender will be back
    uint64_t floor           # no count is below this
    uint32_t cursor          # where the search for a count at the floor goes on
    uint8_t[HINTS] hints     # where an id was last found
    uint64_t[ENTRIES] ids
    uint64_t[ENTRIES] counts
    Name[ENTRIES] names


cdef inline int note(Sketch *sketch, object key, const Hash *hash) except -1:
    """Count a refusal of `key`; does nothing without a sketch."""
    cdef uint64_t id = <uint64_t> hash.ext << 32 | hash.tag
    cdef uint8_t at
    if sketch == NULL or not try_lock(&sketch.lock):
        return 0
    at = sketch.hints[id % HINTS]
    if sketch.ids[at] == id:
        sketch.counts[at] += 1
        unlock(&sketch.lock)
        return 0
    try:
        note_other(sketch, key, id)
    finally:
        unlock(&sketch.lock)
    return 0


cdef inline int note_other(Sketch *sketch, object key, uint64_t id) except -1:
    """The key is not where its hint points: it is another entry, or takes over the smallest."""
    cdef int at = 0
    while at < ENTRIES and sketch.ids[at] != id:
        at += 1
    if at == ENTRIES:
        at = smallest(sketch)
        write_name(&sketch.names[at], key)
        sketch.ids[at] = id
    sketch.hints[id % HINTS] = <uint8_t> at
    sketch.counts[at] += 1
    return 0


cdef inline int smallest(Sketch *sketch) noexcept nogil:
    """An entry with the least count. The floor rises only when a whole round has found none at it."""
    cdef int i, _step
    cdef uint64_t least
    for _step in range(ENTRIES):
        sketch.cursor = (sketch.cursor + 1) % ENTRIES
        if sketch.counts[sketch.cursor] == sketch.floor:
            return sketch.cursor
    least = sketch.counts[0]
    for i in range(ENTRIES):
        least = min(least, sketch.counts[i])
    sketch.floor = least
    return smallest(sketch)


cdef inline int write_name(Name *name, object key) except -1:
    """The first bytes of a key; a tuple as (kind, length, bytes) of each part."""
    cdef Py_ssize_t length
    if isinstance(key, str) and PyUnicode_IS_COMPACT_ASCII(key):
        length = min(PyUnicode_GET_LENGTH(key), NAME_BYTES)
        memcpy(name.text, ascii_data(key), length)
        name.kind = 1
    else:
        text = display_text(key)
        length = PyBytes_GET_SIZE(text)
        memcpy(name.text, PyBytes_AS_STRING(text), length)
        name.kind = KIND_TUPLE if isinstance(key, tuple) else KIND_BYTES if isinstance(key, bytes) else 1
    name.length = <uint8_t> length
    return 0


cdef inline bytes display_text(object key):
    if isinstance(key, bytes):
        return (<bytes> key)[:NAME_BYTES]
    if isinstance(key, str):
        return (<str> key)[:NAME_BYTES].encode("utf-8", "surrogatepass")[:NAME_BYTES]
    text = b""
    for part in <tuple> key:
        kind = KIND_BYTES if isinstance(part, bytes) else 1
        room = NAME_BYTES - len(text) - 2
        if room < 0:
            break
        cut = display_text(part)[:room]
        text += bytes((kind, len(cut))) + cut
    return text


cdef inline object key_named(const Name *name):
    text = PyBytes_FromStringAndSize(<const char *> name.text, name.length)
    if name.kind != KIND_TUPLE:
        return part_of(name.kind, text)
    parts = []
    at = 0
    while at < len(text):
        end = at + 2 + text[at + 1]
        parts.append(part_of(text[at], text[at + 2:end]))
        at = end
    return tuple(parts)


cdef inline object part_of(int kind, bytes text):
    if kind == KIND_BYTES:
        return text
    try:
        return text.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as cut:  # within a character
        return text[:cut.start].decode("utf-8", "surrogatepass")


cdef inline int note_batch(
    Sketch *sketch, object batch, Py_ssize_t size, const uint64_t *secret, const Hash *hashes,
    const unsigned char *verdicts
) except -1:
    """Remember who was refused. A list may have changed while the GIL was released: then names go missing."""
    cdef const unsigned char *refused = <const unsigned char *> memchr(verdicts, 0, size)
    cdef Hash hash
    cdef Py_ssize_t i
    try:
        while refused != NULL and PySequence_Fast_GET_SIZE(batch) == size:
            i = refused - verdicts
            key = <object> PySequence_Fast_ITEMS(batch)[i]
            hash_key(key, secret, &hash)
            if is_same_key(&hash, &hashes[i]):
                note(sketch, key, &hash)
            refused = <const unsigned char *> memchr(refused + 1, 0, size - i - 1)
    except (TypeError, ValueError):  # what stands there now is no key
        pass
    return 0
