# The kernel's arithmetic laid open, to be compared with unbounded integers. A part of probe.pyx.

from fastlimit._kernel.clock cimport Clock
from fastlimit._kernel.scale cimport ns_until, units_at
from fastlimit._kernel.seconds cimport seconds_rounded_up
from fastlimit.algorithms cimport fixed_window
from fastlimit.algorithms cimport outcome
from fastlimit.algorithms.outcome cimport Limit


def to_units(parameters, int64_t now, int64_t base, bint manual):
    """`units_at`, the base after it, and how far a manual clock then lets itself be set."""
    cdef Limit limit = limit_of(parameters)
    cdef Clock its
    its.ns, its.latest, its.manual = now, INT64_MAX, manual
    units = units_at(now, &base, &its, &limit)
    return units, base, its.latest


def to_ns(parameters, uint64_t instant, uint64_t now_units, int64_t now, int64_t base):
    """`ns_until`."""
    cdef Limit limit = limit_of(parameters)
    return ns_until(instant, now_units, now, base, &limit)


def window_of(parameters, uint64_t now):
    """The number of now's window, its start, and the next one's."""
    cdef Limit limit = limit_of(parameters)
    cdef uint64_t index = fixed_window.index_of(now, &limit)
    return index, fixed_window.start_of(index, &limit), fixed_window.start_of(index + 1, &limit)


def high_product(uint64_t a, uint64_t b):
    return outcome.high_product(a, b)


def product_above(uint64_t a, uint64_t b, uint64_t c, uint64_t d):
    return bool(outcome.product_above(a, b, c, d))


def ratio_down(uint64_t a, uint64_t b, uint64_t c):
    return outcome.ratio_down(a, b, c)


def ratio_up(uint64_t a, uint64_t b, uint64_t c):
    return outcome.ratio_up(a, b, c)


def shifted_ratio_up(uint64_t a, uint64_t c):
    return outcome.shifted_ratio_up(a, c)


def seconds_up(int64_t ns):
    return seconds_rounded_up(ns)
