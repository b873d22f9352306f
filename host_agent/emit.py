"""One event of a run: one line of JSON on standard output.

Decides: the form only. The runner opens standard output as events.jsonl, for appending; what is appended to a
file by one write(2) is never mixed with what another process writes.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from functools import cache
from typing import Any


@cache
def _zero() -> float:
    """Asked once, but not at import: the run's is known only in the process that was forked for it."""
    return float(os.environ.get("TEAMBED_T0", "0"))


def now() -> float:
    """Seconds since the run's zero (CLOCK_MONOTONIC)."""
    return round(time.monotonic() - _zero(), 6)


def emit(who: str, event: str, **fields: Any) -> None:
    os.write(1, json.dumps({"t": now(), "who": who, "event": event, **fields}).encode() + b"\n")


def emit_each(who: str, event: str, each: Iterable[str], **common: Any) -> None:
    """An event for each, of one moment and with some fields in common. each: its other fields, as JSON without the
    braces."""
    begin = json.dumps({"t": now(), "who": who, "event": event, **common})[:-1]
    lines = "".join([f"{begin}, {fields}}}\n" for fields in each])
    if lines:
        os.write(1, lines.encode())
