"""Sees the RST and SYN segments that pass this machine's interfaces, in either direction; counts RSTs by connection.

Opens one packet socket with a filter in the kernel that lets segments with these flags through only, so it costs
nothing on a busy connection. Needs CAP_NET_RAW.
"""

import ctypes
import ipaddress
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass

SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
ETH_P_ALL = 0x0003
PACKET_OTHERHOST, PACKET_OUTGOING = 3, 4
_SNAPLEN = 128

SYN, RST, ACK = 2, 4, 16
"""Flags of a TCP segment."""

# Classic BPF on an Ethernet frame, (code, jump if true, jump if false, k): TCP with one of the flags over IPv4 (first
# fragment only) or IPv6 (no extension headers). FLAGS stands for the flags.
FLAGS = -1
_FILTER = [
    (0x28, 0, 0, 12),  #        0: ldh the EtherType
    (0x15, 0, 7, 0x0800),  #    1: IPv4? else 9
    (0x30, 0, 0, 23),  #        2: ldb protocol
    (0x15, 0, 11, 6),  #        3: TCP? else 15
    (0x28, 0, 0, 20),  #        4: ldh flags and fragment offset
    (0x45, 9, 0, 0x1FFF),  #    5: a later fragment? then 15
    (0xB1, 0, 0, 14),  #        6: ldxb 4 * header length
    (0x50, 0, 0, 27),  #        7: ldb TCP flags, at x + 14 + 13
    (0x45, 5, 6, FLAGS),  #     8: one of them? 14 : 15
    (0x15, 0, 5, 0x86DD),  #    9: IPv6? else 15
    (0x30, 0, 0, 20),  #       10: ldb next header
    (0x15, 0, 3, 6),  #        11: TCP? else 15
    (0x30, 0, 0, 67),  #       12: ldb TCP flags, at 14 + 40 + 13
    (0x45, 0, 1, FLAGS),  #    13: one of them? 14 : 15
    (0x06, 0, 0, _SNAPLEN),  # 14: pass it up
    (0x06, 0, 0, 0),  #        15: drop
]

Address = tuple[str, int]
End = tuple[bytes, int]
Pair = frozenset[End]


class Segments:
    """Segments with one of these flags, from its creation on. Raises PermissionError without CAP_NET_RAW."""

    def __init__(self, flags: int) -> None:
        """Listens on all interfaces of this network namespace."""
        # Protocol 0 receives nothing; the filter is in place before frames are.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        program = b"".join(struct.pack("HBBI", *one, flags if k == FLAGS else k) for *one, k in _FILTER)
        buffer = ctypes.create_string_buffer(program)
        self._socket.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(_FILTER), ctypes.addressof(buffer))
        )
        # Room for the segments of thousands of connections at once.
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

    def fileno(self) -> int:
        """For select: readable when there are some."""
        return self._socket.fileno()

    def read(self) -> Iterator["Segment"]:
        """Those that have come since the last call."""
        while True:
            try:
                frame, (interface, _, direction, *_) = self._socket.recvfrom(_SNAPLEN)
            except BlockingIOError:
                return
            if direction == PACKET_OTHERHOST or (interface == "lo" and direction == PACKET_OUTGOING):
                continue  # a flooded frame for somebody else; every frame passes lo twice
            yield segment(frame)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class ResetCounter:
    """Counts RST segments from its creation on. Raises PermissionError without CAP_NET_RAW."""

    def __init__(self) -> None:
        """Listens on all interfaces of this network namespace."""
        self._segments = Segments(RST)

    def count_for(self, seconds: float, pairs: Set[Pair], gone: Set[End] = frozenset()) -> Counter[Pair]:
        """RST segments of these connections since the last call, and during so many seconds from now on.

        gone: ends that had everything and closed last. Such an end's TCP is gone with the acknowledgement of its FIN; a
        FIN that was sent twice is acknowledged twice, and the second one answered by an RST without an ACK (RFC 9293,
        3.10.7.1), which resets nothing.
        """
        deadline, found = time.monotonic() + seconds, self._count(pairs, gone)
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._segments], [], [], left)[0]:
                found += self._count(pairs, gone)
        return found

    def _count(self, pairs: Set[Pair], gone: Set[End]) -> Counter[Pair]:
        of_them = (one for one in self._segments.read() if one.pair in pairs)
        return Counter(one.pair for one in of_them if one.flags & ACK or one.source not in gone)

    def close(self) -> None:
        """Close the socket."""
        self._segments.close()


def pair(one: Address, other: Address) -> Pair:
    """The two ends of a connection, whichever of them sends."""
    return frozenset({end(*one), end(*other)})


def end(address: str, port: int) -> End:
    """As segments name it."""
    return ipaddress.ip_address(address).packed, port


@dataclass(frozen=True)
class Segment:
    """A TCP segment's ends and flags. Addresses are bytes."""

    source: End
    target: End
    flags: int

    @property
    def pair(self) -> Pair:
        """Its connection."""
        return frozenset({self.source, self.target})


def segment(frame: bytes) -> Segment:
    """A frame that the filter let through."""
    if frame[12:14] == b"\x08\x00":
        tcp = 14 + 4 * (frame[14] & 15)
        source, target = frame[26:30], frame[30:34]
    else:
        tcp = 54
        source, target = frame[22:38], frame[38:54]
    ports = struct.unpack_from("!HH", frame, tcp)
    return Segment((source, ports[0]), (target, ports[1]), frame[tcp + 13])
