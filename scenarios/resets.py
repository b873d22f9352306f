"""Counts the RST segments of one connection that pass this machine's interfaces, in either direction.

Opens one packet socket with a filter in the kernel that lets RST segments through only, so it costs nothing
on a busy connection. Needs CAP_NET_RAW.
"""

import ctypes
import ipaddress
import select
import socket
import struct
import time
from collections.abc import Set
from contextlib import suppress

SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4
_SNAPLEN = 128

# Classic BPF on an Ethernet frame, (code, jump if true, jump if false, k): TCP with RST over IPv4 (first
# fragment only) or IPv6 (no extension headers).
_RST = [
    (0x28, 0, 0, 12),  #        0: ldh the EtherType
    (0x15, 0, 7, 0x0800),  #    1: IPv4? else 9
    (0x30, 0, 0, 23),  #        2: ldb protocol
    (0x15, 0, 11, 6),  #        3: TCP? else 15
    (0x28, 0, 0, 20),  #        4: ldh flags and fragment offset
    (0x45, 9, 0, 0x1FFF),  #    5: a later fragment? then 15
    (0xB1, 0, 0, 14),  #        6: ldxb 4 * header length
    (0x50, 0, 0, 27),  #        7: ldb TCP flags, at x + 14 + 13
    (0x45, 5, 6, 4),  #         8: RST? 14 : 15
    (0x15, 0, 5, 0x86DD),  #    9: IPv6? else 15
    (0x30, 0, 0, 20),  #       10: ldb next header
    (0x15, 0, 3, 6),  #        11: TCP? else 15
    (0x30, 0, 0, 67),  #       12: ldb TCP flags, at 14 + 40 + 13
    (0x45, 0, 1, 4),  #        13: RST? 14 : 15
    (0x06, 0, 0, _SNAPLEN),  # 14: pass it up
    (0x06, 0, 0, 0),  #        15: drop
]

Address = tuple[str, int]
Pair = frozenset[tuple[bytes, int]]


class ResetCounter:
    """Counts from its creation on. Raises PermissionError without CAP_NET_RAW."""

    def __init__(self) -> None:
        """Listens on all interfaces of this network namespace."""
        # Protocol 0 receives nothing; the filter is in place before frames are.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        program = b"".join(struct.pack("HBBI", *instruction) for instruction in _RST)
        buffer = ctypes.create_string_buffer(program)
        self._socket.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(_RST), ctypes.addressof(buffer))
        )
        # Room for the resets of thousands of connections at once.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        self._socket.setblocking(False)
        interfaces = 0  # all
        self._bind(interfaces)

    def _bind(self, interface: int) -> None:
        # Python's bind() wants an interface's name; 0, all of them, has none. So: struct sockaddr_ll by hand.
        address = struct.pack("=HHiHBB8s", socket.AF_PACKET, socket.htons(ETH_P_ALL), interface, 0, 0, 0, b"")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.bind(self._socket.fileno(), address, len(address)):
            raise OSError(ctypes.get_errno(), "cannot listen to all interfaces")

    def count_for(self, seconds: float, one: Address, other: Address) -> int:
        """RST segments between the two ends since the last call, and during so many seconds from now on."""
        return self.count_all_for(seconds, {pair(one, other)})

    def count_all_for(self, seconds: float, pairs: Set[Pair]) -> int:
        """The same for many connections, each the pair of its ends."""
        deadline, found = time.monotonic() + seconds, self._count(pairs)
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                found += self._count(pairs)
        return found

    def count(self, one: Address, other: Address) -> int:
        """RST segments between the two ends since the last call."""
        return self._count({pair(one, other)})

    def _count(self, pairs: Set[Pair]) -> int:
        found = 0
        while True:
            try:
                frame, (interface, _, direction, *_) = self._socket.recvfrom(_SNAPLEN)
            except BlockingIOError:
                return found
            if interface == "lo" and direction == PACKET_OUTGOING:
                continue  # every frame passes lo twice
            found += _ends(frame) in pairs

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def pair(one: Address, other: Address) -> Pair:
    """The two ends of a connection, whichever of them sends."""
    return frozenset({_end(*one), _end(*other)})


def _end(address: str, port: int) -> tuple[bytes, int]:
    return ipaddress.ip_address(address).packed, port


def _ends(frame: bytes) -> Pair:
    """The two ends of a TCP segment that the filter let through."""
    if frame[12:14] == b"\x08\x00":
        tcp = 14 + 4 * (frame[14] & 15)
        source, destination = frame[26:30], frame[30:34]
    else:
        tcp = 54
        source, destination = frame[22:38], frame[38:54]
    ports = struct.unpack_from("!HH", frame, tcp)
    return frozenset({(source, ports[0]), (destination, ports[1])})
