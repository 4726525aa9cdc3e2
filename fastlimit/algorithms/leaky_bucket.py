"""Leaky bucket as a queue: drained at a constant rate, admitting while there is room, telling each its turn.

The GCRA again (ITU-T I.371 proves the two equal), read from the other side: `tat` is when the server has
drained all that was admitted, so a request admitted now is served at `tat`, and two of them an
`emission_interval` apart however they arrived. `capacity` includes the request in service. All that differs
from the token bucket is `starts_at`.
"""

from __future__ import annotations

from . import token_bucket
from .outcome import Limit, Report
from .token_bucket import State, convert, debit, fresh, is_fresh, refund, step

__all__ = ["State", "convert", "debit", "fresh", "is_fresh", "refund", "report", "step"]


def report(before: State, after: State, now: int, cost: int, allowed: bool, limit: Limit) -> Report:
    starts_at = max(before.tat, now) if allowed else now
    return token_bucket.report(before, after, now, cost, allowed, limit)._replace(starts_at=starts_at)
