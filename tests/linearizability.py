"""Is there one order of some overlapping operations that explains what each of them returned?

The search of Wing and Gong (1993), with the memory of visited configurations that Lowe (2017) added. A
history is one list of operations per client, each between two tickets of one counter: its call and its
return. An order explains it if no operation takes effect before its call or after its return, and a
sequential specification, which takes the operations one by one, allows each outcome.

An operation of this engine does not take effect on what it read at one instant. It reads the clock, and the
limit in force, at some moment after its call; it takes effect later, at a swap or at a load. So a
specification is handed all that was to be read from the call on, `seen`, and allows an outcome that follows
from any of it. That is what the engine promises: the decision is the one of an instant within the call, on a
state that no other operation changed in between.

Which values those are depends on the order, not on tickets alone: a value counts as seen if, when it was the
current one, every operation that had returned before the call had taken effect.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

NEVER = 2**63
"""The ticket of a return that has not come."""


class Event(NamedTuple):
    """An operation, as its client saw it."""

    kind: str
    called: int
    returned: int
    key: int = 0
    cost: int = 0
    allowed: bool = True
    remaining: int | None = None
    optional: bool = False
    """Its caller died before it returned: it took effect by `returned`, the death, or never."""


class Specification(Protocol):
    """What operations do one by one. Worlds and sights are values that can be compared and hashed."""

    @property
    def start(self) -> Any: ...

    def sight(self, world: Any) -> Hashable:
        """What an operation may read at one moment and use at a later one."""

    def after(self, world: Any, event: Event, seen: Sequence[Any]) -> Iterable[Any]:
        """The worlds that an event may leave, if its outcome follows from the world and any of what was seen.

        Without an outcome, `optional`, all that it may leave."""


class Found(NamedTuple):
    linearizable: bool
    configurations: int
    """How many were visited: one more than there are operations if the first order tried was right."""
    most: int
    """How many operations the longest explanation takes in."""


def search(clients: Sequence[Sequence[Event]], specification: Specification) -> Found:
    """Depth first, at each step trying first what returned first.

    A configuration is how far each client has come, the world, and what each pending operation has seen.
    """
    nothing: tuple[Any, ...] = ((),) * len(clients)
    stack = [((0,) * len(clients), specification.start, nothing)]
    visited: set[Any] = set()
    most = 0
    while stack:
        progress, world, seen = stack.pop()
        pending = [
            client[at] if at < len(client) else None for client, at in zip(clients, progress, strict=True)
        ]
        horizon = min((event.returned for event in pending if event is not None), default=NEVER + 1)
        most = max(most, sum(progress))
        if horizon > NEVER:
            return Found(True, len(visited) + 1, most)
        now = specification.sight(world)
        ready = [event is not None and event.called < horizon for event in pending]
        seen = tuple(
            () if not is_ready else sights if sights and sights[-1] == now else (*sights, now)
            for is_ready, sights in zip(ready, seen, strict=True)
        )
        configuration = (progress, world, seen)
        if configuration in visited:
            continue
        visited.add(configuration)
        choices = sorted(
            (-event.returned, i) for i, event in enumerate(pending) if event is not None and ready[i]
        )
        for _, i in choices:
            event = pending[i]
            assert event is not None
            onwards = (
                (*progress[:i], progress[i] + 1, *progress[i + 1 :]),
                (*seen[:i], (), *seen[i + 1 :]),
            )
            if event.optional:
                stack.append((onwards[0], world, onwards[1]))
            stack += [(onwards[0], left, onwards[1]) for left in specification.after(world, event, seen[i])]
    return Found(False, len(visited), most)


def linearizable(clients: Sequence[Sequence[Event]], specification: Specification) -> bool:
    return search(clients, specification).linearizable


# --- what a history is made of


def overlaps(clients: Sequence[Sequence[Event]]) -> int:
    """How many operations were called while another client's was under way."""
    events = [(event, i) for i, client in enumerate(clients) for event in client]
    return sum(
        any(other.called < event.called < other.returned for other, j in events if j != i)
        for event, i in events
    )


def written(clients: Sequence[Sequence[Event]]) -> str:
    """A history for people, in the order of calls."""
    events = sorted((event.called, i, event) for i, client in enumerate(clients) for event in client)
    return "\n".join(
        f"client {i}  {called:>4} to {event.returned if event.returned < NEVER else 'never':>5}  "
        f"{event.kind} key {event.key} cost {event.cost}: "
        f"{'died' if event.optional else 'allowed' if event.allowed else 'refused'}, {event.remaining} left"
        for called, i, event in events
    )
