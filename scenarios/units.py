"""Durations, sizes and rates as people write them; decides which units exist and what they are worth.

Pure. Base units: seconds (float), bytes (int), bits per second (int). A number without its unit is refused:
`rate: 200` would mean something else to everybody who reads it.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

_WRITTEN = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)")


class UnitError(ValueError):
    """A quantity that cannot be read: one line, with what to write instead."""


@dataclass(frozen=True)
class Kind:
    """One kind of quantity: its name, its units in base units (smallest first), an example to show people."""

    name: str
    units: dict[str, Decimal]
    example: str

    def parse(self, written: object) -> Decimal:
        """The quantity in base units, exactly. Raises UnitError."""
        if isinstance(written, bool) or not isinstance(written, (str, int, float)):
            raise UnitError(f"a {self.name} is a number with a unit, for example {self.example}")
        found = _WRITTEN.fullmatch(str(written).strip())
        if not found:
            raise UnitError(f"`{written}` is not a {self.name}; write for example {self.example}")
        number, unit = found.groups()
        if not unit:
            choices = " or ".join(f"{number}{unit}" for unit in self.units)
            raise UnitError(f"`{written}` has no unit; write {choices}")
        if unit not in self.units:
            raise UnitError(f"`{unit}` is no unit of a {self.name}; use {', '.join(self.units)}")
        return Decimal(number) * self.units[unit]


def _decimals(units: dict[str, str]) -> dict[str, Decimal]:
    return {unit: Decimal(worth) for unit, worth in units.items()}


DURATION = Kind("duration", _decimals({"us": "0.000001", "ms": "0.001", "s": "1"}), "1.5s")
SIZE = Kind(
    "size",
    _decimals(
        {
            "B": "1",
            "KB": "1e3",
            "KiB": "1024",
            "MB": "1e6",
            "MiB": "1048576",
            "GB": "1e9",
            "GiB": "1073741824",
        }
    ),
    "64KiB",
)
RATE = Kind("rate", _decimals({"kbit": "1e3", "mbit": "1e6", "gbit": "1e9"}), "200mbit")


def parse_duration(written: object) -> float:
    """`1.5s`, `200ms`, `50us` → seconds. Raises UnitError."""
    return float(DURATION.parse(written))


def parse_size(written: object) -> int:
    """`64KiB`, `100MB`, `1B` → bytes, a whole number. Raises UnitError."""
    size = SIZE.parse(written)
    if size != int(size):
        raise UnitError(f"`{written}` is not a whole number of bytes")
    return int(size)


def parse_rate(written: object) -> int:
    """`200mbit`, `1.5gbit` → bits per second, at least 1. Raises UnitError."""
    rate = RATE.parse(written)
    if rate < 1:
        raise UnitError(f"`{written}` is less than one bit per second; for no limit leave the rate out")
    return int(rate)


def parse_after(written: object) -> int | float:
    """`64KiB` → bytes as an int, `500ms` → seconds as a float. Raises UnitError."""
    found = _WRITTEN.fullmatch(str(written).strip())
    if found and found.group(2) in DURATION.units:
        return parse_duration(written)
    return parse_size(written)


def parse_arrivals(written: object) -> float:
    """`500/s` → connections per second, more than none. Raises UnitError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?/ ?s", str(written).strip())
    if not found or float(found.group(1)) <= 0:
        raise UnitError(f"`{written}` is not a rate of arrivals; write for example 500/s")
    return float(found.group(1))


def parse_share(written: object) -> float:
    """`1%`, `0.1%` → a share of one. Raises UnitError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", str(written).strip())
    if not found:
        raise UnitError(f"`{written}` is not a share; write for example 1%")
    if float(found.group(1)) > 100:
        raise UnitError(f"`{written}` is more than everything; use at most 100%")
    return float(Decimal(found.group(1)) / 100)


def written(parse: object, value: Any) -> str:
    """What one of these functions would read as this value: `200ms`, `10mbit`, `500/s`, `1%`; else the value itself."""
    if parse is parse_duration:
        return f"{value:g}s" if value >= 1 else f"{value * 1000:g}ms"
    if parse is parse_rate:
        return f"{value / 1e6:g}mbit"
    if parse is parse_arrivals:
        return f"{value:g}/s"
    if parse is parse_share:
        return f"{value * 100:g}%"
    return str(value).lower() if isinstance(value, bool) else str(value)


def show_size(size: float) -> str:
    """Bytes for a person: `100 MB`, `64.0 KB`, `12 B`."""
    for unit, worth in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if size >= worth:
            return f"{size / worth:.1f} {unit}"
    return f"{size:.0f} B"


def show_ms(milliseconds: float | None) -> str:
    """Milliseconds for a person: `0.42 ms`, `12.3 ms`, `2.41 s`; `–` for none."""
    if milliseconds is None:
        return "–"
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.2f} s"
    return f"{milliseconds:.2f} ms" if milliseconds < 10 else f"{milliseconds:.1f} ms"


def parse_ports(written: object) -> tuple[int, int]:
    """`30000-30009` → (30000, 30009). Raises UnitError."""
    match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", written) if isinstance(written, str) else None
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 0 < first <= last < 65536:
        raise UnitError(f"{written!r} is no range of ports; write for example 30000-30009")
    return first, last
