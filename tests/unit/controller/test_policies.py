"""Hash policies: what counts and what does not, even spreading over 2 to 16 members, both directions, and the fake
switch doing what is predicted.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.hashing import FIELDS, IPV4, IPV6, TCP, UDP, Frame, connection, jhash
from controller.policies import NEEDS_MAC, OTHER, POLICIES, frame_hash
from controller.rebalance import REBALANCE
from tests.unit.controller.fake import CONNECTIONS, TEAM, Bench, arp, segment

BASE = Frame(b"\2\0\0\0\1\1", b"\2\0\0\0\0\1", IPV4, b"\n\0\0\x0b", b"\n\0\0\1", TCP, (40000, 8080))
CHANGES = {
    "eth_src": {"eth_src": b"\2\0\0\0\1\2"},
    "eth_dst": {"eth_dst": b"\2\0\0\0\0\2"},
    "src": {"src": b"\n\0\0\x0c"},
    "dst": {"dst": b"\n\0\0\2"},
    "protocol": {"protocol": UDP},
    "ports": {"ports": (40001, 8080)},
    "fragment": {"ports": None},
}
IP = {
    "layer2": {"eth_src"},
    "layer2+3": {"eth_src", "src", "dst"},
    "layer3+4": {"src", "dst", "protocol", "ports", "fragment"},
    "src-ip": {"src"},
    "symmetric": {"src", "dst", "protocol", "ports", "fragment"},
}

ports = st.integers(1, 65535)
seeds = st.integers(0, 65535)
macs = st.binary(min_size=6, max_size=6)
protocols = st.sampled_from((TCP, UDP, 1))
port_pairs = st.one_of(st.none(), st.tuples(ports, ports))


def ip_frames(eth_type: int, size: int) -> st.SearchStrategy[Frame]:
    addresses = st.binary(min_size=size, max_size=size)
    parts = st.tuples(macs, macs, st.just(eth_type), addresses, addresses, protocols, port_pairs)
    return parts.map(lambda part: Frame(*part))


other_frames = st.tuples(macs, macs, st.sampled_from((0x0806, 0x88B5))).map(lambda part: Frame(*part))
frames = st.one_of(ip_frames(IPV4, 4), ip_frames(IPV6, 16), other_frames)


def test_lookup3_as_published() -> None:
    assert jhash(b"", 0) == 0xDEADBEEF
    assert jhash(b"Four score and seven years ago", 0) == 0x17770551
    assert jhash(b"Four score and seven years ago", 1) == 0xCD628161


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("policy", POLICIES)
def test_exactly_the_fields_of_the_policy_count(policy: str, version: int) -> None:
    def frame(**change: object) -> Frame:
        one = BASE._replace(**change)  # type: ignore[arg-type]
        prefix = bytes.fromhex("fd00") + bytes(10)
        return one if version == 4 else one._replace(eth_type=IPV6, src=prefix + one.src, dst=prefix + one.dst)

    counts = {
        name
        for name, change in CHANGES.items()
        if any(frame_hash(policy, frame(**change), s) != frame_hash(policy, frame(), s) for s in range(3))
    }
    assert counts == IP[policy]
    other = Frame(BASE.eth_src, BASE.eth_dst, 0x0806)
    for one in (frame(), other):
        assert len({frame_hash(policy, one, seed) for seed in range(8)}) == 8


def test_udp_ports_count_in_layer3_4_and_not_in_symmetric() -> None:
    udp = BASE._replace(protocol=UDP)
    answer = Frame(udp.eth_dst, udp.eth_src, IPV4, udp.dst, udp.src, UDP, (6970, 40000))  # from another port
    assert frame_hash("symmetric", udp, 5) == frame_hash("symmetric", answer, 5)
    assert frame_hash("layer3+4", udp, 5) != frame_hash("layer3+4", answer, 5)


@given(frames, seeds)
def test_symmetric_sends_both_directions_alike_whatever_the_macs(frame: Frame, seed: int) -> None:
    back = frame._replace(src=frame.dst, dst=frame.src, ports=frame.ports and (frame.ports[1], frame.ports[0]))
    if frame.src:
        back = back._replace(eth_src=b"\2\0\0\0\7\7", eth_dst=b"\2\0\0\0\x08\x08")
    else:
        back = back._replace(eth_src=frame.eth_dst, eth_dst=frame.eth_src)
    assert frame_hash("symmetric", frame, seed) == frame_hash("symmetric", back, seed)


def peer(rng: random.Random, version: int) -> Frame:
    """A frame as many clients send them: MACs and addresses that count up, a few services."""
    number, sport = rng.randrange(60000), rng.randrange(32768, 61000)
    mac = b"\2\0\0\1" + number.to_bytes(2, "big")
    if version == 4:
        return Frame(mac, bytes(6), IPV4, b"\n\1" + number.to_bytes(2, "big"), b"\n\0\0\1", TCP, (sport, 8080))
    src = bytes.fromhex("fd00") + bytes(12) + number.to_bytes(2, "big")
    return Frame(mac, bytes(6), IPV6, src, bytes.fromhex("fd00") + bytes(13) + b"\1", TCP, (sport, 8080))


def chi_square_is_small(counts: list[int], shares: list[float]) -> bool:
    total, freedom = sum(counts), len(counts) - 1
    chi_square = sum((n - total * share) ** 2 / (total * share) for n, share in zip(counts, shares, strict=True))
    return chi_square < freedom + 5 * (2 * freedom) ** 0.5 + 5  # beyond one in 10,000 at each freedom


@pytest.mark.parametrize("members", range(2, 17))
@pytest.mark.parametrize("policy", POLICIES)
def test_connections_are_spread_evenly(policy: str, members: int) -> None:
    rng = random.Random(members)
    numbers = tuple(range(1, members + 1))
    frames = [peer(rng, 4 + 2 * (i % 2)) for i in range(2500)]
    hashes = [frame_hash(policy, frame, members) for frame in frames]
    for mode, rebalance in REBALANCE.items():
        buckets = rebalance(numbers, frozenset(numbers), ())
        counts = [0] * members
        for value in hashes:
            counts[buckets[value % len(buckets)] - 1] += 1
        assert chi_square_is_small(counts, [1 / members] * members), (mode, counts)


@pytest.mark.parametrize("rebalance", REBALANCE)
@pytest.mark.parametrize("policy", POLICIES)
def test_the_switch_does_as_predicted_always_the_same_with_flows_that_never_grow(policy: str, rebalance: str) -> None:
    bench = Bench(5, 9, policy=policy, rebalance=rebalance)
    size = len(bench.table.rules)
    rng = random.Random(policy)
    for _ in range(2):
        for conn in CONNECTIONS:
            mac = f"02:00:00:00:01:{rng.randrange(256):02x}"
            port = bench.lag.port_of(conn, mac)
            for _ in range(2):
                assert bench.table.forward(segment(conn, bench.client, mac)) == [port]
    for last in range(20):
        frame = arp(bench.client, f"02:00:00:00:02:{last:02x}", TEAM)
        facts = Frame(bytes.fromhex(frame["eth_src"].replace(":", "")), bytes.fromhex(TEAM.replace(":", "")), 0x0806)
        bucket = frame_hash(policy, facts, 9) % len(bench.lag.buckets)
        assert bench.table.forward(frame) == [bench.lag.buckets[bucket]]
    assert len(bench.table.rules) == size


def test_a_policy_that_needs_the_mac_says_so() -> None:
    for policy in POLICIES:
        lag = Bench(3, policy=policy).lag
        if policy in NEEDS_MAC:
            with pytest.raises(ValueError, match=f"src_mac: {policy.replace('+', '.')} decides"):
                lag.port_of(CONNECTIONS[0])
        else:
            assert lag.port_of(CONNECTIONS[0]) == lag.port_of(CONNECTIONS[0], "02:00:00:00:07:07")


def test_every_recipe_is_known_and_every_policy_has_one_for_any_frame() -> None:
    for recipes in POLICIES.values():
        assert OTHER in recipes
        assert {recipe.fields for recipe in recipes.values()} <= FIELDS.keys()
    assert connection("10.0.0.2", 1, "10.0.0.1", 2)
