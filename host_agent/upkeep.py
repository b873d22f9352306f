"""What an engine does for the connections that stay with it: next hops, path MTUs, memory, and what it tells of them.

Decides: which connections an `update` means, and which are to leave when memory is short. Never touches: their moves
and their bytes (holding.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from host_agent import segment
from host_agent.connection import Connection
from host_agent.held import Ended, Held
from host_agent.steering import Steering
from host_agent.tcp_info import STATES, info, memory, path_mtu, state

ASK_AGAIN = 1.0  # seconds until the upload of a connection is asked for again
BELIEVES = 0.01  # seconds in which TCP has heard of its path; it takes microseconds


class Upkeep:
    """live, ended: the engine's connections, as they come and go."""

    def __init__(self, live: Mapping[Connection, Held], ended: Mapping[Connection, Ended], steering: Steering):
        self._live, self._ended, self._steering = live, ended, steering

    # -- neighbour and path ------------------------------------------------------------------------------------------

    def new_hop(self, next_hop: bytes, connection: Connection | None, src: str | None, was: bytes | None) -> int:
        """Another neighbour for one connection, for all of a peer, and for all whose frames went to the MAC `was`; how
        many there are."""
        known = [
            one
            for one in (*self._live, *self._ended)
            if one == connection or one.src == src or (was is not None and self._next_hop(one) == was)
        ]
        self._steering.update(known, next_hop)
        for one in known:
            if one in self._live:
                self._live[one].next_hop = next_hop
        return len(known)

    def _next_hop(self, connection: Connection) -> bytes | None:
        held = self._live.get(connection)
        return self._steering.next_hop(connection) or (held.next_hop if held else None)

    def new_mtu(self, src: str, mtu: int) -> None:
        """Another path MTU for all connections of a peer, from their next segment on."""
        known = next((one for one in self._live if one.src == src), None)
        if known is not None:
            with suppress(OSError):  # without, TCP finds it out by itself
                segment.tell_mtu(known, mtu)

    def too_big(self, connection: Connection, mtu: int, seq: int) -> bool:
        """A router did not pass on a segment of this connection. If its TCP believes that, it sends it again, smaller;
        whether that was news to it."""
        held = self._live.get(connection)
        if held is None or held.frozen is not None:
            return False
        if path_mtu(held.tcp, connection) <= mtu:
            return False
        with suppress(OSError):
            segment.tell_too_big(connection, mtu, seq)
        # The message may be heard on another CPU, a moment later.
        deadline = time.monotonic() + BELIEVES
        while (known := path_mtu(held.tcp, connection)) != mtu and time.monotonic() < deadline:
            time.sleep(0.0001)
        return known == mtu

    # -- memory ------------------------------------------------------------------------------------------------------

    def memory(self) -> int:
        """Bytes that all connections take."""
        return sum(memory(held.tcp) for held in self._live.values())

    def to_leave(self, limit: int) -> Iterator[Connection]:
        """Those that were silent the longest, until the rest would fit. Each is named once a second."""
        now, excess = time.monotonic(), self.memory() - limit
        live = [held for held in self._live.values() if held.frozen is None]
        for held in sorted(live, key=self._last_seen) if excess > 0 else ():
            if excess <= 0:
                return
            excess -= memory(held.tcp)
            if held.asked is None or now - held.asked >= ASK_AGAIN:
                held.asked = now
                yield held.connection

    def _last_seen(self, held: Held) -> int:
        seen = self._steering.seen(held.connection)
        return seen.last_seen if seen else 0

    # -- questions ---------------------------------------------------------------------------------------------------

    def describe(self) -> Iterator[dict[str, Any]]:
        for connection, held in self._live.items():
            where = "live" if held.frozen is None else "frozen"
            yield {"connection": connection, "state": where, "tcp": STATES[state(held.tcp)]}
        for connection in self._ended:
            yield {"connection": connection, "state": "closing", "tcp": "CLOSED"}

    def statistics(self) -> Iterator[dict[str, Any]]:
        for connection, held in self._live.items():
            told, seen = info(held.tcp), self._steering.seen(connection)
            yield {
                "connection": connection,
                **{"bytes_in": held.relay.inward.total, "bytes_out": held.relay.outward.total},
                **{"retransmits": told.retransmits, "cwnd": told.cwnd, "srtt_us": told.srtt},
                **(vars(seen) if seen else {}),
            }
