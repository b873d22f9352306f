"""Looks for floods now and then, a slice of the records at a time, and tells of them.

Decides: when to look. Never touches: what a flood is (flood.py).
"""

from __future__ import annotations

import time
from functools import partial

from host_agent.decision import Block
from host_agent.emit import emit
from host_agent.flood import Count, Floods
from host_agent.loop import Loop
from host_agent.records import RecordKeeper, Slices
from host_agent.sweep import TURN

_EVERY = 0.5  # seconds


class FloodWatch:
    """who: as its events call the agent. per_s: how many half-open connections a second to one port are a flood."""

    def __init__(self, who: str, loop: Loop, records: RecordKeeper, nics: int, per_s: float):
        self.floods = Floods(per_s)
        self._who, self._loop, self._records, self._nics = who, loop, records, range(nics)
        self._known = self._new_ones()
        self._since: dict[int, float] = {}
        self._loop.after(_EVERY, self._look)

    def _new_ones(self) -> int:
        return sum(self._records.counts(nic)[Block.NEW.label] for nic in self._nics)

    def _look(self) -> None:
        known, self._known = self._known, self._new_ones()
        if self.floods.worth_a_look(self._known - known, _EVERY, time.monotonic()):
            now = time.monotonic_ns()
            self._go_through(self._records.quiet(now, now, half_open=True), Count(), now)
        else:
            self._loop.after(_EVERY, self._look)

    def _go_through(self, slices: Slices, count: Count, now: int) -> None:
        """One slice in each turn of the loop: a link that dies meanwhile does not wait for all records."""
        some = next(slices, None)
        if some is not None:
            count.add(some, now)
            self._loop.after(TURN, partial(self._go_through, slices, count, now))
            return
        begun, over = self.floods.judge(count)
        for flood in begun:
            self._since[flood.port] = time.monotonic()
            emit(self._who, "flood", **flood.fields())
        for flood in over:
            lasted = round(time.monotonic() - self._since.pop(flood.port), 3)
            emit(self._who, "flood_over", port=flood.port, seconds=lasted)
        self._loop.after(_EVERY, self._look)
