"""What makes one value of many: `all`, `max`, `p99` …; and arithmetic on lists, value by value.

Pure. `expect` has the language around it.
"""

import re
import statistics
from collections.abc import Callable
from typing import Any

Values = list[Any]
_AGGREGATES: dict[str, Callable[[Values], Any]] = {
    "all": all,
    "any": any,
    "count": sum,
    "sum": sum,
    "min": min,
    "max": max,
    "mean": statistics.fmean,
    "median": statistics.median,
}
OF_TRUTHS = ("all", "any", "count")
OF_NONE = ("any", "count", "sum")
"""Those that mean something of an empty list."""
AGGREGATES = (*_AGGREGATES, "p50", "p90", "p99")
"""What makes one value of many; every percentile from p1 to p99 is there."""


class NothingMeasuredError(Exception):
    """An aggregate of no values, or lists that do not go in step."""


def maker(word: str) -> Callable[[Values], Any] | None:
    """What an aggregate does; None for a word that is none."""
    if re.fullmatch(r"p[1-9][0-9]?", word):
        # The nearest rank: the smallest value that so many percent of all are not above.
        return lambda values: sorted(values)[-(-int(word[1:]) * len(values) // 100) - 1]
    return _AGGREGATES.get(word)


def listed(value: Any) -> Values:
    return value if isinstance(value, list) else [value]


def brief(value: Any) -> object:
    """A list as it is told to people: all of it, or its size and extremes."""
    if not isinstance(value, list) or len(value) <= 8:
        return value
    if all(isinstance(one, bool) for one in value):
        return {"values": len(value), "true": sum(value)}
    return {"values": len(value), "min": min(value), "median": statistics.median(value), "max": max(value)}


def each(act: Callable[..., Any], *sides: Any) -> Any:
    """Once, or for each value of the lists among the sides, which go in step."""
    sizes = {len(side) for side in sides if isinstance(side, list)}
    if not sizes:
        return act(*sides)
    if len(sizes) > 1:
        raise NothingMeasuredError("lists of different lengths cannot be compared value by value")
    (size,) = sizes
    rows = zip(*(side if isinstance(side, list) else [side] * size for side in sides), strict=True)
    return [act(*row) for row in rows]
