"""The statistics, the order of measurements and the words of a benchmark; no time is measured here."""

import json
import math

import pytest

from benchmarks.harness import (
    OURS,
    Figure,
    Report,
    Sample,
    Series,
    Target,
    alone,
    alternate,
    figure,
    last_line,
    number,
    percentile,
)


def series(who: str, *values: float) -> Series:
    return Series(who, tuple(Sample(value, 0.5) for value in values))


def test_median_p99_and_maximum_are_of_what_was_measured() -> None:
    one = series("x", *range(1, 201))
    assert (one.median, one.p99, one.maximum) == (100.5, 198, 200)
    assert percentile([3, 1, 2], 99) == 3
    assert percentile([3, 1, 2], 1) == 1
    assert percentile([7], 50) == 7


def test_a_child_that_failed_is_told_of_whatever_it_said() -> None:
    assert last_line("all went well\nno, it did not\n\n", 1) == "no, it did not"
    assert last_line(" \n", -9) == "it ended with status -9 and said nothing"


def test_candidates_take_turns() -> None:
    """A B A B, each with the load at its own time."""
    order: list[str] = []
    loads = iter([1.0, 2.0, 3.0, 4.0])

    def measure(who: str, value: float) -> float:
        order.append(who)
        return value

    found = alternate({OURS: lambda: measure(OURS, 6.0), "peer": lambda: measure("peer", 3.0)}, 2, lambda: next(loads))
    assert order == [OURS, "peer", OURS, "peer"]
    assert found[OURS].samples == (Sample(6.0, 1.0), Sample(6.0, 3.0))
    assert found["peer"].samples == (Sample(3.0, 2.0), Sample(3.0, 4.0))
    assert figure("x", "ms", found).ratio() == 2.0


def test_a_ratio_is_to_the_peer_that_is_named() -> None:
    one = Figure("x", "ms", series(OURS, 10, 20, 90), (series("a", 5, 10, 10), series("b", 40, 40, 45)))
    assert (one.ratio(), one.ratio("b")) == (2.0, 0.5)
    assert one.ratio("b", "maximum") == 2.0
    assert Figure("x", "ms", series(OURS, 1), (series("nothing", 0),)).ratio() == math.inf
    with pytest.raises(StopIteration):
        one.ratio("c")


@pytest.mark.parametrize(
    ("measured", "limit", "at_least", "met"),
    [
        (1.0, 1.5, False, True),
        (1.5, 1.5, False, True),
        (1.6, 1.5, False, False),
        (0.9, 0.95, True, False),
        (0.95, 0.95, True, True),
    ],
)
def test_a_target_is_met_or_not(measured: float, limit: float, at_least: bool, met: bool) -> None:
    target = Target("goodput", measured, limit, at_least)
    assert target.met is met
    assert target.line().startswith("✓" if met else "✗")
    assert ("at least" in target.line()) is at_least


def test_the_table_and_the_document_say_the_same() -> None:
    report = Report("name", "what it is about", conditions={"samples": 3}, notes=["a note"])
    report.figures = [figure("moved", "ms", {OURS: series(OURS, 1, 2, 30), "floor": series("floor", 4, 4, 4)})]
    report.figures.append(alone("slice", "ms", [Sample(12345.6, 2.0)]))
    report.targets = [Target("moved over floor", 0.5, 1.0)]
    lines = report.text().splitlines()
    assert lines[0] == "name: what it is about"
    assert lines[2].split() == ["moved", "(ms)", "ours", "2", "30", "30", "3", "0.5"]
    assert lines[3].split() == ["floor", "4", "4", "4", "0.50", "3", "0.5"]
    assert lines[4].split() == ["slice", "(ms)", "ours", "12,346", "12,346", "12,346", "1", "2.0"]
    assert lines[5:] == ["  ✓ moved over floor: 0.5, at most 1", "  a note"]

    document = json.loads(json.dumps(report.document()))
    moved = document["figures"][0]
    assert moved["ours"]["samples_and_loads"] == [[1, 0.5], [2, 0.5], [30, 0.5]]
    assert moved["peers"][0]["ratio"] == {"median": 0.5, "p99": 7.5, "maximum": 7.5}
    assert document["targets"] == [
        {"text": "moved over floor", "measured": 0.5, "limit": 1.0, "at_least": False, "met": True}
    ]
    assert document["conditions"] == {"samples": 3}


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01234, "0.0123"), (99.94, "99.9"), (100, "100"), (1234567, "1,234,567")]
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text
