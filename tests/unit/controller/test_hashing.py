"""The prediction of Open vSwitch's hash: known answers of a real one, symmetry, balance."""

from __future__ import annotations

import ipaddress
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.hashing import (
    SCTP,
    TCP,
    UDP,
    Connection,
    connection,
    frame_of,
    symmetric_l2,
    symmetric_l3l4,
)
from controller.policies import frame_hash


def connection_hash(conn: Connection, seed: int) -> int:
    return frame_hash("layer3+4", frame_of(conn), seed)


V4 = (b"\x0a\0\0\x0b", b"\x0a\0\0\x01")
PORTS = (40000, 8080)

ports = st.integers(1, 65535)
seeds = st.integers(0, 65535)
addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)


# The low 16 bits that Open vSwitch 3.1.0 on amd64 wrote for
# multipath(symmetric_l3l4+udp,SEED,modulo_n,65536,0,NXM_NX_REG0[]), by ofproto/trace.
@pytest.mark.parametrize(
    ("src", "sport", "dst", "dport", "known"),
    [
        ("10.0.0.11", 40000, "10.0.0.1", 8080, {0: 0xBFE6, 7: 0xF842, 65535: 0xA1AD}),
        ("10.0.0.1", 8080, "10.0.0.11", 40000, {0: 0xBFE6, 7: 0xF842, 65535: 0xA1AD}),
        ("fd00::11", 40000, "fd00::1", 8080, {0: 0x6C1A, 7: 0x3820, 65535: 0x4CCD}),
        ("2001:db8:1:2:3:4:5:6", 1, "fd00::1", 65535, {0: 0x0DF7, 7: 0x8872, 65535: 0xF3E3}),
    ],
)
def test_known_connections(src: str, sport: int, dst: str, dport: int, known: dict[int, int]) -> None:
    conn = connection(src, sport, dst, dport)
    assert {seed: connection_hash(conn, seed) & 0xFFFF for seed in known} == known


@pytest.mark.parametrize(
    ("protocol", "port_pair", "known"),
    [
        (UDP, PORTS, {0: 0xBCEA, 7: 0x2625, 65535: 0x1982}),
        (SCTP, PORTS, {0: 0xB0DE, 7: 0x11E0, 65535: 0x657D}),
        (1, (8, 0), {0: 0x4171, 7: 0x2852, 65535: 0x012A}),  # ICMP has no ports
        (TCP, None, {0: 0xE2BF, 7: 0x5DEF, 65535: 0x23A9}),  # a fragment
    ],
)
def test_known_ip_frames(protocol: int, port_pair: tuple[int, int] | None, known: dict[int, int]) -> None:
    assert {seed: symmetric_l3l4(*V4, protocol, port_pair, seed) & 0xFFFF for seed in known} == known


@pytest.mark.parametrize(
    ("eth_type", "known"),
    [(0x0806, {0: 0xA0BC, 7: 0xFBA9, 65535: 0x5508}), (0x88B5, {0: 0xC90A, 7: 0x7EEF, 65535: 0xC753})],
)
def test_known_frames_that_are_not_ip(eth_type: int, known: dict[int, int]) -> None:
    macs = bytes.fromhex("020000000101"), bytes.fromhex("020000000001")
    assert {seed: symmetric_l2(*macs, eth_type, seed) & 0xFFFF for seed in known} == known


@given(addresses, ports, ports, seeds)
def test_both_directions_hash_alike(
    pair: tuple[ipaddress.IPv4Address, ipaddress.IPv4Address], sport: int, dport: int, seed: int
) -> None:
    there = connection(pair[0], sport, pair[1], dport)
    back = connection(pair[1], dport, pair[0], sport)
    assert connection_hash(there, seed) == connection_hash(back, seed)
    assert 0 <= connection_hash(there, seed) < 2**32


@pytest.mark.parametrize("members", range(2, 17))
@pytest.mark.parametrize("version", [4, 6])
def test_connections_are_spread_evenly(members: int, version: int) -> None:
    """Chi-square over connections as clients make them: some hosts, ascending source ports, one service."""
    rng = random.Random(members)
    counts = [0] * members
    for _ in range(4000):
        host, sport = rng.randrange(2, 202), rng.randrange(32768, 61000)
        src, dst = (f"10.0.0.{host}", "10.0.0.1") if version == 4 else (f"fd00::{host:x}", "fd00::1")
        counts[connection_hash(connection(src, sport, dst, 8080), 0) % members] += 1
    expected = 4000 / members
    chi_square = sum((count - expected) ** 2 / expected for count in counts)
    freedom = members - 1
    assert chi_square < freedom + 5 * (2 * freedom) ** 0.5 + 5, counts  # beyond one in 10,000 at each freedom


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (("10.0.0", 1, "10.0.0.1", 2), "src: '10.0.0' is not an IP address"),
        (("fe80::1%eth0", 1, "fd00::1", 2), "src: 'fe80::1%eth0' is not an IP address"),
        (("10.0.0.2", 1, None, 2), "dst: None is not an IP address"),
        (("10.0.0.2", 1, "fd00::1", 2), "one IP version"),
        (("10.0.0.2", 0, "10.0.0.1", 2), "sport: 0 is not a TCP port"),
        (("10.0.0.2", 1, "10.0.0.1", "80"), "dport: '80' is not a TCP port"),
        (("10.0.0.2", True, "10.0.0.1", 80), "sport: True is not a TCP port"),
    ],
)
def test_wrong_connections_are_named(parts: tuple[object, object, object, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        connection(*parts)


def test_one_connection_has_one_spelling() -> None:
    assert connection("FD00:0::11", 1, "fd00::1", 2) == connection("fd00::11", 1, "fd00:0:0::1", 2)
    assert str(connection("fd00::11", 1, "fd00::1", 2)) == "[fd00::11]:1 > [fd00::1]:2"
    assert str(connection("10.0.0.11", 1, "10.0.0.1", 2)) == "10.0.0.11:1 > 10.0.0.1:2"
