"""Saves and restores the TCP state of a Linux socket (TCP_REPAIR; net/ipv4/tcp.c, do_tcp_setsockopt).

Decides: the order of the system calls, and what cannot be moved. Never touches: steering, processes, other sockets.

    freeze(s)   the socket neither sends nor is flushed any more      s = restore(c)   a frozen socket with that state
    read(s)     its context                                           resume(s, c)     it speaks again
    discard(s)  gone, without a segment                               thaw(s)          it speaks again, unchanged
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct

from host_agent.connection import Connection
from host_agent.context import Context, Window

# linux/tcp.h, linux/sockios.h, asm-generic/socket.h: what Python's socket module does not name
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_REPAIR_OPTIONS, TCP_TIMESTAMP, TCP_REPAIR_WINDOW = (
    19,
    20,
    21,
    22,
    24,
    29,
)
TCP_NOTSENT_LOWAT, MAX_TCP_WINDOW = 25, 32767
REPAIR_ON, REPAIR_OFF, REPAIR_OFF_NO_WP = 1, 0, -1
RECV_QUEUE, SEND_QUEUE = 1, 2
OPT_MSS, OPT_WINDOW, OPT_SACK_PERMITTED, OPT_TIMESTAMP = 2, 3, 4, 8
SIOCINQ, SIOCOUTQ, SIOCOUTQNSD = 0x541B, 0x5411, 0x894B
SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_BUF_LOCK = 32, 33, 72
INFO_TIMESTAMPS, INFO_SACK, INFO_WSCALE, INFO_ECN = 1, 2, 4, 8

STATES = (
    *("?", "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT"),
    *("CLOSED", "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING"),
)
ESTABLISHED = 1

UNSENT_LIMIT = 128 * 1024  # bytes

_WINDOW = struct.Struct("=5I")
_CHUNK = 128 * 1024
_TCP = socket.IPPROTO_TCP


class CannotMove(Exception):
    """The connection is in a state that cannot be saved; the reason is the text."""


class CannotRestore(Exception):
    """The kernel refused a context; the reason is the text."""


def info(s: socket.socket) -> tuple[int, int, int]:
    """State, options byte and window scales byte of TCP_INFO."""
    head = s.getsockopt(_TCP, socket.TCP_INFO, 8)
    return head[0], head[5], head[6]


def retransmits(s: socket.socket) -> int:
    """Segments sent again so far (tcpi_total_retrans), since this socket was made."""
    data = s.getsockopt(_TCP, socket.TCP_INFO, 104)
    return int(struct.unpack_from("=I", data, 100)[0])


def freeze(s: socket.socket) -> None:
    """Raises CannotMove when the socket is not in a state that can move; it is then left as it was."""
    try:
        state = info(s)[0]
        if state == ESTABLISHED:
            s.setsockopt(_TCP, TCP_REPAIR, REPAIR_ON)
            state = info(s)[0]  # a FIN or RST may have come in between
            if state == ESTABLISHED:
                return
            s.setsockopt(_TCP, TCP_REPAIR, REPAIR_OFF_NO_WP)
    except OSError as error:
        raise CannotMove(f"the socket refuses: {error.strerror}") from None
    raise CannotMove(f"state {STATES[state]}")


def thaw(s: socket.socket) -> None:
    s.setsockopt(_TCP, TCP_REPAIR, REPAIR_OFF_NO_WP)


def discard(s: socket.socket) -> None:
    """Closes a frozen socket: no FIN, no RST."""
    s.close()


def limit_unsent(s: socket.socket) -> None:
    """Lets the kernel take only a little more than it can send at once: what is unsent must be carried at every move,
    and the application's own socket holds it just as well."""
    s.setsockopt(_TCP, TCP_NOTSENT_LOWAT, UNSENT_LIMIT)


def read(s: socket.socket, connection: Connection, next_hop: bytes) -> Context:
    """The context of a frozen socket whose frames are steered away. Raises CannotMove.

    A segment that slipped in before the steering took hold may still be worked on by another CPU; so the numbers are
    read again until they agree.
    """
    for _ in range(100):
        before = _numbers(s)
        sending = _peek(s, SEND_QUEUE, before[1] + before[3])
        received = _peek(s, RECV_QUEUE, before[4])
        if _numbers(s) == before:
            break
    else:
        raise CannotMove("its queues do not come to rest")
    write_seq, unacked, rcv_nxt, unsent, queued = before
    if len(sending) < unacked or len(received) != queued:
        raise CannotMove(f"queues of {len(sending)} and {len(received)} bytes, {unacked} and {queued} announced")
    # A partly acknowledged segment is peeked whole: what counts ends at write_seq.
    sending = sending[len(sending) - unacked :]
    _, options, scales = info(s)
    scaled = bool(options & INFO_WSCALE)
    timestamp = s.getsockopt(_TCP, TCP_TIMESTAMP) & 0xFFFFFFFF if options & INFO_TIMESTAMPS else None
    return Context(
        connection=connection,
        snd_una=(write_seq - unacked) % 2**32,
        rcv_nxt=rcv_nxt,
        window=Window(*_WINDOW.unpack(s.getsockopt(_TCP, TCP_REPAIR_WINDOW, _WINDOW.size))),
        mss=s.getsockopt(_TCP, socket.TCP_MAXSEG),
        snd_wscale=scales & 0xF if scaled else None,
        rcv_wscale=scales >> 4 if scaled else None,
        sack=bool(options & INFO_SACK),
        ecn=bool(options & INFO_ECN),
        timestamp=timestamp,
        nodelay=bool(s.getsockopt(_TCP, socket.TCP_NODELAY)),
        sndbuf=s.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        rcvbuf=s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        buffer_locks=s.getsockopt(socket.SOL_SOCKET, SO_BUF_LOCK),
        congestion=s.getsockopt(_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode(),
        next_hop=next_hop,
        sent=sending[: unacked - unsent],
        unsent=sending[unacked - unsent :],
        received=received,
    )


def restore(c: Context) -> socket.socket:
    """A frozen socket with everything of the context but its unsent bytes, which resume() writes.

    Raises CannotRestore; nothing is left behind then, and nothing was sent.
    """
    s = socket.socket(socket.AF_INET6 if c.connection.ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        s.setsockopt(_TCP, TCP_REPAIR, REPAIR_ON)  # also lets many connections share the port at bind
        # Both queues must fit at once; before connect, for the window clamp is derived from it there.
        _force_buffers(s, c.sndbuf + 2 * len(c.sent + c.unsent), c.rcvbuf + 2 * len(c.received))
        # The segment size in use is derived from it in connect, and TCP_REPAIR_OPTIONS does not derive it again:
        # without this a restored connection sends 536 bytes at a time (net/ipv4/tcp_output.c, tcp_connect_init).
        s.setsockopt(_TCP, socket.TCP_MAXSEG, min(c.mss, MAX_TCP_WINDOW))
        s.bind((c.connection.dst, c.connection.dport))
        _set_seq(s, SEND_QUEUE, c.snd_una)
        _set_seq(s, RECV_QUEUE, (c.rcv_nxt - len(c.received)) % 2**32)
        s.connect((c.connection.src, c.connection.sport))
        options = struct.pack("=II", OPT_MSS, c.mss)
        if c.snd_wscale is not None and c.rcv_wscale is not None:
            options += struct.pack("=II", OPT_WINDOW, c.snd_wscale | c.rcv_wscale << 16)
        if c.sack:
            options += struct.pack("=II", OPT_SACK_PERMITTED, 0)
        if c.timestamp is not None:
            options += struct.pack("=II", OPT_TIMESTAMP, 0)
        s.setsockopt(_TCP, TCP_REPAIR_OPTIONS, options)
        if c.timestamp is not None:
            s.setsockopt(_TCP, TCP_TIMESTAMP, struct.pack("=I", c.timestamp))
        s.setsockopt(_TCP, socket.TCP_NODELAY, int(c.nodelay))
        s.setsockopt(_TCP, socket.TCP_CONGESTION, c.congestion.encode())
        _fill(s, RECV_QUEUE, c.received)
        _fill(s, SEND_QUEUE, c.sent)
        w = c.window
        window = _WINDOW.pack(w.snd_wl1, w.snd_wnd, w.max_window, w.rcv_wnd, w.rcv_wup)
        s.setsockopt(_TCP, TCP_REPAIR_WINDOW, window)
    except OSError as error:
        s.close()
        raise CannotRestore(f"{c.connection}: {error.strerror}") from None
    return s


def resume(s: socket.socket, c: Context, *, probe: bool) -> None:
    """Leaves repair, with or without a window probe to the peer, and hands the unsent bytes to TCP."""
    s.setsockopt(_TCP, TCP_REPAIR, REPAIR_OFF if probe else REPAIR_OFF_NO_WP)
    s.setblocking(False)
    rest = memoryview(c.unsent)
    while rest:
        rest = rest[s.send(rest) :]
    # What was forced up for the restore goes back, or buffers grow with every move; setting it also locks it.
    _force_buffers(s, c.sndbuf, c.rcvbuf)
    s.setsockopt(socket.SOL_SOCKET, SO_BUF_LOCK, c.buffer_locks)
    limit_unsent(s)


def _numbers(s: socket.socket) -> tuple[int, int, int, int, int]:
    """write_seq, bytes from snd_una to write_seq, rcv_nxt, bytes from snd_nxt to write_seq, bytes to be read."""
    write_seq, rcv_nxt = _get_seq(s, SEND_QUEUE), _get_seq(s, RECV_QUEUE)
    return write_seq, _count(s, SIOCOUTQ), rcv_nxt, _count(s, SIOCOUTQNSD), _count(s, SIOCINQ)


def _count(s: socket.socket, request: int) -> int:
    answer = array.array("i", [0])
    fcntl.ioctl(s, request, answer)
    return answer[0]


def _get_seq(s: socket.socket, queue: int) -> int:
    s.setsockopt(_TCP, TCP_REPAIR_QUEUE, queue)
    return s.getsockopt(_TCP, TCP_QUEUE_SEQ) & 0xFFFFFFFF


def _set_seq(s: socket.socket, queue: int, seq: int) -> None:
    s.setsockopt(_TCP, TCP_REPAIR_QUEUE, queue)
    s.setsockopt(_TCP, TCP_QUEUE_SEQ, struct.pack("=I", seq))


def _peek(s: socket.socket, queue: int, announced: int) -> bytes:
    """What a queue holds; room is left for a partly acknowledged segment, the largest being 64 KiB and some."""
    if announced == 0:
        return b""
    s.setsockopt(_TCP, TCP_REPAIR_QUEUE, queue)
    room = announced + (1 << 18 if queue == SEND_QUEUE else 0)
    try:
        return s.recv(room, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""


def _fill(s: socket.socket, queue: int, data: bytes) -> None:
    """Writes a queue in repair mode. The kernel may refuse a large chunk for want of contiguous memory: halve it."""
    s.setsockopt(_TCP, TCP_REPAIR_QUEUE, queue)
    rest, chunk = memoryview(data), _CHUNK
    while rest:
        try:
            rest = rest[s.send(rest[:chunk]) :]
        except OSError:
            if chunk <= 1024:
                raise
            chunk //= 2


def _force_buffers(s: socket.socket, sndbuf: int, rcvbuf: int) -> None:
    # The kernel doubles what it is given (net/core/sock.c, __sock_set_rcvbuf).
    s.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, sndbuf // 2)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, rcvbuf // 2)
