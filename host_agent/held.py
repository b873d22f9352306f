"""One connection of an engine: what is kept of it while it lives there, and when it has ended.

Decides: nothing. Never touches: what happens to it (holding.py, upkeep.py).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from host_agent.connection import Connection
from host_agent.context import NAMES, Context
from host_agent.relay import Relay
from host_agent.repair import Reading
from host_agent.tcp_info import Settings


@dataclass(slots=True, eq=False)
class Held:
    """One connection that lives here: its TCP socket, the application's channel, and what carries bytes between.

    next_hop: where its frames go, while the steering knows nothing of it. frozen: what the relay held, to the peer and
    to the application, since a save. last_state: of the TCP, while it was not CLOSED. ending: the steering was told
    that both streams have ended. first: sequence number of the first byte that the relay got, if known. asked: when its
    upload was asked for, memory being short (seconds). settings: of the TCP socket, if it was restored here.
    fills: a sink has not taken all bytes at once. waits: carries no bytes before it is released, and `asks` then."""

    connection: Connection
    tcp: socket.socket
    channel: socket.socket
    relay: Relay
    next_hop: bytes = bytes(6)
    frozen: tuple[bytes, bytes] | None = None
    last_state: int = 0
    ending: bool = False
    first: int | None = None
    asked: float | None = None
    requested: bool = field(default=False, repr=False)
    settings: Settings | None = None
    fills: bool = False
    waits: bool = False
    asks: bool = False

    def told(self, reading: Reading, context: Context) -> dict[str, Any]:
        """What the reply to a save says of it."""
        w, seq = context.window, {"snd_una": context.snd_una, "snd_nxt": context.snd_nxt, "rcv_nxt": context.rcv_nxt}
        return {
            "retransmits": reading.told.retransmits,
            "bytes_in": self.relay.inward.total,
            "bytes_out": self.relay.outward.total,
            "state": NAMES[context.state],
            "lost_state": reading.lost,
            "seq": {**seq, "snd_wnd": w.snd_wnd, "rcv_wnd": w.rcv_wnd},
        }


@dataclass(eq=False)
class Ended:
    """What is left of a connection whose socket is gone. rcv_nxt: as its TIME-WAIT has it, if it is known."""

    rcv_nxt: int | None


class Saved(NamedTuple):
    """One frozen connection: what is told of it, its packed context, and its channel, which stays its own."""

    connection: Connection
    facts: dict[str, Any]
    context: bytes
    channel: int
