"""Checks of what somebody wrote, in the configuration or in a request; decides how each mistake is told.

Pure.
"""

from __future__ import annotations

import re
from typing import Any

LONGEST_S = 3600.0
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


class Mistake(ValueError):
    """What is wrong and where, in one line for a person."""


def keys(value: object, where: str, needed: set[str], defaults: dict[str, object] | None = None) -> dict[str, Any]:
    """An object with these keys and no others. Raises Mistake, as all of these do."""
    defaults = defaults or {}
    if not isinstance(value, dict):
        raise Mistake(f"{where}: expected an object, not {value!r}")
    for key in sorted(needed - value.keys()):
        raise Mistake(f"{where}: the key {key!r} is missing")
    for key in value:
        if key not in needed and key not in defaults:
            known = ", ".join(sorted(needed | defaults.keys()))
            raise Mistake(f"{where}: unknown key {key!r} (known: {known})")
    return {**defaults, **value}


def text(value: object, where: str) -> str:
    """Not an empty one."""
    if not isinstance(value, str) or not value:
        raise Mistake(f"{where}: expected a text, not {value!r}")
    return value


def items(value: object, where: str) -> list[object]:
    """A list."""
    if not isinstance(value, list):
        raise Mistake(f"{where}: expected a list, not {value!r}")
    return value


def number(value: object, where: str, low: int, high: int) -> int:
    """A whole one, from low to high."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Mistake(f"{where}: expected a whole number from {low} to {high}, not {value!r}")
    return value


def seconds(value: object, where: str) -> float:
    """From 0 to LONGEST_S."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= LONGEST_S:
        raise Mistake(f"{where}: expected seconds from 0 to {LONGEST_S:g}, not {value!r}")
    return float(value)


def choice(value: object, where: str, known: Any) -> str:
    """One of the known words."""
    if not isinstance(value, str) or value not in known:
        raise Mistake(f"{where}: {value!r} is not known (known: {', '.join(known)})")
    return str(value)


def mac(value: object, where: str) -> str:
    """A MAC address, as it was written."""
    if not isinstance(value, str) or not _MAC.fullmatch(value):
        raise Mistake(f"{where}: expected a MAC address, not {value!r}")
    return value
