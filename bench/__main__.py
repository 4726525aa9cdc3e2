"""The command: `python -m bench [--quick] [--only SECTION,...] [--json FILE] [--svg FILE] [--publish]`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from . import cases, chart, logs, memory, million, peers, report, startup, threads, waits
from .harness import ROOT, cores, pin
from .rows import Row, targets_of

CHART = ROOT / "docs" / "bench.svg"
EVIDENCE = ROOT / "docs" / "evidence" / "bench.json"
TITLES = {
    "hot": "One hot key (ns per decision; ratios within a round)",
    "log": "The sliding log (ns per decision; ratios within a round)",
    "million": "1,000,000 keys in random order (ns per decision)",
    "memory": "Resident memory, a fresh process each",
    "startup": "Start",
    "waits": "10,000 tasks that wait (us of CPU each; ratios within a round)",
    "threads": "Threads",
    "peers": "Peers, one hot key (ratio: how many times longer the peer takes)",
}


def sections(
    quick: bool, free_threaded: str | None, available: list[int]
) -> dict[str, Callable[[], tuple[Any, Any]]]:
    """What each section's name runs; all but the threads on the first core."""
    return {
        "hot": lambda: cases.run(rounds=41 if quick else 801),
        "log": lambda: logs.run(rounds=41 if quick else 401),
        "million": lambda: million.run(million.QUICK if quick else million.FULL),
        "memory": lambda: memory.run(1, memory.COMPARED[:2]) if quick else memory.run(3),
        "startup": lambda: startup.run(rounds=7 if quick else 25),
        "waits": lambda: waits.run(rounds=1 if quick else 7),
        "threads": lambda: threads.run(7 if quick else 31, 10_000, free_threaded, available),
        "peers": lambda: peers.run(rounds=25 if quick else 201),
    }


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures fastlimit against floors, peers and targets; status 1 if a target is missed.",
    )
    parser.add_argument("--quick", action="store_true", help="about a minute, with fewer rounds")
    parser.add_argument(
        "--only", default=",".join(TITLES), metavar="SECTION,...", help=f"of {', '.join(TITLES)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows there")
    parser.add_argument(
        "--svg", type=Path, metavar="FILE", help="write the chart there (needs hot and peers)"
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help=f"the same as --svg {CHART.name} --json {EVIDENCE.name} under docs",
    )
    parser.add_argument(
        "--free-threaded",
        metavar="PYTHON",
        help=f"for the threads section; else ${threads.VARIABLE}, {' or '.join(threads.INTERPRETERS)}",
    )
    options = parser.parse_args(given)
    options.only = options.only.split(",")
    unknown = [name for name in options.only if name not in TITLES]
    if unknown:
        parser.error(f"--only takes sections out of {', '.join(TITLES)}, not {', '.join(unknown)}")
    if options.publish:
        options.svg, options.json = options.svg or CHART, options.json or EVIDENCE
    if options.svg and not {"hot", "peers"} <= set(options.only):
        parser.error("the chart needs the sections hot and peers")
    return options


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    report.progress(f"wrote {path}")


def main(given: Sequence[str] | None = None) -> int:
    """Runs the command; returns 1 if a target was missed, else 0."""
    options = arguments(given)
    available = cores()
    around = report.circumstances(available, options.quick)
    rows: dict[str, list[Row]] = {}
    samples: dict[str, Any] = {}
    for name, run in sections(options.quick, options.free_threaded, available).items():
        if name not in options.only:
            continue
        start = monotonic()
        pin(*(available if name == "threads" else available[:1]))
        rows[name], samples[name] = run()
        print(report.table(TITLES[name], rows[name]), flush=True)
        report.progress(f"({name}: {monotonic() - start:.0f} s)")
    reached, missed, not_run = targets_of(row for found in rows.values() for row in found)
    print(f"\n{reached} targets reached, {missed} missed, {not_run} not run")
    around["machine"]["load_after"] = list(os.getloadavg())
    if options.json:
        write(options.json, report.as_json(around, rows, samples))
    if options.svg:
        machine, versions = around["machine"], around["versions"]
        caption = (
            f"{machine['processor']}, {machine['system']}, Python {versions['python']}, {around['date'][:10]}"
        )
        write(options.svg, chart.svg(rows, caption))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
