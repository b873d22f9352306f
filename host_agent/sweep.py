"""Ageing in practice: now and then asks the NICs what they heard of, and lets old records go.

Decides: when to look. Never touches: which records are too old (ageing.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from host_agent.ageing import Aged, too_old
from host_agent.connection import Connection
from host_agent.loop import Loop
from host_agent.peer import EnginePeer
from host_agent.policy import HOST
from host_agent.records import RecordKeeper
from host_agent.verbs import Message, PeerGone

_ID = -1  # of a `statistics` that no move waits for


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
        self._active: dict[Connection, int] = {}
        self._awaited: set[int] = set()
        self._loop.after(self._every, self._ask)

    def _ask(self) -> None:
        self._active.clear()
        self._awaited = {place for place in self._peers if place != HOST}
        for place in tuple(self._awaited):
            try:
                self._peers[place].send(Message("statistics", {"id": _ID}))
            except PeerGone:
                self.gone(place)
        self._decide_if_all_have_answered()

    def heard(self, place: int, reply: Message) -> bool:
        """Takes a reply if it is to a question of ours."""
        if reply.fields["re"] != _ID:
            return False
        for each in reply.fields["connections"]:
            if "last_seen" in each:  # no frame has come to it yet
                self._active[Connection(*each["connection"])] = each["last_seen"]
        self.gone(place)
        return True

    def gone(self, place: int) -> None:
        """Nothing more will be heard of that NIC."""
        if place in self._awaited:
            self._awaited.discard(place)
            self._decide_if_all_have_answered()

    def _decide_if_all_have_answered(self) -> None:
        if not self._awaited:
            self._aged(too_old(self._records.all(), self._active, time.monotonic_ns(), age=self._age))
            self._loop.after(self._every, self._ask)
