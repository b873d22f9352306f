"""The identifier of one TCP connection, as people write it and as the BPF maps key it.

Decides: nothing but the form. Never touches: sockets, maps.

An identifier is always written as the peer sends it: `src` is the peer, `dst` the team's virtual NIC.
"""

from __future__ import annotations

import ipaddress
import struct
from functools import lru_cache
from typing import NamedTuple

KEY = struct.Struct("!16s16sHH")  # struct connection of bpf/frame.h
_MAPPED = b"\0" * 10 + b"\xff\xff"  # RFC 4291 2.5.5.2


class Connection(NamedTuple):
    """Peer's address and port, then the team's. Addresses are text, IPv4 or IPv6."""

    src: str
    sport: int
    dst: str
    dport: int

    def __str__(self) -> str:
        def end(address: str, port: int) -> str:
            return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

        return f"{end(self.src, self.sport)}>{end(self.dst, self.dport)}"

    @property
    def ipv6(self) -> bool:
        return ":" in self.dst

    def fields(self) -> dict[str, str | int]:
        """The four keys that every event about a connection carries."""
        return self._asdict()


@lru_cache(maxsize=65536)
def key_of(connection: Connection) -> bytes:
    """The 36 bytes that key `records` and `offloads`."""
    return KEY.pack(_sixteen(connection.src), _sixteen(connection.dst), connection.sport, connection.dport)


@lru_cache(maxsize=65536)
def from_key(key: bytes) -> Connection:
    src, dst, sport, dport = KEY.unpack(key)
    return Connection(_text(src), sport, _text(dst), dport)


@lru_cache(maxsize=65536)
def _sixteen(address: str) -> bytes:
    packed = ipaddress.ip_address(address).packed
    return packed if len(packed) == 16 else _MAPPED + packed


@lru_cache(maxsize=65536)
def _text(address: bytes) -> str:
    """As the socket calls write it (inet_ntop(3)), so that an identifier from a socket and one from a map are equal."""
    if address.startswith(_MAPPED):
        return str(ipaddress.IPv4Address(address[12:]))
    if not any(address[:12]) and any(address[12:14]):
        return f"::{ipaddress.IPv4Address(address[12:])}"  # an IPv4-compatible address, RFC 4291 2.5.5.1
    return str(ipaddress.IPv6Address(address))
