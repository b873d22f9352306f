"""Saves and restores the TCP state of a Linux socket (TCP_REPAIR; net/ipv4/tcp.c, do_tcp_setsockopt).

Decides: the order of the system calls, and what cannot be moved. Never touches: steering, processes, other sockets.

    freeze(s)   the socket neither sends nor is flushed any more      s = restore(c)   a frozen socket with that state
    read(s)     its context                                           resume(s, c)     it speaks again
    discard(s)  gone, without a segment                               thaw(s)          it speaks again, unchanged

What a half-closed connection needs beyond queues and numbers, for the kernel lets nobody set a state:

    state       its own FIN                                 the peer's FIN, in whose name segment.py speaks
    FIN-WAIT-1  shutdown: in repair when it was sent,
                behind the unsent bytes when it was not
    FIN-WAIT-2  shutdown in repair                          an ACK of it
    CLOSE-WAIT                                              a FIN
    LAST-ACK    shutdown, after the peer's FIN              a FIN
    CLOSING     shutdown, before the peer's FIN             a FIN, last of all
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import time
from contextlib import suppress
from dataclasses import replace

from host_agent import segment
from host_agent.connection import Connection
from host_agent.context import Context, Options, State, Window
from host_agent.tcp_info import (
    INFO_ECN,
    INFO_SACK,
    INFO_TIMESTAMPS,
    INFO_WSCALE,
    STATES,
    info,
    path_mtu,
    state,
    urgent,
)

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
SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_MEMINFO, SO_BUF_LOCK = 32, 33, 55, 72
IPV6_TCLASS = 67

UNSENT_LIMIT = 128 * 1024  # bytes

_WINDOW = struct.Struct("=5I")
_CHUNK = 128 * 1024
_TOLD = 0.5  # seconds until a segment over the loopback counts as lost; it takes microseconds
_GOES_OUT = 0.001  # seconds in which TCP's own pacing lets the next bytes go, if it is pacing that they wait for
_TCP = socket.IPPROTO_TCP


class CannotMove(Exception):
    """The connection is in a state that cannot be saved. reason: one word (docs/verbs.md); the text is for a person."""

    reason = "state"


class CannotRestore(Exception):
    """The kernel refused a context; the reason is the text."""


def freeze(s: socket.socket) -> None:
    """Raises CannotMove when the socket is not in a state that can move; it is then left as it was."""
    try:
        _check(s)
        s.setsockopt(_TCP, TCP_REPAIR, REPAIR_ON)
        try:
            _check(s)  # a FIN or RST may have come in between
        except CannotMove:
            s.setsockopt(_TCP, TCP_REPAIR, REPAIR_OFF_NO_WP)
            raise
    except OSError as error:
        raise CannotMove(f"the socket refuses: {error.strerror}") from None


def _check(s: socket.socket) -> None:
    now = state(s)
    if now not in list(State):
        raise CannotMove(f"state {STATES[now]}")
    if urgent(s):
        raise CannotMove("urgent data pending")


def thaw(s: socket.socket) -> None:
    """What waits to be sent is sent, now: the kernel would wait for the next event."""
    s.setsockopt(_TCP, TCP_REPAIR, REPAIR_OFF_NO_WP)
    if not s.getsockopt(_TCP, socket.TCP_CORK):
        nodelay = s.getsockopt(_TCP, socket.TCP_NODELAY)
        s.setsockopt(_TCP, socket.TCP_NODELAY, 1)
        s.setsockopt(_TCP, socket.TCP_NODELAY, nodelay)


def discard(s: socket.socket) -> None:
    """Closes a frozen socket: no FIN, no RST."""
    s.close()


def silence(s: socket.socket) -> None:
    """Closes a socket that is not frozen: no FIN, no RST."""
    with suppress(OSError):
        s.setsockopt(_TCP, TCP_REPAIR, REPAIR_ON)
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
    told = info(s)
    if told.state not in list(State):
        raise CannotMove(f"state {STATES[told.state]}")
    now = State(told.state)
    fin = int(now.fin_out and not now.fin_acked)  # behind the bytes: counted, but not one of them
    fin_sent = now.fin_acked or (bool(fin) and unsent == 0)
    octets, unsent = unacked - fin, max(0, unsent - fin)
    if len(sending) < octets or len(received) != queued:
        raise CannotMove(f"queues of {len(sending)} and {len(received)} bytes, {octets} and {queued} announced")
    # A partly acknowledged segment is peeked whole: what counts ends at write_seq.
    sending = sending[len(sending) - octets :]
    scaled = bool(told.options & INFO_WSCALE)
    timestamp = s.getsockopt(_TCP, TCP_TIMESTAMP) & 0xFFFFFFFF if told.options & INFO_TIMESTAMPS else None
    return Context(
        connection=connection,
        state=now,
        snd_una=(write_seq - unacked) % 2**32,
        rcv_nxt=rcv_nxt,
        window=Window(*_WINDOW.unpack(s.getsockopt(_TCP, TCP_REPAIR_WINDOW, _WINDOW.size))),
        mss=s.getsockopt(_TCP, socket.TCP_MAXSEG),
        snd_wscale=told.scales & 0xF if scaled else None,
        rcv_wscale=told.scales >> 4 if scaled else None,
        sack=bool(told.options & INFO_SACK),
        ecn=bool(told.options & INFO_ECN),
        timestamp=timestamp,
        sndbuf=s.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        rcvbuf=s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        buffer_locks=s.getsockopt(socket.SOL_SOCKET, SO_BUF_LOCK),
        congestion=s.getsockopt(_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode(),
        next_hop=next_hop,
        mtu=path_mtu(s, connection),
        options=Options(*(s.getsockopt(*where) for where in _places(connection))),
        sent=sending[: octets - unsent],
        unsent=sending[octets - unsent :],
        received=received,
        fin_sent=fin_sent,
    )


def lost_state(s: socket.socket) -> dict[str, int]:
    """What a context cannot carry and this connection has: the fields of a save reply (docs/verbs.md)."""
    told, lost = info(s), {}
    if told.options & INFO_ECN:
        lost["ecn"] = 1
    if told.out_of_order:
        lost["out_of_order_segments"] = told.out_of_order
    if _count(s, SIOCINQ) == 0 and told.state in (State.ESTABLISHED, State.FIN_WAIT1, State.FIN_WAIT2):
        # Memory without bytes to be read: segments that wait for one before them. The peer must send them again.
        memory = struct.unpack_from("=I", s.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[0]
        if memory:
            lost["out_of_order_memory"] = memory
    return lost | {"cwnd": told.cwnd, "ssthresh": told.ssthresh, "srtt_us": told.srtt, "rto_us": told.rto}


def _places(connection: Connection) -> tuple[tuple[int, int], ...]:
    """Level and name of each socket option, in the order of context.Options."""
    any_level = socket.SOL_SOCKET
    if connection.ipv6:
        tos = (socket.IPPROTO_IPV6, IPV6_TCLASS)
        hops = (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
    else:
        tos, hops = (socket.IPPROTO_IP, socket.IP_TOS), (socket.IPPROTO_IP, socket.IP_TTL)
    return (
        *((_TCP, socket.TCP_NODELAY), (_TCP, socket.TCP_CORK), (any_level, socket.SO_KEEPALIVE)),
        *((_TCP, socket.TCP_KEEPIDLE), (_TCP, socket.TCP_KEEPINTVL), (_TCP, socket.TCP_KEEPCNT)),
        *((_TCP, socket.TCP_USER_TIMEOUT), tos, hops, (any_level, socket.SO_PRIORITY), (_TCP, socket.TCP_LINGER2)),
    )


def restore(c: Context) -> socket.socket:
    """A frozen socket with everything of the context but its unsent bytes, which resume() writes.

    Raises CannotRestore; nothing is left behind then, and nothing was sent.
    """
    try:
        s = socket.socket(socket.AF_INET6 if c.connection.ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise CannotRestore(f"{c.connection}: {error.strerror}") from None
    try:
        s.setsockopt(_TCP, TCP_REPAIR, REPAIR_ON)  # also lets many connections share the port at bind
        # Both queues must fit at once; before connect, for the window clamp is derived from it there.
        _force_buffers(s, c.sndbuf + 4 * len(c.sent + c.unsent), c.rcvbuf + 2 * len(c.received))
        # The segment size in use is derived from it in connect, and TCP_REPAIR_OPTIONS does not derive it again:
        # without this a restored connection sends 536 bytes at a time (net/ipv4/tcp_output.c, tcp_connect_init).
        s.setsockopt(_TCP, socket.TCP_MAXSEG, min(c.mss, MAX_TCP_WINDOW))
        s.bind((c.connection.dst, c.connection.dport))
        _set_seq(s, SEND_QUEUE, (c.snd_una - c.state.fin_acked) % 2**32)
        _set_seq(s, RECV_QUEUE, (c.rcv_nxt - c.state.fin_in - len(c.received)) % 2**32)
        if c.mtu:
            segment.tell_mtu(c.connection, c.mtu)
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
        for where, value in zip(_places(c.connection), vars(c.options).values(), strict=True):
            s.setsockopt(*where, value)
        s.setsockopt(_TCP, socket.TCP_CONGESTION, c.congestion.encode())
        _fill(s, RECV_QUEUE, c.received)
        _fill(s, SEND_QUEUE, c.sent)
        w = c.window
        if c.state.fin_in:  # room for the FIN that is to come
            _set_window(s, replace(w, rcv_wup=(c.rcv_nxt - 1) % 2**32, rcv_wnd=max(1, w.rcv_wnd)))
        else:
            _set_window(s, w)
        if c.state.fin_in and c.state is not State.CLOSING:
            _tell_fin(s, c)
        if c.fin_sent:
            s.setsockopt(_TCP, TCP_REPAIR_QUEUE, SEND_QUEUE)  # so that it counts as sent
            s.shutdown(socket.SHUT_WR)
            if c.state.fin_acked:
                _tell(s, c, segment.ACK, c.rcv_nxt, c.snd_una, State.FIN_WAIT2)
            elif c.state is State.CLOSING:
                _tell_fin(s, c)
        if c.state.fin_in and (c.fin_sent or c.state is not State.CLOSING):
            _set_window(s, w)
    except OSError as error:
        s.close()
        raise CannotRestore(f"{c.connection}: {error.strerror or error}") from None
    return s


def sent_again(s: socket.socket, c: Context) -> bool:
    """Whether a socket just resumed from c.resent() has sent all that `c` had; awaits it while bytes go out.

    If not, they must be restored as sent: the peer may have all of them, and Linux drops an acknowledgement of what was
    not sent yet, for ever. The first window may be too small, or the wire's queue full: many connections that send
    again at once fill it, and a segment dropped there was never sent (net/ipv4/tcp_output.c, tcp_write_xmit).
    """
    allowed = len(c.unsent) + (c.state.fin_out and not c.fin_sent)
    waits, deadline = _count(s, SIOCOUTQNSD), time.monotonic() + _GOES_OUT
    while waits > allowed:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0001)
        before, waits = waits, _count(s, SIOCOUTQNSD)
        if waits < before:  # paced
            deadline = time.monotonic() + _GOES_OUT
    return True


def resume(s: socket.socket, c: Context, *, probe: bool) -> None:
    """Leaves repair, with or without a window probe to the peer, and hands the unsent bytes and the FIN behind them to
    TCP. Raises CannotRestore; discard() is then for the caller."""
    try:
        s.setsockopt(_TCP, TCP_REPAIR, REPAIR_OFF if probe else REPAIR_OFF_NO_WP)
        s.setblocking(False)
        # What was sent before goes again at once, whatever the application wants its last piece to wait for.
        for option in (socket.TCP_CORK, socket.TCP_NODELAY):
            if c.again:
                s.setsockopt(_TCP, option, int(option == socket.TCP_NODELAY))
        _send(s, c.unsent[: c.again])
        for option, value in ((socket.TCP_CORK, c.options.cork), (socket.TCP_NODELAY, c.options.nodelay)):
            if c.again:
                s.setsockopt(_TCP, option, value)
        _send(s, c.unsent[c.again :])
        if c.state.fin_out and not c.fin_sent:
            s.shutdown(socket.SHUT_WR)
            if c.state is State.CLOSING:
                _tell_fin(s, c)
    except OSError as error:
        raise CannotRestore(f"{c.connection}: {error.strerror or error}") from None
    # What was forced up for the restore goes back, or buffers grow with every move; setting it also locks it.
    _force_buffers(s, c.sndbuf, c.rcvbuf)
    s.setsockopt(socket.SOL_SOCKET, SO_BUF_LOCK, c.buffer_locks)
    limit_unsent(s)


def _send(s: socket.socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[s.send(rest) :]


def _tell_fin(s: socket.socket, c: Context) -> None:
    expected = State.CLOSING if c.state is State.CLOSING else State.CLOSE_WAIT
    _tell(s, c, segment.FIN | segment.ACK, (c.rcv_nxt - 1) % 2**32, c.snd_una, expected)


def _tell(s: socket.socket, c: Context, flags: int, seq: int, ack: int, expected: State) -> None:
    """The socket hears a segment in the peer's name, and is then in the expected state. Raises OSError."""
    segment.tell(c.connection, flags, seq, ack, min(0xFFFF, c.window.snd_wnd >> (c.snd_wscale or 0)))
    deadline = time.monotonic() + _TOLD
    while state(s) != expected:
        if time.monotonic() > deadline:
            raise OSError(f"it does not come from state {STATES[state(s)]} to {STATES[expected]}")
        time.sleep(0.0001)


def _set_window(s: socket.socket, w: Window) -> None:
    s.setsockopt(_TCP, TCP_REPAIR_WINDOW, _WINDOW.pack(*vars(w).values()))


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
