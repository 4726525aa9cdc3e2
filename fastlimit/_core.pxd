"""What Cython users may `cimport`; everything else that is declared here is private.

    from fastlimit._core cimport Bucket, bucket_allow, bucket_now

    cdef Bucket bucket = limiter.bucket("user:42")
    with nogil:
        allowed = bucket_allow(bucket, bucket_now(bucket), 1)

`bucket_now` is the time of the limiter's clock in nanoseconds. `bucket_allow` decides without the GIL and
without raising: a cost of 0 is allowed, one above what the limit can ever grant is refused. Both are safe
from any thread that keeps the bucket alive.
"""

from libc.stdint cimport int64_t, uint64_t

from ._kernel.clock cimport Clock
from ._kernel.engine cimport MAX_LIMITS, Engine
from ._kernel.hashing cimport Hash
from ._kernel.slot cimport Slot


cdef class ManualClock:
    cdef Clock cell
    cdef dict sleepers  # who waits on it, and until when


cdef class Decision:
    cdef readonly bint allowed
    cdef readonly int64_t limit
    cdef readonly int64_t remaining
    cdef readonly int64_t retry_after_ns
    cdef readonly int64_t reset_after_ns
    cdef readonly int64_t delay_ns
    cdef readonly str name


cdef class Limiter:
    cdef Engine core
    cdef readonly tuple limits
    cdef readonly object name
    cdef readonly object max_keys
    cdef list names
    cdef ManualClock clock
    cdef tuple parameters
    cdef bint smooth      # what is admitted may have a delay
    cdef dict queues      # of those who wait, by key
    cdef object __weakref__


cdef class Bucket:
    cdef readonly Limiter limiter
    cdef readonly object key
    cdef Hash hash
    cdef Slot *slots[MAX_LIMITS]


cdef bint bucket_allow(Bucket bucket, int64_t now, uint64_t cost) noexcept nogil
cdef int64_t bucket_now(Bucket bucket) noexcept nogil
