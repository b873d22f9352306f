"""Who is told of a neighbour's new MAC, and what an ICMP message says of a path."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.connection import Connection
from host_agent.paths import Hops, NewHop, TooBig, too_big

OLD, NEW, OTHER = (bytes.fromhex(f"0200000000{n:02d}") for n in (1, 2, 3))
PEER, ANOTHER, ROUTER = "10.0.0.11", "10.9.9.9", "10.0.0.254"


def test_one_frame_tells_of_all_connections_of_the_peer_once() -> None:
    """A hundred connections of the peer say so at the same time."""
    hops = Hops()
    assert hops.by_frame(PEER, NEW) == NewHop(PEER, NEW)
    assert [hops.by_frame(PEER, NEW) for _ in range(99)] == [None] * 99
    assert hops.by_frame(PEER, OLD) == NewHop(PEER, OLD)


def test_a_frame_says_nothing_of_other_peers() -> None:
    hops = Hops([(ROUTER, OLD)])
    hops.by_frame(PEER, NEW)
    assert hops.changed(PEER, OLD) == NEW
    assert hops.changed(ANOTHER, OLD) is None


def test_the_table_tells_of_all_that_used_the_old_mac() -> None:
    hops = Hops([(ROUTER, OLD)])
    assert hops.by_table(ROUTER, OLD) is None
    assert hops.by_table(ROUTER, NEW) == NewHop(ROUTER, NEW, was=OLD)
    assert hops.by_table(ROUTER, NEW) is None
    assert hops.changed(ANOTHER, OLD) == NEW
    assert hops.changed(ANOTHER, NEW) is None
    assert hops.changed(ANOTHER, OTHER) is None


def test_a_neighbour_that_is_resolved_for_the_first_time_is_no_change() -> None:
    hops = Hops()
    assert hops.by_table(PEER, OLD) is None
    assert hops.by_table(PEER, NEW) == NewHop(PEER, NEW, was=OLD)


def test_a_mac_that_comes_back_is_no_longer_replaced() -> None:
    hops = Hops([(ROUTER, OLD)])
    hops.by_table(ROUTER, NEW)
    hops.by_table(ROUTER, OLD)
    assert (hops.changed(PEER, NEW), hops.changed(PEER, OLD)) == (OLD, None)


def test_two_changes_lead_to_the_newest() -> None:
    hops = Hops([(ROUTER, OLD)])
    hops.by_table(ROUTER, NEW)
    hops.by_table(ROUTER, OTHER)
    assert hops.changed(PEER, OLD) == hops.changed(PEER, NEW) == OTHER
    hops.by_frame(PEER, NEW)  # its own frames know better
    assert (hops.changed(PEER, OLD), hops.changed(ANOTHER, OLD)) == (NEW, OTHER)
    hops.by_table(ROUTER, OLD)
    assert hops.changed(PEER, OLD) == NEW


def test_a_peer_that_is_a_neighbour_itself_is_where_the_table_says() -> None:
    hops = Hops([(PEER, OLD)])
    hops.by_frame(PEER, NEW)
    hops.by_table(PEER, OTHER)
    assert hops.changed(PEER, NEW) == OTHER


def test_a_neighbour_that_the_table_has_otherwise_is_asked_anew() -> None:
    hops = Hops([(ROUTER, OLD)])
    assert hops.doubtful(ROUTER, NEW)
    assert not hops.doubtful(ROUTER, OLD)
    assert not hops.doubtful(ANOTHER, NEW)  # not in the table: there is nothing to doubt


def test_the_fields_of_an_update() -> None:
    assert NewHop(PEER, NEW).fields() == {"src": PEER, "next_hop": NEW.hex()}
    assert NewHop(PEER, NEW, OLD).fields() == {"src": PEER, "next_hop": NEW.hex(), "was": OLD.hex()}


V4, V6 = Connection("10.0.0.11", 40000, "10.0.0.1", 8080), Connection("fd00::11", 40000, "fd00::1", 8080)


def message(c: Connection, mtu: int, *, kind: int | None = None, protocol: int = 6, options: bytes = b"") -> bytes:
    """As a raw socket gives it."""
    ends = ip_address(c.dst).packed + ip_address(c.src).packed
    tcp = struct.pack("!HHI", c.dport, c.sport, 4_000_000_000)
    if c.ipv6:
        inner = struct.pack("!IHBB", 6 << 28, 1400, protocol, 64) + ends + tcp
        return struct.pack("!BBHI", 2 if kind is None else kind, 0, 0, mtu) + inner
    inner = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, 1500, 0, 0, 64, protocol, 0) + ends + options + tcp
    outer = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, 0, 0, 0, 64, 1, 0) + ends + options
    return outer + struct.pack("!BBHHH", 3, 4 if kind is None else kind, 0, 0, mtu) + inner


@pytest.mark.parametrize("options", [b"", bytes(8)])
@pytest.mark.parametrize("c", [V4, V6], ids=["ipv4", "ipv6"])
def test_a_segment_that_was_too_big(c: Connection, options: bytes) -> None:
    assert too_big(message(c, 1300, options=options), ipv6=c.ipv6) == TooBig(c, 1300, 4_000_000_000)


@pytest.mark.parametrize("c", [V4, V6], ids=["ipv4", "ipv6"])
def test_other_messages_are_nothing_to_us(c: Connection) -> None:
    assert too_big(message(c, 1300, kind=1), ipv6=c.ipv6) is None
    assert too_big(message(c, 1300, protocol=17), ipv6=c.ipv6) is None
    assert too_big(message(c, 0), ipv6=c.ipv6) is None
    whole = message(c, 1300)
    assert all(too_big(whole[:n], ipv6=c.ipv6) is None for n in range(len(whole)))


@given(st.binary(max_size=120), st.booleans())
def test_nothing_that_the_network_says_does_harm(message: bytes, ipv6: bool) -> None:
    too_big(message, ipv6=ipv6)
