"""What a table knows of a key: a keyed 64-bit hash that decides (tag and ext), and further bits for its home.

Folded 64 x 64 -> 128 bit multiplications over 16 bytes at a time, in the manner of wyhash (Wang Yi, 2019),
with four random words of secret per limiter where wyhash has constants: without them neither collisions nor
zero factors can be aimed at. Two keys of a table are taken for one with probability 2^-64; with 10^6 live
keys some pair collides with probability 2.7e-8. Not a MAC: it never leaves the process. Names in a store are
SipHash digests.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    SECRET_WORDS = 4

cdef extern from * nogil:
    """
    #include <stddef.h>
    #include <string.h>

    typedef struct { uint32_t tag, ext; uint64_t home; } fl_hash;

    static inline uint64_t fl_read64(const unsigned char *p) { uint64_t v; memcpy(&v, p, 8); return v; }
    static inline uint64_t fl_read32(const unsigned char *p) { uint32_t v; memcpy(&v, p, 4); return v; }
    static inline uint64_t fl_fold(uint64_t a, uint64_t b) {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    static inline uint64_t fl_high(uint64_t a, uint64_t b) {
        return (uint64_t)((unsigned __int128)a * b >> 64);
    }

    /* `kind` tells texts, bytes and tuples apart. Mixed in where no key reaches, or one could imitate it. */
    static inline __attribute__((always_inline)) fl_hash fl_hash_bytes(
            const unsigned char *p, size_t length, unsigned kind, uint64_t seed, const uint64_t *secret) {
        uint64_t a, b, state = secret[0] ^ seed, meta = (uint64_t)length ^ (uint64_t)kind << 56;
        if (length > 16) {
            size_t left = length;
            for (; left > 16; left -= 16, p += 16)
                state = fl_fold(fl_read64(p) ^ secret[1], fl_read64(p + 8) ^ state);
            a = fl_read64(p + left - 16);
            b = fl_read64(p + left - 8);
        } else if (length >= 8) {
            a = fl_read64(p);
            b = fl_read64(p + length - 8);
        } else if (length >= 4) {
            a = fl_read32(p);
            b = fl_read32(p + length - 4);
        } else if (length > 0) {
            a = (uint64_t)p[0] << 16 | (uint64_t)p[length >> 1] << 8 | p[length - 1];
            b = 0;
        } else {
            a = b = 0;
        }
        unsigned __int128 first = (unsigned __int128)(a ^ secret[1]) * (b ^ state);
        unsigned __int128 last = (unsigned __int128)((uint64_t)first ^ secret[2] ^ meta)
                               * ((uint64_t)(first >> 64) ^ secret[3]);
        uint64_t lo = (uint64_t)last, hi = (uint64_t)(last >> 64), id = lo ^ hi;
        fl_hash hash = {(uint32_t)id, (uint32_t)(id >> 32), (lo << 32 | lo >> 32) + hi};
        hash.tag += hash.tag == 0;
        hash.ext += hash.ext == 0;
        return hash;
    }
    """
    ctypedef struct Hash "fl_hash":
        uint32_t tag
        uint32_t ext
        uint64_t home

    Hash hash_bytes "fl_hash_bytes"(
        const unsigned char *p, size_t length, unsigned int kind, uint64_t seed, const uint64_t *secret
    ) noexcept
    uint64_t high_product "fl_high"(uint64_t a, uint64_t b) noexcept


cdef inline uint64_t chain(const Hash *hash) noexcept nogil:
    """The seed for the next part of a tuple."""
    return (<uint64_t> hash.ext << 32 | hash.tag) ^ hash.home


cdef inline bint is_same_key(const Hash *a, const Hash *b) noexcept nogil:
    return a.tag == b.tag and a.ext == b.ext
