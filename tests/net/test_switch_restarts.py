"""The controller or Open vSwitch ends and is started again: forwarding goes on, and the map is the same.

p1 … p4 (LAG team0)     s1: OVS, userspace datapath      p5 p6 (hosts)
"""

from __future__ import annotations

import os
import random
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.hashing import Connection, connection
from controller.rebalance import REBALANCE
from tests.net.switchbench import CLIENT, TEAM, Bench, eventually

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("ovs-vswitchd") is None, reason="needs Open vSwitch (ovs-vswitchd)"),
]


@pytest.fixture(params=REBALANCE)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """With a history: a member was away, the seed was changed, a connection moved, a member taken out."""
    bench = Bench(tmp_path, 4, rebalance=request.param, fill_s=0.005)
    try:
        bench.up()
        bench.link(2, "down")
        eventually(lambda: bench.lag_is((1, 3, 4)), "port 2 out")
        bench.link(2, "up")
        eventually(lambda: bench.lag_is(bench.members), "port 2 in")
        share = len(bench.lag()["buckets"]) // 4
        eventually(lambda: bench.lag()["buckets"].count(2) == share, "filled up")
        bench.command("set", seed=4711)
        bench.command("take_out", port=4)
        port = bench.command("port_of", **CONNECTIONS[0]._asdict())["port"]
        bench.command("move", **CONNECTIONS[0]._asdict(), port=next(one for one in (1, 2, 3) if one != port))
        yield bench
    finally:
        bench.close()


def some_connections(count: int) -> list[Connection]:
    rng = random.Random(4)
    return [
        connection(*pair, 8080)
        for _ in range(count // 2)
        for pair in (
            (f"10.0.0.{rng.randrange(2, 255)}", rng.randrange(1, 65536), "10.0.0.1"),
            (f"fd00::{rng.randrange(2, 65536):x}", rng.randrange(1, 65536), "fd00::1"),
        )
    ]


CONNECTIONS = some_connections(60)


def where(bench: Bench) -> list[list[int]]:
    return [bench.trace_connection(conn) for conn in CONNECTIONS]


def ages(bench: Bench) -> list[float]:
    return [float(age) for age in re.findall(r"duration=([\d.]+)s", bench.switch("bridge/dump-flows", "s1"))]


def test_a_killed_controller_finds_everything_and_touches_no_flow(bench: Bench) -> None:
    before, state = where(bench), bench.state()
    flows = len(ages(bench))
    bench.controller.kill()
    bench.controller.wait()
    assert where(bench) == before
    wrong: list[list[list[int]]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if (now := where(bench)) != before:
                wrong.append(now)

    watcher = threading.Thread(target=watch)
    watcher.start()
    bench.start_controller()
    eventually(lambda: len(bench.events("switch_ready")) == 2 and bench.state()["ready"], "reconnected")
    over.set()
    watcher.join()
    assert not wrong
    assert bench.state() == state
    assert bench.events("switch_ready")[-1]["changed"] == 0
    assert where(bench) == before
    assert len(ages(bench)) == flows
    bench.command("take_back", port=4)  # and it can go on from there
    assert bench.lag_is(bench.members)


def test_a_killed_controller_for_another_configuration_starts_afresh(bench: Bench) -> None:
    bench.controller.kill()
    bench.controller.wait()
    bench.settings["seed"] = 1
    bench.start_controller()
    eventually(lambda: len(bench.events("switch_ready")) == 2 and bench.state()["ready"], "reconnected")
    state = bench.state()
    assert (state["lags"]["team0"]["seed"], state["lags"]["team0"]["drained"], state["moved"]) == (1, [], {})
    bench.learn()
    for conn, ports in zip(CONNECTIONS, where(bench), strict=True):
        assert ports == [bench.command("port_of", **conn._asdict())["port"]]


def test_links_that_changed_meanwhile_are_taken_into_account(bench: Bench) -> None:
    bench.controller.kill()
    bench.controller.wait()
    bench.link(1, "down")
    eventually(lambda: [1] not in where(bench), "the switch alone leaves port 1")
    alone = where(bench)
    bench.start_controller()
    eventually(lambda: len(bench.events("switch_ready")) == 2 and bench.lag_is((2, 3)), "reconnected")
    assert [1] not in where(bench)
    if bench.lag()["rebalance"] != "modulo":
        assert where(bench) == alone


def test_open_vswitch_started_again_gets_the_same_map(bench: Bench) -> None:
    before, state = where(bench), bench.state()
    bench.daemon.kill()
    bench.daemon.wait()
    eventually(lambda: not bench.state()["ready"], "disconnected")
    bench.start_daemon()
    eventually(lambda: bench.state()["ready"], "reconnected")
    assert where(bench) == before
    assert bench.state() == state
    assert bench.state()["macs"] == {TEAM: "team0", CLIENT: bench.client}
