"""The moves of a run as bars with their parts, from the fault to the first new byte. Pure.

A few moves have a row each; many are put together by what they have in common, and a row shows their medians.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from scenarios.measure.moves import PARTS, Move
from scenarios.report import svg
from scenarios.report.svg import Scale, text
from scenarios.units import show_ms

FEW = 24
"""Moves that are shown one by one."""
ROWS = 30
"""Rows at most; those with the longest moves."""
HEIGHT, TOP = 24, 26
LABEL = 380
VALUE = 96
"""Widths: of what stands left of the bars, and right of them."""


@dataclass(frozen=True)
class Row:
    """One bar. `times`: how many moves it stands for; `longest`: the longest of them, from hold to release."""

    label: str
    parts: Mapping[str, float]
    times: int
    longest: float
    total: float


def rows(moves: Mapping[str, Sequence[Move]]) -> list[Row]:
    """Traffic name → its moves; all rows, in the order of time."""
    every = sorted(((name, move) for name, some in moves.items() for move in some), key=lambda one: one[1].began)
    if len(every) <= FEW:
        return [Row(_label(name, move), move.parts, 1, move.total_ms, move.total_ms) for name, move in every]
    groups: dict[tuple[str, ...], list[tuple[str, Move]]] = {}
    for name, move in every:
        groups.setdefault((name, move.kind, move.source, move.target, move.cause), []).append((name, move))
    return [_together(some) for some in groups.values()]


def _together(some: Sequence[tuple[str, Move]]) -> Row:
    name, first = some[0]
    moves = [move for _, move in some]
    parts = {part: median(found) for part in PARTS if (found := [m.parts[part] for m in moves if part in m.parts])}
    totals = [move.total_ms for move in moves]
    return Row(_label(name, first, len(moves)), parts, len(moves), max(totals), median(totals))


def _label(name: str, move: Move, times: int = 1) -> str:
    count = f"{times} × " if times > 1 else ""
    return f"{move.began:.3f} s  {_cut(name)}: {count}{move.kind} {move.source} → {move.target} ({move.cause})"


def draw(all_rows: Sequence[Row]) -> Markup:
    """At most ROWS rows."""
    shown = all_rows
    if len(all_rows) > ROWS:
        longest = sorted(all_rows, key=lambda row: row.longest, reverse=True)[:ROWS]
        shown = [row for row in all_rows if row in longest]
    most = max([0.1, *(sum(row.parts.values()) for row in shown)])
    scale = Scale(0, most, LABEL, svg.WIDTH - VALUE)
    bottom = TOP + HEIGHT * len(shown)
    pieces: list[Markup] = []
    for value in scale.ticks(5):
        pieces.append(svg.line((scale(value), TOP - 4), (scale(value), bottom), "axis" if value == 0 else "grid"))
        pieces.append(text(scale(value), TOP - 10, svg.shown(value), "small tick", "middle"))
    pieces.append(text(svg.WIDTH, TOP - 10, "ms", "small tick", "end"))
    for index, row in enumerate(shown):
        pieces += _bar(row, TOP + index * HEIGHT, scale)
    return svg.drawing(bottom + 8, "Moves and their parts, in milliseconds", *pieces)


def _bar(row: Row, y: float, scale: Scale) -> Iterator[Markup]:
    yield text(LABEL - 10, y + 16, row.label, "small", "end")
    at = 0.0
    every = "\n".join(f"{part.replace('_', ' ')} {show_ms(ms)}" for part, ms in row.parts.items())
    head = f"{row.label}\nmedians of {row.times}" if row.times > 1 else row.label
    for part, ms in row.parts.items():
        x, width = scale(at), scale(at + ms) - scale(at)
        # A part too short to be seen is a hair all the same; a gap of the page's colour divides the parts.
        inner = max(width - 1, 0.6)
        yield svg.rect(x, y + 5, inner, HEIGHT - 10, svg.title(f"{head}\n{every}"), cls=f"part {part}")
        at += ms
    words = show_ms(row.total) if row.times == 1 else f"≤ {show_ms(row.longest)}"
    yield text(scale(at) + 6, y + 16, words, "small")


def _cut(name: str) -> str:
    return name if len(name) <= 10 else name[:9] + "…"
