"""Curves and bars as SVG: scales, ticks, where a label goes, the share of values below each. Pure.

A drawing is made of plots that stand side by side; what is pointed at is told by SVG's own titles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from benchmarks.harness import number
from scenarios.report import svg
from scenarios.report.svg import Point, Scale, el, text

LEFT, RIGHT, HEAD, FOOT = 62, 24, 40, 48
"""Around a plot's area: for the ticks' numbers, for half of the last one, for its head, for what the axis counts."""
NAMES = 240
"""To the right of a plot whose curves have their names there."""
LINE = 15.0
"""The height of a line of text."""
EDGE = 40.0
"""So near to a plot's side a word above it is written away from it."""
TARGET = "target"
"""The class of what is to be reached."""


class LogScale(Scale):
    """The same, of the values' logarithms; both ends are above 0."""

    def __call__(self, value: float) -> float:
        if value <= self.least:
            return self.begin
        share = math.log(value / self.least) / math.log(self.most / self.least)
        return self.begin + share * (self.end - self.begin)

    def ticks(self, count: int = 6) -> Sequence[float]:
        """1, 2 and 5 times each power of ten where that is not too much; else the powers alone, or some of them."""
        powers = range(math.floor(math.log10(self.least)), math.ceil(math.log10(self.most)) + 1)
        fine = [times * 10.0**power for power in powers for times in (1, 2, 5)]
        found = self._within(fine)
        if len(found) > count:
            found = self._within(fine[::3])
        return found[:: math.ceil(len(found) / count)]

    def _within(self, values: Sequence[float]) -> list[float]:
        return [value for value in values if self.least * (1 - 1e-9) <= value <= self.most * (1 + 1e-9)]


def logarithmic(values: Sequence[float], begin: float, end: float) -> LogScale:
    """A scale for all of these; its ends are 1, 2 or 5 times a power of ten, and not the same."""
    above = [value for value in values if value > 0] or [1.0]
    fine = [times * 10.0**power for power in range(-12, 13) for times in (1, 2, 5)]
    least = max((one for one in fine if one <= min(above) * (1 + 1e-9)), default=fine[0])
    most = min((one for one in fine if one >= max(above) * (1 - 1e-9) and one > least), default=fine[-1])
    return LogScale(least, most, begin, end)


def linear(values: Sequence[float], begin: float, end: float) -> Scale:
    """From 0 to a little more than the most of these."""
    return Scale(0.0, max(values, default=0.0) * 1.05 or 1.0, begin, end)


def shares(values: Sequence[float]) -> list[Point]:
    """Each value, and the share of all that are not above it: the corners of a line that goes up in steps."""
    ordered, points = sorted(values), list[Point]()
    for index, value in enumerate(ordered):
        points += [(value, index / len(ordered)), (value, (index + 1) / len(ordered))]
    return points


def apart(places: Sequence[float], least: float, top: float, bottom: float) -> list[float]:
    """Where to write what belongs at these places: in their order, so far from one another, and not outside."""
    order = sorted(range(len(places)), key=places.__getitem__)
    found = [min(max(places[index], top), bottom) for index in order]
    for above, below in pairwise(range(len(found))):
        found[below] = max(found[below], found[above] + least)
    limit = bottom
    for index in reversed(range(len(found))):
        found[index] = min(found[index], limit)
        limit = found[index] - least
    return [found[order.index(index)] for index in range(len(places))]


@dataclass(frozen=True)
class Curve:
    """A line through points, with a dot at each that has something told; `spots`: single values around it. `look`: its
    colour's class, or TARGET."""

    name: str
    look: str
    points: Sequence[Point]
    told: Sequence[str] = ()
    spots: Sequence[Point] = ()


@dataclass(frozen=True)
class Plot:
    """Curves on two axes, the one across logarithmic. `rules`: what is to be reached, across the plot, by their words.
    `share`: the curves are shares of something that has any value; else they go through a few. `named`: names stand at
    the curves' ends."""

    head: str
    across: str
    curves: Sequence[Curve]
    rules: Mapping[str, float]
    log_y: bool = False
    share: bool = False
    named: bool = False

    def scales(self, left: float, width: float, height: float) -> tuple[Scale, Scale]:
        """Across and up."""
        points = [point for curve in self.curves for point in (*curve.points, *curve.spots)]
        right = left + width - (NAMES if self.named else RIGHT)
        x = logarithmic([*(x for x, _ in points), *self.rules.values()], left + LEFT, right)
        bottom, values = HEAD + height, [y for _, y in points]
        if self.share:
            return x, Scale(0.0, 1.0, bottom, HEAD)
        return x, (logarithmic if self.log_y else linear)(values, bottom, HEAD)

    def ticks(self, x: Scale) -> Sequence[float]:
        """Round values, or those that were measured."""
        return x.ticks(9) if self.share else sorted({across for curve in self.curves for across, _ in curve.points})


def draw(label: str, plots: Sequence[Plot], height: float = 230.0, columns: int = 2) -> Markup:
    """All of them, from left to right, then below. `label`: for those who cannot see it."""
    pieces: list[Markup] = []
    width, row = svg.WIDTH / columns, HEAD + height + FOOT
    for index, plot in enumerate(plots):
        inside = list(_plot(plot, (index % columns) * width, width, height))
        pieces.append(el("g", *inside, transform=f"translate(0 {index // columns * row:g})"))
    return svg.drawing(math.ceil(len(plots) / columns) * row, label, *pieces)


def _plot(plot: Plot, left: float, width: float, height: float) -> Iterator[Markup]:
    x, y = plot.scales(left, width, height)
    yield text(x.begin, 16, plot.head, "strong")
    for value in y.ticks(7 if plot.log_y else 5):
        place = y(value)
        yield svg.line((x.begin, place), (x.end, place), "axis" if value == y.least else "grid")
        yield text(x.begin - 7, place + 4, f"{value:.0%}" if plot.share else svg.shown(value), "small tick", "end")
    for value in plot.ticks(x):
        yield svg.line((x(value), y.begin), (x(value), y.begin + 4), "axis")
        yield text(x(value), y.begin + 18, svg.shown(value), "small tick", "middle")
    yield text(x.end, y.begin + 36, plot.across, "small", "end")
    for words, value in plot.rules.items():
        yield svg.line((x(value), y.begin), (x(value), y.end), f"s {TARGET}")
        # At an edge it keeps clear of the ticks' numbers there, and of what is outside.
        anchor = "start" if x(value) < x.begin + EDGE else "end" if x(value) > x.end - EDGE else "middle"
        yield text(x(value), y.end - 3, words, "small", anchor)
    for curve in plot.curves:
        yield from _curve(curve, x, y)
    if plot.named:
        yield from _names(plot.curves, x, y)


def _curve(curve: Curve, x: Scale, y: Scale) -> Iterator[Markup]:
    for across, up in curve.spots:
        yield el("circle", cx=x(across), cy=y(up), r=2, cls=f"f spot {curve.look}")
    places = [(x(across), y(up)) for across, up in curve.points]
    yield svg.path(places, f"s {curve.look}", svg.title(curve.name))
    for (across, up), words in zip(places, curve.told, strict=False):
        yield el("circle", svg.title(words), cx=across, cy=up, r=3.5, cls=f"f {curve.look}")


def _names(curves: Sequence[Curve], x: Scale, y: Scale) -> Iterator[Markup]:
    """Each behind the end of its curve, with a line to it where it had to make room."""
    ends = [y(curve.points[-1][1]) for curve in curves]
    for curve, end, place in zip(curves, ends, apart(ends, LINE, y.end, y.begin), strict=True):
        yield svg.path([(x.end + 4, end), (x.end + 18, place), (x.end + 24, place)], f"s lead {curve.look}")
        yield text(x.end + 28, place + 4, f"{curve.name}: {number(curve.points[-1][1])}", "small")


@dataclass(frozen=True)
class Bar:
    """One candidate's median, and each of its samples. `limit`: how long the bar may be."""

    name: str
    look: str
    value: float
    samples: Sequence[float]
    limit: float | None = None


def bars(label: str, groups: Mapping[str, Sequence[Bar]], unit: str) -> Markup:
    """Groups below one another, on one scale from 0."""
    every = [bar for group in groups.values() for bar in group]
    values = [one for bar in every for one in (bar.value, *bar.samples, bar.limit or 0.0)]
    x = linear(values, 230.0, svg.WIDTH - 60.0)
    bottom = sum(34 + 24 * len(group) for group in groups.values())
    pieces: list[Markup] = []
    for value in x.ticks(8):
        pieces.append(svg.line((x(value), 8), (x(value), bottom + 4), "axis" if value == 0 else "grid"))
        pieces.append(text(x(value), bottom + 18, svg.shown(value), "small tick", "middle"))
    pieces.append(text(x.end, bottom + 36, unit, "small", "end"))
    y = 0.0
    for name, group in groups.items():
        pieces.append(text(0, y + 22, name, "strong"))
        y += 30
        for bar in group:
            pieces += _bar(bar, y, x)
            y += 24
        y += 4
    return svg.drawing(bottom + 44, label, *pieces)


def _bar(bar: Bar, y: float, x: Scale) -> Iterator[Markup]:
    yield text(x.begin - 8, y + 13, bar.name, "small", "end")
    words = svg.title(f"{bar.name}: median {number(bar.value)}")
    yield svg.rect(x.begin, y, x(bar.value) - x.begin, 17, words, cls=f"f {bar.look}", rx=2)
    for value in bar.samples:
        yield el("circle", cx=x(value), cy=y + 8.5, r=2.5, cls="sample")
    if bar.limit is not None:
        yield svg.line((x(bar.limit), y - 4), (x(bar.limit), y + 21), f"s {TARGET}")
    end = max(bar.value, bar.limit or 0.0, *bar.samples)
    yield text(x(end) + 8, y + 13, number(bar.value), "tick")
