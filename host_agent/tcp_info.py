"""What a TCP socket says of itself (TCP_INFO and its like).

Decides: nothing. Never touches: what a socket does.
"""

from __future__ import annotations

import select
import socket
import struct
from dataclasses import dataclass

from host_agent.connection import Connection

INFO_TIMESTAMPS, INFO_SACK, INFO_WSCALE, INFO_ECN = 1, 2, 4, 8  # linux/tcp.h
IP_MTU, IPV6_MTU = 14, 24  # linux/in.h, linux/in6.h
STATES = (
    *("?", "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT"),
    *("CLOSED", "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING"),
)
ESTABLISHED, FIN_WAIT2, TIME_WAIT, CLOSED, LAST_ACK = 1, 5, 6, 7, 9
CONTEXT = 4096  # bytes that a connection takes with empty queues, about
SO_MEMINFO = 55  # asm-generic/socket.h

_TCP = socket.IPPROTO_TCP


@dataclass(frozen=True)
class Info:
    """What TCP_INFO says (linux/tcp.h, struct tcp_info) of what interests here; times in microseconds."""

    state: int
    options: int
    scales: int
    rto: int
    snd_mss: int
    srtt: int
    ssthresh: int
    cwnd: int
    retransmits: int
    out_of_order: int  # segments so far, since this socket was made
    snd_wnd: int
    rcv_wnd: int


def info(s: socket.socket) -> Info:
    data = s.getsockopt(_TCP, socket.TCP_INFO, 240).ljust(240, b"\0")
    numbers = (struct.unpack_from("=I", data, at)[0] for at in (8, 16, 68, 76, 80, 100, 224, 228, 232))
    return Info(data[0], data[5], data[6], *numbers)


def state(s: socket.socket) -> int:
    return s.getsockopt(_TCP, socket.TCP_INFO, 1)[0]


def memory(s: socket.socket) -> int:
    """Bytes that a connection takes: its state, and what waits in its queues, headers included."""
    received, _, _, _, _, queued = struct.unpack_from("=6I", s.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))
    return int(CONTEXT + received + queued)


def urgent(s: socket.socket) -> bool:
    """Whether an urgent byte has come and was not read."""
    poll = select.poll()
    poll.register(s, select.POLLPRI)
    return any(mask & select.POLLPRI for _, mask in poll.poll(0))


def path_mtu(s: socket.socket, connection: Connection) -> int:
    """0 when the socket knows none."""
    try:
        if connection.ipv6:
            return s.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
        return s.getsockopt(socket.IPPROTO_IP, IP_MTU)
    except OSError:
        return 0
