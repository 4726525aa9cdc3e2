"""Limits drawn at random, by algorithm, for the proofs that clocks may do what they like."""

from __future__ import annotations

import random
from collections.abc import Callable

from strategies import (
    BUCKET_UNITS,
    TOP,
    WINDOW_UNITS,
    bucket_numbers,
    calendar_rate,
    log_rate,
    window_rate,
)

from fastlimit import FixedWindow, LeakyBucket, SlidingLog, SlidingWindow, TokenBucket
from fastlimit.limits import Limit
from fastlimit.rates import Rate


def position(random_: random.Random) -> int:
    return random_.choice((0, TOP, random_.randint(0, TOP), random_.randint(0, TOP)))


def few(random_: random.Random) -> int | None:
    return random_.choice((1, 2, 3, 6, None))


def some_bucket(random_: random.Random) -> tuple[Rate, int]:
    unit = random_.choice(BUCKET_UNITS)
    return bucket_numbers(unit, position(random_), position(random_), position(random_), few(random_))


def some_window(random_: random.Random) -> Rate:
    unit, by_weeks = random_.choice(WINDOW_UNITS), random_.random() < 0.5
    return window_rate(unit, position(random_), position(random_), few(random_), by_weeks)


def some_epoch_window(random_: random.Random) -> Rate:
    if random_.random() < 0.4:
        return calendar_rate(position(random_), position(random_), few(random_))
    return some_window(random_)


SOME: dict[str, Callable[[random.Random], Limit]] = {
    "TOKEN_BUCKET": lambda random_: TokenBucket(*some_bucket(random_)),
    "LEAKY_BUCKET": lambda random_: LeakyBucket(*some_bucket(random_)),
    "FIXED_WINDOW": lambda random_: FixedWindow(some_epoch_window(random_)),
    "FIRST_WINDOW": lambda random_: FixedWindow(some_window(random_), anchor="first"),
    "SLIDING_WINDOW": lambda random_: SlidingWindow(some_window(random_)),
    "SLIDING_LOG": lambda random_: SlidingLog(log_rate(some_window(random_))),
}
"""By name of `fastlimit.limits.Algorithm`."""

ALGORITHMS = list(SOME)


def some_limit(algorithm: str, random_: random.Random) -> Limit:
    return SOME[algorithm](random_)
