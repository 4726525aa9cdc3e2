"""Every state of the slot protocol and of the sliding log, by Spin: `python -m proofs.model`.

Quick: the small configurations and all controls. Full (FASTLIMIT_HYPOTHESIS=full): all of them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from proofs.model.configurations import CONFIGURATIONS, Configuration
from proofs.model.spin import Search, require_tools, search

FULL = os.environ.get("FASTLIMIT_HYPOTHESIS") == "full"
FEWEST_STATES = 1_000  # of a verification: one with fewer has explored nothing


def verdict(configuration: Configuration, found: Search) -> str:
    """`ok`, or what is wrong."""
    if found.incomplete:
        return found.incomplete
    if configuration.control:
        return "ok" if found.violation.startswith("assertion violated") else "passes, and must fail"
    if found.errors:
        return found.violation or "fails"
    return "ok" if found.states >= FEWEST_STATES else "explored next to nothing"


def run(configuration: Configuration) -> Search:
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        return search(configuration.model, configuration.defines, Path(folder))


def chosen(full: bool) -> list[Configuration]:
    return [one for one in CONFIGURATIONS if full or one.quick]


def report(configuration: Configuration, found: Search) -> bool:
    word = verdict(configuration, found)
    kind = "must fail" if configuration.control else "must hold"
    print(
        f"{configuration.name:58} {kind} {found.states:>12,} {found.depth:>8,} {found.seconds:>7.1f}  {word}",
        flush=True,
    )
    evidence = {
        "proof": configuration.name,
        "control": configuration.control,
        "states": found.states,
        "depth": found.depth,
        "seconds": round(found.seconds, 1),
        "violation": found.violation,
        "verdict": word,
    }
    print(f"evidence: {json.dumps(evidence)}", flush=True)
    return word == "ok"


def main() -> int:
    require_tools()
    print(f"{'run':58} {'expected':9} {'states':>12} {'depth':>8} {'s':>7}  verdict", flush=True)
    configurations = chosen(FULL)
    # Two at a time, unless a full run's memory (up to 6 GB each) speaks against it.
    with ThreadPoolExecutor(1 if FULL else 2) as pool:
        good = [report(*pair) for pair in zip(configurations, pool.map(run, configurations), strict=True)]
    print(f"{sum(good)} of {len(good)} configurations as expected")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
