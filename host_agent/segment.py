"""Segments that a restored, half-closed socket is told, in the peer's name: its FIN, its ACK of ours, a path's MTU.

Decides: the form of a segment. Never touches: the network; what is written here stays in this network namespace, for
its destination is an address of this machine, and it comes in by the loopback, past all steering.

TCP_REPAIR sets queues and numbers, but not the state: a FIN received, and one acknowledged, must be lived through.
"""

from __future__ import annotations

import socket
import struct
import time

from host_agent.connection import Connection
from host_agent.context import Context, State
from host_agent.tcp_info import STATES, path_mtu, state

FIN, RST, ACK = 0x01, 0x04, 0x10  # RFC 9293, 3.1
_IPV6_HDRINCL = 36  # linux/in6.h
_TTL, _DISCARD = 64, 9
_TOLD = 0.5  # seconds until a segment over the loopback counts as lost; it takes microseconds


def tell(connection: Connection, flags: int, seq: int, ack: int, window: int) -> None:
    """A segment without data from the peer to the team's socket. window: as in the header, unsigned 16 bits, scaled.

    Raises OSError.
    """
    tcp = struct.pack("!HHIIBBHHH", connection.sport, connection.dport, seq, ack, 5 << 4, flags, window, 0, 0)
    pseudo = _address(connection, connection.src) + _address(connection, connection.dst)
    pseudo += struct.pack("!II", len(tcp), socket.IPPROTO_TCP) if connection.ipv6 else struct.pack("!HH", 6, len(tcp))
    _send(connection, socket.IPPROTO_TCP, tcp[:16] + struct.pack("!H", _sum(pseudo + tcp)) + tcp[18:])


def tell_fin(s: socket.socket, c: Context) -> None:
    """The peer's FIN. Raises OSError."""
    expected = State.CLOSING if c.state is State.CLOSING else State.CLOSE_WAIT
    make(s, c, FIN | ACK, (c.rcv_nxt - 1) % 2**32, c.snd_una, expected)


def make(s: socket.socket, c: Context, flags: int, seq: int, ack: int, expected: State) -> None:
    """The socket hears a segment in the peer's name, and is then in the expected state. Raises OSError."""
    tell(c.connection, flags, seq, ack, min(0xFFFF, c.window.snd_wnd >> (c.snd_wscale or 0)))
    deadline = time.monotonic() + _TOLD
    while state(s) != expected:
        if time.monotonic() > deadline:
            raise OSError(f"it does not come from state {STATES[state(s)]} to {STATES[expected]}")
        time.sleep(0.0001)


def tell_mtu(connection: Connection, mtu: int) -> None:
    """That something was too big for the path to this peer (RFC 1191, RFC 8201). What the kernel then remembers, for
    ten minutes, holds for all connections to it; it never raises an MTU. mtu: bytes. Raises OSError."""
    family = socket.AF_INET6 if connection.ipv6 else socket.AF_INET
    # In the name of a UDP socket: TCP would believe it only of a sequence number in flight.
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.bind((connection.dst, 0))
        s.connect((connection.src, _DISCARD))
        if path_mtu(s, connection) <= mtu:
            return
        udp = struct.pack("!HHHH", s.getsockname()[1], _DISCARD, 8, 0)
        _tell_icmp(connection, mtu, _header(connection, socket.IPPROTO_UDP, len(udp), outward=True) + udp)


def tell_too_big(connection: Connection, mtu: int, seq: int) -> None:
    """The same, of a segment of the connection itself: its TCP believes it if that is in flight, and sends it again in
    smaller ones at once. Raises OSError."""
    tcp = struct.pack("!HHIIBBHHH", connection.dport, connection.sport, seq, 0, 5 << 4, ACK, 0, 0, 0)
    _tell_icmp(connection, mtu, _header(connection, socket.IPPROTO_TCP, len(tcp), outward=True) + tcp)


def _tell_icmp(connection: Connection, mtu: int, quoted: bytes) -> None:
    if connection.ipv6:
        body = struct.pack("!BBHI", 2, 0, 0, mtu) + quoted  # packet too big
        pseudo = _address(connection, connection.src) + _address(connection, connection.dst)
        checksum = _sum(pseudo + struct.pack("!II", len(body), socket.IPPROTO_ICMPV6) + body)
    else:
        body = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quoted  # fragmentation needed
        checksum = _sum(body)
    protocol = socket.IPPROTO_ICMPV6 if connection.ipv6 else socket.IPPROTO_ICMP
    _send(connection, protocol, body[:2] + struct.pack("!H", checksum) + body[4:])


def _send(connection: Connection, protocol: int, payload: bytes) -> None:
    family = socket.AF_INET6 if connection.ipv6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        if connection.ipv6:
            s.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
        s.sendto(_header(connection, protocol, len(payload)) + payload, (connection.dst, 0))


def _header(connection: Connection, protocol: int, length: int, *, outward: bool = False) -> bytes:
    """An IP header from the peer, or (outward) to it. The kernel writes IPv4's checksum."""
    ends = [_address(connection, connection.src), _address(connection, connection.dst)]
    source, target = reversed(ends) if outward else ends
    if connection.ipv6:
        return struct.pack("!IHBB", 6 << 28, length, protocol, _TTL) + source + target
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, _TTL, protocol, 0) + source + target


def _address(connection: Connection, address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if connection.ipv6 else socket.AF_INET, address)


def _sum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
