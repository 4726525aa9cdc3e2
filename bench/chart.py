"""The README's chart: nanoseconds per decision, ours and the peers', as SVG for light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from .cases import AMPLE, DICT_GET, NO_OP
from .peers import PEERS
from .rows import Row

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 860, 210, 70, 64, 44
BAR, GAP, GROUP = 9, 1, 28
WORDS = ("allowed", "denied")

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.value { font-size: 10px; }
.faint { fill: #57606a; }
.grid { stroke: #d0d7de; stroke-width: 1; }
.floor { stroke: #bc4c00; stroke-width: 1.5; stroke-dasharray: 4 3; }
.floor-text { fill: #bc4c00; font-size: 10px; }
.ours.allowed { fill: #0969da; } .ours.denied { fill: #54aeff; }
.peer.allowed { fill: #6e7781; } .peer.denied { fill: #afb8c1; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .faint { fill: #9198a1; }
  .grid { stroke: #3d444d; }
  .floor { stroke: #f0883e; } .floor-text { fill: #f0883e; }
  .ours.allowed { fill: #4493f8; } .ours.denied { fill: #1f5fb8; }
  .peer.allowed { fill: #9198a1; } .peer.denied { fill: #59636e; }
}
"""


@dataclass(frozen=True)
class Group:
    """Two bars of one limiter: nanoseconds when allowed, when denied."""

    label: str
    kind: str
    bars: tuple[float, float]


def medians(rows: Sequence[Row]) -> dict[str, float]:
    return {row.what: row.value.median for row in rows if row.value is not None}


def groups_of(rows: Mapping[str, Sequence[Row]]) -> list[Group]:
    """Ours in their own order, then the peers, fastest first; what was not measured is left out."""
    found = medians([row for section in rows.values() for row in section])
    ours = [
        Group(f"fastlimit {name}", "ours", bars) for name in AMPLE for bars in pairs(found, f"{name} allow")
    ]
    peers = [Group(name, "peer", bars) for name in PEERS for bars in pairs(found, name)]
    return ours + sorted(peers, key=lambda group: group.bars[0])


def pairs(found: Mapping[str, float], name: str) -> Iterator[tuple[float, float]]:
    allowed, denied = (found.get(f"{name}, {word}") for word in WORDS)
    if allowed is not None and denied is not None:
        yield allowed, denied


def scale(ns: float, low: float, high: float) -> float:
    """Where a figure lies between the chart's edges, on a logarithmic axis."""
    share = (math.log10(ns) - math.log10(low)) / (math.log10(high) - math.log10(low))
    return LEFT + max(0.0, min(1.0, share)) * (WIDTH - LEFT - RIGHT)


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x: float, top: float, bottom: float, kind: str) -> str:
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" class="{kind}"/>'


def svg(rows: Mapping[str, Sequence[Row]], caption: str) -> str:
    """The chart. Raises ValueError unless the rows hold ours and at least one peer."""
    groups = groups_of(rows)
    if len({group.kind for group in groups}) < 2:
        raise ValueError("the chart needs the sections hot and peers, with at least one peer installed")
    figures = [ns for group in groups for ns in group.bars]
    low = 10.0 ** math.floor(math.log10(min(figures)))
    high = 10.0 ** math.ceil(math.log10(max(figures)))
    bottom = TOP + GROUP * len(groups)
    marks = [
        (name, ns)
        for name, ns in medians([row for section in rows.values() for row in section]).items()
        if name in (f"floor: {NO_OP}", f"floor: {DICT_GET}")
    ]
    parts = [
        *axis(low, high, bottom),
        *(
            part
            for place, group in enumerate(groups)
            for part in bars_of(group, TOP + GROUP * place, low, high)
        ),
        *floors(marks, low, high, bottom),
        text(10, 22, "Nanoseconds per decision, one hot key (logarithmic; shorter is better)", "title"),
        text(10, bottom + 36, caption, "faint value"),
    ]
    height = bottom + BOTTOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" role="img"'
        ' aria-label="Nanoseconds per decision of fastlimit and other limiters">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def axis(low: float, high: float, bottom: int) -> Iterator[str]:
    for exponent in range(round(math.log10(low)), round(math.log10(high)) + 1):
        x = scale(10.0**exponent, low, high)
        yield line(x, TOP - 4, bottom, "grid")
        yield text(x, bottom + 16, f"{10**exponent:,} ns", "faint value", "middle")


def bars_of(group: Group, top: float, low: float, high: float) -> Iterator[str]:
    yield text(LEFT - 8, top + BAR + 5, group.label, "", "end")
    for place, (word, ns) in enumerate(zip(WORDS, group.bars, strict=True)):
        y = top + place * (BAR + GAP)
        end = scale(ns, low, high)
        width = f"{end - LEFT:.1f}"
        yield f'<rect x="{LEFT}" y="{y}" width="{width}" height="{BAR}" class="{group.kind} {word}"/>'
        yield text(end + 4, y + BAR - 1, f"{ns:,.0f} {word}", "faint value")


def floors(marks: Sequence[tuple[str, float]], low: float, high: float, bottom: int) -> Iterator[str]:
    """A mark for each floor; the lowest is labelled on its left, so that the next one's label has room."""
    for place, (name, ns) in enumerate(sorted(marks, key=lambda mark: mark[1])):
        x = scale(ns, low, high)
        yield line(x, TOP - 14, bottom, "floor")
        yield text(
            x + (4 if place else -4),
            TOP - 8,
            f"{name} {ns:,.0f} ns",
            "floor-text",
            "start" if place else "end",
        )
