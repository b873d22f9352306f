"""Members come and go on a live Open vSwitch: who moves, by whom, and that it is as predicted. Commands while it runs.

p1 … pN (LAG team0)     s1: OVS, userspace datapath      pN+1, pN+2 (hosts)
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.hashing import Connection, connection
from controller.lag import Lag
from controller.policies import POLICIES
from controller.rebalance import REBALANCE, moved_share
from tests.net.switchbench import CLIENT, SEED, TEAM, Bench, eventually

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("ovs-vswitchd") is None, reason="needs Open vSwitch (ovs-vswitchd)"),
]
Start = Callable[..., Bench]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start(members, **settings): a bench that is up; it ends with the test."""
    benches: list[Bench] = []

    def begin(members: int = 3, **settings: Any) -> Bench:
        bench = Bench(tmp_path, members, **settings)
        benches.append(bench)
        bench.up()
        return bench

    yield begin
    for bench in benches:
        bench.close()


def some_connections(count: int) -> list[Connection]:
    rng = random.Random(count)
    connections = []
    for i in range(count):
        number, sport = rng.randrange(2, 65000), rng.randrange(32768, 61000)
        src, dst = (f"10.1.{number >> 8}.{number & 255}", "10.0.0.1") if i % 2 else (f"fd00::1:{number:x}", "fd00::1")
        connections.append(connection(src, sport, dst, 8080))
    return connections


def mac_of(conn: Connection) -> str:
    """Every client has a MAC of its own."""
    number = sum(conn.src.encode()) * 7919 + len(conn.src) + int(conn.src.replace(":", ".").split(".")[-1] or "0", 16)
    return "02:00:01:" + ":".join(f"{byte:02x}" for byte in (number % (1 << 24)).to_bytes(3, "big"))


def where(bench: Bench, connections: list[Connection]) -> list[int]:
    ports = []
    for conn in connections:
        (port,) = bench.trace_connection(conn, mac_of(conn))
        ports.append(port)
    return ports


@pytest.mark.parametrize("rebalance", REBALANCE)
def test_a_dead_port_is_left_by_the_switch_itself_and_re_enumerated_as_predicted(start: Start, rebalance: str) -> None:
    bench = start(4, rebalance=rebalance, downdelay_s=1.0, fill_s=0.01)
    connections = some_connections(120)
    full = Lag("team0", 1, bench.members, SEED, rebalance).with_active(bench.members)
    before = where(bench, connections)
    assert before == [full.port_of(conn) for conn in connections]

    bench.link(2, "down")  # for a second the controller does nothing
    eventually(lambda: bench.events("port"), "the port's event")
    alone = where(bench, connections)
    assert bench.lag_is(bench.members), "the controller was not meant to act yet"
    fewer = full.with_active((1, 3, 4))
    for was, out, conn in zip(before, alone, connections, strict=True):
        assert out == (fewer.port_of(conn) if was == 2 else was)  # already where the re-enumeration will send it

    eventually(lambda: bench.events("members")[-1]["active"] == [1, 3, 4], "re-enumerated")
    after = where(bench, connections)
    assert after == [fewer.port_of(conn) for conn in connections]
    event = bench.events("members")[-1]
    moved, had_to = moved_share(full.buckets, fewer.buckets)
    assert (event["moved"], event["had_to_move"]) == (round(moved, 4), round(had_to, 4))
    healthy = [i for i, was in enumerate(before) if was != 2]
    collateral = sum(before[i] != after[i] for i in healthy)
    assert (collateral > len(healthy) / 3) if rebalance == "modulo" else collateral == 0

    bench.link(2, "up")
    eventually(lambda: bench.lag_is(bench.members), "all members again")
    share = len(full.buckets) // 4
    eventually(lambda: bench.lag()["buckets"].count(2) == share, "filled up")
    eventually(lambda: len(set(where(bench, connections))) == 4, "in use again")
    if rebalance != "resilient":
        assert where(bench, connections) == before
    else:
        fills = [event for event in bench.events("buckets") if event["had_to_move"] == 0]
        assert len(fills) == share
        assert {event["moved"] for event in fills} == {round(1 / len(full.buckets), 4)}


@pytest.mark.parametrize("rebalance", REBALANCE)
def test_with_no_controller_it_goes_on_by_whatever_lives(start: Start, rebalance: str) -> None:
    bench = start(4, rebalance=rebalance)
    connections = some_connections(40)
    before = where(bench, connections)
    bench.controller.kill()
    bench.controller.wait()
    assert where(bench, connections) == before
    alive = set(bench.members)
    for port in (3, 1, 4):
        bench.link(port, "down")
        alive -= {port}
        eventually(lambda alive=alive: set(where(bench, connections)) <= alive, f"port {port} left")


@pytest.mark.parametrize("policy", POLICIES)
def test_balance_on_the_live_switch(start: Start, policy: str) -> None:
    bench = start(16, hash=policy)
    connections = some_connections(800)
    for left in (16, 7, 2):
        for port in bench.members[left:]:
            if port in bench.lag()["active"]:
                bench.command("take_out", port=port)
        counts = dict.fromkeys(bench.members[:left], 0)
        for port in where(bench, connections):
            counts[port] += 1
        expected, freedom = len(connections) / left, left - 1
        chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
        assert chi_square < freedom + 5 * (2 * freedom) ** 0.5 + 5, counts


def test_commands_while_it_runs(start: Start) -> None:
    bench = start(3, rebalance="rendezvous")
    connections = some_connections(30)
    before = where(bench, connections)
    asked = [list(conn) for conn in connections]
    assert bench.command("ports_of", connections=asked)["ports"] == before

    bench.command("take_out", port=2)
    assert bench.command("members")["lags"]["team0"]["drained"] == [2]
    assert [port for port, was in zip(where(bench, connections), before, strict=True) if was != 2] == [
        port for port in before if port != 2
    ]
    assert 2 not in where(bench, connections)
    bench.command("take_back", port=2)
    assert where(bench, connections) == before

    assert bench.command("set", seed=99)["seed"] == 99
    other = Lag("team0", 1, bench.members, 99, "rendezvous").with_active(bench.members)
    assert where(bench, connections) == [other.port_of(conn) for conn in connections] != before
    assert bench.events("settings")[-1]["seed"] == 99
    bench.command("set", seed=SEED)

    assert bench.command("macs")["macs"] == {TEAM: "team0", CLIENT: 4}
    counted = {item["port"]: item for item in bench.command("counters")["counters"]}
    assert set(counted) >= {1, 2, 3, 4, 5}
    (port,) = bench.trace_connection(connections[0])
    tx = counted[port]["tx_packets"]
    bench.send(4, CLIENT, TEAM)
    eventually(
        lambda: (
            sum(c["tx_packets"] for c in bench.command("counters")["counters"] if c["port"] in (1, 2, 3))
            > sum(counted[i]["tx_packets"] for i in (1, 2, 3))
        ),
        "the frame counted at a member",
    )
    assert tx >= 0
    groups = bench.command("groups")["groups"]
    assert [group["group"] for group in sorted(groups, key=lambda one: one["group"])] == [
        10_000_000 + port * 10 + kind for port in bench.members for kind in (0, 1, 2)
    ]
    assert {flow["table"] for flow in bench.command("flows")["flows"]} == set(range(7))

    wrong: list[tuple[dict[str, Any], str]] = [
        ({"do": "set"}, "at least one of"),
        ({"do": "set", "hash": "layer9"}, "hash: 'layer9' is not known"),
        ({"do": "set", "rebalance": ["modulo"]}, "is not known"),
        ({"do": "set", "seed": 70000}, "seed: expected a whole number from 0 to 65535"),
        ({"do": "take_out", "port": 4}, "not a member"),
        ({"do": "take_out"}, "port: expected"),
        ({"do": "ports_of", "connections": [[1]]}, "connections: expected"),
        ({"do": "port_of", **connections[0]._asdict(), "src_mac": "x"}, "expected a MAC"),
    ]
    for request, says in wrong:
        reply = bench.ask(switch="s1", lag="team0", **request)
        assert reply["ok"] is False
        assert says in reply["error"]
        assert "\n" not in reply["error"]


def test_up_delay(start: Start) -> None:
    bench = start(3, updelay_s=0.5)
    bench.link(2, "down")
    eventually(lambda: bench.lag_is((1, 3)), "out")
    bench.link(2, "up")
    began = eventually(lambda: bench.state()["held"] == [2] and time.monotonic(), "held")
    eventually(lambda: bench.lag_is((1, 2, 3)), "in again")
    assert 0.3 < time.monotonic() - began < 5
