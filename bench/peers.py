"""The peers: each one's fastest documented call, beside our limit of the same algorithm, a process each."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module, metadata
from typing import Any

from .harness import KEY, ROOT, Contender, Rounds, Samples, Unavailable, last_line, summarize
from .rows import NOT_INSTALLED, Row
from .targets import PEERS_TO_ALLOW

ALLOWED = (10**9, 60)  # limit, period in seconds
DENIED = (1, 1_000)
WORDS = {"allowed": ALLOWED, "denied": DENIED}
PATIENCE = 60  # seconds that a worker has for one round

Names = dict[str, object]


@dataclass(frozen=True)
class Peer:
    """A limiter of another library: `make(limit, period)` binds what `statement` needs beside `key`.

    `algorithm` is our limit of the same class; `verdict` as in `Contender`.
    """

    name: str
    distribution: str
    algorithm: str
    statement: str
    make: Callable[[int, int], Names]
    verdict: str = "r"

    def contender(self, word: str) -> Contender:
        names = {**self.make(*WORDS[word]), "key": KEY}
        return Contender(f"{self.name}, {word}", self.statement, names, 1, self.verdict, word == "allowed")


def limits_strategy(strategy: str) -> Callable[[int, int], Names]:
    def make(limit: int, period: int) -> Names:
        limits, strategies = import_module("limits"), import_module("limits.strategies")
        limiter = getattr(strategies, strategy)(import_module("limits.storage").MemoryStorage())
        return {"limiter": limiter, "item": limits.RateLimitItemPerSecond(limit, period)}

    return make


def throttled(algorithm: str) -> Callable[[int, int], Names]:
    def make(limit: int, period: int) -> Names:
        library = import_module("throttled")
        quota = library.rate_limiter.per_duration(timedelta(seconds=period), limit, burst=limit)
        return {
            "throttle": library.Throttled(using=algorithm, quota=quota, store=library.store.MemoryStore())
        }

    return make


def pyrate(limit: int, period: int) -> Names:
    library = import_module("pyrate_limiter")
    bucket = library.StateBucket([library.Rate(limit, period * 1_000)], algorithm=library.GCRA())
    return {"limiter": library.Limiter(bucket)}


def token_bucket(limit: int, period: int) -> Names:
    library = import_module("token_bucket")
    return {"limiter": library.Limiter(limit / period, limit, library.MemoryStorage())}


def rust_py(algorithm: str) -> Callable[[int, int], Names]:
    def make(limit: int, period: int) -> Names:
        return {
            "limiter": import_module("rust_py_rate_limit").RateLimiter(limit, period, algorithm=algorithm)
        }

    return make


def floodgate(limit: int, period: int) -> Names:
    return {"limiter": import_module("floodgate").FixedMapping(limit, timedelta(seconds=period))}


LIMITS = ("limits", "limiter.hit(item, key)")
THROTTLED = ("throttled-py", "throttle.limit(key)", "not r.limited")
RUST_PY = ("rust-py-rate-limit", "limiter.allow(key)")

PEERS = {
    peer.name: peer
    for peer in (
        Peer("floodgate-rs", "floodgate-rs", "FixedWindow", "limiter.trigger(key)", floodgate, "r is None"),
        Peer("rust-py-rate-limit fixed", RUST_PY[0], "FixedWindow", RUST_PY[1], rust_py("fixed")),
        Peer("rust-py-rate-limit sliding", RUST_PY[0], "SlidingWindow", RUST_PY[1], rust_py("sliding")),
        Peer("token-bucket", "token_bucket", "TokenBucket", "limiter.consume(key)", token_bucket),
        Peer("limits fixed", LIMITS[0], "FixedWindow", LIMITS[1], limits_strategy("FixedWindowRateLimiter")),
        Peer(
            "limits sliding",
            LIMITS[0],
            "SlidingWindow",
            LIMITS[1],
            limits_strategy("SlidingWindowCounterRateLimiter"),
        ),
        Peer(
            "throttled-py fixed",
            THROTTLED[0],
            "FixedWindow",
            THROTTLED[1],
            throttled("fixed_window"),
            THROTTLED[2],
        ),
        Peer(
            "throttled-py sliding",
            THROTTLED[0],
            "SlidingWindow",
            THROTTLED[1],
            throttled("sliding_window"),
            THROTTLED[2],
        ),
        Peer("throttled-py GCRA", THROTTLED[0], "TokenBucket", THROTTLED[1], throttled("gcra"), THROTTLED[2]),
        Peer(
            "throttled-py token bucket",
            THROTTLED[0],
            "TokenBucket",
            THROTTLED[1],
            throttled("token_bucket"),
            THROTTLED[2],
        ),
        Peer(
            "pyrate-limiter GCRA",
            "pyrate-limiter",
            "TokenBucket",
            "limiter.try_acquire(key, blocking=False)",
            pyrate,
        ),
    )
}


def installed(peer: Peer) -> str | None:
    """The peer's version, None where it is not installed."""
    try:
        return metadata.version(peer.distribution)
    except metadata.PackageNotFoundError:
        return None


class Worker:
    """A process that holds one peer and our counterpart, and times a round of both whenever it is asked."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.samples: dict[str, list[float]] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.peers", peer.name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, command: str) -> Any:
        """Sends one line, returns the decoded answer. Raises Unavailable if the worker ends or is silent."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Unavailable(self._last_words()) from None
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            self._process.kill()
            raise Unavailable(f"no answer within {PATIENCE} s")
        answer = self._process.stdout.readline()
        if not answer:
            raise Unavailable(self._last_words())
        return json.loads(answer)

    def _last_words(self) -> str:
        _, errors = self._process.communicate(timeout=PATIENCE)
        words = last_line(errors)
        return (
            f"{NOT_INSTALLED}: {words}" if words.startswith(("ImportError", "ModuleNotFoundError")) else words
        )

    def close(self) -> None:
        """Ends the process: it does so by itself when its input ends."""
        try:
            self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def serve(name: str) -> None:
    """The worker's side: a round, or a check of the answers, for every line until the input ends."""
    from . import cases

    peer = PEERS[name]
    contenders = [peer.contender(word) for word in WORDS]
    contenders += [cases.allow(peer.algorithm, word == "allowed") for word in WORDS]
    run = Rounds(contenders, slice_ns=1_000_000)
    for command in sys.stdin:
        if command.strip() == "round":
            run.visit()
            answer: object = {name: values[-1] for name, values in run.samples.ns.items()}
        else:
            run.finish()
            answer = {"checked": len(contenders)}
        print(json.dumps(answer), flush=True)


def visit(workers: Sequence[Worker], rounds: int, failed: dict[str, str]) -> None:
    """Every worker in every round; one that ends is left out from there and noted in `failed`."""
    for step in ["check", *["round"] * rounds, "check"]:
        for worker in workers:
            if worker.peer.name in failed:
                continue
            try:
                answer = worker.ask(step)
            except Unavailable as error:
                failed[worker.peer.name] = str(error)
                continue
            if step == "round":
                for name, ns in answer.items():
                    worker.samples.setdefault(name, []).append(ns)


def peer_rows(peer: Peer, samples: dict[str, list[float]], missing: str) -> list[Row]:
    target = PEERS_TO_ALLOW.get(peer.distribution)
    rows = []
    for word in WORDS:
        what, own = f"{peer.name}, {word}", f"{peer.algorithm} allow, {word}"
        if missing:
            rows.append(Row(what, against=own, target=target, missing=missing))
            continue
        ratio = summarize(Samples(samples).ratios(what, own))
        rows.append(Row(what, value=summarize(samples[what]), ratio=ratio, against=own, target=target))
    return rows


def run(rounds: int) -> tuple[list[Row], dict[str, dict[str, list[float]]]]:
    """Rows and samples of every peer; the ratios say how many times longer the peer takes than we do."""
    failed = {peer.name: NOT_INSTALLED for peer in PEERS.values() if installed(peer) is None}
    workers = [Worker(peer) for peer in PEERS.values() if peer.name not in failed]
    try:
        visit(workers, rounds, failed)
    finally:
        for worker in workers:
            worker.close()
    samples = {worker.peer.name: worker.samples for worker in workers}
    rows = [
        row
        for name, peer in PEERS.items()
        for row in peer_rows(peer, samples.get(name, {}), failed.get(name, ""))
    ]
    return rows, samples


if __name__ == "__main__":
    serve(sys.argv[1])
