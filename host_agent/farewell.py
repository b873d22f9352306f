"""Has the peer of a lost connection reset, so that it need not wait for its own timeouts.

Decides: the form of one frame. Never touches: records, engines.

The context is lost, so nobody knows the sequence number that the peer would take an RST for (RFC 5961, 3.2). But the
peer answers an unacceptable segment with an acknowledgement of what it expects (RFC 9293, 3.10.7.4). That answer
reaches the host's TCP, which knows no such connection and resets it with exactly that number. One made-up segment is
enough:

    agent -- ACK, wrong sequence number --> peer
    host's TCP <-- ACK of what it expects -- peer
    host's TCP -- RST with that number --> peer
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct

from host_agent.connection import Connection

_ACK = 0x10


def probe(connection: Connection, source: bytes, next_hop: bytes, seq: int) -> bytes:
    """The Ethernet frame of a bare ACK from the team to the peer. source, next_hop: MACs of 6 bytes."""
    ports = struct.pack("!HH", connection.dport, connection.sport)
    tcp = ports + struct.pack("!IIBBHHH", seq, 0, 5 << 4, _ACK, 0, 0, 0)
    ours, theirs = (ipaddress.ip_address(a).packed for a in (connection.dst, connection.src))
    pseudo = (
        ours + theirs + (struct.pack("!IHBB", len(tcp), 0, 0, 6) if connection.ipv6 else b"\0\6" + _short(len(tcp)))
    )
    tcp = tcp[:16] + _short(_checksum(pseudo + tcp)) + tcp[18:]
    if connection.ipv6:
        ip = struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + ours + theirs
        return next_hop + source + b"\x86\xdd" + ip + tcp
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + ours + theirs
    ip = ip[:10] + _short(_checksum(ip)) + ip[12:]
    return next_hop + source + b"\x08\x00" + ip + tcp


class Farewell:
    """Sends them, out of the virtual NIC, by whichever NIC the team then chooses.

    From one socket, for the kernel takes some hundredths of a second to close one of these, and many connections may
    be lost at once."""

    def __init__(self, interface: str):
        self._interface = interface
        self._socket: socket.socket | None = None

    def send(self, connection: Connection, next_hop: bytes) -> None:
        """Two numbers half the space apart: one of them is outside the peer's window for certain. Raises OSError when
        the interface is down."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((self._interface, 0))
        source: bytes = self._socket.getsockname()[4]
        seq = int.from_bytes(os.urandom(4))
        for number in (seq, (seq + 2**31) % 2**32):
            self._socket.send(probe(connection, source, next_hop, number))


def _short(number: int) -> bytes:
    return struct.pack("!H", number)


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
