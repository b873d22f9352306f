"""Predicts the hashes that Open vSwitch computes for a frame, so that a connection's member is known without
asking.

This is a rewrite of what the `multipath` action does for the sets of fields in `FIELDS`, read from Open
vSwitch's lib/flow.c (`flow_hash_fields`), lib/hash.h (`mhash_add`, `mhash_finish`: MurmurHash3, public domain),
lib/jhash.c (Jenkins' lookup3, public domain) and lib/multipath.c (`NX_MP_ALG_MODULO_N`). Which set serves which
policy is in `policies`.

An Open vSwitch that was compiled for SSE 4.2 or for ARM's CRC32 instructions hashes `symmetric_l3l4` with those
instead; distribution packages for amd64 are not. There the switch still works, and only this prediction is off.
It never touches sockets, clocks or Ryu.
"""

from __future__ import annotations

import ipaddress
import struct
import sys
from collections.abc import Callable
from typing import Literal, NamedTuple

IPV4, IPV6 = 0x0800, 0x86DD
TCP, UDP, SCTP = 6, 17, 132
_WITH_PORTS = (TCP, UDP, SCTP)
_MASK = 0xFFFFFFFF
_ORDER: Literal["little", "big"] = sys.byteorder


class Connection(NamedTuple):
    """A TCP connection as seen on the way to the team; `connection` builds it, checked and normalised."""

    src: str
    sport: int
    dst: str
    dport: int

    def __str__(self) -> str:
        template = "[{}]:{} > [{}]:{}" if ":" in self.src else "{}:{} > {}:{}"
        return template.format(*self)


def connection(src: object, sport: object, dst: object, dport: object) -> Connection:
    """Check and normalise the four parts. Raises ValueError with one line for a person."""
    addresses = []
    for name, address in (("src", src), ("dst", dst)):
        try:
            if "%" in str(address):
                raise ValueError  # no frame has a zone in it
            addresses.append(ipaddress.ip_address(str(address)))
        except ValueError:
            raise ValueError(f"{name}: {address!r} is not an IP address") from None
    if addresses[0].version != addresses[1].version:
        raise ValueError(f"src and dst must be of one IP version, not {src} and {dst}")
    ports = []
    for name, port in (("sport", sport), ("dport", dport)):
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
            raise ValueError(f"{name}: {port!r} is not a TCP port (1 to 65535)")
        ports.append(port)
    return Connection(str(addresses[0]), ports[0], str(addresses[1]), ports[1])


class Frame(NamedTuple):
    """What a switch can hash: MACs of 6 bytes; addresses of 4 or 16 bytes, empty when it is not IP.

    `ports` is None for a fragment and for a protocol without ports.
    """

    eth_src: bytes
    eth_dst: bytes
    eth_type: int
    src: bytes = b""
    dst: bytes = b""
    protocol: int = 0
    ports: tuple[int, int] | None = None
    vlan_id: int = 0


def frame_of(conn: Connection, src_mac: bytes = bytes(6), dst_mac: bytes = bytes(6)) -> Frame:
    """Any segment of this connection on its way to the team."""
    src, dst = (ipaddress.ip_address(address).packed for address in (conn.src, conn.dst))
    eth_type = IPV4 if len(src) == 4 else IPV6
    return Frame(src_mac, dst_mac, eth_type, src, dst, TCP, (conn.sport, conn.dport))


def symmetric_l3l4(
    src: bytes, dst: bytes, protocol: int, ports: tuple[int, int] | None, basis: int, udp: bool = True
) -> int:
    """The hash of an IP frame: `src` and `dst` are 4 or 16 bytes; `ports` is None for a fragment.

    Without `udp`, the ports of UDP do not count: the two ways of an exchange over UDP may differ in them.
    """
    result = basis
    for word in _words(_xor(src, dst)):
        result = _add(result, word)
    result = _add(result, protocol)
    if ports is not None and protocol in _WITH_PORTS and (udp or protocol != UDP):
        (word,) = struct.unpack("=H", struct.pack("!H", ports[0] ^ ports[1]))
        result = _add(result, word)
    return _finish(result ^ basis)


def symmetric_l2(eth_src: bytes, eth_dst: bytes, eth_type: int, basis: int, vlan_id: int = 0) -> int:
    """The hash of a frame that is not IP, such as an ARP reply: MACs of 6 bytes each, type and VLAN."""
    result = basis
    for word in _words(struct.pack("!HH", eth_type, vlan_id) + _xor(eth_src, eth_dst) + b"\0\0"):
        result = _add(result, word)
    return _finish(result ^ basis)


def jhash(data: bytes, basis: int) -> int:
    """Jenkins' lookup3, as Open vSwitch has it for hashes that may be seen from outside."""
    a = b = c = (0xDEADBEEF + len(data) + basis) & _MASK
    while len(data) >= 12:
        a, b, c = _mix(*_added((a, b, c), data[:12]))
        data = data[12:]
    return _final(*_added((a, b, c), data.ljust(12, b"\0"))) if data else c


def _symmetric_l3l4(frame: Frame, basis: int, udp: bool) -> int:
    if not frame.src:
        return symmetric_l2(frame.eth_src, frame.eth_dst, frame.eth_type, basis, frame.vlan_id)
    return symmetric_l3l4(frame.src, frame.dst, frame.protocol, frame.ports, basis, udp)


def _symmetric_l3(frame: Frame, basis: int) -> int:
    address = _xor(frame.src, frame.dst).ljust(16, b"\0")
    return jhash(address + struct.pack("!HH", frame.eth_type, 0), basis)


# By Nicira's names for the sets of fields: (frame, basis) -> 32 bits. The basis is the seed, 0 to 65535.
FIELDS: dict[str, Callable[[Frame, int], int]] = {
    "eth_src": lambda frame, basis: jhash(frame.eth_src, basis),
    "nw_src": lambda frame, basis: jhash(frame.src, basis) if frame.src else basis,
    "symmetric_l3": _symmetric_l3,
    "symmetric_l3l4": lambda frame, basis: _symmetric_l3l4(frame, basis, udp=False),
    "symmetric_l3l4+udp": lambda frame, basis: _symmetric_l3l4(frame, basis, udp=True),
}


def _words(data: bytes) -> list[int]:
    """The 32-bit words of `data` in the order in which OVS adds them, each in the machine's byte order."""
    words = [int.from_bytes(data[i : i + 4], _ORDER) for i in range(0, len(data), 4)]
    if _ORDER == "big" and len(words) == 4:  # IPv6 is added as two 64-bit words, lower half first
        words = [words[1], words[0], words[3], words[2]]
    return words


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def _rotate(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (32 - bits))) & _MASK


def _add(total: int, word: int) -> int:
    word = _rotate(word * 0xCC9E2D51 & _MASK, 15) * 0x1B873593 & _MASK
    return (_rotate(total ^ word, 13) * 5 + 0xE6546B64) & _MASK


def _finish(total: int) -> int:
    total = (total ^ (total >> 16)) * 0x85EBCA6B & _MASK
    total = (total ^ (total >> 13)) * 0xC2B2AE35 & _MASK
    return total ^ (total >> 16)


def _added(state: tuple[int, int, int], data: bytes) -> tuple[int, int, int]:
    a, b, c = ((old + word) & _MASK for old, word in zip(state, struct.unpack("=3I", data), strict=True))
    return a, b, c


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in (4, 6, 8, 16, 19, 4):  # the three take turns; after six steps each is back in its place
        a, b, c = b, (c + b) & _MASK, ((a - c) & _MASK) ^ _rotate(c, bits)
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for bits in (14, 11, 25, 16, 4, 14, 24):
        a, b, c = b, ((c ^ b) - _rotate(b, bits)) & _MASK, a
    return b
