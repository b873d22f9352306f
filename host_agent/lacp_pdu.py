"""The frames of the slow protocols: LACPDUs and Marker PDUs, as bytes (IEEE 802.1AX-2014, 6.4.2.3 and 6.5.3.3).

Decides: what a well-formed one is. Never touches: state, sockets, clocks.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag

ETHERTYPE = 0x8809
GROUP = bytes.fromhex("0180c2000002")  # no bridge passes it on: it ends at the other end of the wire

_LACP, _MARKER = 1, 2  # subtypes
_ETHERNET = struct.Struct("!6s6sH")
_LACPDU = struct.Struct("!BB BBH6sHHHB3x BBH6sHHHB3x BBH12x BB50x")
_MARKER_PDU = struct.Struct("!BB BBH6sI2x BB90x")


class State(IntFlag):
    """The state octet of an end: what it is set to, and how far it has come."""

    ACTIVITY = 0x01  # it speaks unasked
    TIMEOUT = 0x02  # short: it wants to hear from the other end every second
    AGGREGATION = 0x04
    SYNCHRONIZATION = 0x08  # it has put this link into the aggregate that it belongs to
    COLLECTING = 0x10
    DISTRIBUTING = 0x20
    DEFAULTED = 0x40  # what it says of the other end is an assumption
    EXPIRED = 0x80  # it has not heard from the other end in time


NOTHING = State(0)


@dataclass(frozen=True)
class End:
    """One end of a link, as LACP describes it. system: a MAC of 6 bytes."""

    system: bytes
    key: int
    port: int
    state: State
    system_priority: int = 0x8000
    port_priority: int = 0x8000

    @property
    def identity(self) -> tuple[int, bytes, int, int, int, bool]:
        """Which end this is: what does not change while it is wired as it is (6.4.9, update_Selected)."""
        aggregates = State.AGGREGATION in self.state
        return self.system_priority, self.system, self.key, self.port_priority, self.port, aggregates


NOBODY = End(bytes(6), 0, 0, State.TIMEOUT, 0, 0)
"""What is assumed of an end that says nothing. Short timeout: it is spoken to every second, should it come."""


@dataclass(frozen=True)
class Lacpdu:
    """actor: who sends it. partner: what the sender knows of the receiver."""

    actor: End
    partner: End


@dataclass(frozen=True)
class Marker:
    """A question, or (response) the answer to it: the same words. system, port, transaction: the asker's."""

    system: bytes
    port: int
    transaction: int
    response: bool = False


def pack(pdu: Lacpdu | Marker, source: bytes) -> bytes:
    """The Ethernet frame. source: the sender's MAC, 6 bytes."""
    head = _ETHERNET.pack(GROUP, source, ETHERTYPE)
    if isinstance(pdu, Marker):
        kind = 2 if pdu.response else 1
        return head + _MARKER_PDU.pack(_MARKER, 1, kind, 16, pdu.port, pdu.system, pdu.transaction, 0, 0)
    ends = (*_fields(1, pdu.actor), *_fields(2, pdu.partner))
    return head + _LACPDU.pack(_LACP, 1, *ends, 3, 16, 0, 0, 0)


def unpack(frame: bytes) -> Lacpdu | Marker | None:
    """None for whatever is neither. Versions above 1 have the same words in the same places (6.4.2.3)."""
    if len(frame) < _ETHERNET.size + 2:
        return None
    group, _, ethertype = _ETHERNET.unpack_from(frame)
    body = frame[_ETHERNET.size :]
    if group != GROUP or ethertype != ETHERTYPE or not body[1]:
        return None
    if body[0] == _LACP and len(body) >= _LACPDU.size:
        _, _, *words = _LACPDU.unpack_from(body)
        if words[0:2] == [1, 20] and words[8:10] == [2, 20]:
            return Lacpdu(_end(words[2:8]), _end(words[10:16]))
    elif body[0] == _MARKER and len(body) >= _MARKER_PDU.size:
        _, _, kind, size, port, system, transaction, *_ = _MARKER_PDU.unpack_from(body)
        if kind in (1, 2) and size == 16:
            return Marker(system, port, transaction, kind == 2)
    return None


def _fields(kind: int, end: End) -> tuple[int | bytes, ...]:
    return kind, 20, end.system_priority, end.system, end.key, end.port_priority, end.port, end.state


def _end(words: list[int | bytes]) -> End:
    system_priority, system, key, port_priority, port, state = words
    assert isinstance(system, bytes)
    return End(system, int(key), int(port), State(int(state)), int(system_priority), int(port_priority))
