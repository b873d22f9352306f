"""Frames as peers and hosts send them, and real interfaces to put them on; what the tests of the BPF programs share.

Interfaces are veth pairs of the tests' own namespace: a frame written to one end comes in at the other, through tc.
"""

import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scapy.layers.inet import IP, TCP, IPOption
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from host_agent.connection import Connection

TEAM_MAC = "02:00:00:00:00:01"
PEER_MAC = "02:00:00:00:01:01"
V4 = Connection("10.0.0.11", 40000, "10.0.0.1", 8080)
V6 = Connection("fd00::11", 40000, "fd00::1", 8080)
LIMIT = 2.0  # seconds until a frame counts as gone; on veth it takes microseconds

OK, SHOT, REDIRECT = 0, 2, 7  # linux/pkt_cls.h: TC_ACT_*


def segment(
    connection: Connection,
    *,
    flags: str | int = "A",
    payload: bytes = b"",
    options: bytes = b"",
    outbound: bool = False,
    mac: str = PEER_MAC,
) -> bytes:
    """A TCP segment from the peer, or (outbound) to it. options: IP options, IPv4 only. mac: the peer's."""
    src, sport, dst, dport = connection
    ends = (mac, TEAM_MAC)
    if outbound:
        src, sport, dst, dport, ends = dst, dport, src, sport, (TEAM_MAC, mac)
    if connection.ipv6:
        head = IPv6(src=src, dst=dst)
    else:
        head = IP(src=src, dst=dst, options=[IPOption(options)] if options else [])
    tcp = TCP(sport=sport, dport=dport, flags=flags, seq=1, ack=1)
    return bytes(Ether(src=ends[0], dst=ends[1]) / head / tcp / Raw(payload))


class Port:
    """One interface, as a wire tap: frames are written to it and read from it raw."""

    def __init__(self, name: str):
        self.name, self.index = name, socket.if_nametoindex(name)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        self._socket.bind((name, 0))

    def close(self) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def read(self, *, until: bytes) -> list[bytes]:
        """What has come in since the last call, up to and with the frame `until`; raises AssertionError without it."""
        frames: list[bytes] = []
        deadline = time.monotonic() + LIMIT
        while not frames or frames[-1] != until:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self._socket], [], [], left)[0], f"{self.name}: only {frames}"
            frame, (_, _, kind, *_) = self._socket.recvfrom(65536)
            if kind != socket.PACKET_OUTGOING:
                frames.append(frame)
        return frames

    def one(self) -> bytes:
        """The next frame that comes in."""
        assert select.select([self._socket], [], [], LIMIT)[0], f"{self.name}: nothing came"
        return self._socket.recv(65536)


@contextmanager
def cables(*names: str) -> Iterator[dict[str, Port]]:
    """Veth pairs NAME and NAMEp, up and silent; gives their ports by name."""
    made: dict[str, Port] = {}
    try:
        for name in names:
            _ip(f"link add {name} type veth peer name {name}p")
            for end in (name, f"{name}p"):
                Path(f"/proc/sys/net/ipv6/conf/{end}/disable_ipv6").write_text("1")  # it says nothing of its own
                made[end] = Port(end)
        for end in made:
            _ip(f"link set {end} up")
        yield made
    finally:
        for port in made.values():
            port.close()
        for name in names:
            _ip(f"link del {name}")


def delete_interface(name: str) -> None:
    _ip(f"link del {name}")


def map_sizes(fd: int) -> tuple[int, int]:
    """Key and value size of a BPF map, as the kernel took them from the compiled object."""
    lines = dict(line.split(":\t") for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines())
    return int(lines["key_size"]), int(lines["value_size"])


def await_true(holds, limit: float = LIMIT) -> None:
    """Waits for a condition; raises AssertionError when it does not come."""
    deadline = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < deadline, "it did not come"
        os.sched_yield()


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)
