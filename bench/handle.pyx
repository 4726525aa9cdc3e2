# cython: language_level=3, binding=False, freethreading_compatible=True
"""A Cython caller's loop: a handle held, the time given, no interpreter."""

from libc.stdint cimport int64_t

from fastlimit._core cimport Bucket, bucket_allow, bucket_now


def count_allowed(Bucket bucket, Py_ssize_t calls):
    """How many of `calls` decisions of cost 1, all at the same time, are allowed."""
    cdef int64_t now = bucket_now(bucket)
    cdef Py_ssize_t allowed = 0
    with nogil:
        for _ in range(calls):
            allowed += bucket_allow(bucket, now, 1)
    return allowed
