"""The frames of the Slow Protocols, as bytes: LACPDUs (IEEE 802.1AX-2014, 6.4.2) and Markers (6.5.3).

    Ethernet header | subtype, version | TLVs | zeros, 124 bytes in all

Decides what is a well-formed frame, nothing else. Pure.
"""

from __future__ import annotations

import struct
from enum import IntFlag
from typing import NamedTuple

ETH_TYPE = 0x8809
SLOW_PROTOCOLS = "01:80:c2:00:00:02"
_LACP, _MARKER = 1, 2
_LENGTH = 110  # from the subtype on
_TLV = struct.Struct("!BBH6sHHHB3x")  # type, length; of an actor or a partner
_MARKER_TLV = struct.Struct("!BBH6sI2x")
_ACTOR, _PARTNER, _COLLECTOR = 1, 2, 3


class State(IntFlag):
    """An end's state, bit by bit. TIMEOUT means a short one, ACTIVITY an active end."""

    ACTIVITY = 1
    TIMEOUT = 2
    AGGREGATION = 4
    SYNCHRONIZATION = 8
    COLLECTING = 16
    DISTRIBUTING = 32
    DEFAULTED = 64
    EXPIRED = 128


class End(NamedTuple):
    """What an LACPDU says of one end of the link."""

    system_priority: int = 0
    system: str = "00:00:00:00:00:00"
    key: int = 0
    port_priority: int = 0
    port: int = 0
    state: State = State(0)

    @property
    def name(self) -> tuple[object, ...]:
        """What tells this end from others: all but most of its state."""
        return (*self[:5], self.state & State.AGGREGATION)


class Lacpdu(NamedTuple):
    """`actor` is its sender, `partner` what the sender knows of the receiver."""

    actor: End
    partner: End
    collector_max_delay: int = 0


class Marker(NamedTuple):
    """A question that the other end of the link answers on the same link; `response` tells the answer."""

    system: str
    port: int
    transaction: int
    response: bool = False


Pdu = Lacpdu | Marker


def encode(pdu: Pdu, source: str) -> bytes:
    """The whole frame. Wires carry no checksum here."""
    if isinstance(pdu, Lacpdu):
        body = bytes((_LACP, 1)) + _end(_ACTOR, pdu.actor) + _end(_PARTNER, pdu.partner)
        body += struct.pack("!BBH12x", _COLLECTOR, 16, pdu.collector_max_delay)
    else:
        body = bytes((_MARKER, 1))
        body += _MARKER_TLV.pack(1 + pdu.response, _MARKER_TLV.size, pdu.port, _mac(pdu.system), pdu.transaction)
    return _mac(SLOW_PROTOCOLS) + _mac(source) + ETH_TYPE.to_bytes(2, "big") + body.ljust(_LENGTH, b"\0")


def decode(frame: bytes) -> Pdu:
    """Read a frame of this ethertype. Raises ValueError when it is none of the two, or not well formed.

    A version above 1 may have more behind what is read here.
    """
    if len(frame) < 14 + _LENGTH or frame[12:14] != ETH_TYPE.to_bytes(2, "big"):
        raise ValueError(f"{len(frame)} bytes are no whole frame of a slow protocol")
    body = frame[14:]
    if body[0] == _LACP:
        return Lacpdu(_read_end(body, 2, _ACTOR), _read_end(body, 22, _PARTNER), _read_collector(body))
    if body[0] == _MARKER:
        kind, length, port, system, transaction = _MARKER_TLV.unpack_from(body, 2)
        if kind not in (1, 2) or length != _MARKER_TLV.size:
            raise ValueError(f"a marker with a TLV of type {kind} and length {length}")
        return Marker(system.hex(":"), port, transaction, kind == 2)
    raise ValueError(f"slow protocol {body[0]} is not known")


def _end(kind: int, end: End) -> bytes:
    return _TLV.pack(
        *(kind, _TLV.size, end.system_priority, _mac(end.system), end.key),
        *(end.port_priority, end.port, int(end.state)),
    )


def _read_end(body: bytes, at: int, wanted: int) -> End:
    kind, length, priority, system, key, port_priority, port, state = _TLV.unpack_from(body, at)
    if (kind, length) != (wanted, _TLV.size):
        raise ValueError(f"an LACPDU with a TLV of type {kind} and length {length} in place of {wanted}")
    return End(priority, system.hex(":"), key, port_priority, port, State(state))


def _read_collector(body: bytes) -> int:
    kind, length, delay = struct.unpack_from("!BBH", body, 42)
    if (kind, length) != (_COLLECTOR, 16):
        raise ValueError(f"an LACPDU with a TLV of type {kind} and length {length} in place of the collector's")
    return int(delay)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
