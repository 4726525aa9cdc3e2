"""From Python objects to what the kernel takes: keys to hashes, costs to integers. With the GIL; raises."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.long cimport PyLong_AsLongLongAndOverflow
from libc.stdint cimport INT64_MAX, int64_t, uint64_t

from .atomics cimport prefetch
from .hashing cimport SECRET_WORDS, Hash, chain, hash_bytes

cdef extern from *:
    """
    #if PY_VERSION_HEX >= 0x030C0000
    #define fl_ready(text) 0
    #else
    #define fl_ready(text) PyUnicode_READY(text)
    #endif
    #define fl_ascii_data(text) ((const unsigned char *)((PyASCIIObject *)(text) + 1))

    /* The value of an int of one digit, without a call; -1 for anything else, negative ones included. */
    static inline int64_t fl_small_int(PyObject *number) {
        if (!PyLong_CheckExact(number)) return -1;
    #if PY_VERSION_HEX >= 0x030C0000
        if (!PyUnstable_Long_IsCompact((PyLongObject *)number)) return -1;
        return PyUnstable_Long_CompactValue((PyLongObject *)number);
    #else
        if (Py_SIZE(number) == 1) return ((PyLongObject *)number)->ob_digit[0];
        return Py_SIZE(number) == 0 ? 0 : -1;
    #endif
    }
    #ifdef Py_GIL_DISABLED
    #define FL_LISTS_STAY 0
    #else
    #define FL_LISTS_STAY 1
    #endif
    """
    const bint LISTS_STAY "FL_LISTS_STAY"
    Py_ssize_t PySequence_Fast_GET_SIZE(object sequence)
    PyObject **PySequence_Fast_ITEMS(object sequence)
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    unsigned int PyUnicode_KIND(object text)
    const void *PyUnicode_DATA(object text)
    int ready_text "fl_ready"(object text) except -1
    const unsigned char *ascii_data "fl_ascii_data"(object text)
    int64_t small_int "fl_small_int"(object number)

cdef enum:
    MAX_KEY_BYTES = 4096
    KIND_BYTES = 8          # a text's kind is its bytes per character: 1, 2 or 4
    KIND_TUPLE = 16
    KEYS_AHEAD = 16         # to prefetch


cdef inline int hash_key(object key, const uint64_t *secret, Hash *hash) except -1:
    cdef Py_ssize_t length
    if isinstance(key, str) and PyUnicode_IS_COMPACT_ASCII(key):
        length = PyUnicode_GET_LENGTH(key)
        if length <= MAX_KEY_BYTES:
            hash[0] = hash_bytes(ascii_data(key), length, 1, 0, secret)
            return 0
    return hash_any_key(key, secret, hash)


cdef inline int hash_any_key(object key, const uint64_t *secret, Hash *hash) except -1:
    cdef Py_ssize_t size = 0
    cdef uint64_t seed
    if not isinstance(key, tuple):
        hash_part(key, 0, secret, hash, &size)
    elif not key:
        raise ValueError("key must not be an empty tuple; give at least one str or bytes part")
    else:
        seed = secret[SECRET_WORDS - 1] ^ (<uint64_t> len(<tuple> key) << 8 | KIND_TUPLE)
        for part in <tuple> key:
            hash_part(part, seed, secret, hash, &size)
            seed = chain(hash)
    if size > MAX_KEY_BYTES:
        raise ValueError(f"key must be at most {MAX_KEY_BYTES} bytes, not {size}; hash or shorten it first")
    return 0


cdef inline int hash_part(
    object part, uint64_t seed, const uint64_t *secret, Hash *hash, Py_ssize_t *size
) except -1:
    """Hash a text by its characters as they lie in memory: the same for equal texts, surrogates included."""
    cdef Py_ssize_t length
    cdef unsigned int kind
    if isinstance(part, str):
        ready_text(part)
        kind = PyUnicode_KIND(part)
        length = PyUnicode_GET_LENGTH(part)
        hash[0] = hash_bytes(<const unsigned char *> PyUnicode_DATA(part), length * kind, kind, seed, secret)
        if not PyUnicode_IS_COMPACT_ASCII(part):
            length = len((<str> part).encode("utf-8", "surrogatepass"))
        size[0] += length
    elif isinstance(part, bytes):
        length = PyBytes_GET_SIZE(part)
        hash[0] = hash_bytes(
            <const unsigned char *> PyBytes_AS_STRING(part), length, KIND_BYTES, seed, secret
        )
        size[0] += length
    else:
        raise TypeError(f"key must be a str, bytes or a tuple of them, not {type(part).__name__}")
    return 0


cdef inline str shown(object value):
    """For messages: Python refuses to write numbers of thousands of digits, so those are told by size."""
    if isinstance(value, int) and value.bit_length() >= 128:
        return f"an int of {value.bit_length():,} bits"
    return repr(value)


cdef inline int64_t any_cost(object cost) except -1:
    """A cost of 0 or more; 2^63 - 1 for any above that."""
    cdef int64_t value = small_int(cost)
    return value if value >= 0 else any_other_cost(cost)


cdef inline int64_t any_other_cost(object cost) except -1:
    cdef int overflow = 0
    cdef int64_t value
    if not isinstance(cost, int) or isinstance(cost, bool):
        raise TypeError(
            f"cost must be an int, not {type(cost).__name__} ({shown(cost)}); scale fractions to whole units"
        )
    value = PyLong_AsLongLongAndOverflow(cost, &overflow)
    if overflow > 0:
        return INT64_MAX
    if overflow < 0 or value < 0:
        raise ValueError(f"cost must be 0 or more, not {shown(cost)}; to give back, call refund")
    return value


cdef inline int64_t settled_cost(object cost) except -1:
    """A cost that is charged or given back after the fact, whatever the limit."""
    cdef int64_t value = any_cost(cost)
    if value == INT64_MAX and cost > INT64_MAX:
        raise ValueError(f"cost must be at most 2^63 - 1, not {shown(cost)}")
    return value


cdef inline object batch_of(object given, str what):
    """The elements as a tuple, or as the list they came in if the GIL keeps it as it is meanwhile."""
    if type(given) is tuple or (LISTS_STAY and type(given) is list):
        return given
    if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
        raise TypeError(f"{what} must be an iterable of {what}, not {type(given).__name__}")
    return tuple(given)


cdef inline int hash_batch(object batch, Py_ssize_t size, const uint64_t *secret, Hash *hashes) except -1:
    """Two cache lines of each key are asked for ahead of its turn: header, and where a short text may end."""
    cdef PyObject **keys = PySequence_Fast_ITEMS(batch)
    cdef Py_ssize_t i = 0
    cdef const char *ahead
    try:
        for i in range(size):
            if i + KEYS_AHEAD < size:
                ahead = <const char *> keys[i + KEYS_AHEAD]
                prefetch(ahead)
                prefetch(ahead + 64)
            hash_key(<object> keys[i], secret, &hashes[i])
    except (TypeError, ValueError) as error:
        raise type(error)(f"keys[{i}]: {error}") from None
    return 0
