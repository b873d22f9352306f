"""What a TCP socket says of itself (TCP_INFO and its like).

Decides: nothing. Never touches: what a socket does, but for its first timeout.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
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
SO_MEMINFO = 55  # asm-generic/socket.h
TCP_RTO_MIN_US = 45  # linux/tcp.h
FIRST_RTO, USUAL_RTO = 10_000, 200_000
"""Microseconds. What is sent again behind a fault may be acknowledged into the dead wire, for the switch may be slower
than we are; and a full queue that waits for an acknowledgement sends nothing that could ask for another."""

_TCP, _ANY = socket.IPPROTO_TCP, socket.SOL_SOCKET
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
_KEEPALIVE = PLACES[0].index((_ANY, socket.SO_KEEPALIVE)) + 1


# struct tcp_info of linux/tcp.h; the x are fields that nobody here asks for
_INFO = struct.Struct("=B3xBBBxI4xI4xI32xI4xI4xII16xI16xQQ8xI76xIII")


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

    def lost(self, out_of_order: int) -> dict[str, int]:
        """What TCP_REPAIR does not carry: the `lost_state` of docs/verbs.md. out_of_order: bytes of memory."""
        lost = {"cwnd": self.cwnd, "ssthresh": self.ssthresh, "srtt_us": self.srtt, "rto_us": self.rto}
        if self.ecn:
            lost["ecn"] = 1
        if self.out_of_order:
            lost["out_of_order_segments"] = self.out_of_order
        if out_of_order:
            lost["out_of_order_memory"] = out_of_order
        return lost

    @property
    def progress(self) -> tuple[int, ...]:
        """Another one, if either stream has moved."""
        return self.state, self.unacked, self.acked, self.received, self.unsent


def info(s: socket.socket) -> Info:
    return Info._make(_INFO.unpack(s.getsockopt(_TCP, socket.TCP_INFO, _INFO.size).ljust(_INFO.size, b"\0")))


def state(s: socket.socket) -> int:
    return s.getsockopt(_TCP, socket.TCP_INFO, 1)[0]


def congestion(s: socket.socket) -> str:
    return s.getsockopt(_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


def memory(s: socket.socket) -> int:
    """Bytes that a connection takes: its state, and what waits in its queues, headers included."""
    received, _, _, _, _, queued = struct.unpack_from("=6I", s.getsockopt(_ANY, SO_MEMINFO, 36))
    return int(CONTEXT + received + queued)


def urgent(s: socket.socket) -> bool:
    """Whether an urgent byte has come and was not read."""
    poll = select.poll()
    poll.register(s, select.POLLPRI)
    events = poll.poll(0)
    return bool(events) and bool(events[0][1] & select.POLLPRI)


def path_mtu(s: socket.socket, connection: Connection) -> int:
    """0 when the socket knows none."""
    try:
        if connection.ipv6:
            return s.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
        return s.getsockopt(socket.IPPROTO_IP, IP_MTU)
    except OSError:
        return 0


def options(s: socket.socket, connection: Connection) -> Options:
    """As they are set."""
    get, places = s.getsockopt, PLACES[connection.ipv6]
    values = [get(level, name) for level, name in places[:_KEEPALIVE]]
    if values[-1]:
        values += (get(level, name) for level, name in places[_KEEPALIVE:])
    return Options(*values)


@contextmanager
def first_timeout(s: socket.socket, *, short: bool) -> Iterator[None]:
    """What is connected here has a short first timeout, if it is to; behind the first answer it is as usual."""
    if short:
        shortest_rto(s, FIRST_RTO)
    yield
    if short:
        shortest_rto(s, USUAL_RTO)


def shortest_rto(s: socket.socket, microseconds: int) -> bool:
    """False where the kernel has no such option (before Linux 6.16)."""
    try:
        s.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MIN_US, microseconds)
    except OSError:
        return False
    return True
