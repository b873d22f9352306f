"""A run over time, drawn: each NIC's throughput, connections and records, and what was done when. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from scenarios.report import svg
from scenarios.report.series import Bins, Records
from scenarios.report.svg import Scale, el, text

LEFT, RIGHT = 58, 14
MARKS, HEAD, THROUGHPUT, COUNTS, GAP = 30, 18, 160, 90, 34
"""Heights: of the row of marks, of a panel's head, of the panels, and between them."""
APART = 4.0
"""Between the boxes of two marks, at least."""

Mark = tuple[float, int, bool]
"""When, its number in the list below the drawing, and whether it is a fault."""


@dataclass(frozen=True)
class Layer:
    """NIC → its columns. `words`: how one value is told. `cls`: what is added to the colours' class."""

    values: Mapping[str, Sequence[float]]
    words: str
    cls: str = ""


@dataclass(frozen=True)
class Panel:
    """NICs stacked over time, one layer upon the other."""

    head: str
    layers: Sequence[Layer]
    height: float
    whole: bool = False
    """Whether it counts things."""

    def most(self) -> float:
        """The highest stack, or 1."""
        columns = [one for layer in self.layers for one in layer.values.values()]
        return max([1.0, *(float(sum(column)) for column in zip(*columns, strict=True))])


def panels(
    bits: Mapping[str, Sequence[float]], counts: Mapping[str, Sequence[int]], records: Records | None
) -> list[Panel]:
    """`bits`: Mbit/s by NIC and column. `counts`: connections held."""
    found = [
        Panel("Mbit/s on the wires, both directions, by NIC", [Layer(bits, "{:.1f} Mbit/s")], THROUGHPUT),
        Panel("connections held, by NIC", [Layer(counts, "holds {:g}")], COUNTS, whole=True),
    ]
    if records:
        layers = [
            Layer(records.offloaded, "records {:g} offloaded"),
            Layer(records.others, "records {:g} others", "pale"),
        ]
        head = "records, by NIC; the pale ones are of connections that are not offloaded"
        found.append(Panel(head, layers, COUNTS, whole=True))
    return found


def draw(grid: Bins, shown: Sequence[Panel], marks: Sequence[Mark], broken: Sequence[float]) -> Markup:
    """`broken`: when a link was cut."""
    time = Scale(grid.begin, grid.end, LEFT, svg.WIDTH - RIGHT)
    tops, y = list[float](), MARKS + HEAD + 0.0
    for panel in shown:
        tops.append(y)
        y += panel.height + GAP
    top, bottom = tops[0], y - GAP
    pieces: list[Markup] = []
    for panel, begin in zip(shown, tops, strict=True):
        pieces += _panel(panel, Scale(0, panel.most(), begin + panel.height, begin), time)
    pieces += [
        *_axis(time, bottom),
        *[svg.line((time(t), top), (time(t), bottom), "cut") for t in broken if grid.begin <= t <= grid.end],
        *_marks(marks, time, bottom),
        *[text(LEFT, begin - 7, panel.head, "small head") for panel, begin in zip(shown, tops, strict=True)],
        *_columns(grid, shown, time, top, bottom),
    ]
    return svg.drawing(bottom + 40, "What each NIC carried and held over time, with faults and steps", *pieces)


def _panel(panel: Panel, scale: Scale, time: Scale) -> Iterator[Markup]:
    for value in scale.ticks(4):
        if panel.whole and value != int(value):
            continue
        yield svg.line((LEFT, scale(value)), (svg.WIDTH - RIGHT, scale(value)), "axis" if value == 0 else "grid")
        yield text(LEFT - 7, scale(value) + 4, svg.shown(value), "small tick", "end")
    base: list[float] = []
    for layer in panel.layers:
        for colour, columns in _coloured(layer.values).items():
            base = base or [0.0] * len(columns)
            top = [below + value for below, value in zip(base, columns, strict=True)]
            if any(columns):
                width = (time.end - time.begin) / len(columns)
                edge = _steps(top, time.begin, width, scale)
                floor = _steps(base, time.begin, width, scale)
                yield svg.path([*edge, *reversed(floor)], f"area {colour} {layer.cls}".rstrip(), closed=True)
            base = top


def _coloured(values: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """By colour; what has none of its own goes together, on top."""
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


def _columns(grid: Bins, shown: Sequence[Panel], time: Scale, top: float, bottom: float) -> Iterator[Markup]:
    """What is told when somebody points at a column."""
    width = (time.end - time.begin) / grid.count
    layers = [layer for panel in shown for layer in panel.layers]
    for index in range(grid.count):
        begin = grid.begin + index * grid.width
        lines = [f"{begin:.2f} to {begin + grid.width:.2f} s"]
        for nic in layers[0].values:
            told = [(layer.words, layer.values[nic][index]) for layer in layers]
            words = [form.format(value) for form, value in told if value >= 0.05]
            lines += [f"{nic}: {', '.join(words)}"] if words else []
        x = time.begin + index * width
        yield svg.rect(x, top, width, bottom - top, svg.title("\n".join(lines)), cls="hover")
