"""The sliding log against brute force over traffic: every request, its verdict, and what it says is left.

FASTLIMIT_ACCESS_LOG and FASTLIMIT_TOKEN_LOG name a real access log and a real trace of token costs to compare
on, too, beside those that are made up here.
"""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import pytest

from fastlimit import CostExceedsLimit, Limiter, SlidingLog
from fastlimit.replay.log import read_log
from fastlimit.replay.readers import Columns
from fastlimit.testing import ManualClock
from fastlimit.traffic import Traffic

SECOND = 10**9
Requests = list[tuple[int, str, int]]


def made_up_requests() -> Requests:
    """With several requests at one instant, as in logs whose times are whole seconds."""
    traffic = Traffic(seed=5, clients=100, rate=20.0, bursts=20, pulse=120)
    return [(time // SECOND * SECOND, client, 1) for time, client in traffic.requests()]


def made_up_tokens() -> Requests:
    draw, now, requests = random.Random(5), 1_700_000_000 * SECOND, []
    for _ in range(3_000):
        now += int(draw.expovariate(2.0) * 10**7) * 100
        requests.append((now, "all", draw.choice((1, 200, 4_000, 8_000)) + draw.randrange(500)))
    return requests


def read(path: str, *cost: str) -> Requests:
    trace = read_log(path, Columns(cost=cost)).trace
    costs = trace.costs or [1] * len(trace)
    rows = zip(trace.times, trace.keys, costs, strict=True)
    return sorted(((time, trace.names[key], cost) for time, key, cost in rows), key=lambda row: row[0])


def sources() -> Iterator[tuple[str, Callable[[], Requests], list[str]]]:
    by_client, by_token = ["1/s", "5/10s", "30/minute", "100/h"], ["8k/s", "20k/10s", "65k/minute"]
    yield "made-up requests", made_up_requests, by_client
    yield "made-up tokens", made_up_tokens, by_token
    if "FASTLIMIT_ACCESS_LOG" in os.environ:
        yield "access log", lambda: read(os.environ["FASTLIMIT_ACCESS_LOG"]), by_client
    if "FASTLIMIT_TOKEN_LOG" in os.environ:
        columns = ("ContextTokens", "GeneratedTokens")
        yield "token log", lambda: read(os.environ["FASTLIMIT_TOKEN_LOG"], *columns), by_token


CASES = [pytest.param(make, rate, id=f"{name} {rate}") for name, make, rates in sources() for rate in rates]


def verdict(limiter: Limiter, key: str, cost: int) -> tuple[bool | str, int]:
    try:
        decision = limiter.acquire(key, cost)
    except CostExceedsLimit:
        return "never", -1
    return decision.allowed, decision.remaining


def differences(requests: Requests, limit: SlidingLog, limiter: Limiter, clock: ManualClock) -> Counter[str]:
    """Each request on both, by how it ended; and how often the two differed."""
    count, window = limit.rate.count, limit.rate.period_ns
    passed: dict[str, list[tuple[int, int]]] = defaultdict(list)
    tally: Counter[str] = Counter()
    for time, key, cost in requests:
        clock.set_ns(time)
        log = passed[key] = [unit for unit in passed[key] if unit[0] > time - window]
        used = sum(units for _, units in log)
        expected: tuple[bool | str, int] = ("never", -1)
        if cost <= count:
            allowed = used + cost <= count
            log.append((time, cost * allowed))
            expected = allowed, count - used - cost * allowed
        tally[str(expected[0])] += 1
        tally["differ"] += verdict(limiter, key, cost) != expected
    return tally


def compared(make: Callable[[], Requests], rate: str, enforced: str) -> Counter[str]:
    clock = ManualClock()
    requests = make()
    clock.set_ns(requests[0][0])
    limiter = Limiter(f"sliding-log {enforced}", clock=clock, max_keys=8_192, max_log_bytes=2**40)
    return differences(requests, SlidingLog(rate), limiter, clock)


@pytest.mark.proof
@pytest.mark.parametrize(("make", "rate"), CASES)
def test_every_request_ends_as_by_brute_force(
    make: Callable[[], Requests], rate: str, evidence: Callable[..., None]
) -> None:
    tally = compared(make, rate, rate)
    evidence(**tally)
    assert 0 == tally["differ"]
    assert min(tally["True"], tally["False"]) > 0, "a rate that denies all or nothing compares nothing"


@pytest.mark.proof
def test_the_comparison_notices_another_limit() -> None:
    """Control: one unit more, and a window one millisecond longer."""
    assert compared(made_up_requests, "5/10s", "6/10s")["differ"] > 0
    assert compared(made_up_requests, "5/10s", "5/10001ms")["differ"] > 0
