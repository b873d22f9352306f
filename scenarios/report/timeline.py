"""A run over time, drawn: throughput per NIC, the connections each NIC held, and what was done when. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from scenarios.report import svg
from scenarios.report.series import Bins
from scenarios.report.svg import Scale, el, text

LEFT, RIGHT = 58, 14
MARKS, THROUGHPUT, HELD, GAP = 30, 160, 90, 34
"""Heights: of the row of marks, of both panels, and between them."""
APART = 4.0
"""Between the boxes of two marks, at least."""

Mark = tuple[float, int, bool]
"""When, its number in the list below the drawing, and whether it is a fault."""


def draw(
    grid: Bins,
    bits: Mapping[str, Sequence[float]],
    counts: Mapping[str, Sequence[int]],
    marks: Sequence[Mark],
    broken: Sequence[float],
) -> Markup:
    """`bits`: Mbit/s by NIC and column. `counts`: connections held. `broken`: when a link was cut."""
    time = Scale(grid.begin, grid.end, LEFT, svg.WIDTH - RIGHT)
    one = MARKS + 18
    two = one + THROUGHPUT + GAP
    bottom = two + HELD
    above = _most(bits), _most(counts)
    pieces = [
        *_panel(bits, Scale(0, above[0], one + THROUGHPUT, one), time),
        *_panel(counts, Scale(0, above[1], bottom, two), time, whole=True),
        *_axis(time, bottom),
        *[svg.line((time(t), one), (time(t), bottom), "cut") for t in broken if grid.begin <= t <= grid.end],
        *_marks(marks, time, bottom),
        text(LEFT, one - 7, "Mbit/s on the wires, both directions, by NIC", "small head"),
        text(LEFT, two - 7, "connections held, by NIC", "small head"),
        *_columns(grid, bits, counts, time, one, bottom),
    ]
    return svg.drawing(bottom + 40, "Throughput and connections of each NIC over time, with faults and steps", *pieces)


def _most(values: Mapping[str, Sequence[float]]) -> float:
    """The highest stack, or 1."""
    return max([1.0, *(sum(column) for column in zip(*values.values(), strict=True))]) if values else 1.0


def _panel(values: Mapping[str, Sequence[float]], scale: Scale, time: Scale, whole: bool = False) -> Iterator[Markup]:
    ticks = scale.ticks(4)
    for value in ticks:
        if whole and value != int(value):
            continue
        yield svg.line((LEFT, scale(value)), (svg.WIDTH - RIGHT, scale(value)), "axis" if value == 0 else "grid")
        yield text(LEFT - 7, scale(value) + 4, svg.shown(value), "small tick", "end")
    yield from _stack(values, scale, time)


def _stack(values: Mapping[str, Sequence[float]], scale: Scale, time: Scale) -> Iterator[Markup]:
    """One area for each NIC, upon each other; what has no colour of its own goes together, on top."""
    base: list[float] = []
    for colour, columns in _coloured(values).items():
        base = base or [0.0] * len(columns)
        top = [below + value for below, value in zip(base, columns, strict=True)]
        if any(columns):
            width = (time.end - time.begin) / len(columns)
            edge = _steps(top, time.begin, width, scale)
            floor = _steps(base, time.begin, width, scale)
            yield svg.path([*edge, *reversed(floor)], f"area {colour}", closed=True)
        base = top


def _coloured(values: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for index, columns in enumerate(values.values()):
        colour = svg.colour_of(index)
        before = found.get(colour, [0.0] * len(columns))
        found[colour] = [one + more for one, more in zip(before, columns, strict=True)]
    return found


def _steps(heights: Sequence[float], begin: float, width: float, scale: Scale) -> list[svg.Point]:
    """The upper edge of columns; columns of one height are one line."""
    points: list[svg.Point] = []
    for index, height in enumerate(heights):
        left, right, y = begin + index * width, begin + (index + 1) * width, scale(height)
        if points and points[-1][1] == y:
            points[-1] = (right, y)
        else:
            points += [(left, y), (right, y)]
    return points


def _axis(time: Scale, y: float) -> Iterator[Markup]:
    for value in time.ticks(8):
        yield svg.line((time(value), y), (time(value), y + 4), "axis")
        yield text(time(value), y + 18, svg.shown(value), "small tick", "middle")
    yield text(time.end, y + 34, "seconds since the call", "small", "end")


@dataclass
class _Badge:
    """The number of a mark, or of several as `3–5`, in a box above the drawing."""

    x: float
    first: int
    last: int
    fault: bool

    @property
    def words(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}–{self.last}"

    @property
    def width(self) -> float:
        return 11 + 7.5 * len(self.words)

    @property
    def left(self) -> float:
        """It grows to the right as it takes in more marks, but never leaves the drawing."""
        return min(max(self.x - 10, 0), svg.WIDTH - self.width)


def _badges(marks: Sequence[Mark], time: Scale) -> list[_Badge]:
    """No two of them touch: what is too near goes together."""
    found: list[_Badge] = []
    for t, number, fault in sorted(marks):
        found.append(_Badge(min(max(time(t), time.begin), time.end), number, number, fault))
        while len(found) > 1 and found[-2].left + found[-2].width + APART > found[-1].left:
            right, left = found.pop(), found.pop()
            found.append(_Badge(left.x, left.first, right.last, left.fault or right.fault))
    return found


def _marks(marks: Sequence[Mark], time: Scale, bottom: float) -> Iterator[Markup]:
    """Numbers above the drawing, with a line down through it where the first of them was."""
    for badge in _badges(marks, time):
        fault = " fault" if badge.fault else ""
        yield svg.line((badge.x, 24), (badge.x, bottom), f"mark{fault}")
        label = text(badge.left + badge.width / 2, 17, badge.words, f"badge{fault}", "middle")
        yield el("g", svg.rect(badge.left, 3, badge.width, 20, cls=f"badge{fault}", rx=10), label)


def _columns(
    grid: Bins,
    bits: Mapping[str, Sequence[float]],
    counts: Mapping[str, Sequence[int]],
    time: Scale,
    top: float,
    bottom: float,
) -> Iterator[Markup]:
    """What is told when somebody points at a column."""
    width = (time.end - time.begin) / grid.count

    def of(values: Mapping[str, Sequence[float]], index: int, form: Callable[[float], str]) -> list[str]:
        return [f"{nic} {form(columns[index])}" for nic, columns in values.items() if columns[index] >= 0.05]

    for index in range(grid.count):
        begin = grid.begin + index * grid.width
        lines = [f"{begin:.2f} to {begin + grid.width:.2f} s"]
        lines += of(bits, index, lambda value: f"{value:.1f} Mbit/s")
        lines += of(counts, index, lambda value: f"holds {value:g}")
        x = time.begin + index * width
        yield svg.rect(x, top, width, bottom - top, svg.title("\n".join(lines)), cls="hover")
