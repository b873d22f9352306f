"""The context of a TCP connection: everything that moves, as bytes.

Decides: the form of a context, and that a damaged or foreign one is refused. Never touches: sockets (repair.py).

Sequence space of the two queues (RFC 9293, 3.3.1; all numbers modulo 2**32):

    send queue      snd_una            snd_nxt            write_seq
                       |---- sent -------|----- unsent -------|
                       '------------- send queue -------------'

    receive queue   rcv_nxt - len(received)                rcv_nxt
                       |------------- received ---------------|   acknowledged, not yet read by the application

`sent` may be in flight, lost, or delivered with its ACK still on the way. What the relay had taken from the
application but not yet handed to TCP is appended to `unsent`; what it had taken from TCP but not yet handed to the
application is put before `received`: both are parts of the same stream, so the context has no third queue.

Not carried, for TCP_REPAIR does not offer it: congestion window, ssthresh, RTT estimate, SACK scoreboard,
out-of-order queue, urgent pointer, remaining time of timers. After a move they start afresh.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace

from host_agent.connection import Connection, from_key, key_of

VERSION = 1
_MAGIC = b"TBCX"
# magic, version, crc | identifier, snd_una, rcv_nxt | window | mss, wscales, flags, timestamp | buffers, locks,
# congestion control, next hop | lengths of the queues
_HEAD = struct.Struct("!4sHxxI36sII5IHBBBxIIIB3x16s6sxxIII")
_SACK, _TIMESTAMPS, _ECN, _WSCALE, _NODELAY = 1, 2, 4, 8, 16


class BadContext(ValueError):
    """Bytes that are no context of this version, or that were damaged on the way."""


@dataclass(frozen=True)
class Window:
    """struct tcp_repair_window (linux/tcp.h): windows in bytes, unscaled."""

    snd_wl1: int
    snd_wnd: int
    max_window: int
    rcv_wnd: int
    rcv_wup: int


@dataclass(frozen=True)
class Context:
    """One connection's TCP state. Sequence numbers and windows as in RFC 9293; mss is the peer's, in bytes.

    snd_wscale, rcv_wscale: shift counts, None without window scaling. timestamp: TCP_TIMESTAMP's opaque value, None
    without timestamps. sndbuf, rcvbuf: as SO_SNDBUF reports them (doubled). buffer_locks: SO_BUF_LOCK.
    next_hop: MAC of the neighbour that frames to the peer go to.
    """

    connection: Connection
    snd_una: int
    rcv_nxt: int
    window: Window
    mss: int
    snd_wscale: int | None
    rcv_wscale: int | None
    sack: bool
    ecn: bool
    timestamp: int | None
    nodelay: bool
    sndbuf: int
    rcvbuf: int
    buffer_locks: int
    congestion: str
    next_hop: bytes
    sent: bytes
    unsent: bytes
    received: bytes

    def pack(self) -> bytes:
        flags = (
            _SACK * self.sack
            | _ECN * self.ecn
            | _TIMESTAMPS * (self.timestamp is not None)
            | _WSCALE * (self.snd_wscale is not None)
            | _NODELAY * self.nodelay
        )
        w = self.window
        queues = self.sent + self.unsent + self.received
        values = [
            *(key_of(self.connection), self.snd_una, self.rcv_nxt),
            *(w.snd_wl1, w.snd_wnd, w.max_window, w.rcv_wnd, w.rcv_wup),
            *(self.mss, self.snd_wscale or 0, self.rcv_wscale or 0, flags, self.timestamp or 0),
            *(self.sndbuf, self.rcvbuf, self.buffer_locks, self.congestion.encode(), self.next_hop),
            *(len(self.sent), len(self.unsent), len(self.received)),
        ]
        blank = _HEAD.pack(_MAGIC, VERSION, 0, *values) + queues
        return _HEAD.pack(_MAGIC, VERSION, _checksum(blank), *values) + queues

    @classmethod
    def unpack(cls, data: bytes) -> Context:
        """Raises BadContext for anything that pack() did not make."""
        if len(data) < _HEAD.size or data[:4] != _MAGIC:
            raise BadContext("not a context")
        _, version, crc, key, una, nxt, *rest = _HEAD.unpack_from(data)
        if version != VERSION:
            raise BadContext(f"context version {version}, this engine has {VERSION}")
        window, (mss, snd_ws, rcv_ws, flags, ts, sndbuf, rcvbuf, locks, cc, mac, *lengths) = (
            rest[:5],
            rest[5:],
        )
        queues = data[_HEAD.size :]
        if len(queues) != sum(lengths):
            raise BadContext(f"context of {len(queues)} queue bytes, {sum(lengths)} announced")
        if _checksum(data) != crc:
            raise BadContext("context damaged: checksum differs")
        sent, unsent, _received = lengths
        scaled = bool(flags & _WSCALE)
        return cls(
            connection=from_key(key),
            snd_una=una,
            rcv_nxt=nxt,
            window=Window(*window),
            mss=mss,
            snd_wscale=snd_ws if scaled else None,
            rcv_wscale=rcv_ws if scaled else None,
            sack=bool(flags & _SACK),
            ecn=bool(flags & _ECN),
            timestamp=ts if flags & _TIMESTAMPS else None,
            nodelay=bool(flags & _NODELAY),
            sndbuf=sndbuf,
            rcvbuf=rcvbuf,
            buffer_locks=locks,
            congestion=cc.rstrip(b"\0").decode(),
            next_hop=mac,
            sent=queues[:sent],
            unsent=queues[sent : sent + unsent],
            received=queues[sent + unsent :],
        )

    def resent(self) -> Context:
        """The same connection with nothing in flight: what was sent is sent again, at once, by whoever restores it.

        For a link that died: its frames are lost, and waiting for a retransmission timeout would be a stall.
        """
        return replace(self, sent=b"", unsent=self.sent + self.unsent)

    def with_relayed(self, *, taken_out: bytes, taken_in: bytes) -> Context:
        """Adds what the relay held: taken from the application for TCP, and taken from TCP for the application."""
        return replace(self, unsent=self.unsent + taken_out, received=taken_in + self.received)


def _checksum(packed: bytes) -> int:
    """Over all bytes but the checksum's own four, at 8."""
    return zlib.crc32(memoryview(packed)[12:], zlib.crc32(packed[:8]))
