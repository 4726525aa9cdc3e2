"""`fastlimit replay`: its counts against a few lines of plain Python, and what the counts are made of.

FASTLIMIT_ACCESS_LOG names a real access log to compare on too, beside the generated one.
"""

from __future__ import annotations

import gzip
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fastlimit.cli import main
from fastlimit.replay.drive import replay
from fastlimit.replay.figures import COLUMNS, figures_of, scale_of, top_offenders
from fastlimit.replay.times import parse_time
from fastlimit.replay.trace import Trace, TraceBuilder
from fastlimit.traffic import ABUSER, Traffic

SECOND = 10**9
Requests = list[tuple[int, str, int]]
Model = Callable[[Requests, int, int], Iterator[bool]]


# The models: (requests in order of time, count, period in ns) -> allowed or not, each in a few lines.


def bucket_model(requests: Requests, count: int, period: int) -> Iterator[bool]:
    """A bucket with a hole, filled by requests: its level in tokens * period, so that it stays whole."""
    buckets: dict[str, tuple[int, int]] = {}
    for time, key, cost in requests:
        level, since = buckets.get(key, (0, time))
        level = max(level - (time - since) * count, 0)
        allowed = level + cost * period <= count * period
        buckets[key] = (level + cost * period * allowed, time)
        yield allowed


def fixed_window_model(requests: Requests, count: int, period: int) -> Iterator[bool]:
    used: Counter[tuple[str, int]] = Counter()
    for time, key, cost in requests:
        allowed = used[key, time // period] + cost <= count
        used[key, time // period] += cost * allowed
        yield allowed


def sliding_window_model(requests: Requests, count: int, period: int) -> Iterator[bool]:
    used: Counter[tuple[str, int]] = Counter()
    for time, key, cost in requests:
        window, elapsed = divmod(time, period)
        previous = used[key, window - 1] * (period - elapsed)
        allowed = previous + (used[key, window] + cost) * period <= count * period
        used[key, window] += cost * allowed
        yield allowed


def sliding_log_model(requests: Requests, count: int, period: int) -> Iterator[bool]:
    """Every unit that was let through in (time - period, time], added up anew for each request."""
    passed: dict[str, list[tuple[int, int]]] = {}
    for time, key, cost in requests:
        log = passed[key] = [unit for unit in passed.get(key, []) if unit[0] > time - period]
        allowed = sum(units for _, units in log) + cost <= count
        log.append((time, cost * allowed))
        yield allowed


MODELS: dict[str, Model] = {
    "token-bucket": bucket_model,
    "leaky-bucket": bucket_model,
    "fixed-window": fixed_window_model,
    "sliding-window": sliding_window_model,
    "sliding-log": sliding_log_model,
}
RATES = {"30/minute": (30, 60 * SECOND), "5/10s": (5, 10 * SECOND), "100/h": (100, 3_600 * SECOND)}


def log_line(time_ns: int, client: str, path: str = "/") -> str:
    time = datetime.fromtimestamp(time_ns // SECOND, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    return f'{client} - - [{time}] "GET {path} HTTP/1.1" 200 512 "-" "Mozilla/5.0 (X11; Linux)"\n'


def generated_log() -> str:
    """Bursts, a few crawlers by far the busiest, and half of the lines a few seconds out of order."""
    shuffled = random.Random(7)
    traffic = Traffic(seed=7, clients=200, rate=4.0, bursts=20, pulse=120)
    return "".join(
        log_line(time + shuffled.randrange(20 * SECOND), client.replace("198.51.100.", "2001:db8::"))
        for time, client in traffic.requests()
    )


REAL_LOGS = [os.environ["FASTLIMIT_ACCESS_LOG"]] if "FASTLIMIT_ACCESS_LOG" in os.environ else []


@pytest.fixture(scope="session", params=["generated", *REAL_LOGS])
def access_log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param != "generated":
        return Path(request.param)
    path = tmp_path_factory.mktemp("log") / "access.log.gz"
    path.write_bytes(gzip.compress(generated_log().encode()))
    return path


def plainly_read(path: Path) -> Requests:
    """In the order of the log."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    requests = []
    for line in text.decode().splitlines():
        time = datetime.strptime(line[line.index("[") + 1 : line.index("]")], "%d/%b/%Y:%H:%M:%S %z")
        requests.append((int(time.timestamp()) * SECOND, line.split()[0], 1))
    return requests


def by_time(requests: Requests) -> Requests:
    return sorted(requests, key=lambda request: request[0])


def denied_by_key(requests: Requests, model: Model, count: int, period: int) -> dict[str, int]:
    answers = model(requests, count, period)
    return dict(Counter(key for (_, key, _), allowed in zip(requests, answers, strict=True) if not allowed))


def replayed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert 0 == main(["replay", *arguments, "--json"])
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("algorithm", MODELS)
def test_counts_agree_with_plain_python(
    access_log: Path, algorithm: str, rate: str, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = by_time(plainly_read(access_log))
    denied = denied_by_key(requests, MODELS[algorithm], *RATES[rate])

    result = replayed(capsys, str(access_log), "--limit", f"{algorithm} {rate}", "--top", "1000000")

    assert len(requests) == result["log"]["requests"]
    assert len({key for _, key, _ in requests}) == result["log"]["keys"]
    assert 0 == result["log"]["unreadable"]
    limit = result["limits"][0]
    assert 0 == limit["full_events"]
    assert denied == {row["key"]: row["denied"] for row in limit["top"]}
    assert (len(requests) - sum(denied.values()), sum(denied.values())) == (limit["allowed"], limit["denied"])
    assert sum(denied.values()) == sum(limit["denied_over_time"])
    assert sum(denied.values()) > 0, "a rate that denies nothing compares nothing"


@pytest.mark.parametrize("algorithm", MODELS)
def test_the_comparison_notices_a_wrong_limit_and_a_log_left_unsorted(
    access_log: Path, algorithm: str
) -> None:
    """The control of the test above: what it compares depends on each grant and on the order."""
    in_log_order = plainly_read(access_log)
    count, period = RATES["30/minute"]
    model = MODELS[algorithm]
    right = denied_by_key(by_time(in_log_order), model, count, period)
    assert right != denied_by_key(by_time(in_log_order), model, count + 1, period)
    if algorithm.endswith("bucket"):  # a window's count may not depend on the order within it
        assert right != denied_by_key(in_log_order, model, count, period)


def test_lines_out_of_order_are_counted_and_sorted(
    access_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = [time for time, _, _ in plainly_read(access_log)]
    steps_back = sum(later < earlier for earlier, later in pairwise(times))

    result = replayed(capsys, str(access_log), "--limit", "60/minute")

    assert steps_back == result["log"]["out_of_order"]
    assert steps_back > len(times) / 4, "a log in order would not show it"
    assert sum(result["over_time"]["requests"]) == len(times)


def test_several_limits_on_one_key_are_one_limiter_and_several_limit_options_are_independent(
    access_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both, minute, hour = replayed(
        capsys,
        str(access_log),
        *("--limit", "30/minute; 60/h"),
        *("--limit", "30/minute"),
        *("--limit", "60/h"),
    )["limits"]
    assert both["denied"] >= max(minute["denied"], hour["denied"]) > 0
    assert minute["denied"] != hour["denied"]
    assert "30/minute; 60/h" == both["limit"]


# A trace with costs, in the form of public traces of LLM services: 100 ns digits, tokens in and out.


def token_rows() -> list[tuple[int, int, int]]:
    draw = random.Random(11)
    now, rows = parse_time("2023-11-16 18:17:03.9799600"), []
    for _ in range(2_000):
        now += int(draw.expovariate(2.0) * 10**7) * 100
        rows.append((now, draw.randrange(1, 8_000), draw.randrange(1, 500)))
    return rows


def token_csv() -> str:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    for now, context, generated in token_rows():
        second = datetime.fromtimestamp(now // SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S")
        text += f"{second}.{now % SECOND // 100:07d},{context},{generated}\r\n"
    return text


@pytest.mark.parametrize("algorithm", MODELS)
def test_costs_agree_with_plain_python(
    algorithm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text(token_csv(), newline="")
    count, period = 50_000, 10 * SECOND
    requests = [(now, "all", context + generated) for now, context, generated in token_rows()]
    allowed = list(MODELS[algorithm](requests, count, period))

    result = replayed(
        capsys, str(path), "--cost", "ContextTokens+GeneratedTokens", "--limit", f"{algorithm} 50k/10s"
    )

    limit, log = result["limits"][0], result["log"]
    assert (2_000, 1, "all", ["ContextTokens", "GeneratedTokens"]) == (
        log["requests"],
        log["keys"],
        log["key"],
        log["cost"],
    )
    assert sum(cost for _, _, cost in requests) == log["total_cost"]
    assert 0 < sum(allowed) < 2_000
    assert sum(allowed) == limit["allowed"]
    assert (
        sum(cost for (_, _, cost), yes in zip(requests, allowed, strict=True) if yes) == limit["allowed_cost"]
    )


def test_a_cost_that_no_wait_would_grant_is_counted_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "costs.csv"
    path.write_text("time,key,cost\n0,a,11\n1,a,10\n2,a,0\n3,a,9223372036854775807\n4,a,1\n")
    both = replayed(capsys, str(path), "--limit", "10/h", "--limit", "100/h; 10/day")["limits"]
    for limit in both:
        assert (2, 1, 2, 10) == tuple(
            limit[name] for name in ("allowed", "denied", "too_large", "allowed_cost")
        )


# Driving and counting.


def trace_of(*rows: tuple[int, str, int]) -> Trace:
    builder = TraceBuilder()
    for row in rows:
        builder.add(*row)
    return builder.finish()


def test_sorting_is_stable() -> None:
    trace = trace_of((2, "a", 1), (1, "b", 2), (2, "c", 3), (1, "d", 4))
    assert ["b", "d", "a", "c"] == [trace.names[key] for key in trace.keys]
    assert trace.costs is not None
    assert [2, 4, 1, 3] == trace.costs.tolist()


def test_runs_of_one_instant_are_decided_in_order_with_their_costs() -> None:
    trace = trace_of((5, "a", 2), (5, "a", 2), (5, "a", 1), (5, "b", 3), (SECOND + 5, "a", 3))
    result = replay(trace, "3/s")
    assert bytes([1, 0, 1, 1, 1]) == result.allowed
    assert result.seconds > 0


def test_a_log_longer_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = trace_of(*((number // 7 * SECOND, f"key {number % 5}", 1) for number in range(1_000)))
    whole = replay(trace, "1/3s").allowed
    monkeypatch.setattr("fastlimit.replay.drive.CHUNK", 10)
    assert whole == replay(trace, "1/3s").allowed
    assert 0 < sum(whole) < 1_000


@pytest.mark.parametrize("span", [0, 1, 59 * SECOND, 3_600 * SECOND, 4 * 86_400 * SECOND, 2**62])
def test_a_histogram_holds_every_request_in_few_columns(span: int) -> None:
    start = 1_700_000_000 * SECOND
    trace = trace_of(*((start + span * step // 100, "a", 1) for step in range(101)))
    scale = scale_of(trace)
    counts = scale.count(trace.times)
    assert 101 == sum(counts)
    assert len(counts) <= COLUMNS
    assert counts[0] > 0
    assert counts[-1] > 0


def test_offenders_are_ranked_over_all_limits() -> None:
    rows = [(0, key, 1) for key in "aabbbcccc"] + [(0, "d", 1)]
    trace = trace_of(*rows)
    limits = [figures_of(replay(trace, limit), scale_of(trace)) for limit in ("1/s", "2/s")]
    assert ["c", "b", "a"] == [trace.names[key] for key in top_offenders(limits, 10)]
    assert [{"c": 3, "b": 2, "a": 1}, {"c": 2, "b": 1}] == [
        {trace.names[key]: count for key, count in figures.denied_of.items()} for figures in limits
    ]
    assert ["c"] == [trace.names[key] for key in top_offenders(limits, 1)]


def test_generated_traffic_is_the_same_for_a_seed_and_has_its_three_parts() -> None:
    requests = Traffic(seed=5).requests()
    assert requests == Traffic(seed=5).requests()
    assert requests != Traffic(seed=6).requests()
    assert requests == sorted(requests)
    clients = Counter(client for _, client in requests)
    assert ABUSER == clients.most_common(1)[0][0]
    steady = Counter(client for _, client in Traffic(seed=5, bursts=0, pulse=0).requests())
    assert steady["198.51.100.1"] > 1.5 * steady["198.51.100.2"] > 2 * steady["198.51.100.4"] > 0
