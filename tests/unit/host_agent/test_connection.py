"""The identifier of a connection: its text, its 36 bytes, and the way between them."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.connection import KEY, Connection, from_key, key_of

PORTS = st.integers(0, 2**16 - 1)
MAPPED = ipaddress.ip_network("::ffff:0:0/96")
V4 = st.ip_addresses(v=4).map(str)
V6 = st.ip_addresses(v=6).filter(lambda address: address not in MAPPED).map(str)
CONNECTIONS = st.one_of(st.builds(Connection, V4, PORTS, V4, PORTS), st.builds(Connection, V6, PORTS, V6, PORTS))


@given(CONNECTIONS)
def test_round_trip(connection: Connection) -> None:
    key = key_of(connection)
    assert len(key) == KEY.size == 36
    assert from_key(key) == connection
    assert connection.ipv6 == (":" in connection.src)


@given(CONNECTIONS, CONNECTIONS)
def test_different_connections_have_different_keys(one: Connection, other: Connection) -> None:
    assert (key_of(one) == key_of(other)) == (one == other)


def test_layout() -> None:
    """struct connection: source, destination, ports in network order; IPv4 as ::ffff:a.b.c.d (RFC 4291 2.5.5.2)."""
    mapped = bytes(10) + b"\xff\xff"
    assert key_of(Connection("10.0.0.11", 0x1234, "10.0.0.1", 80)) == (
        mapped + bytes([10, 0, 0, 11]) + mapped + bytes([10, 0, 0, 1]) + b"\x12\x34\x00\x50"
    )
    assert key_of(Connection("fd00::11", 1, "fd00::1", 0xFFFE)) == (
        b"\xfd" + bytes(14) + b"\x11" + b"\xfd" + bytes(14) + b"\x01" + b"\x00\x01\xff\xfe"
    )


@pytest.mark.parametrize("text", ["fd00:0:0:0:0:0:0:11", "FD00::0011", "fd00::11"])
def test_ipv6_has_one_key_however_it_is_written(text: str) -> None:
    key = key_of(Connection(text, 1, "fd00::1", 2))
    assert from_key(key) == Connection("fd00::11", 1, "fd00::1", 2)


def test_text() -> None:
    assert str(Connection("10.0.0.11", 40000, "10.0.0.1", 80)) == "10.0.0.11:40000>10.0.0.1:80"
    assert str(Connection("fd00::11", 40000, "fd00::1", 80)) == "[fd00::11]:40000>[fd00::1]:80"
    assert Connection("a", 1, "b", 2).fields() == {"src": "a", "sport": 1, "dst": "b", "dport": 2}
