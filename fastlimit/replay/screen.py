"""A replay for people: tables and bars in a terminal, drawn by rich."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .figures import DAY, HOUR, MINUTE, Figures, Scale, top_offenders
from .log import Log
from .readers import CannotReplay
from .times import SECOND

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

BARS = " ▁▂▃▄▅▆▇█"
ASCII_BARS = " .:-=+*#@"
UNITS = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s"), (10**6, "ms"), (10**3, "us"), (1, "ns"))


def new_console() -> Console:
    """Where to print; raises CannotReplay without rich."""
    try:
        from rich.console import Console
    except ImportError:
        raise CannotReplay(
            "tables need rich, which the extra `cli` brings: pip install 'fastlimit-engine[cli]'"
        ) from None
    return Console(highlight=False, markup=False, emoji=False)


def printable(text: str, width: int = 60) -> str:
    """Text from a log, safe for a terminal: without control characters, and cut to `width`."""
    safe = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return safe if len(safe) <= width else f"{safe[: width - 1]}…"


def bars(counts: Sequence[int], most: int, ramp: str = BARS) -> str:
    """One character a count; anything above 0 shows."""
    return "".join(ramp[-(-count * (len(ramp) - 1) // max(most, 1))] for count in counts)


def span_text(length_ns: int) -> str:
    size, unit = next((size, unit) for size, unit in UNITS if length_ns % size == 0 or unit == "ns")
    return f"{length_ns // size} {unit}"


def rate_text(per_second: float) -> str:
    return f"{per_second / 1e6:.1f} million" if per_second >= 1e6 else f"{per_second:,.0f}"


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def instants(times: Sequence[int]) -> str:
    first, last = (datetime.fromtimestamp(times[at] // SECOND, UTC) for at in (0, -1))
    end = f"{last:%H:%M:%S}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M:%S}"
    return f"{first:%Y-%m-%d %H:%M:%S} to {end} UTC"


def plain_table(*columns: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False
    )
    table.add_column(columns[0], overflow="fold", min_width=14)
    for column in columns[1:]:
        table.add_column(column, justify="right", vertical="bottom", min_width=5)
    return table


def print_log(console: Console, log: Log) -> None:
    """What was read, and what could not be."""
    trace = log.trace
    key = "one key for all" if len(trace.names) == 1 else f"{len(trace.names):,} keys ({log.key})"
    name = printable(os.path.basename(log.name))
    console.print(f"{name}: {len(trace):,} requests, {key}, {log.format}", style="bold")
    if trace.times:
        console.print(instants(trace.times))
    if log.cost:
        console.print(f"cost = {' + '.join(log.cost)}; {trace.total_cost():,} in total")
    if log.out_of_order:
        console.print(
            f"lines out of order: {log.out_of_order:,} (earlier than the line before; sorted by time)"
        )
    if log.cut_short:
        console.print(f"not read to its end: {log.cut_short}", style="yellow")
    if log.unreadable:
        console.print(f"unreadable lines: {log.unreadable:,}", style="yellow")
        for bad in log.bad_lines:
            console.print(f"  line {bad.number:,}: {bad.reason}: {printable(bad.text, 50)}", style="dim")
        if log.unreadable > len(log.bad_lines):
            console.print(f"  and {log.unreadable - len(log.bad_lines):,} more", style="dim")


def limits_table(log: Log, limits: Sequence[Figures]) -> Table:
    costly = log.trace.costs is not None
    costs = ("too\nlarge", "cost\nallowed") if costly else ()
    table = plain_table("limit", "allowed", "denied", "", *costs, "keys\ndenied", "decisions\na second")
    for figures in limits:
        extra = [f"{figures.too_large:,}", f"{figures.allowed_cost:,}"] if costly else []
        table.add_row(
            figures.limit,
            f"{figures.allowed:,}",
            f"{figures.denied:,}",
            percent(figures.denied, figures.allowed + figures.denied),
            *extra,
            f"{len(figures.denied_of):,}",
            rate_text(figures.decisions_per_second),
        )
    return table


def offenders_table(log: Log, limits: Sequence[Figures], top: int) -> Table:
    """The keys denied most, with what each limit denied them."""
    requests = Counter(log.trace.keys)
    table = plain_table("top offenders", "requests", *(f"denied by\n{figures.limit}" for figures in limits))
    for key in top_offenders(limits, top):
        denied = [f"{figures.denied_of[key]:,}" for figures in limits]
        table.add_row(printable(log.trace.names[key], 40) or "(empty)", f"{requests[key]:,}", *denied)
    return table


def print_over_time(console: Console, log: Log, scale: Scale, limits: Sequence[tuple[str, Figures]]) -> None:
    """Requests, and what each limit denied of them, all to the same height."""
    from rich.table import Table

    requests = scale.count(log.trace.times)
    most, ramp = max(requests), ASCII_BARS if console.options.ascii_only else BARS
    table = Table.grid(padding=(0, 1))
    table.add_column(max_width=30, no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True)
    table.add_row("requests", bars(requests, most, ramp), style="cyan")
    for label, figures in limits:
        table.add_row(label, bars(figures.denied_over_time, most, ramp), style="red")
    console.print(table)
    console.print(f"each column {span_text(scale.step_ns)}, the highest {most:,} requests", style="dim")


def print_replay(console: Console, log: Log, scale: Scale, limits: Sequence[Figures], top: int) -> None:
    print_log(console, log)
    if not log.trace.times:
        console.print("nothing to replay")
        return
    console.print()
    console.print(limits_table(log, limits))
    for figures in limits:
        if figures.full_events:
            console.print(
                f"{figures.limit}: {figures.full_events:,} times no slot was free, so keys shared one",
                style="yellow",
            )
    if top and len(log.trace.names) > 1 and any(figures.denied for figures in limits):
        console.print()
        console.print(offenders_table(log, limits, top))
    console.print()
    print_over_time(console, log, scale, [(f"denied by {figures.limit}", figures) for figures in limits])
