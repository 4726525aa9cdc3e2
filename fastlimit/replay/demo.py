"""One rate under every algorithm, side by side: on a log, or on traffic made up for it."""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

from fastlimit import FixedWindow, Limiter

from ..traffic import ABUSER, Traffic
from .drive import Replay, limiter_for, replay
from .figures import Figures, Scale, figures_of, scale_of
from .log import Log, read_log
from .readers import CannotReplay, Columns
from .screen import new_console, plain_table, print_log, print_over_time, printable, rate_text, span_text
from .times import SECOND
from .trace import Trace, TraceBuilder

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ALGORITHMS = ("token-bucket", "leaky-bucket", "fixed-window", "sliding-window")
GENERATED_RATE = "600/minute"
ROUNDING_NS = 1  # delays are rounded up to whole ns, so two requests a window apart may look nearer by one


@dataclass(frozen=True)
class Contender:
    """What one algorithm made of the traffic. The suspect is the abusive client, or the busiest of a log."""

    algorithm: str
    figures: Figures
    suspect_allowed: int
    others_denied: int
    worst_window: int
    """The most that one client got through in any span as long as the limit's period."""
    longest_delay: float
    """Seconds; how long the limit asks to hold a request back."""


def generated(traffic: Traffic) -> Log:
    requests = TraceBuilder()
    for time_ns, client in traffic.requests():
        requests.add(time_ns, client, 1)
    return Log("generated traffic", "generated", "client", (), requests.finish())


def contend(trace: Trace, algorithm: str, rate: str, suspect: int, scale: Scale) -> Contender:
    limit = f"{algorithm} {rate}"
    result = replay(trace, limit)
    figures = figures_of(result, scale)
    delays = delays_of(result)
    suspect_denied = figures.denied_of[suspect]
    return Contender(
        algorithm=algorithm,
        figures=figures,
        suspect_allowed=Counter(result.trace.keys)[suspect] - suspect_denied,
        others_denied=figures.denied - suspect_denied,
        worst_window=worst_window(result.trace, result.allowed, delays, period_of(rate)),
        longest_delay=max(delays, default=0) / SECOND,
    )


def period_of(rate: str) -> int:
    return FixedWindow(rate).rate.period_ns


def delays_of(result: Replay) -> list[int]:
    """The nanoseconds for which each request is to be held, asked for by a second pass with `acquire`."""
    trace = result.trace
    limiter, clock = limiter_for(trace, result.limit)
    delays = []
    for row, (time_ns, key) in enumerate(zip(trace.times, trace.keys, strict=True)):
        clock.set_ns(time_ns)
        cost = 1 if trace.costs is None else trace.costs[row]
        delays.append(limiter.acquire(trace.names[key], cost).delay_ns)
    return delays


def worst_window(trace: Trace, allowed: bytes, delays: Sequence[int], window_ns: int) -> int:
    """The most cost that one key got through within any (t - window, t], as it went out: after the delay."""
    passed: dict[int, deque[tuple[int, int]]] = {}
    sums: Counter[int] = Counter()
    worst = 0
    costs = trace.costs or [1] * len(trace)
    rows = zip(trace.times, delays, trace.keys, costs, strict=True)
    for time_ns, delay, key, cost in compress(rows, allowed):
        out = time_ns + delay
        recent = passed.setdefault(key, deque())
        recent.append((out, cost))
        sums[key] += cost
        while recent[0][0] <= out - window_ns + ROUNDING_NS:
            sums[key] -= recent.popleft()[1]
        worst = max(worst, sums[key])
    return worst


def contenders_table(contenders: Sequence[Contender], suspect: str, others: str, rate: str) -> Table:
    worst = f"worst\n{span_text(period_of(rate))}"
    table = plain_table(
        "algorithm", "allowed", "denied", f"{suspect}\ngot", f"{others}\nlost", worst, "decisions\na second"
    )
    for contender in contenders:
        figures = contender.figures
        table.add_row(
            contender.algorithm,
            f"{figures.allowed:,}",
            f"{figures.denied:,}",
            f"{contender.suspect_allowed:,}",
            f"{contender.others_denied:,}",
            f"{contender.worst_window:,}",
            rate_text(figures.decisions_per_second),
        )
    return table


def print_generated(console: Console, log: Log, traffic: Traffic) -> None:
    trace = log.trace
    sent = Counter(trace.keys)[trace.names.index(ABUSER)]
    honest, minutes = len(trace.names) - 1, traffic.seconds // 60
    console.print(
        f"{len(trace):,} requests in {minutes} minutes, generated (--seed {traffic.seed})", style="bold"
    )
    console.print(f"{honest:,} honest clients: popularity by Zipf's law ({traffic.exponent}), and bursts")
    console.print(f"an abuser, {ABUSER}: {sent:,} requests, in pulses around each full minute")


def print_busiest(console: Console, log: Log, suspect: int) -> None:
    print_log(console, log)
    name, sent = printable(log.trace.names[suspect], 40), Counter(log.trace.keys)[suspect]
    console.print(f"the busiest: {name}, {sent:,} requests")


def print_notes(console: Console, contenders: Sequence[Contender], rate: str) -> None:
    period = span_text(period_of(rate))
    console.print(f"worst {period}: the most that one client got through in any {period}", style="dim")
    for contender in contenders:
        if contender.longest_delay:
            console.print(
                f"{contender.algorithm} spaces its output: a wait of up to {contender.longest_delay:.1f} s",
                style="dim",
            )


def next_step(path: str | None, rate: str) -> str:
    """What to type next, with this very interpreter."""
    here = os.getcwd() + os.sep
    python = shlex.quote(sys.executable.removeprefix(here))
    if path is None:
        return f"Next, your own: {python} -m fastlimit demo --log ACCESS_LOG"
    return f'Next: {python} -m fastlimit replay {shlex.quote(path)} --limit "{rate}" --key path'


def fitting_rate(trace: Trace) -> str:
    """About half of what one client sends in its busiest minute: a rate at which the algorithms differ."""
    most = worst_window(trace, bytes([1]) * len(trace), [0] * len(trace), 60 * SECOND)
    power = 10 ** (len(str(max(most // 2, 1))) - 1)
    return f"{max(most // 2 // power, 1) * power}/minute"


def run_demo(path: str | None, rate: str | None, traffic: Traffic) -> None:
    """Prints one screen. Raises CannotReplay for a log that is missing or empty, InvalidLimit for a rate."""
    console = new_console()
    log = read_log(path, Columns()) if path else generated(traffic)
    trace, scale = log.trace, scale_of(log.trace)
    if not trace:
        raise CannotReplay(f"{log.name} holds no request that can be read; {log.unreadable:,} lines cannot")
    rate = rate or (fitting_rate(trace) if path else GENERATED_RATE)
    for algorithm in ALGORITHMS:
        Limiter(f"{algorithm} {rate}", max_keys=1)
    if path:
        suspect, others = Counter(trace.keys).most_common(1)[0][0], ("busiest", "others")
        print_busiest(console, log, suspect)
    else:
        suspect, others = trace.names.index(ABUSER), ("abuser", "honest")
        print_generated(console, log, traffic)
    console.print(f"each client is allowed {rate}, by four algorithms:\n")
    contenders = [contend(trace, algorithm, rate, suspect, scale) for algorithm in ALGORITHMS]
    console.print(contenders_table(contenders, *others, rate))
    console.print()
    print_over_time(console, log, scale, [(f"denied, {each.algorithm}", each.figures) for each in contenders])
    print_notes(console, contenders, rate)
    console.print(next_step(path, rate), style="bold green", soft_wrap=True)
