"""Quantities: what people write, what it is worth, what is refused with which words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios import units
from scenarios.units import UnitError, parse_after, parse_arrivals


@pytest.mark.parametrize(
    ("parse", "written", "worth"),
    [
        (units.parse_duration, "2s", 2.0),
        (units.parse_duration, "1.5 s", 1.5),
        (units.parse_duration, "250ms", 0.25),
        (units.parse_duration, "50us", 0.00005),
        (units.parse_size, "64KiB", 65536),
        (units.parse_size, "100MB", 100_000_000),
        (units.parse_size, "1.5KB", 1500),
        (units.parse_size, "0B", 0),
        (units.parse_rate, "200mbit", 200_000_000),
        (units.parse_rate, "1.5gbit", 1_500_000_000),
    ],
)
def test_worth(parse, written, worth):
    assert parse(written) == worth


@pytest.mark.parametrize(
    ("parse", "written", "reason"),
    [
        (units.parse_rate, 200, "`200` has no unit; write 200kbit or 200mbit or 200gbit"),
        (units.parse_duration, "3", "`3` has no unit; write 3us or 3ms or 3s"),
        (units.parse_duration, "3m", "`m` is no unit of a duration; use us, ms, s"),
        (units.parse_rate, "10MB", "`MB` is no unit of a rate; use kbit, mbit, gbit"),
        (units.parse_size, "-1MB", "`-1MB` is not a size; write for example 64KiB"),
        (units.parse_size, "1.5B", "`1.5B` is not a whole number of bytes"),
        (
            units.parse_rate,
            "0mbit",
            "`0mbit` is less than one bit per second; for no limit leave the rate out",
        ),
        (units.parse_duration, True, "a duration is a number with a unit, for example 1.5s"),
        (units.parse_size, None, "a size is a number with a unit, for example 64KiB"),
        (units.parse_size, ["1MB"], "a size is a number with a unit, for example 64KiB"),
    ],
)
def test_refused(parse, written, reason):
    with pytest.raises(units.UnitError) as error:
        parse(written)
    assert str(error.value) == reason


@given(st.sampled_from([units.DURATION, units.SIZE, units.RATE]), st.data(), st.integers(0, 10**12))
def test_what_is_written_comes_back_exactly(kind, data, number):
    unit = data.draw(st.sampled_from(list(kind.units)))
    assert kind.parse(f"{number}{unit}") / kind.units[unit] == number


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text):
    for parse in (units.parse_duration, units.parse_size, units.parse_rate):
        try:
            assert parse(text) >= 0
        except units.UnitError:
            continue


@pytest.mark.parametrize(
    ("milliseconds", "shown"), [(None, "–"), (0.416, "0.42 ms"), (12.34, "12.3 ms"), (2411.0, "2.41 s")]
)
def test_shown_milliseconds(milliseconds, shown):
    assert units.show_ms(milliseconds) == shown


@pytest.mark.parametrize(("size", "shown"), [(12, "12 B"), (64_000, "64.0 KB"), (1e8, "100.0 MB"), (2e9, "2.0 GB")])
def test_shown_sizes(size, shown):
    assert units.show_size(size) == shown


def test_after_is_a_size_or_a_duration():
    assert (parse_after("64KiB"), parse_after("500ms")) == (65536, 0.5)
    assert [type(parse_after(written)) for written in ("1B", "1s")] == [int, float]
    for wrong in ("64", "1h", "soon", 3):
        with pytest.raises(UnitError):
            parse_after(wrong)


def test_ports():
    assert units.parse_ports("30000-30009") == (30000, 30009)
    assert units.parse_ports("21-21") == (21, 21)
    for wrong in ("30009-30000", "0-9", "1-65536", "21", "a-b", 21, None):
        with pytest.raises(UnitError, match="30000-30009"):
            units.parse_ports(wrong)


def test_arrivals():
    assert parse_arrivals("500/s") == 500
    assert parse_arrivals("0.5 / s") == 0.5
    for wrong in ("500", "0/s", "500/ms", "-1/s", 5):
        with pytest.raises(UnitError, match="500/s"):
            parse_arrivals(wrong)
