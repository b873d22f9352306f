"""The hold queue: frames of connections whose context is on its way.

Decides: which connection a queued frame belongs to. Never touches: records, contexts; hold_in of bpf/team.bpf.c sends
on what is put back, to whoever owns the connection by then.

The frame path redirects held frames into a tap device. They are sorted here by connection, so that releasing one
connection neither waits for another nor lets its frames out.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Container, Sequence

from host_agent.connection import KEY, Connection, from_key, key_of

_MAPPED = b"\0" * 10 + b"\xff\xff"
_LARGEST = 65536 + 18
_SHORTEST = 14 + 20 + 4  # Ethernet, IPv4, ports
_ROUNDS = 8


class Hold:
    """fd: the tap's descriptor, non-blocking; readable when frames have come."""

    def __init__(self, fd: int):
        self.fd = fd
        self._queues: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self._came = set[bytes]()

    def sort(self) -> None:
        """Reads what the tap holds into the queues."""
        while True:
            try:
                frame = os.read(self.fd, _LARGEST)
            except BlockingIOError:
                return
            key = _key(frame)
            if key is not None:
                self._queues[key].append(frame)
                self._came.add(key)

    def take(self, moving: Container[Connection]) -> None:
        """Sorts what has come. What is of no connection on the move goes on: another CPU redirected it just before its
        connection was settled, and nobody else would let it out."""
        self.sort()
        self.let_on(moving)

    def let_on(self, moving: Container[Connection]) -> None:
        """The same of what was read while others were released: the descriptor does not tell of it any more."""
        if self._came:
            came, self._came = self._came, set()
            left = [from_key(key) for key in came if key in self._queues]
            self.release([connection for connection in left if connection not in moving])

    def waiting(self, connections: Sequence[Connection]) -> set[Connection]:
        """Those of them that frames have come for."""
        self.sort()
        return {one for one in connections if key_of(one) in self._queues} if self._queues else set()

    def release(self, connections: Sequence[Connection]) -> dict[Connection, int]:
        """Puts their frames back on their way, in the order they came; the number of frames of those that had any.

        Their engines live already and answer, so that more may come for as long as they are held. What has still not
        been read then comes out when they are settled, or with take()."""
        released: dict[Connection, int] = {}
        for _ in range(_ROUNDS if connections else 0):
            ready = self.waiting(connections)
            if not ready:
                break
            for one in ready:
                frames = self._queues.pop(key_of(one))
                for frame in frames:
                    os.write(self.fd, frame)
                released[one] = released.get(one, 0) + len(frames)
        return released


def _key(frame: bytes) -> bytes | None:
    """The connection identifier of an Ethernet frame that comes from the peer; None if it is not a TCP segment."""
    kind = frame[12:14]
    if len(frame) < _SHORTEST:
        return None
    if kind == b"\x08\x00" and frame[23:24] == b"\x06":
        start = 14 + (frame[14] & 0xF) * 4
        src, dst = _MAPPED + frame[26:30], _MAPPED + frame[30:34]
    elif kind == b"\x86\xdd" and frame[20:21] == b"\x06":
        start, src, dst = 54, frame[22:38], frame[38:54]
    else:
        return None
    ports = frame[start : start + 4]
    return src + dst + ports if len(ports) == KEY.size - 32 else None
