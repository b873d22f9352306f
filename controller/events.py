"""Writes the controller's events to stdout, one JSON line and one write each; decides nothing."""

from __future__ import annotations

import json
import os
import time
from functools import cache


@cache
def _zero() -> float:
    """Asked once, but not at import: the run's is known only in the process that was forked for it."""
    return float(os.environ.get("TEAMBED_T0", "0"))


def emit(event: str, **keys: object) -> None:
    """Write one event. `t` is in seconds since the run's zero (CLOCK_MONOTONIC)."""
    line = {"t": round(time.monotonic() - _zero(), 6), "who": "controller", "event": event, **keys}
    os.write(1, json.dumps(line, separators=(",", ":")).encode() + b"\n")
