"""Counts the records now and then, and tells how many each NIC has, and how many of them are offloaded.

Decides: when to count. Never touches: the records; the frame path makes them, so nobody else can tell of each.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from host_agent.emit import emit
from host_agent.loop import Loop
from host_agent.records import RecordKeeper
from host_agent.sweep import TURN

EVERY = 0.1  # seconds, at least
SHARE = 50  # a count rests so many times as long as it took: with a million records it takes a fifth of a second

Slices = Iterator[Counter[tuple[int, bool]]]


class Headcount:
    """who: as its events call the agent. names: of the NICs, by id."""

    def __init__(self, who: str, loop: Loop, records: RecordKeeper, names: Sequence[str]):
        self._who, self._loop, self._records, self._names = who, loop, records, names
        self._told: dict[str, list[int]] = {name: [0, 0] for name in names}
        self._loop.after(EVERY, self._begin)

    def _begin(self) -> None:
        self._go_through(self._records.tally(), Counter(), 0.0)

    def _go_through(self, slices: Slices, found: Counter[tuple[int, bool]], took: float) -> None:
        """A slice in each turn of the loop, as the sweep does."""
        began = time.monotonic()
        some = next(slices, None)
        took += time.monotonic() - began
        if some is not None:
            found.update(some)
            self._loop.after(TURN, partial(self._go_through, slices, found, took))
            return
        now = {name: [found[nic, False] + found[nic, True], found[nic, True]] for nic, name in enumerate(self._names)}
        if now != self._told:
            self._told = now
            emit(self._who, "headcount", nics=now)
        self._loop.after(max(EVERY, SHARE * took), self._begin)
