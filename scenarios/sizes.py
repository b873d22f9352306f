"""Sizes of many connections: all alike, or drawn from a distribution; decides how many bytes each one moves.

Pure. Both ends and the measurements draw the same sizes from the same seed.

    1000      {"uniform": [1000, 5000]}      {"exponential": 64000}      {"pareto": 64000}      in bytes; the mean
"""

import random
from collections.abc import Mapping
from typing import Any

Size = int | Mapping[str, Any]

PARETO_SHAPE = 1.5
"""Few large ones among many small ones, as files are."""
LARGEST = 100
"""No connection moves more than so many times the mean, so that a run has an end."""


def draw(size: Size, seed: int, direction: str, index: int) -> int:
    """The bytes of the connection of that number in that direction: `size` itself, or at least one."""
    if isinstance(size, int):
        return size
    chance = random.Random(f"{seed}/{direction}/{index}")
    if "uniform" in size:
        least, most = size["uniform"]
        return chance.randint(int(least), int(most))
    mean = int(size.get("exponential") or size["pareto"])
    if "exponential" in size:
        drawn = chance.expovariate(1 / mean)
    else:
        drawn = chance.paretovariate(PARETO_SHAPE) * mean * (PARETO_SHAPE - 1) / PARETO_SHAPE
    return max(1, min(int(drawn), mean * LARGEST))


def total(size: Size, seed: int, direction: str, count: int) -> int:
    """Of all connections."""
    return size * count if isinstance(size, int) else sum(draw(size, seed, direction, k) for k in range(count))
