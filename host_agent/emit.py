"""One event of a run: one line of JSON on standard output.

Decides: the form only. The runner opens standard output as events.jsonl, for appending; what is appended to a
file by one write(2) is never mixed with what another process writes.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

_MARK = "\0"
_MARKED = f", {json.dumps(_MARK)}"


@cache
def _zero() -> float:
    """Asked once, but not at import: the run's is known only in the process that was forked for it."""
    return float(os.environ.get("TEAMBED_T0", "0"))


def now() -> float:
    """Seconds since the run's zero (CLOCK_MONOTONIC)."""
    return round(time.monotonic() - _zero(), 6)


def emit(who: str, event: str, **fields: Any) -> None:
    os.write(1, json.dumps({"t": now(), "who": who, "event": event, **fields}).encode() + b"\n")


def emit_each(who: str, event: str, each: Iterable[Mapping[str, Any]], **common: Any) -> None:
    """An event for each, of one moment and with some fields in common."""
    begin = json.dumps({"t": now(), "who": who, "event": event, **common})[:-1] + ", "
    # All by one call, which takes a third of the time, and with marks in between, which no object has within.
    marked = [part for fields in each for part in (fields, _MARK)]
    if marked:
        lines = json.dumps(marked).removeprefix("[{").removesuffix(f"{_MARKED}]").split(f"{_MARKED}, {{")
        os.write(1, "".join([f"{begin}{line}\n" for line in lines]).encode())
