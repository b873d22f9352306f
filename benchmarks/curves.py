"""What is drawn of each benchmark, from its document alone: where a curve says more than the table. Pure.

A document is what `Report.document` gives. Its figures are known by their names, its targets by their words; what an
older document lacks is not drawn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from markupsafe import Markup

from benchmarks.harness import number
from benchmarks.plot import TARGET, Bar, Curve, Plot, bars, draw, shares
from scenarios.report import svg

Document = Mapping[str, Any]
PEER = "c0"
"""The look of what ours is held against, where that is one thing."""
PER_SECOND = "moves a second, "


@dataclass(frozen=True)
class Drawing:
    """What it shows, which look is whose, and itself."""

    about: str
    legend: Sequence[tuple[str, str]]
    drawn: Markup


def drawings(document: Document) -> list[Drawing]:
    """Of one benchmark; none if nothing is known of it."""
    draw_it = _DRAWN.get(document["benchmark"])
    return list(draw_it(document)) if draw_it else []


def values(series: Document) -> list[float]:
    """What was measured."""
    return [value for value, _ in series["samples_and_loads"]]


def _everyone(figure: Document) -> list[Document]:
    return [figure["ours"], *figure["peers"]]


def _looks(figures: Sequence[Document]) -> dict[str, str]:
    """Each candidate's colour, the same in all figures."""
    names = list(dict.fromkeys(series["who"] for figure in figures for series in _everyone(figure)))
    return {who: svg.colour_of(index) for index, who in enumerate(names)}


def _limits(document: Document) -> dict[str, float]:
    return {target["text"]: target["limit"] for target in document["targets"]}


def _told(who: str, figure: Document) -> str:
    """Of one candidate of a figure, when somebody points at it."""
    series = next(one for one in _everyone(figure) if one["who"] == who)
    three = ", ".join(f"{words} {number(series[key])}" for key, words in (("median", "median"), ("p99", "p99")))
    return f"{figure['what']}, {who}: {three} {figure['unit']}, {len(values(series))} samples"


# ------------------------------------------------------------------------------------------- nanoseconds a frame

MODES = {
    "again": "One connection's frame again and again",
    "any": "One frame of another connection each time",
}


def _frame_path(document: Document) -> Iterator[Drawing]:
    modes: dict[str, dict[str, dict[int, Document]]] = {}
    for figure in document["figures"]:
        if (found := re.fullmatch(r"(.+), (again|any), (\d+)", figure["what"])) and figure["peers"]:
            modes.setdefault(found[2], {}).setdefault(found[1], {})[int(found[3])] = figure
    plots = [_frames(MODES[mode], programs, _times(document, mode)) for mode, programs in modes.items()]
    if plots:
        peer = next(iter(next(iter(modes.values())).values())).popitem()[1]["peers"][0]["who"]
        about = f"Medians over the number of records. Each program took turns with {peer}: that line is their median."
        yield Drawing(about, [], draw("Nanoseconds a frame over the number of records", plots, 250, columns=1))


def _times(document: Document, mode: str) -> float | None:
    """How many times the peer's a program's time may be."""
    limits = _limits(document).items()
    return next((limit for text, limit in limits if "the slowest" in text and text.endswith(f"({mode})")), None)


def _frames(head: str, programs: Mapping[str, Mapping[int, Document]], times: float | None) -> Plot:
    curves, peers, who = list[Curve](), dict[int, list[float]](), ""
    for index, (program, figures) in enumerate(programs.items()):
        points = [(float(count), figure["ours"]["median"]) for count, figure in figures.items()]
        told = [f"{_told('ours', figure)}, {number(_ratio(figure))} times the peer" for figure in figures.values()]
        look = f"c{index % svg.COLOURS + 1}{' again' if index >= svg.COLOURS else ''}"
        curves.append(Curve(program, look, points, told))
        for count, figure in figures.items():
            who = figure["peers"][0]["who"]
            peers.setdefault(count, []).append(figure["peers"][0]["median"])
    middle = [(float(count), median(some)) for count, some in peers.items()]
    curves.append(Curve(who, PEER, middle))
    if times:
        limit = [(count, times * value) for count, value in middle]
        curves.append(Curve(f"{number(times)} times {who}", TARGET, limit))
    return Plot(f"{head}: ns a frame", "records", curves, {}, named=True)


def _ratio(figure: Document) -> float:
    return float(figure["peers"][0]["ratio"]["median"])


# ------------------------------------------------------------------------------------------- distributions


def _stall(document: Document) -> Iterator[Drawing]:
    figures, limits = document["figures"], _limits(document)
    looks, plots = _looks(figures), list[Plot]()
    for figure in figures:
        reach = {f"{name} {number(limit)}": limit for name in ("median", "p99")
                 if (limit := limits.get(f"{figure['what']}, {name}"))}  # fmt: skip
        plots.append(_shares(figure["what"], figure["unit"], {one["who"]: values(one) for one in _everyone(figure)},
                             looks, reach))  # fmt: skip
    about = "The share of connections whose longest stall was no longer; dashed: where ours is to be."
    yield Drawing(about, [(who, look) for who, look in looks.items()], draw("Longest stalls", plots))


def _shares(
    head: str, unit: str, taken: Mapping[str, Sequence[float]], looks: Mapping[str, str], reach: Mapping[str, float]
) -> Plot:
    # Ours is drawn last, upon the others.
    curves = [Curve(who, looks[who], shares(some)) for who, some in reversed(list(taken.items())) if some]
    return Plot(head, unit, curves, reach, share=True)


def _goodput(document: Document) -> Iterator[Drawing]:
    looks, figures = _looks(document["figures"]), {figure["what"]: figure for figure in document["figures"]}
    if "latency" not in figures:
        return
    figure = figures["latency"]
    taken, about = {one["who"]: values(one) for one in _everyone(figure)}, "The medians of every sample."
    if told := document.get("details", {}).get("round_trips"):
        taken, about = told, "The share of round trips that took no longer, by the percentiles of every sample."
    peer = figure["peers"][0]
    times = _limits(document).get(f"median round trip over {peer['who']}")
    reach = {f"median {number(times)} × {peer['who']}": times * peer["median"]} if times else {}
    plot = _shares("Round trips of one byte", figure["unit"], taken, looks, reach)
    yield Drawing(about, [(who, looks[who]) for who in taken], draw("Round trips", [plot], columns=1))


# ------------------------------------------------------------------------------------------- moves


def _moves(document: Document) -> Iterator[Drawing]:
    kinds: dict[str, dict[int, Document]] = {}
    for figure in document["figures"]:
        if found := re.fullmatch(r"([\d,]+) connections, (.+)", figure["what"]):
            kinds.setdefault(found[2], {})[int(found[1].replace(",", ""))] = figure
    if not kinds:
        return
    # Where they coincide, both are seen.
    looks = {kind: f"{svg.colour_of(index)}{' again' if index else ''}" for index, kind in enumerate(kinds)}
    first = next(iter(kinds.values()))
    peer = next(iter(first.values()))["peers"][0]["who"]
    rate = next((limit for text, limit in _limits(document).items() if text.startswith(PER_SECOND)), None)
    legend = [*looks.items(), (peer, PEER)] + ([(f"{rate:,} moves a second", TARGET)] if rate else [])
    plots = []
    for head, each in (("Until all are moved: ms", False), ("Of that, one connection's share: µs", True)):
        curves = [_over_count(kind, looks[kind], figures, 0, each) for kind, figures in kinds.items()]
        curves.append(_over_count(peer, PEER, first, 1, each))
        if rate:
            ends = [(float(count), _share(1000 * count / rate, count, each)) for count in (min(first), max(first))]
            curves.append(Curve(f"{rate:,} moves a second", TARGET, ends))
        plots.append(Plot(head, "connections on the NIC", curves, {}, log_y=True))
    about = "Lines go through medians; the small dots are single samples."
    yield Drawing(about, legend, draw("Time of moves over the number of connections", plots))


def _share(ms: float, count: int, each: bool) -> float:
    """Milliseconds, or the microseconds of one."""
    return 1000 * ms / count if each else ms


def _over_count(name: str, look: str, figures: Mapping[int, Document], place: int, each: bool) -> Curve:
    """place: 0 for ours, 1 for the first peer."""
    points, spots, told = [], [], []
    for count, figure in figures.items():
        series = _everyone(figure)[place]
        points.append((float(count), _share(series["median"], count, each)))
        spots += [(float(count), _share(value, count, each)) for value in values(series)]
        told.append(f"{_told(series['who'], figure)}; {number(_share(series['median'], count, True))} µs each")
    return Curve(name, look, points, told, spots)


# ------------------------------------------------------------------------------------------- bars


def _bars(document: Document) -> Iterator[Drawing]:
    """Every candidate's time, and how long ours may take beside the first peer."""
    figures, limits = document["figures"], _limits(document)
    looks, groups = _looks(figures), dict[str, list[Bar]]()
    for figure in figures:
        peer = figure["peers"][0]
        times = limits.get(f"{figure['what']}, over {peer['who']}", limits.get(f"--jobs 2 over {peer['who']}"))
        most = times * peer["median"] if times else None
        groups[figure["what"]] = [
            Bar(one["who"], looks[one["who"]], one["median"], values(one), most if one is figure["ours"] else None)
            for one in _everyone(figure)
        ]
    about = "Bars are medians, dots are samples; dashed: what ours may take."
    yield Drawing(about, [], bars(document["about"], groups, figures[0]["unit"]))


_DRAWN: dict[str, Callable[[Document], Iterator[Drawing]]] = {
    "frame_path": _frame_path,
    "stall": _stall,
    "moves": _moves,
    "goodput": _goodput,
    "turnaround": _bars,
    "side_by_side": _bars,
}
