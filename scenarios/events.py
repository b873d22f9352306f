"""Events: a line of JSON each in `events.jsonl`, the one record of a run. Decides their form.

Touches file descriptors and the clock, nothing else. Every process of a run appends to the same file; a line
is one write of at most 4096 bytes, so lines never mix, but for the half of one that a killed process may leave.
"""

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LONGEST = 4096
ZERO = "TEAMBED_T0"
"""The environment variable that holds the run's zero, in seconds of CLOCK_MONOTONIC."""

Event = dict[str, Any]
_BEGIN = b'{"t":'


class Damaged(Exception):
    """An event makes no sense: its line in the file, and why, for a person."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


class Told(Event):
    """An event of a finished run. It knows its line, to say so when a word is asked for that it lacks."""

    line = 0

    def without(self, key: str) -> "Told":
        """The same event, had it not told this."""
        other = Told((name, value) for name, value in self.items() if name != key)
        other.line = self.line
        return other

    def __missing__(self, key: str) -> Any:
        raise Damaged(self.line, f"the event `{self.get('event')}` lacks `{key}`")


class Emitter:
    """Writes the events of one process; callable: `emit("done", traffic="download")`."""

    def __init__(self, who: str, fd: int = 1, zero: float | None = None) -> None:
        """`fd` is open for appending; `zero` is the run's, from the environment when not given."""
        self.who, self.fd = who, fd
        self.zero = float(os.environ.get(ZERO, "0")) if zero is None else zero

    def __call__(self, event: str, **keys: object) -> None:
        """Write one event now. A text that is too long for a line is cut."""
        head = {"t": round(time.monotonic() - self.zero, 6), "who": self.who, "event": event}
        line = _line(head | keys)
        if len(line) > LONGEST:
            line = _line(head | {key: v[:500] if isinstance(v, str) else v for key, v in keys.items()})
        if len(line) > LONGEST:
            line = _line(head | {"too_long": len(line)})
        os.write(self.fd, line)


def _line(event: Event) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


class Tail:
    """Reads the events that were added since the last look."""

    def __init__(self, path: Path) -> None:
        """The file must exist."""
        self._file = path.open("rb")
        self._rest = b""

    def read(self) -> list[Event]:
        """The new events, in the file's order. An unfinished line waits; what is no event is left out."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return list(_parse(lines))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> list[Told]:
    """All events of a finished run, in the order of their times."""
    events: list[Told] = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        for event in _parse([line]):
            told = Told(event)
            told.line = number
            events.append(told)
    return sorted(events, key=lambda event: event["t"])


def _parse(lines: list[bytes]) -> Iterator[Event]:
    for line in lines:
        event = _event(line)
        if event is None:  # a process that is killed may leave half a line, and the next one's whole line is behind it
            event = _event(line[line.find(_BEGIN, 1) :])
        if isinstance(event, dict) and isinstance(event.get("event"), str) and _is_time(event.get("t")):
            yield event


def _event(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_time(t: object) -> bool:
    return isinstance(t, int | float) and not isinstance(t, bool) and math.isfinite(t)
