"""One connection of an engine: what is kept of it while it lives there, and when it has ended.

Decides: nothing. Never touches: what happens to it (holding.py, upkeep.py).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import NamedTuple

from host_agent.connection import Connection
from host_agent.context import NAMES, Context
from host_agent.relay import Relay
from host_agent.repair import CannotMove, Reading
from host_agent.tcp_info import Settings
from host_agent.told import Told


@dataclass(slots=True, eq=False)
class Held:
    """One connection that lives here: its TCP socket, the application's channel, and what carries bytes between.

    next_hop: where its frames go, while the steering knows nothing of it. frozen: what the relay held, to the peer and
    to the application, since a save. last_state: of the TCP, while it was not CLOSED. ending: the steering was told
    that both streams have ended. first: sequence number of the first byte that the relay got, if known. asked: when its
    upload was asked for, memory being short (seconds). settings: of the TCP socket, if it was restored here.
    fills: a sink has not taken all bytes at once. waits: carries no bytes before it is released, and `asks` then.
    laden: it had bytes to carry along when it was saved."""

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
    laden: bool = False

    def arrived(self, context: Context) -> None:
        """It was restored here."""
        self.settings = Settings(context.mss, context.buffer_locks, context.congestion, context.options)
        self.next_hop = context.next_hop
        self.first = context.rcv_nxt - context.state.fin_in - len(context.received)
        self.relay.outward.done = context.app_ended
        self.relay.inward.done = context.peer_ended

    def told(self, reading: Reading, context: Context, size: int) -> Told:
        """What the reply to a save says of it. size: of the packed context."""
        info, relay = reading.told, self.relay
        return Told(
            *(size, NAMES[context.state], context.snd_una, context.rcv_nxt),
            *(info.retransmits, relay.inward.total, relay.outward.total),
            *(info.cwnd, info.ssthresh, info.srtt, info.rto, info.out_of_order, reading.out_of_order, int(info.ecn)),
        )


class NotHere(CannotMove):
    """There is nothing to be saved."""

    reason = "absent"


@dataclass(eq=False)
class Ended:
    """What is left of a connection whose socket is gone. rcv_nxt: as its TIME-WAIT has it, if it is known."""

    rcv_nxt: int | None


class Saved(NamedTuple):
    """One frozen connection: what is told of it, its packed context, and its channel, which stays its own."""

    connection: Connection
    told: Told
    context: bytes
    channel: int
