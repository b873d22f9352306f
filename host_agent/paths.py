"""Neighbour and path: which connections' frames go to another MAC from now on, and which path has another MTU.

Decides: what NICs are told of next hops, and what an ICMP message says. Never touches: engines, sockets, the network.

Whoever hears a change first tells the others, for most connections are idle then and would speak to nobody:

    a frame of some connection with another MAC (its NIC, or the frame path, says so)  -> all connections of that peer
    the host's neighbour table, by ARP or neighbour discovery (of a peer or a router)  -> all that used the old MAC
    ICMP 'too big' quotes one connection -> its TCP judges it -> all connections of that peer

A frame says nothing about other peers: two routers may take turns. But a neighbour that the table has otherwise is
asked anew, and its answer counts for all that are behind it.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from host_agent.connection import Connection

_TCP = 6


@dataclass(frozen=True)
class NewHop:
    """Frames of all connections of the peer `src`, and of those that went to the MAC `was`, go to `next_hop`."""

    src: str
    next_hop: bytes
    was: bytes | None = None

    def fields(self) -> dict[str, Any]:
        """Of an `update` (docs/verbs.md)."""
        was = {} if self.was is None else {"was": self.was.hex()}
        return {"src": self.src, "next_hop": self.next_hop.hex(), **was}


class Hops:
    """The next hops that were heard to change, and the host's neighbour table as it was last told."""

    def __init__(self, table: Iterable[tuple[str, bytes]] = ()):
        self._table = dict(table)
        self._peers: dict[str, bytes] = {}
        self._instead: dict[bytes, bytes] = {}

    def by_frame(self, src: str, mac: bytes) -> NewHop | None:
        """A peer's frames come with another MAC than before."""
        if self._peers.get(src) == mac:
            return None  # one of its connections has said so, and the others were told
        self._peers[src] = mac
        return NewHop(src, mac)

    def doubtful(self, neighbour: str, mac: bytes) -> bool:
        """Whether the neighbour that leads to a peer is to be asked anew, for the peer's frames come with this MAC."""
        return self._table.get(neighbour, mac) != mac

    def by_table(self, neighbour: str, mac: bytes) -> NewHop | None:
        """What the host's neighbour table says now."""
        was, self._table[neighbour] = self._table.get(neighbour), mac
        if was is None or was == mac:
            return None
        self._instead = {old: mac if new == was else new for old, new in self._instead.items() if old != mac}
        self._instead[was] = mac
        self._peers = {src: mac if known == was else known for src, known in self._peers.items()}
        if neighbour in self._peers:
            self._peers[neighbour] = mac
        return NewHop(neighbour, mac, was)

    def changed(self, src: str, known: bytes) -> bytes | None:
        """What has become of the next hop that somebody knew of a peer; None: nothing, as far as was heard."""
        now = self._peers.get(src) or self._instead.get(known)
        return None if now == known else now


@dataclass(frozen=True)
class TooBig:
    """A segment of this connection, with the sequence number `seq`, was larger than its path takes: `mtu` bytes."""

    connection: Connection
    mtu: int
    seq: int


def too_big(message: bytes, *, ipv6: bool) -> TooBig | None:
    """What an ICMP message says (RFC 1191, RFC 4443), None when it is something else. IPv4: with its IP header."""
    try:
        if ipv6:
            kind, code, mtu = struct.unpack_from("!BBxxI", message)
            inner = message[8:]
            if (kind, code) != (2, 0) or inner[6] != _TCP:
                return None
            ends, tcp = (inner[8:24], inner[24:40]), inner[40:]
        else:
            icmp = message[4 * (message[0] & 0xF) :]
            kind, code, mtu = struct.unpack_from("!BB4xH", icmp)
            inner = icmp[8:]
            if (kind, code) != (3, 4) or inner[9] != _TCP:
                return None
            ends, tcp = (inner[12:16], inner[16:20]), inner[4 * (inner[0] & 0xF) :]
        ours, theirs = (str(ipaddress.ip_address(one)) for one in ends)
        port, peer_port, seq = struct.unpack_from("!HHI", tcp)
    except (IndexError, ValueError, struct.error):  # it quotes too little
        return None
    return TooBig(Connection(theirs, peer_port, ours, port), mtu, seq) if mtu else None
