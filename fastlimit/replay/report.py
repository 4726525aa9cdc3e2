"""A replay for programs: one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from .figures import Figures, Scale, top_offenders
from .log import Log
from .times import SECOND


def iso_time(time_ns: int) -> str:
    """ISO 8601 with as many digits as the instant has: seconds, or nine after the point."""
    seconds, fraction = divmod(time_ns, SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:09d}Z" if fraction else f"{text}Z"


def as_json(log: Log, scale: Scale, limits: Sequence[Figures], top: int) -> dict[str, Any]:
    trace = log.trace
    requests = Counter(trace.keys)
    return {
        "log": {
            "name": log.name,
            "format": log.format,
            "key": log.key,
            "cost": list(log.cost),
            "requests": len(trace),
            "keys": len(trace.names),
            "total_cost": trace.total_cost(),
            "first": iso_time(trace.times[0]) if trace.times else None,
            "last": iso_time(trace.times[-1]) if trace.times else None,
            "out_of_order": log.out_of_order,
            "unreadable": log.unreadable,
            "unreadable_lines": [
                {"line": bad.number, "reason": bad.reason, "text": bad.text} for bad in log.bad_lines
            ],
            "cut_short": log.cut_short,
        },
        "limits": [
            {
                "limit": figures.limit,
                "allowed": figures.allowed,
                "denied": figures.denied,
                "too_large": figures.too_large,
                "allowed_cost": figures.allowed_cost,
                "keys_denied": len(figures.denied_of),
                "decisions_per_second": round(figures.decisions_per_second),
                "full_events": figures.full_events,
                "top": [
                    {"key": trace.names[key], "requests": requests[key], "denied": figures.denied_of[key]}
                    for key in top_offenders([figures], top)
                ],
                "denied_over_time": figures.denied_over_time,
            }
            for figures in limits
        ],
        "over_time": {
            "start": iso_time(scale.start_ns),
            "step_seconds": scale.step_ns / SECOND,
            "requests": scale.count(trace.times),
        },
    }
