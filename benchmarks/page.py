"""The documents of a bench run → one HTML page that needs nothing else: tables, targets, conditions, curves.

Decides: what is said of each benchmark. Pure, but for its template's file and `read`. It has the documents alone, so a
page of an old run is made as one of a new run is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.curves import Document, drawings, values
from benchmarks.harness import number
from scenarios.report.templates import template

FILE = "bench.html"
FEW = 30
"""Rows of a table that is shown at once; a longer one opens when asked for."""
STATISTICS = ("median", "p99", "maximum")


class NoFigures(Exception):
    """There is nothing that a page could be made of; the text is one line with the reason."""


def read(folder: Path, names: Sequence[str]) -> dict[str, Document]:
    """The documents of these benchmarks that are in a folder, by name and in this order. Raises NoFigures."""
    found = {}
    for name in names:
        file = folder / f"{name}.json"
        try:
            found[name] = json.loads(file.read_text())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise NoFigures(f"{file} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise NoFigures(_damaged(file.name)) from error
    if not found:
        raise NoFigures(f"{folder} holds no figures: none of {', '.join(f'{name}.json' for name in names)}")
    return found


def _damaged(file: str) -> str:
    return f"{file} is not what a benchmark writes; measure it anew, or take it out of the folder"


def page(documents: Mapping[str, Document], title: str, names: Sequence[str]) -> str:
    """The whole page; it tells which of these names have no document. Raises NoFigures if one is none that a benchmark
    wrote."""
    benchmarks = []
    for name, document in documents.items():
        try:
            benchmarks.append(_benchmark(document))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise NoFigures(_damaged(f"{name}.json")) from error
    return template("bench.html.j2", Path(__file__).parent).render(
        title=title,
        lacking=[name for name in names if name not in documents],
        benchmarks=benchmarks,
        met=sum(one["met"] for one in benchmarks),
        targets=sum(len(one["targets"]) for one in benchmarks),
        tiny=any(document["conditions"].get("tiny") for document in documents.values()),
    )


def _benchmark(document: Document) -> dict[str, Any]:
    rows = [row for figure in document["figures"] for row in _rows(figure)]
    return {
        "name": document["benchmark"],
        "about": document["about"],
        "drawings": drawings(document),
        "targets": [_target(one) for one in document["targets"]],
        "met": sum(one["met"] for one in document["targets"]),
        "rows": rows,
        "open": len(rows) <= FEW,
        "notes": document["notes"],
        "conditions": [*_conditions(document["conditions"]), ("load", _load(document))],
    }


def _rows(figure: Document) -> Iterator[dict[str, Any]]:
    for index, series in enumerate([figure["ours"], *figure["peers"]]):
        yield {
            "what": "" if index else f"{figure['what']} ({figure['unit']})",
            "who": series["who"],
            "statistics": [number(series[key]) for key in STATISTICS],
            "ratio": f"{series['ratio']['median']:.2f}" if index else "",
            "samples": len(values(series)),
            "load": f"{series['load']:.1f}",
        }


def _target(one: Mapping[str, Any]) -> dict[str, Any]:
    compared = "at least" if one["at_least"] else "at most"
    return {
        "text": one["text"],
        "measured": number(one["measured"]),
        "limit": f"{compared} {number(one['limit'])}",
        "met": one["met"],
    }


def _conditions(conditions: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in conditions.items():
        yield key.replace("_", " "), _words(value)


def _words(value: Any) -> str:
    """A condition's value, for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(one)}" for key, one in value.items())
    if isinstance(value, list):
        return "; ".join(_words(one) for one in value)
    return str(value)


def _load(document: Document) -> str:
    """Of all samples."""
    series = [one for figure in document["figures"] for one in (figure["ours"], *figure["peers"])]
    every = [load for one in series for _, load in one["samples_and_loads"]]
    return f"{min(every):.1f} to {max(every):.1f} runnable processes (means of a minute)" if every else "unknown"
