"""The context of a TCP connection: everything that moves, as bytes.

Decides: the form of a context, and that a damaged or foreign one is refused. Never touches: sockets (repair.py).

Sequence space of the two queues (RFC 9293, 3.3.1; all numbers modulo 2**32):

    send queue      snd_una            snd_nxt            write_seq
                       |---- sent -------|----- unsent ----[F]|
                       '------------- send queue -------------'

    receive queue   rcv_nxt - len(received) - F            rcv_nxt
                       |------------- received ----------[F]|   acknowledged, not yet read by the application

F: a FIN takes one sequence number behind the last byte (RFC 9293, 3.4), but is no byte of a queue. Whether there is
one follows from the state; our own is behind `unsent`, and `fin_sent` says whether snd_nxt is behind it.

`sent` may be in flight, lost, or delivered with its ACK still on the way. What the relay had taken from the
application but not yet handed to TCP is appended to `unsent`; what it had taken from TCP but not yet handed to the
application is put before `received`: both are parts of the same stream, so the context has no third queue.

Not carried, for TCP_REPAIR does not offer it: congestion window, ssthresh, RTT estimate, SACK scoreboard,
out-of-order queue, urgent pointer, remaining time of timers, ECN. After a move they start afresh; ECN ends. Of the RTT
estimate the timeout that it led to is carried: a short one is short again (repair.py).

A context knows no VLAN: tags belong to the wire and the bus, below the IP addresses that name the connection.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

from host_agent.connection import Connection, from_key, key_of

VERSION = 3
_MAGIC = b"TBCX"
_FRONT = struct.Struct("!4sHxxI")  # magic, version, checksum
# identifier, snd_una, rcv_nxt | window | mss, wscales, flags, state, timestamp | buffers, locks, congestion control,
# next hop, MTU of the path, timeout | socket options | lengths of the queues
_HEAD = struct.Struct("!36sII5IHBBHBxIIIB3x16s6sHxxI11i3I")
_SACK, _TIMESTAMPS, _ECN, _WSCALE, _FIN_SENT, _APP_ENDED, _PEER_ENDED = 1, 2, 4, 8, 16, 32, 64
_PREFIX, _CHECKSUM = _FRONT.pack(_MAGIC, VERSION, 0)[:8], struct.Struct("!I")
_BEFORE = zlib.crc32(_PREFIX)  # the checksum is over all bytes but its own four, at 8
_QUEUES = _FRONT.size + _HEAD.size


class State(IntEnum):
    """The states that can move, by Linux's numbers (net/tcp_states.h)."""

    ESTABLISHED = 1
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    CLOSE_WAIT = 8
    LAST_ACK = 9
    CLOSING = 11

    @property
    def fin_out(self) -> bool:
        """The application has ended its stream: our FIN is queued, sent or acknowledged."""
        return self not in _NO_FIN_OUT

    @property
    def fin_acked(self) -> bool:
        return self is _FIN_ACKED

    @property
    def fin_in(self) -> bool:
        """The peer's FIN has come."""
        return self in _FIN_IN


MOVABLE = {int(state): state for state in State}
NAMES = {state: state.name for state in State}
# A member of an enumeration takes ten times as long to be found as a name of this module.
_NO_FIN_OUT, _FIN_ACKED = (State.ESTABLISHED, State.CLOSE_WAIT), State.FIN_WAIT2
_FIN_IN = (State.CLOSE_WAIT, State.LAST_ACK, State.CLOSING)


class BadContext(ValueError):
    """Bytes that are no context of this version, or that were damaged on the way."""


class Window(NamedTuple):
    """struct tcp_repair_window (linux/tcp.h): windows in bytes, unscaled."""

    snd_wl1: int
    snd_wnd: int
    max_window: int
    rcv_wnd: int
    rcv_wup: int


class Options(NamedTuple):
    """Socket options as getsockopt gives them; the defaults are a new socket's. user_timeout: milliseconds. tos: IP_TOS
    or IPV6_TCLASS. hop_limit: IP_TTL or IPV6_UNICAST_HOPS. linger2: TCP_LINGER2, seconds. keepalive: on or off; only if
    it is on count TCP_KEEPIDLE, TCP_KEEPINTVL (seconds) and TCP_KEEPCNT."""

    nodelay: int = 0
    cork: int = 0
    user_timeout: int = 0
    tos: int = 0
    hop_limit: int = 64
    priority: int = 0
    linger2: int = 60
    keepalive: int = 0
    keep_idle: int = 7200
    keep_interval: int = 75
    keep_count: int = 9


class Context(NamedTuple):  # a frozen dataclass takes three times as long to make, and ten times to change
    """One connection's TCP state. Sequence numbers and windows as in RFC 9293; mss is the peer's, in bytes.

    snd_wscale, rcv_wscale: shift counts, None without window scaling. timestamp: TCP_TIMESTAMP's opaque value, None
    without timestamps. sndbuf, rcvbuf: as SO_SNDBUF reports them (doubled). buffer_locks: SO_BUF_LOCK.
    next_hop: MAC of the neighbour that frames to the peer go to. mtu: of the path to the peer, 0 unknown. rto: the
    retransmission timeout, microseconds, not backed off. fin_sent: all of the send queue was sent, and our FIN too.
    app_ended, peer_ended: the relay has passed on that end of stream.
    again: how many of the first unsent bytes had been sent before (not packed).
    """

    connection: Connection
    state: State
    snd_una: int
    rcv_nxt: int
    window: Window
    mss: int
    snd_wscale: int | None
    rcv_wscale: int | None
    sack: bool
    ecn: bool
    timestamp: int | None
    sndbuf: int
    rcvbuf: int
    buffer_locks: int
    congestion: str
    next_hop: bytes
    mtu: int
    rto: int
    options: Options
    sent: bytes
    unsent: bytes
    received: bytes
    fin_sent: bool = False
    app_ended: bool = False
    peer_ended: bool = False
    again: int = 0

    @property
    def snd_nxt(self) -> int:
        return (self.snd_una + len(self.sent) + (self.fin_sent and not self.state.fin_acked)) % 2**32

    def pack(self) -> bytes:
        flags = (
            _SACK * self.sack
            | _ECN * self.ecn
            | _TIMESTAMPS * (self.timestamp is not None)
            | _WSCALE * (self.snd_wscale is not None)
            | _FIN_SENT * self.fin_sent
            | _APP_ENDED * self.app_ended
            | _PEER_ENDED * self.peer_ended
        )
        head = _HEAD.pack(
            *(key_of(self.connection), self.snd_una, self.rcv_nxt, *self.window),
            *(self.mss, self.snd_wscale or 0, self.rcv_wscale or 0, flags, self.state, self.timestamp or 0),
            *(self.sndbuf, self.rcvbuf, self.buffer_locks, self.congestion.encode(), self.next_hop, self.mtu, self.rto),
            *(*self.options, len(self.sent), len(self.unsent), len(self.received)),
        )
        rest = b"".join((head, self.sent, self.unsent, self.received))
        return _PREFIX + _CHECKSUM.pack(zlib.crc32(rest, _BEFORE)) + rest

    @classmethod
    def unpack(cls, data: bytes) -> Context:
        """Raises BadContext for anything that pack() did not make."""
        if len(data) < _QUEUES or data[:4] != _MAGIC:
            raise BadContext("not a context")
        _, version, checksum = _FRONT.unpack_from(data)
        if version != VERSION:
            raise BadContext(f"context version {version}, this engine has {VERSION}")
        fields = _HEAD.unpack_from(data, _FRONT.size)
        key, una, nxt = fields[:3]
        mss, snd_ws, rcv_ws, flags, state, ts, sndbuf, rcvbuf, locks, congestion, mac, mtu, rto = fields[8:21]
        sent, unsent, received = fields[-3:]
        if len(data) != _QUEUES + sent + unsent + received:
            announced = sent + unsent + received
            raise BadContext(f"context of {len(data) - _QUEUES} queue bytes, {announced} announced")
        if data[:8] != _PREFIX or zlib.crc32(data[12:], _BEFORE) != checksum:
            raise BadContext("context damaged: checksum differs")
        if state not in MOVABLE:
            raise BadContext(f"context in state {state}, which cannot move")
        scaled = flags & _WSCALE
        return cls(
            connection=from_key(key),
            state=MOVABLE[state],
            snd_una=una,
            rcv_nxt=nxt,
            window=Window._make(fields[3:8]),
            mss=mss,
            snd_wscale=snd_ws if scaled else None,
            rcv_wscale=rcv_ws if scaled else None,
            sack=bool(flags & _SACK),
            ecn=bool(flags & _ECN),
            timestamp=ts if flags & _TIMESTAMPS else None,
            sndbuf=sndbuf,
            rcvbuf=rcvbuf,
            buffer_locks=locks,
            congestion=congestion.rstrip(b"\0").decode(),
            next_hop=mac,
            mtu=mtu,
            rto=rto,
            options=Options._make(fields[21:-3]),
            sent=data[_QUEUES : _QUEUES + sent],
            unsent=data[_QUEUES + sent : _QUEUES + sent + unsent],
            received=data[_QUEUES + sent + unsent :],
            fin_sent=bool(flags & _FIN_SENT),
            app_ended=bool(flags & _APP_ENDED),
            peer_ended=bool(flags & _PEER_ENDED),
        )

    def resent(self) -> Context:
        """The same connection with nothing in flight: what was sent is sent again, at once, by whoever restores it.

        For a link that died: its frames are lost, and waiting for a retransmission timeout would be a stall.
        """
        fin_sent = self.fin_sent and self.state.fin_acked
        if not self.sent and fin_sent == self.fin_sent:
            return self
        return self._replace(sent=b"", unsent=self.sent + self.unsent, fin_sent=fin_sent, again=len(self.sent))

    def with_relayed(
        self, taken_out: bytes, taken_in: bytes, *, app_ended: bool = False, peer_ended: bool = False
    ) -> Context:
        """Adds what the relay held: taken from the application for TCP, and taken from TCP for the application; and
        which ends of stream it has passed on already."""
        if not (taken_out or taken_in) and (app_ended, peer_ended) == (self.app_ended, self.peer_ended):
            return self
        unsent, received = self.unsent + taken_out, taken_in + self.received
        return self._replace(unsent=unsent, received=received, app_ended=app_ended, peer_ended=peer_ended)
