"""The results as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from .harness import Summary, summarize
from .peers import PEERS
from .rows import Row
from .targets import Target

HEADINGS = ("what", "median", "unit", "ratio", "against", "quartiles", "target", "verdict")
RIGHT = {1, 3}


def number(value: float) -> str:
    """Three digits that matter, no exponent."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def target_text(target: Target | None, unit: str) -> str:
    if target is None:
        return ""
    of = "x" if target.on == "ratio" else unit
    where = " (lower quartile)" if target.judged == "low" else ""
    return f"{target.sense} {target.bound:g} {of}".rstrip() + where


def cells(row: Row) -> tuple[str, ...]:
    spread = row.judged if row.target is not None else row.ratio or row.value
    return (
        row.what,
        number(row.value.median) if row.value else "-",
        row.unit if row.value else "",
        f"{number(row.ratio.median)} x" if row.ratio else "",
        row.against,
        f"{number(spread.low)} .. {number(spread.high)}" if spread else "",
        target_text(row.target, row.unit),
        row.verdict,
    )


def table(title: str, rows: Sequence[Row]) -> str:
    """The rows as aligned text, then why some did not run; quartiles are of what the target bounds."""
    lines = [HEADINGS, *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    texts = [
        "  ".join(
            cell.rjust(width) if column in RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    reasons = dict.fromkeys(
        f"{row.verdict}: {row.missing}" for row in rows if row.missing not in ("", row.verdict)
    )
    return "\n".join([f"\n{title}", texts[0], "-" * max(map(len, texts)), *texts[1:], *reasons])


def processor() -> str:
    """The processor's name, as Linux tells it, else the architecture."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """Of what takes part; None for what is not installed."""
    found: dict[str, str | None] = {"python": f"{platform.python_version()} ({platform.python_compiler()})"}
    for name in ("fastlimit-engine", "cython", *dict.fromkeys(peer.distribution for peer in PEERS.values())):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def circumstances(available: Sequence[int], quick: bool) -> dict[str, Any]:
    """What a reader needs to judge the figures by."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": {
            "system": platform.platform(),
            "architecture": platform.machine(),
            "processor": processor(),
            "cores": len(available) or os.cpu_count(),
            "pinned_to_core": available[0] if available else None,
            "load_before": list(os.getloadavg()),
        },
        "versions": versions(),
    }


def summary_json(summary: Summary) -> dict[str, float]:
    return {key: rounded(value) for key, value in vars(summary).items()}


def row_json(row: Row) -> dict[str, Any]:
    return {
        "what": row.what,
        "unit": row.unit,
        "value": summary_json(row.value) if row.value else None,
        "ratio": summary_json(row.ratio) if row.ratio else None,
        "against": row.against,
        "target": target_text(row.target, row.unit),
        "verdict": row.verdict,
        "missing": row.missing,
    }


def rounded(value: float) -> float:
    """The same, cut to what was measured."""
    return round(value, 4)


def condensed(samples: Any) -> Any:
    """Every list of samples as their number, median and quartiles; all else as it is."""
    if isinstance(samples, Mapping):
        return {name: condensed(each) for name, each in samples.items()}
    return (
        {"samples": len(samples), **summary_json(summarize(samples))}
        if isinstance(samples, list)
        else samples
    )


def as_json(around: Mapping[str, Any], rows: Mapping[str, Sequence[Row]], samples: Mapping[str, Any]) -> str:
    """Everything: circumstances, rows by section, and every contender's samples, condensed."""
    document = {
        **around,
        "rows": {section: [row_json(row) for row in found] for section, found in rows.items()},
        "samples": condensed(samples),
    }
    return json.dumps(document, indent=1) + "\n"


def progress(text: str) -> None:
    """A word to whoever waits."""
    print(text, file=sys.stderr, flush=True)
