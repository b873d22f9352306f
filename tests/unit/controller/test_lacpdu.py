"""The frames of the slow protocols: known bytes, round trips, and Ryu's own parser as a second opinion."""

from __future__ import annotations

import contextlib

import controller.spared  # noqa: F401  # isort: skip  (before Ryu)
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ryu.lib.packet import packet, slow

from controller.lacpdu import End, Lacpdu, Marker, Pdu, State, decode, encode

SOURCE = "02:00:00:00:05:01"
words = st.integers(0, 0xFFFF)
macs = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
states = st.integers(0, 255).map(State)
ends = st.builds(End, words, macs, words, words, words, states)
pdus = st.one_of(
    st.builds(Lacpdu, ends, ends, words),
    st.builds(Marker, macs, words, st.integers(0, 0xFFFFFFFF), st.booleans()),
)
FLAGS = ("activity", "timeout", "aggregation", "synchronization", "collecting", "distributing", "defaulted", "expired")


def ryus(end: End, who: str) -> dict[str, object]:
    names = {"system_priority": end.system_priority, "system": end.system, "key": end.key}
    names |= {"port_priority": end.port_priority, "port": end.port}
    names |= {f"state_{flag}": int(end.state) >> bit & 1 for bit, flag in enumerate(FLAGS)}
    return {f"{who}_{name}": value for name, value in names.items()}


@given(pdu=pdus)
def test_what_is_written_is_read(pdu: Pdu) -> None:
    frame = encode(pdu, SOURCE)
    assert len(frame) == 124
    assert decode(frame) == pdu
    assert decode(frame + b"more of a later version") == pdu


@given(actor=ends, partner=ends, delay=words)
def test_ryu_reads_and_writes_the_same(actor: End, partner: End, delay: int) -> None:
    pdu = Lacpdu(actor, partner, delay)
    frame = encode(pdu, SOURCE)
    read = packet.Packet(frame).get_protocol(slow.lacp)
    for name, value in (ryus(actor, "actor") | ryus(partner, "partner")).items():
        assert getattr(read, name) == value, name
    assert read.collector_max_delay == delay
    assert frame[:14].hex() == "0180c2000002" + SOURCE.replace(":", "") + "8809"
    written = slow.lacp(**ryus(actor, "actor"), **ryus(partner, "partner"), collector_max_delay=delay)
    assert written.serialize(bytearray(), None) == frame[14:]


def test_a_marker_byte_by_byte() -> None:
    frame = encode(Marker("02:00:00:00:05:01", 0x1002, 0x01020304, response=True), SOURCE)
    assert frame[12:34].hex(" ", -2) == "8809 0201 0210 1002 0200 0000 0501 0102 0304 0000 0000"
    assert not any(frame[34:])


@given(st.binary(max_size=140))
def test_garbage_is_refused_or_read_but_never_more(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode(data)


@pytest.mark.parametrize(("at", "value"), [(12, 0x08), (14, 10), (16, 2), (17, 21), (36, 1), (37, 0), (56, 9)])
def test_a_wrong_byte_in_the_form_is_refused(at: int, value: int) -> None:
    frame = bytearray(encode(Lacpdu(End(), End()), SOURCE))
    frame[at] = value
    with pytest.raises(ValueError, match=r"TLV|whole frame|not known"):
        decode(bytes(frame))
    with pytest.raises(ValueError, match="123 bytes"):
        decode(encode(Lacpdu(End(), End()), SOURCE)[:-1])
