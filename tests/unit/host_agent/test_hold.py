"""Letting frames out comes to an end, however many come meanwhile. (Over a real tap: tests/kernel/test_hold.py.)"""

import os
import socket
from typing import Any

import pytest

from host_agent import hold as hold_module
from host_agent.connection import Connection
from host_agent.hold import Hold

ONE = Connection("10.0.0.11", 40000, "10.0.0.1", 8080)
FRAME = bytes(12) + b"\x08\x00\x45" + bytes(8) + b"\x06" + bytes(2) + bytes([10, 0, 0, 11, 10, 0, 0, 1])
FRAME += ONE.sport.to_bytes(2, "big") + ONE.dport.to_bytes(2, "big") + bytes(16)


def test_a_peer_that_is_answered_at_once_does_not_keep_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of its frames is left behind in a queue that nobody looks at any more."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    written: list[bytes] = []

    def write(fd: int, frame: bytes) -> int:
        written.append(frame)
        assert len(written) < 1000
        theirs.send(frame)
        return len(frame)

    system: Any = type("System", (), {"read": os.read, "write": staticmethod(write)})
    monkeypatch.setattr(hold_module, "os", system)
    with ours, theirs:
        ours.setblocking(False)
        hold = Hold(ours.fileno())
        theirs.send(FRAME)
        assert hold.release([ONE]) == {ONE: len(written)}
        assert written == [FRAME] * len(written)
        monkeypatch.setattr(system, "write", lambda fd, frame: written.append(frame))
        so_far = len(written)
        hold.take(set())
        assert len(written) == so_far + 1
