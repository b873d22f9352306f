"""The floor under a move: the same save and restore, in one small process, with no messages and no steering.

    old ──┐
          ├── peer          each a network namespace; the peer's route says which of the two gets its segments
    new ──┘

Decides: nothing. What is measured is freeze, read, restore, resume and discard of host_agent/repair.py, one connection
after another. Behind that, every connection must deliver a byte: what was measured is a move that works.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import time
from pathlib import Path

from host_agent import repair
from host_agent.connection import Connection

TEAM, PEER, PORT = "10.9.0.1", "10.9.0.2", 8080
MAC = bytes.fromhex("020000000101")
LIMIT = 10.0
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)
NAMES = ("old", "new", "peer")


class Namespaces:
    """Three of them. `inside(name)`: this thread is in that one from now on."""

    def __init__(self) -> None:
        for name in NAMES:
            _ip(f"netns add {name}")
            _ip(f"-n {name} link set lo up")
        for name in ("old", "new"):
            _ip(f"link add eth0 netns {name} type veth peer name {name} netns peer")
            _ip(f"-n {name} addr add {TEAM}/32 dev eth0")
            _ip(f"-n {name} link set eth0 up")
            _ip(f"-n peer link set {name} up")
            _ip(f"-n {name} route add {PEER} dev eth0")
        _ip(f"-n peer addr add {PEER}/32 dev lo")
        self.lead("old")
        self._handles = {name: os.open(Path("/run/netns", name), os.O_RDONLY) for name in NAMES}

    def lead(self, name: str) -> None:
        """The peer's segments go there; the other one's link is down."""
        for one in ("old", "new"):
            _ip(f"-n peer link set {one} {'up' if one == name else 'down'}")
        _ip(f"-n peer route replace {TEAM} dev {name} src {PEER}")

    def inside(self, name: str) -> None:
        if _libc.setns(self._handles[name], _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def inside(count: int) -> float:
    """Seconds that the moves of so many connections take."""
    spaces = Namespaces()
    spaces.inside("old")
    listener = socket.create_server((TEAM, PORT), backlog=4096)
    ours, peers = [], []
    for _ in range(count):
        spaces.inside("peer")
        peers.append(socket.create_connection((TEAM, PORT), timeout=LIMIT))
        ours.append(listener.accept()[0])
    for one in peers:
        one.send(b"h" * 200)
    for one in ours:
        assert len(one.recv(400)) == 200
    connections = [Connection(*one.getpeername(), *one.getsockname()) for one in ours]
    spaces.lead("new")
    spaces.inside("new")
    began = time.perf_counter()
    moved = [_move(one, connection) for one, connection in zip(ours, connections, strict=True)]
    took = time.perf_counter() - began
    for one in moved:
        one.send(b"!")
    for one in peers:
        assert one.recv(1) == b"!"
    return took


def _move(s: socket.socket, connection: Connection) -> socket.socket:
    repair.freeze([s])
    context = repair.read(s, connection, MAC).context
    new = repair.restore(context)
    repair.resume(new, context, probe=True)
    repair.discard(s)
    return new
