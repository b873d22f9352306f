"""Captures of several interfaces → one pcapng file, by time, with comments at what happened. Pure: bytes in, bytes out.

Reads what tcpdump writes (pcap-savefile(5)), writes pcapng (draft-ietf-opsawg-pcapng): one section, an interface block
for each link, then packets; a comment stands at the first packet at or behind its time, on any interface.
"""

import heapq
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_END, _COMMENT, _NAME, _DESCRIPTION, _RESOLUTION, _APPLICATION = 0, 1, 2, 3, 9, 4
_MICROSECONDS, _NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D
_LONGEST = 0xFFFF
"""Bytes of an option."""

Packet = tuple[int, int, int, bytes]
"""Nanoseconds since 1970, the interface's number, its length on the wire, what was captured of it."""
Comment = tuple[float, str]
"""Seconds since 1970, and the words."""


class NoCaptureError(ValueError):
    """Not what tcpdump writes."""


@dataclass(frozen=True)
class Capture:
    """What was captured at one link. `name` is the interface's in the file; `data`: a whole pcap file."""

    name: str
    description: str
    data: bytes


def merge(captures: Sequence[Capture], comments: Sequence[Comment], about: str) -> Iterator[bytes]:
    """The pieces of the file. Raises NoCaptureError. A record that is cut off at a capture's end is left out."""
    headers = [_header(one) for one in captures]
    application = (_APPLICATION, b"teambed")
    yield _block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1), [(_COMMENT, about.encode()), application])
    for one, header in zip(captures, headers, strict=True):
        names = [(_NAME, one.name.encode()), (_DESCRIPTION, one.description.encode()), (_RESOLUTION, b"\x09")]
        yield _block(_INTERFACE, struct.pack("<HHI", header.link_type, 0, header.snap_length), names)
    streams = [_packets(one.data, header, n) for n, (one, header) in enumerate(zip(captures, headers, strict=True))]
    waiting = sorted(comments)
    last: Packet | None = None
    for packet in heapq.merge(*streams, key=lambda one: one[0]):
        if last is not None:
            yield _packet(last, _due(waiting, last[0]))
        last = packet
    if last is not None:  # what happened behind the last packet stands there too
        yield _packet(last, _due(waiting, None))


def _due(waiting: list[Comment], until: int | None) -> list[str]:
    """Takes the comments whose time has come."""
    count = sum(1 for at, _ in waiting if until is None or at * 1e9 <= until) if waiting else 0
    due = [words for _, words in waiting[:count]]
    del waiting[:count]
    return due


def _packet(packet: Packet, comments: Iterable[str]) -> bytes:
    at, interface, length, data = packet
    head = struct.pack("<IIIII", interface, at >> 32, at & 0xFFFFFFFF, len(data), length)
    return _block(_PACKET, head + _padded(data), [(_COMMENT, words.encode()) for words in comments])


def _block(kind: int, body: bytes, options: Sequence[tuple[int, bytes]] = ()) -> bytes:
    """A block: its type, its length, its body and options, its length again."""
    for code, value in ((code, value[:_LONGEST]) for code, value in options):
        body += struct.pack("<HH", code, len(value)) + _padded(value)
    if options:
        body += struct.pack("<HH", _END, 0)
    total = len(body) + 12
    return struct.pack("<II", kind, total) + body + struct.pack("<I", total)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


@dataclass(frozen=True)
class _Header:
    """Of a pcap file. `order`: struct's byte order. `unit`: nanoseconds in a unit of its times' second part."""

    order: str
    unit: int
    snap_length: int
    link_type: int


def _header(capture: Capture) -> _Header:
    data = capture.data
    for order in "<>":
        if len(data) >= 24:
            magic, _, _, _, _, snap_length, link_type = struct.unpack_from(f"{order}IHHiIII", data)
            if magic in (_MICROSECONDS, _NANOSECONDS):
                return _Header(order, 1000 if magic == _MICROSECONDS else 1, snap_length, link_type & 0xFFFF)
    raise NoCaptureError(f"{capture.name}: not a pcap file")


def _packets(data: bytes, header: _Header, interface: int) -> Iterator[Packet]:
    record = struct.Struct(f"{header.order}IIII")
    at = 24
    while at + record.size <= len(data):
        seconds, part, captured, length = record.unpack_from(data, at)
        at += record.size
        if at + captured > len(data):
            return
        yield seconds * 1_000_000_000 + part * header.unit, interface, length, data[at : at + captured]
        at += captured
