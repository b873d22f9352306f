"""Scales, ticks, steps and places for names; what is drawn is looked at by Chromium, in test_page.py."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.plot import Bar, Curve, LogScale, Plot, apart, bars, draw, linear, logarithmic, shares


def test_a_logarithmic_scale_gives_each_power_the_same_room() -> None:
    scale = LogScale(1, 10_000, 100, 500)
    assert [scale(value) for value in (1, 10, 100, 1000, 10_000)] == pytest.approx([100, 200, 300, 400, 500])
    assert scale(0) == 100, "what has no logarithm is at its beginning"


@pytest.mark.parametrize(
    ("least", "most", "count", "ticks"),
    [
        (2, 50, 9, [2, 5, 10, 20, 50]),
        (1, 10_000, 9, [1, 10, 100, 1000, 10_000]),
        (0.1, 20_000, 7, [0.1, 1, 10, 100, 1000, 10_000]),
        (0.001, 1000, 4, [0.001, 0.01 * 10, 10, 1000]),
    ],
)
def test_logarithmic_ticks_are_round_and_not_too_many(
    least: float, most: float, count: int, ticks: list[float]
) -> None:
    assert LogScale(least, most, 0, 1).ticks(count) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("values", "least", "most"),
    [([3, 40], 2, 50), ([1, 5000], 1, 5000), ([7], 5, 10), ([5], 5, 10), ([0, 3], 2, 5), ([], 1, 2)],
)
def test_a_scale_holds_all_values_between_round_ends(values: list[float], least: float, most: float) -> None:
    scale = logarithmic(values, 0, 1)
    assert (scale.least, scale.most) == pytest.approx((least, most))


def test_a_linear_scale_begins_at_nothing() -> None:
    assert linear([20, 100], 0, 1)(0) == 0
    assert linear([20, 100], 0, 1)(100) == pytest.approx(1 / 1.05)
    assert linear([], 0, 1).most == linear([0.0], 0, 1).most == 1


def test_shares_go_up_by_one_of_all_at_each_value() -> None:
    assert shares([5, 1, 9, 5]) == [
        (1, 0.0),
        (1, 0.25),
        (5, 0.25),
        (5, 0.5),
        (5, 0.5),
        (5, 0.75),
        (9, 0.75),
        (9, 1.0),
    ]
    assert shares([]) == []


def test_names_make_room_for_one_another() -> None:
    assert apart([100, 50], 10, 0, 200) == [100, 50], "what has room stays"
    assert apart([50, 52, 51], 10, 0, 200) == [50, 70, 60]
    assert apart([199, 198], 10, 0, 200) == [200, 190], "none is below the end"
    assert apart([-5], 10, 0, 200) == [0]
    assert apart([], 10, 0, 200) == []


@given(st.lists(st.floats(0, 200), max_size=12))
def test_names_keep_their_order_and_distance(places: list[float]) -> None:
    found = apart(places, 15, 0, 200)
    assert all(0 <= place <= 200 for place in found)
    ordered = [place for _, place in sorted(zip(places, found, strict=True), key=lambda pair: (pair[0], pair[1]))]
    assert all(below - above >= 15 - 1e-6 for above, below in pairwise(ordered))


def test_a_curve_goes_where_its_values_are() -> None:
    curve = Curve("<ours>", "c1", [(1, 0.0), (100, 1.0)], told=["a & b"])
    plot = Plot("head", "ms", [curve], {"median 10": 10}, share=True)
    x, y = plot.scales(0, 440, 230)
    assert (x(1), x(100)) == (x.begin, x.end)
    assert (y(0), y(1)) == (y.begin, y.end)
    drawn = str(draw("label", [plot]))
    assert f'd="M{x.begin:.1f} {y.begin:.1f}L{x.end:.1f} {y.end:.1f}"' in drawn
    assert "<title>&lt;ours&gt;</title>" in drawn
    assert "<title>a &amp; b</title>" in drawn
    middle = f"{(x.begin + x.end) / 2:.2f}".rstrip("0").rstrip(".")
    assert f'<line x1="{middle}" y1="{y.begin:g}" x2="{middle}"' in drawn, "the rule is in the middle of 1 and 100"


def test_plots_stand_side_by_side_then_below() -> None:
    plot = Plot("head", "ms", [Curve("ours", "c1", [(1, 1.0)])], {})
    drawn = str(draw("label", [plot] * 3))
    assert drawn.count('transform="translate(0 0)"') == 2
    assert drawn.count('transform="translate(0 318)"') == 1
    assert 'viewBox="0 0 880 636"' in drawn


def test_the_longest_bar_and_what_it_may_be_fit() -> None:
    drawn = str(
        bars("label", {"all": [Bar("ours", "c1", 2.0, [1.0, 4.0], limit=2.7), Bar("peer", "c2", 1.0, [])]}, "s")
    )
    x = linear([4.0], 230, 820)
    assert f'width="{x(2.0) - 230:.2f}"' in drawn
    place = f"{x(2.7):.2f}"
    assert re.search(f'<line x1="{place}" y1="[^"]*" x2="{place}" y2="[^"]*" class="s target"', drawn)
    assert drawn.count('class="sample"') == 2


def test_what_is_to_be_reached_keeps_clear_of_the_plots_sides() -> None:
    curve = Curve("a", "c1", [(1.0, 0.0), (100.0, 1.0)])
    drawn = draw("", [Plot("head", "ms", [curve], {"left": 1.0, "within": 10.0, "right": 100.0}, share=True)])
    anchors = {words: re.search(rf"<text[^>]*>{words}<", str(drawn)) for words in ("left", "within", "right")}
    found = {words: re.findall(r'text-anchor="(\w+)"', one[0]) for words, one in anchors.items() if one}
    assert found == {"left": ["start"], "within": ["middle"], "right": ["end"]}
