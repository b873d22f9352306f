"""When new bytes arrived at a receiving end, as far as its reports tell."""

from bisect import bisect_left
from collections.abc import Sequence

from scenarios.measure.stories import Event

Stall = tuple[float, float]
"""From when until when there was no new byte, in seconds of the run."""


class Arrivals:
    """The `progress` events of one direction of one connection."""

    def __init__(self, progress: Sequence[Event]) -> None:
        """In the order of their times."""
        self._progress = progress
        self._times = [float(event["t"]) for event in progress]
        self.stalls: list[Stall] = [stall for event in progress for stall in _stalls(event)]

    def first_after(self, t: float) -> float | None:
        """Seconds from `t` to the next new byte; where no stall was told, the longest gap then. None: none came."""
        for begin, end in self.stalls:
            if begin <= t < end:
                return end - t
        index = bisect_left(self._times, t)
        before = self._progress[index - 1]["bytes"] if index else 0
        for event in self._progress[index:]:
            if event["bytes"] > before:
                # A longer gap would have been told as a stall, or ends behind `t`.
                return float(min(event["gap_ms"], STALL_MS)) / 1000
        return None


STALL_MS = 5.0
"""Shorter ones are not told by themselves (`transfer.STALL_S`)."""


def _stalls(event: Event) -> list[Stall]:
    t = float(event["t"])
    return [(t - (ago + lasted) / 1000, t - ago / 1000) for ago, lasted in event.get("stalls", ())]
