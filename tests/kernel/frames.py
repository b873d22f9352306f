"""Frames as peers and hosts send them, and real interfaces to put them on; what the tests of the BPF programs share.

Interfaces are veth pairs of the tests' own namespace: a frame written to one end comes in at the other, through tc.
"""

import errno
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
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
    seq: int = 1,
    ack: int = 1,
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
    tcp = TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack)
    return bytes(Ether(src=ends[0], dst=ends[1]) / head / tcp / Raw(payload))


class Port:
    """One interface, as a wire tap: frames are written to it and read from it raw."""

    _SOL_PACKET, _VNET_HEADER = 263, 15  # linux/socket.h, linux/if_packet.h

    def __init__(self, name: str):
        self.name, self.index = name, socket.if_nametoindex(name)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        self._socket.bind((name, 0))

    def close(self) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        try:
            self._socket.send(frame)
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # the kernel's word for: a program dropped it on the way out
                raise

    def send_in_pages(self, frame: bytes) -> None:
        """Like send(), but only the Ethernet header is where a program sees it at once; for more than one page."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as s:
            s.bind((self.name, 0))
            s.setsockopt(self._SOL_PACKET, self._VNET_HEADER, 1)
            s.send(struct.pack("=BBHHHH", 0, 0, 14, 0, 0, 0) + frame)  # struct virtio_net_hdr: hdr_len

    def next(self, limit: float = LIMIT) -> bytes | None:
        """The next frame that comes in, None if none does."""
        deadline = time.monotonic() + limit
        readable = select.poll()  # select() takes no descriptor above 1023
        readable.register(self._socket, select.POLLIN)
        while readable.poll(1000 * max(0.0, deadline - time.monotonic())):
            frame, (_, _, kind, *_) = self._socket.recvfrom(65536)
            if kind != socket.PACKET_OUTGOING:
                return frame
        return None

    def read(self, *, until: bytes) -> list[bytes]:
        """What has come in since the last call, before the frame `until`, which must come."""
        frames = list(iter(self.next, until))
        assert None not in frames, f"{self.name}: {until.hex()} did not come"
        return frames


@contextmanager
def cables(*names: str) -> Iterator[dict[str, Port]]:
    """Veth pairs NAME and NAMEp, up and silent; gives their ports by name."""
    made: dict[str, Port] = {}
    try:
        for name in names:
            # As in a NIC and in the server: the device has the MAC that frames to the team go to.
            _ip(f"link add {name} address {TEAM_MAC} mtu 9000 type veth peer name {name}p mtu 9000")
            for end in (name, f"{name}p"):
                silence(end)
                _ip(f"link set {end} up")
                made[end] = Port(end)
        yield made
    finally:
        for port in made.values():
            port.close()
        for name in names:
            _ip(f"link del {name}")


def silence(name: str) -> None:
    """The kernel sends no multicast reports of its own on an interface."""
    Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")


def map_sizes(fd: int) -> tuple[int, int]:
    """Key and value size of a BPF map, as the kernel took them from the compiled object."""
    lines = dict(line.split(":\t") for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines())
    return int(lines["key_size"]), int(lines["value_size"])


def wait_for(holds: Callable[[], bool], limit: float = LIMIT) -> None:
    """Until a condition holds; raises AssertionError when that takes too long."""
    deadline = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.0005)


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)
