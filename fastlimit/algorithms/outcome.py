"""What the algorithms take and give: the numbers of one limit, and a report of instants."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Limit(Protocol):
    """The integers that algorithms read, each its own few (`fastlimit.limits.Parameters` has them all)."""

    @property
    def capacity(self) -> int:
        """The most cost that can pass at once."""

    @property
    def emission_interval(self) -> int:
        """Units of time that one token takes to come back (buckets)."""

    @property
    def tolerance(self) -> int:
        """Units of time that the whole bucket takes: capacity * emission_interval (buckets)."""

    @property
    def window(self) -> int:
        """Length of a window in units; 0 for calendar windows."""

    @property
    def months(self) -> int:
        """Length of a calendar window in months, else 0."""


class Report(NamedTuple):
    """Instants, not durations: the caller subtracts its own `now`, in its own ticks."""

    remaining: int
    """Calls of cost 1 that would pass now."""
    allowed_at: int
    """The first instant at which the call passes if nobody else calls; `now` when it was allowed."""
    fresh_at: int
    """The first instant at which the key cannot be told from one never seen."""
    starts_at: int
    """When the admitted request gets its turn; later than `now` in a leaky bucket only."""
