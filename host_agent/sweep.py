"""Ageing in practice: now and then asks the NICs what they heard of, and lets old records go.

Decides: when to look. Never touches: which records are too old (ageing.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from host_agent.ageing import Aged, since, too_old
from host_agent.connection import Connection
from host_agent.loop import Loop
from host_agent.peer import EnginePeer, ask_all
from host_agent.policy import HOST
from host_agent.records import RecordKeeper, Slices

TURN = 0.001
"""Seconds between two slices: as timers go, all of them would be due in the same turn without."""


class Sweep:
    """age: seconds. aged: called with what is too old."""

    def __init__(
        self,
        loop: Loop,
        records: RecordKeeper,
        peers: Mapping[int, EnginePeer],
        age: float,
        aged: Callable[[Aged], None],
    ):
        self._loop, self._records, self._peers, self._age, self._aged = loop, records, peers, age, aged
        self._every = min(max(age / 4, 0.05), 5.0)
        self._loop.after(self._every, self._ask)

    def _ask(self) -> None:
        ask_all({place: peer for place, peer in self._peers.items() if place != HOST}, "statistics", self._decide)

    def _decide(self, answers: dict[int, dict[str, Any]]) -> None:
        told = (each for answer in answers.values() for each in answer["connections"])
        active = {Connection(*each["connection"]): each["last_seen"] for each in told if "last_seen" in each}
        now = time.monotonic_ns()
        self._decide_on(self._records.quiet(*since(now, self._age)), active, now)

    def _decide_on(self, slices: Slices, active: Mapping[Connection, int], now: int) -> None:
        """A slice a turn: with a million records the agent would hear of no fault for a second."""
        some = next(slices, None)
        if some is None:
            self._loop.after(self._every, self._ask)
            return
        self._aged(too_old(some, active, now, age=self._age))
        self._loop.after(TURN, partial(self._decide_on, slices, active, now))
