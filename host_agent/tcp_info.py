"""What a TCP socket says of itself (TCP_INFO and its like).

Decides: nothing. Never touches: what a socket does, but for its first timeout.
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from host_agent.connection import Connection
from host_agent.context import Options

IP_MTU, IPV6_MTU, IPV6_TCLASS = 14, 24, 67  # linux/in.h, linux/in6.h
STATES = (
    *("?", "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT"),
    *("CLOSED", "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING"),
)
ESTABLISHED, FIN_WAIT2, TIME_WAIT, CLOSED, LAST_ACK = 1, 5, 6, 7, 9
CONTEXT = 4096  # bytes that a connection takes with empty queues, about
SO_MEMINFO, SO_BUF_LOCK = 55, 72  # asm-generic/socket.h
_SIOCOUTQNSD = 0x894B  # linux/sockios.h
TCP_RTO_MIN_US = 45  # linux/tcp.h
FIRST_RTO, USUAL_RTO = 10_000, 200_000
"""Microseconds. What is sent again behind a fault may be acknowledged into the dead wire, for the switch may be slower
than we are; and a full queue that waits for an acknowledgement sends nothing that could ask for another."""

_TCP, _ANY, TCP_INFO = socket.IPPROTO_TCP, socket.SOL_SOCKET, socket.TCP_INFO
# Level and name of each socket option, in the order of context.Options; IPv4, IPv6.
PLACES = tuple(
    (
        *((_TCP, socket.TCP_NODELAY), (_TCP, socket.TCP_CORK), (_TCP, socket.TCP_USER_TIMEOUT), tos, hops),
        *(
            (socket.SOL_SOCKET, socket.SO_PRIORITY),
            (_TCP, socket.TCP_LINGER2),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        ),
        *((_TCP, socket.TCP_KEEPIDLE), (_TCP, socket.TCP_KEEPINTVL), (_TCP, socket.TCP_KEEPCNT)),
    )
    for tos, hops in (
        ((socket.IPPROTO_IP, socket.IP_TOS), (socket.IPPROTO_IP, socket.IP_TTL)),
        ((socket.IPPROTO_IPV6, IPV6_TCLASS), (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)),
    )
)
_AS_NEW = Options()
_KEEPALIVE = PLACES[0].index((_ANY, socket.SO_KEEPALIVE)) + 1


# struct tcp_info of linux/tcp.h; the x are fields that nobody here asks for
_INFO = struct.Struct("=B3xBBBxI4xI4xI32xI4xI4xII16xI16xQQ8xI76xIII")
_PROGRESS = struct.Struct("=B23xI92xQQ8xI")
_PATH = struct.Struct("=8xI48xI")


class Info(NamedTuple):
    """What TCP_INFO says of what interests here; times in microseconds."""

    state: int
    backoff: int  # how often the timeout was doubled
    options: int
    scales: int
    rto: int
    snd_mss: int
    unacked: int  # segments
    path_mtu: int
    srtt: int
    ssthresh: int
    cwnd: int
    retransmits: int
    acked: int  # bytes so far, and their end of stream
    received: int  # likewise
    unsent: int  # bytes that TCP has, and their end of stream
    out_of_order: int  # segments so far, since this socket was made
    snd_wnd: int
    rcv_wnd: int

    @property
    def timestamps(self) -> bool:
        return bool(self.options & 1)

    @property
    def sack(self) -> bool:
        return bool(self.options & 2)

    @property
    def scaled(self) -> bool:
        return bool(self.options & 4)

    @property
    def ecn(self) -> bool:
        return bool(self.options & 8)


class Progress(NamedTuple):
    """The same fields of the same TCP_INFO: another one, if either stream has moved."""

    state: int
    unacked: int
    acked: int
    received: int
    unsent: int


def raw(s: socket.socket) -> bytes:
    """TCP_INFO, for info() and progress()."""
    return s.getsockopt(_TCP, TCP_INFO, _INFO.size).ljust(_INFO.size, b"\0")  # an older kernel has less of it


def progress(told: bytes) -> Progress:
    return Progress._make(_PROGRESS.unpack_from(told))


def info(s: socket.socket, told: bytes = b"") -> Info:
    return Info._make(_INFO.unpack(told or raw(s)))


def count(s: socket.socket, request: int) -> int:
    """Bytes, of an ioctl that counts some."""
    return int.from_bytes(fcntl.ioctl(s.fileno(), request, bytes(4)), sys.byteorder)


def unsent(s: socket.socket) -> int:
    """Bytes, and their end of stream, that TCP has not sent yet."""
    return count(s, _SIOCOUTQNSD)


def path(s: socket.socket) -> tuple[int, int]:
    """The timeout, in microseconds, and the MTU of the path."""
    rto, mtu = _PATH.unpack(s.getsockopt(_TCP, TCP_INFO, _PATH.size))
    return rto, mtu


def state(s: socket.socket) -> int:
    return s.getsockopt(_TCP, socket.TCP_INFO, 1)[0]


def congestion(s: socket.socket) -> str:
    return s.getsockopt(_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


def memory(s: socket.socket) -> int:
    """Bytes that a connection takes: its state, and what waits in its queues, headers included."""
    received, _, _, _, _, queued = struct.unpack_from("=6I", s.getsockopt(_ANY, SO_MEMINFO, 36))
    return int(CONTEXT + received + queued)


def urgent(descriptors: Iterable[int]) -> list[int]:
    """Those sockets that an urgent byte has come to and was not read."""
    poll = select.poll()
    for fd in descriptors:
        poll.register(fd, select.POLLPRI)
    return [fd for fd, events in poll.poll(0) if events & select.POLLPRI]


def path_mtu(s: socket.socket, connection: Connection) -> int:
    """0 when the socket knows none."""
    try:
        if connection.ipv6:
            return s.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
        return s.getsockopt(socket.IPPROTO_IP, IP_MTU)
    except OSError:
        return 0


class Settings(NamedTuple):
    """Parts of a context that only the holder of a socket can change: who has made it need not ask for them again."""

    mss: int
    buffer_locks: int
    congestion: str
    options: Options


def settings(s: socket.socket, connection: Connection) -> Settings:
    """As they are. The largest segment is the negotiated one only while the socket is in repair."""
    locks, mss = s.getsockopt(_ANY, SO_BUF_LOCK), s.getsockopt(_TCP, socket.TCP_MAXSEG)
    return Settings(mss, locks, congestion(s), options(s, connection))


def options(s: socket.socket, connection: Connection) -> Options:
    """As they are set."""
    get, places = s.getsockopt, PLACES[connection.ipv6]
    values = [get(level, name) for level, name in places[:_KEEPALIVE]]
    if values[-1]:
        values += (get(level, name) for level, name in places[_KEEPALIVE:])
    return Options(*values)


@lru_cache
def to_set(wanted: Options, ipv6: bool) -> list[tuple[int, int, int]]:
    """Level, name and value of those options that a new socket has otherwise."""
    usual = _AS_NEW if wanted.tos == 0 else _AS_NEW._replace(priority=-1)  # IP_TOS sets a priority
    every = zip(PLACES[ipv6], wanted, usual, strict=True)
    return [(level, name, value) for (level, name), value, default in every if value != default]


def shortest_rto(s: socket.socket, microseconds: int) -> bool:
    """False where the kernel has no such option (before Linux 6.16)."""
    try:
        s.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MIN_US, microseconds)
    except OSError:
        return False
    return True
