"""Figures, their peers, and targets: the statistics and the words of every benchmark.

Decides: the order of measurements, what is said of a series, whether a target was met, the table and the document.
Pure: whatever measures, or reads the machine's load, is passed in.

Ours and its peers take turns (A B A B …), so that whatever else the machine does at the time falls on both.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OURS = "ours"


class CannotMeasure(Exception):
    """The machine, or the project as it is, cannot run this benchmark; the text is one line with the reason."""


def last_line(said: str, status: int) -> str:
    """Why a child has failed: the last that it said, or that it said nothing."""
    lines = said.strip().splitlines()
    return lines[-1] if lines else f"it ended with status {status} and said nothing"


@dataclass(frozen=True)
class Sample:
    """One measured value, and the machine's load at that time (runnable processes, the mean of a minute)."""

    value: float
    load: float


@dataclass(frozen=True)
class Series:
    """What was measured of one candidate."""

    who: str
    samples: tuple[Sample, ...]

    @property
    def values(self) -> list[float]:
        return [sample.value for sample in self.samples]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def p99(self) -> float:
        return percentile(self.values, 99)

    @property
    def maximum(self) -> float:
        return max(self.values)

    @property
    def load(self) -> float:
        return statistics.median(sample.load for sample in self.samples)

    def of(self, statistic: str) -> float:
        """statistic: median, p99 or maximum."""
        return float(getattr(self, statistic))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest measured value that so many per cent of all do not exceed: always one that was seen."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass(frozen=True)
class Figure:
    """One quantity of ours, and the same of each peer in the same run. peers may be empty."""

    what: str
    unit: str
    ours: Series
    peers: tuple[Series, ...] = ()

    def ratio(self, peer: str | None = None, statistic: str = "median") -> float:
        """Ours over that of a peer, the first one by default."""
        one = next(each for each in self.peers if peer in (None, each.who))
        below = one.of(statistic)
        return self.ours.of(statistic) / below if below else math.inf


@dataclass(frozen=True)
class Target:
    """What is to be reached: `measured` at most `limit`, or at least."""

    text: str
    measured: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def line(self) -> str:
        compared = "at least" if self.at_least else "at most"
        return f"{'✓' if self.met else '✗'} {self.text}: {number(self.measured)}, {compared} {number(self.limit)}"


@dataclass
class Report:
    """What one benchmark found. notes: what else a reader must know; conditions: what it was run with; details: for
    the document alone."""

    name: str
    about: str
    figures: list[Figure] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    conditions: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON: every sample, so that whoever doubts a figure can count anew."""
        return {
            "benchmark": self.name,
            "about": self.about,
            "conditions": self.conditions,
            "figures": [
                {
                    "what": figure.what,
                    "unit": figure.unit,
                    "ours": _series(figure.ours),
                    "peers": [
                        _series(peer) | {"ratio": {name: figure.ratio(peer.who, name) for name in _STATISTICS}}
                        for peer in figure.peers
                    ],
                }
                for figure in self.figures
            ],
            "targets": [
                {"text": t.text, "measured": t.measured, "limit": t.limit, "at_least": t.at_least, "met": t.met}
                for t in self.targets
            ],
            "notes": self.notes,
        } | ({"details": self.details} if self.details else {})

    def text(self) -> str:
        """As a plain table, the targets behind it."""
        rows: list[tuple[str, ...]] = [("", "", "median", "p99", "max", "ratio", "n", "load")]
        for figure in self.figures:
            rows.append(_row(f"{figure.what} ({figure.unit})", figure.ours, ""))
            rows += [_row("", peer, f"{figure.ratio(peer.who):.2f}") for peer in figure.peers]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [f"{self.name}: {self.about}"]
        lines += [
            "  "
            + "  ".join(f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}" for i, (cell, w) in _cells(row, widths)).rstrip()
            for row in rows
        ]
        lines += [f"  {target.line()}" for target in self.targets]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


_STATISTICS = ("median", "p99", "maximum")


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[tuple[int, tuple[str, int]]]:
    return list(enumerate(zip(row, widths, strict=True)))


def _row(what: str, series: Series, ratio: str) -> tuple[str, ...]:
    figures = (number(series.median), number(series.p99), number(series.maximum))
    return (what, series.who, *figures, ratio, str(len(series.samples)), f"{series.load:.1f}")


def _series(series: Series) -> dict[str, Any]:
    summary = {name: series.of(name) for name in _STATISTICS}
    samples = [[sample.value, sample.load] for sample in series.samples]
    return {"who": series.who, **summary, "load": series.load, "samples_and_loads": samples}


def number(value: float) -> str:
    """Three digits that count; whole numbers above."""
    if value != 0 and math.isfinite(value) and abs(value) < 100:
        return f"{value:.3g}"
    return f"{value:,.0f}"


def alternate(
    candidates: Mapping[str, Callable[[], float]], repetitions: int, load: Callable[[], float]
) -> dict[str, Series]:
    """Measures each candidate once, then each again, and so on; load: tells the machine's."""
    taken: dict[str, list[Sample]] = {who: [] for who in candidates}
    for _ in range(repetitions):
        for who, measure in candidates.items():
            at = load()
            taken[who].append(Sample(measure(), at))
    return {who: Series(who, tuple(samples)) for who, samples in taken.items()}


def figure(what: str, unit: str, series: Mapping[str, Series]) -> Figure:
    """Of what alternate() gave: `ours`, and the others as its peers."""
    return Figure(what, unit, series[OURS], tuple(one for who, one in series.items() if who != OURS))


def alone(what: str, unit: str, values: Sequence[Sample], who: str = OURS) -> Figure:
    """A figure that has no peer."""
    return Figure(what, unit, Series(who, tuple(values)))
