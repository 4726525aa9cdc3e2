"""The slot: 32 bytes, two to a cache line, no pointer in it, so that it can lie in shared memory.

     0  lo        tentative:1  lease:1  version:2  body:60     | the word: one 16-byte compare-and-swap
     8  hi        tag:32  count:32                             |
    16  identity  ext:32  gen:32 (28 used)                       one 8-byte compare-and-swap, during a claim
    24  reported  how much of `count` the store has acknowledged, written by a synchronizer only
    28  denied    refusals since the claim; statistics, may be approximate

    live, a bucket      body = tat:60                     count = cost admitted ever, by earlier keys too
    live, a window      body = index:28 previous:32       count = admitted in the current window
    live, from first    body = start:60                   count = admitted since the start
    live, a log         body = newest:60                  count = units logged, by earlier keys too
    tentative           body = ext:32 gen:28              count = inherited (windows: 0); ext 0 is nobody's

All zero means never used; a key's tag and ext are never 0.
"""

from libc.stdint cimport uint32_t, uint64_t

from .atomics cimport cas_word, load_acquire
from .hashing cimport Hash

cdef enum:
    VERSION_SHIFT = 60
    GEN_BITS = 28
    NOBODY = 0  # whose a claim is that was killed

cdef extern from * nogil:
    """
    #define FL_TENTATIVE (UINT64_C(1) << 63)
    #define FL_BODY_MASK ((UINT64_C(1) << 60) - 1)
    #define FL_GEN_MASK ((UINT32_C(1) << 28) - 1)
    typedef struct { uint64_t lo, hi; } fl_word;
    typedef struct __attribute__((aligned(16))) {
        uint64_t lo, hi, identity;
        uint32_t reported, denied;
    } fl_slot;
    _Static_assert(sizeof(fl_slot) == 32, "two slots to a cache line");
    """
    const uint64_t TENTATIVE "FL_TENTATIVE"
    const uint64_t BODY_MASK "FL_BODY_MASK"
    const uint32_t GEN_MASK "FL_GEN_MASK"

    ctypedef struct Word "fl_word":
        uint64_t lo
        uint64_t hi

    ctypedef struct Slot "fl_slot":
        uint64_t lo
        uint64_t hi
        uint64_t identity
        uint32_t reported
        uint32_t denied

    # Where a handle last found its key's slot. Threads share handles; what is read there is looked at again.
    Slot *load_hint "fl_load_relaxed"(Slot **hint) noexcept
    void store_hint "fl_store_relaxed"(Slot **hint, Slot *slot) noexcept


cdef inline uint32_t tag_of(const Word *word) noexcept nogil:
    return <uint32_t> (word.hi >> 32)


cdef inline uint32_t count_of(const Word *word) noexcept nogil:
    return <uint32_t> word.hi


cdef inline bint is_tentative(const Word *word) noexcept nogil:
    return word.lo >> 63 != 0


cdef inline bint is_unused(const Word *word) noexcept nogil:
    return word.lo == 0 and word.hi == 0


cdef inline Word live_word(uint32_t version, uint64_t body, uint32_t tag, uint32_t count) noexcept nogil:
    cdef Word word
    word.lo = <uint64_t> version << VERSION_SHIFT | body
    word.hi = <uint64_t> tag << 32 | count
    return word


cdef inline Word tentative_word(uint32_t ext, uint32_t gen, uint32_t tag, uint32_t count) noexcept nogil:
    cdef Word word
    word.lo = TENTATIVE | <uint64_t> ext << GEN_BITS | gen
    word.hi = <uint64_t> tag << 32 | count
    return word


cdef inline uint32_t claimed_ext(const Word *word) noexcept nogil:
    """Whose a tentative word is."""
    return <uint32_t> ((word.lo & BODY_MASK) >> GEN_BITS)


cdef inline uint32_t claimed_gen(const Word *word) noexcept nogil:
    return <uint32_t> word.lo & GEN_MASK


cdef inline uint32_t newer_gen(uint32_t a, uint32_t b) noexcept nogil:
    """The later of two generations, by serial number arithmetic (RFC 1982): it survives the wrap at 2^28."""
    return a if ((a - b) & GEN_MASK) < (GEN_MASK >> 1) else b


cdef inline Word read_word(Slot *slot) noexcept nogil:
    """Both halves; torn if a writer came between (see `atomics`)."""
    cdef Word word
    word.hi = load_acquire(&slot.hi)
    word.lo = load_acquire(&slot.lo)
    return word


cdef inline bint is_still(Slot *slot, const Word *word) noexcept nogil:
    """Whether a word that was read is one that the slot held, and holds after what was read since."""
    return load_acquire(&slot.hi) == word.hi and load_acquire(&slot.lo) == word.lo


cdef inline bint swap(Slot *slot, const Word *old, const Word *new) noexcept nogil:
    return cas_word(&slot.lo, old.lo, old.hi, new.lo, new.hi)


cdef inline bint is_live_key(Slot *slot, const Word *word, const Hash *key) noexcept nogil:
    """Whether `word`, just read from `slot`, is the live bucket of `key`.

    The identity is loaded after the word. It cannot change while the word is live, so a later swap from
    exactly this word lands on this key or nowhere.
    """
    return (
        tag_of(word) == key.tag
        and not is_tentative(word)
        and <uint32_t> (load_acquire(&slot.identity) >> 32) == key.ext
    )
