"""One event of a run: one line of JSON on standard output.

Decides: the form only. The runner opens standard output as events.jsonl, for appending; a line of at most 4 KiB in one
write(2) is never torn or mixed with another process's.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

_ZERO = float(os.environ.get("TEAMBED_T0", "0"))


def now() -> float:
    """Seconds since the run's zero (CLOCK_MONOTONIC)."""
    return round(time.monotonic() - _ZERO, 6)


def emit(who: str, event: str, **fields: Any) -> None:
    os.write(1, json.dumps({"t": now(), "who": who, "event": event, **fields}).encode() + b"\n")
