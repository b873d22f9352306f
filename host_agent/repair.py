"""Saves and restores the TCP state of a Linux socket (TCP_REPAIR; net/ipv4/tcp.c, do_tcp_setsockopt).

Decides: the order of the system calls, and what cannot be moved. Never touches: steering, processes, other sockets.

    freeze([s]) the socket neither sends nor is flushed any more      s = restore(c)   a frozen socket with that state
    read(s)     its context, what it says of itself                   resume(s, c)     it speaks again
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

import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from host_agent import segment, tcp_info
from host_agent.connection import Connection
from host_agent.context import MOVABLE, Context, Options, State, Window
from host_agent.tcp_info import FIRST_RTO, SO_MEMINFO, STATES, USUAL_RTO, Info, Settings, congestion, info

# linux/tcp.h, linux/sockios.h, asm-generic/socket.h: what Python's socket module does not name
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_REPAIR_OPTIONS = 19, 20, 21, 22
TCP_TIMESTAMP, TCP_REPAIR_WINDOW = 24, 29
TCP_NOTSENT_LOWAT, MAX_TCP_WINDOW = 25, 32767
REPAIR_ON, REPAIR_OFF, REPAIR_OFF_NO_WP = 1, 0, -1
RECV_QUEUE, SEND_QUEUE = 1, 2
OPT_MSS, OPT_WINDOW, OPT_SACK_PERMITTED, OPT_TIMESTAMP = 2, 3, 4, 8
SIOCINQ, SIOCOUTQ = 0x541B, 0x5411
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33

UNSENT_LIMIT = 128 * 1024  # bytes
SHORT_RTO = 300_000  # microseconds; 200,000 is Linux's shortest, and 1,000,000 what it takes for lack of knowledge
DISCARD = 9  # a service that nobody offers

_OPTION, _WINDOW = struct.Struct("=II"), struct.Struct("=5I")
_MEMORY = struct.Struct("=4I")  # SO_MEMINFO begins with: receive queue, its limit, bytes under way, their limit
_LARGEST = 1 << 18  # bytes of a segment that may be partly acknowledged: 64 KiB and some
_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
_PEEK = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)
_CHUNK = 128 * 1024
_TCP = socket.IPPROTO_TCP


Kind = tuple[str, str, int, bool, str]
"""Both addresses, and what restore() sees to that a new socket may have by itself."""


class CannotMove(Exception):
    """The connection is in a state that cannot be saved. reason: one word (docs/verbs.md); the text is for a person."""

    reason = "state"


class CannotRestore(Exception):
    """The kernel refused a context; the reason is the text."""


def freeze(some: Iterable[socket.socket]) -> dict[socket.socket, CannotMove]:
    """Those that will not be, for what has come to them, and why; they are left as they were."""
    refused, frozen = {}, {}
    for s in some:
        try:
            s.setsockopt(_TCP, TCP_REPAIR, REPAIR_ON)
            frozen[s.fileno()] = s
        except OSError as error:
            refused[s] = CannotMove(f"the socket refuses: {error.strerror}")
    for fd in tcp_info.urgent(frozen):
        frozen[fd].setsockopt(_TCP, TCP_REPAIR, REPAIR_OFF_NO_WP)
        refused[frozen[fd]] = CannotMove("urgent data pending")
    return refused


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


class Reading(NamedTuple):
    """What a frozen socket says. out_of_order: bytes of memory with what came so, which no context carries."""

    context: Context
    told: Info
    out_of_order: int


def read(s: socket.socket, connection: Connection, next_hop: bytes, known: Settings | None = None) -> Reading:
    """Of a frozen socket whose frames are steered away. known: its settings, where they are. Raises CannotMove.

    A segment that slipped in before the steering took hold may still be worked on by another CPU; so it is read again
    until no stream has moved meanwhile.
    """
    get = s.getsockopt
    for _ in range(100):
        before = tcp_info.progress(tcp_info.raw(s))
        now = MOVABLE.get(before.state)
        if now is None:
            raise CannotMove(f"state {STATES[before.state]}")
        memory, rcvbuf, _, sndbuf = _MEMORY.unpack(get(socket.SOL_SOCKET, SO_MEMINFO, _MEMORY.size))
        rcv_nxt = _get_seq(s, RECV_QUEUE)
        queued = tcp_info.count(s, SIOCINQ) if memory else 0
        received = _peek(s, queued)
        write_seq = _get_seq(s, SEND_QUEUE)
        unacked = tcp_info.count(s, SIOCOUTQ) if before.unacked or before.unsent else 0
        sending = _peek(s, unacked and unacked + _LARGEST)
        after = tcp_info.raw(s)
        if tcp_info.progress(after) == before:
            break
    else:
        raise CannotMove("its queues do not come to rest")
    told = info(s, after)
    if known is None:
        known = tcp_info.settings(s, connection)
    fin = int(now.fin_out and not now.fin_acked)  # behind the bytes: counted, but not one of them
    octets, unsent = unacked - fin, max(0, told.unsent - fin)
    if len(sending) < octets or len(received) != queued:
        raise CannotMove(f"queues of {len(sending)} and {len(received)} bytes, {octets} and {queued} announced")
    # A partly acknowledged segment is peeked whole: what counts ends at write_seq.
    sending = sending[len(sending) - octets :]
    scaled = told.scaled
    context = Context(
        connection=connection,
        state=now,
        snd_una=(write_seq - unacked) % 2**32,
        rcv_nxt=rcv_nxt,
        window=Window._make(_WINDOW.unpack(get(_TCP, TCP_REPAIR_WINDOW, _WINDOW.size))),
        mss=known.mss,
        snd_wscale=told.scales & 0xF if scaled else None,
        rcv_wscale=told.scales >> 4 if scaled else None,
        sack=told.sack,
        ecn=told.ecn,
        timestamp=get(_TCP, TCP_TIMESTAMP) & 0xFFFFFFFF if told.timestamps else None,
        sndbuf=sndbuf,
        rcvbuf=rcvbuf,
        buffer_locks=known.buffer_locks,
        congestion=known.congestion,
        next_hop=next_hop,
        mtu=told.path_mtu,
        rto=told.rto >> (told.backoff if told.unacked else 0),  # window probes back off too, but by themselves
        options=known.options,
        sent=sending[: octets - unsent],
        unsent=sending[octets - unsent :],
        received=received,
        fin_sent=now.fin_acked or (bool(fin) and told.unsent == 0),
    )
    # Memory without bytes to be read: segments that wait for one before them. The peer must send them again.
    return Reading(context, told, 0 if received or now.fin_in else memory)


def restore(c: Context, alike: set[Kind] | None = None) -> socket.socket:
    """A frozen socket with everything of the context but its unsent bytes, which resume() writes. It does not block.

    alike: for what is restored at the same moment; each kind that a new socket is right for is added, and the next of
    that kind is not asked. Raises CannotRestore; nothing is left behind then, and nothing was sent.
    """
    kind = c.connection.src, c.connection.dst, c.mtu, c.rto < SHORT_RTO, c.congestion
    known = alike is not None and kind in alike
    s = None
    try:
        s = _connected(c)
        if not known and _teach(c, *tcp_info.path(s)):
            s.close()
            s = _connected(c)
        timestamps = c.timestamp is not None
        s.setsockopt(_TCP, TCP_REPAIR_OPTIONS, _agreed(c.mss, c.snd_wscale, c.rcv_wscale, c.sack, timestamps))
        if c.timestamp is not None:
            s.setsockopt(_TCP, TCP_TIMESTAMP, _signed(c.timestamp))
        for level, name, value in tcp_info.to_set(c.options, c.connection.ipv6):
            s.setsockopt(level, name, value)
        if not known and congestion(s) != c.congestion:
            s.setsockopt(_TCP, socket.TCP_CONGESTION, c.congestion.encode())
        elif alike is not None:
            alike.add(kind)
        if c.received:
            _fill(s, RECV_QUEUE, c.received)
        if c.sent:
            _fill(s, SEND_QUEUE, c.sent)
        if c.state is State.ESTABLISHED:
            _set_window(s, c.window)
        else:
            _half_close(s, c)
    except OSError as error:
        if s is not None:
            s.close()
        raise CannotRestore(f"{c.connection}: {error.strerror or error}") from None
    return s


@lru_cache
def _agreed(mss: int, snd_wscale: int | None, rcv_wscale: int | None, sack: bool, timestamps: bool) -> bytes:
    """What the SYNs said, for TCP_REPAIR_OPTIONS."""
    said = [(OPT_MSS, mss)]
    if snd_wscale is not None and rcv_wscale is not None:
        said.append((OPT_WINDOW, snd_wscale | rcv_wscale << 16))
    said += [(OPT_SACK_PERMITTED, 0)] * sack + [(OPT_TIMESTAMP, 0)] * timestamps
    return b"".join(_OPTION.pack(*one) for one in said)


def _connected(c: Context) -> socket.socket:
    """A frozen socket of that name and with those sequence numbers. Raises OSError."""
    connection = c.connection
    s = socket.socket(socket.AF_INET6 if connection.ipv6 else socket.AF_INET, _STREAM)
    try:
        s.setsockopt(_TCP, TCP_REPAIR, REPAIR_ON)  # also lets many connections share the port at bind
        # Both queues must fit at once; before connect, for the window clamp is derived from it there.
        _force_buffers(s, c.sndbuf + 4 * (len(c.sent) + len(c.unsent)), c.rcvbuf + 2 * len(c.received))
        # The segment size in use is derived from it in connect, and TCP_REPAIR_OPTIONS does not derive it again:
        # without this a restored connection sends 536 bytes at a time (net/ipv4/tcp_output.c, tcp_connect_init).
        s.setsockopt(_TCP, socket.TCP_MAXSEG, min(c.mss, MAX_TCP_WINDOW))
        s.bind((connection.dst, connection.dport))
        _set_seq(s, SEND_QUEUE, (c.snd_una - c.state.fin_acked) % 2**32)
        _set_seq(s, RECV_QUEUE, (c.rcv_nxt - c.state.fin_in - len(c.received)) % 2**32)
        if c.again:  # the first timeout is short; behind the first answer it is as usual
            tcp_info.shortest_rto(s, FIRST_RTO)
        s.connect((connection.src, connection.sport))
        if c.again:
            tcp_info.shortest_rto(s, USUAL_RTO)
    except OSError:
        s.close()
        raise
    return s


def _teach(c: Context, rto: int, mtu: int) -> bool:
    """Tells this namespace what the old one knew of the path to the peer, if a fresh socket shows that it is news.

    A path's MTU, and that its round trips are short: without, a first timeout is 1 s, the next 3 s. What TCP then
    remembers holds for all connections to this peer, so it is told once. Raises OSError.
    """
    bigger, slower = 0 < c.mtu < mtu, c.rto < SHORT_RTO <= rto
    if bigger:
        segment.tell_mtu(c.connection, c.mtu)
    if slower:
        _teach_round_trip(c)
    return bigger or slower


def _teach_round_trip(c: Context) -> None:
    """A connection that nobody else knows sends its FIN, hears the acknowledgement at once, and ends: its TCP notes the
    round trip for those to come (net/ipv4/tcp_metrics.c). No segment leaves the machine. Raises OSError."""
    name = Connection(c.connection.src, DISCARD, c.connection.dst, DISCARD)
    ended = c._replace(connection=name, state=State.FIN_WAIT2, fin_sent=True, options=Options(linger2=1))
    with suppress(CannotRestore):  # another one taught it just now: its name is taken for a second
        s = restore(ended._replace(sent=b"", unsent=b"", received=b"", mtu=0, rto=SHORT_RTO))
        s.setsockopt(_TCP, TCP_REPAIR, REPAIR_OFF_NO_WP)
        s.close()


def _half_close(s: socket.socket, c: Context) -> None:
    """Window and FINs. Raises OSError."""
    w = c.window
    room = w._replace(rcv_wup=(c.rcv_nxt - 1) % 2**32, rcv_wnd=max(1, w.rcv_wnd))  # for the FIN that is to come
    _set_window(s, room if c.state.fin_in else w)
    if c.state.fin_in and c.state is not State.CLOSING:
        segment.tell_fin(s, c)
    if c.fin_sent:
        s.setsockopt(_TCP, TCP_REPAIR_QUEUE, SEND_QUEUE)  # so that it counts as sent
        s.shutdown(socket.SHUT_WR)
        if c.state.fin_acked:
            segment.make(s, c, segment.ACK, c.rcv_nxt, c.snd_una, State.FIN_WAIT2)
        elif c.state is State.CLOSING:
            segment.tell_fin(s, c)
    if c.state.fin_in and (c.fin_sent or c.state is not State.CLOSING):
        _set_window(s, w)


def resume(s: socket.socket, c: Context, *, probe: bool) -> None:
    """Leaves repair, with or without a window probe to the peer, and hands the unsent bytes and the FIN behind them to
    TCP. Raises CannotRestore; discard() is then for the caller."""
    try:
        s.setsockopt(_TCP, TCP_REPAIR, REPAIR_OFF if probe else REPAIR_OFF_NO_WP)
        if c.again:  # at once, whatever the application wants its last piece to wait for
            s.setsockopt(_TCP, socket.TCP_CORK, 0)
            s.setsockopt(_TCP, socket.TCP_NODELAY, 1)
            _send(s, c.unsent[: c.again])
            s.setsockopt(_TCP, socket.TCP_CORK, c.options.cork)
            s.setsockopt(_TCP, socket.TCP_NODELAY, c.options.nodelay)
        if len(c.unsent) > c.again:
            _send(s, c.unsent[c.again :])
        if c.state.fin_out and not c.fin_sent:
            s.shutdown(socket.SHUT_WR)
            if c.state is State.CLOSING:
                segment.tell_fin(s, c)
    except OSError as error:
        raise CannotRestore(f"{c.connection}: {error.strerror or error}") from None
    if c.sent or c.unsent or c.received:  # what was forced up for them goes back, or buffers grow with every move
        _force_buffers(s, c.sndbuf, c.rcvbuf)
    # Forcing a size has also locked it.
    s.setsockopt(socket.SOL_SOCKET, tcp_info.SO_BUF_LOCK, c.buffer_locks)
    limit_unsent(s)


def probe(s: socket.socket) -> None:
    """Asks the peer for its window, as who leaves repair may do (net/ipv4/tcp.c, tcp_send_window_probe)."""
    s.setsockopt(_TCP, TCP_REPAIR, REPAIR_OFF)


def _send(s: socket.socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[s.send(rest) :]


def _set_window(s: socket.socket, w: Window) -> None:
    s.setsockopt(_TCP, TCP_REPAIR_WINDOW, _WINDOW.pack(*w))


def _get_seq(s: socket.socket, queue: int) -> int:
    s.setsockopt(_TCP, TCP_REPAIR_QUEUE, queue)
    return s.getsockopt(_TCP, TCP_QUEUE_SEQ) & 0xFFFFFFFF


def _set_seq(s: socket.socket, queue: int, seq: int) -> None:
    s.setsockopt(_TCP, TCP_REPAIR_QUEUE, queue)
    s.setsockopt(_TCP, TCP_QUEUE_SEQ, _signed(seq))


def _signed(number: int) -> int:
    """As setsockopt wants it: it takes bytes as well, but tries a number first, and takes twice as long."""
    return number if number < 2**31 else number - 2**32


def _peek(s: socket.socket, room: int) -> bytes:
    """What the queue holds whose number was asked for last."""
    try:
        return s.recv(room, _PEEK) if room else b""
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
