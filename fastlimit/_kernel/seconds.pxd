"""Between the floats of seconds that people use and the integers of nanoseconds that everything else does."""

from libc.math cimport fma, nextafter
from libc.stdint cimport int64_t

cdef enum:
    SECOND = 1_000_000_000


cdef inline double seconds_rounded_up(int64_t ns) noexcept:
    """The smallest float that is not below the exact quotient."""
    cdef double whole = <double> (ns // SECOND)
    cdef double rest = <double> (ns % SECOND)
    cdef double seconds = whole + rest / SECOND
    cdef double below
    while is_short(seconds, whole, rest):
        seconds = nextafter(seconds, 1e300)
    below = nextafter(seconds, -1.0)
    return seconds if is_short(below, whole, rest) else below


cdef inline bint is_short(double seconds, double whole, double rest) noexcept:
    """seconds < whole + rest / 10^9: the difference is exact, and fused multiply-add keeps the sign."""
    return fma(seconds - whole, SECOND, -rest) < 0


cdef inline object nanoseconds(object seconds):
    """Whole nanoseconds nearest to a number of seconds."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"seconds must be a number, not {type(seconds).__name__}")
    if not -1e10 < seconds < 1e10:
        raise ValueError(f"seconds must be within about 292 years, not {seconds}")
    whole = int(seconds)
    return whole * 10**9 + round((seconds - whole) * 10**9)


cdef inline int check_ns(object ns) except -1:
    if isinstance(ns, bool) or not isinstance(ns, int):
        raise TypeError(f"ns must be an int, not {type(ns).__name__}")
    return 0
