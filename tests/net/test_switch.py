"""The controller on a live Open vSwitch: what the switch would do with a frame is what the pure modules
predict.

    p1 p2 p3 (LAG team0)     s1: OVS, userspace datapath      p4 p5 (hosts)

Open vSwitch and the controller run in a sandbox of their own; `ofproto/trace` says where a frame would go.
"""

from __future__ import annotations

import ipaddress
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.hashing import Connection, connection
from controller.lag import Lag
from tests.net.switchbench import CLIENT, OTHER, SEED, TEAM, Bench, eventually

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("ovs-vswitchd") is None, reason="needs Open vSwitch (ovs-vswitchd)"),
]

MEMBERS = (1, 2, 3)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    try:
        bench.up()
        yield bench
    finally:
        bench.close()


def random_connections(count: int) -> list[Connection]:
    rng = random.Random(20)
    connections = []
    for i in range(count):
        if i % 2:
            src = f"10.0.{rng.randrange(256)}.{rng.randrange(1, 255)}"
            dst = "10.0.0.1"
        else:
            src = str(ipaddress.IPv6Address(rng.getrandbits(128)))
            dst = "fd00::1"
        connections.append(connection(src, rng.randrange(1, 65536), dst, rng.randrange(1, 65536)))
    return connections


def predicted(active: tuple[int, ...]) -> Lag:
    return Lag("team0", 1, MEMBERS, SEED).with_active(active)


def test_live_switch_chooses_the_predicted_member(bench: Bench) -> None:
    connections = random_connections(300)
    before, after = predicted(MEMBERS), predicted((1, 3))
    for conn in connections:
        assert bench.trace_connection(conn) == [before.port_of(conn)], conn

    bench.call("ip", "link", "set", "p2", "down")
    eventually(lambda: bench.lag_is((1, 3)), "port 2 out of the LAG")
    eventually(lambda: bench.events("members")[-1]["active"] == [1, 3], "confirmed by the switch")
    bench.switch("revalidator/wait")  # it is not left paused: this would not be answered
    for conn in connections:
        assert bench.trace_connection(conn) == [after.port_of(conn)], conn
    assert bench.ask(do="port_of", switch="s1", lag="team0", **connections[0]._asdict()) == {
        "ok": True,
        "port": after.port_of(connections[0]),
    }

    bench.call("ip", "link", "set", "p2", "up")
    eventually(lambda: bench.events("members")[-1]["active"] == [1, 2, 3], "all members again")
    for conn in connections[:50]:
        assert bench.trace_connection(conn) == [before.port_of(conn)], conn


def test_moved_connection_leaves_by_its_port_until_that_dies(bench: Bench) -> None:
    lag = predicted(MEMBERS)
    for conn in random_connections(6):
        target = next(port for port in MEMBERS if port not in (lag.port_of(conn), 1))
        request = {"switch": "s1", "lag": "team0", **conn._asdict()}
        assert bench.ask(do="move", port=target, **request) == {"ok": True}
        assert bench.trace_connection(conn) == [target]
        other = conn._replace(sport=conn.sport % 65535 + 1)
        assert bench.trace_connection(other) == [lag.port_of(other)]

        bench.call("ip", "link", "set", "p1", "down")  # a re-enumeration leaves it where it is
        eventually(lambda: bench.events("members")[-1]["active"] == [2, 3], "port 1 out")
        assert bench.trace_connection(conn) == [target]
        bench.call("ip", "link", "set", "p1", "up")
        eventually(lambda: bench.events("members")[-1]["active"] == [1, 2, 3], "port 1 in")

        left = tuple(port for port in MEMBERS if port != target)
        bench.call("ip", "link", "set", f"p{target}", "down")
        eventually(lambda left=left: bench.events("members")[-1]["active"] == list(left), "its port out")
        assert bench.trace_connection(conn) == [predicted(left).port_of(conn)]
        assert "not an active member" in bench.ask(do="move", port=target, **request)["error"]
        bench.call("ip", "link", "set", f"p{target}", "up")
        eventually(lambda: bench.events("members")[-1]["active"] == [1, 2, 3], "its port in")
        assert bench.trace_connection(conn) == [lag.port_of(conn)]  # the command is forgotten, not revived


def test_frames_that_are_not_tcp(bench: Bench) -> None:
    everywhere = "ff:ff:ff:ff:ff:ff"
    arp = f"dl_src={CLIENT},dl_dst={everywhere},arp,arp_op=1,arp_spa=10.0.0.11,arp_tpa=10.0.0.1"
    to_lag, *hosts = bench.trace(f"in_port=4,{arp}")
    assert to_lag in MEMBERS
    assert hosts == [5]
    from_lag = f"dl_src={TEAM},dl_dst={everywhere},arp,arp_op=1,arp_spa=10.0.0.1,arp_tpa=10.0.0.11"
    assert bench.trace(f"in_port=2,{from_lag}") == [4, 5]
    assert bench.trace(f"in_port=2,dl_src={TEAM},dl_dst={CLIENT},arp") == [4]
    assert bench.trace(f"in_port=2,dl_src={OTHER},dl_dst={TEAM},tcp,nw_src=10.0.0.9,nw_dst=10.0.0.1") == []
    assert len(bench.trace(f"in_port=5,dl_src={OTHER},dl_dst={TEAM},udp,nw_src=10.0.0.9,nw_dst=10.0.0.1")) == 1
    assert bench.trace(f"in_port=4,dl_src={CLIENT},dl_dst=01:80:c2:00:00:02,dl_type=0x8809") == []


def test_packets_in_only_for_new_sources_and_flows_independent_of_connections(bench: Bench) -> None:
    learned = len(bench.events("learned"))
    for port in MEMBERS:
        bench.send(port, TEAM, CLIENT)  # known behind the LAG, whichever member brings it
    bench.send(5, OTHER)
    eventually(lambda: len(bench.events("learned")) == learned + 1, "the new station")
    assert bench.events("learned")[-1]["mac"] == OTHER
    flows = bench.switch("bridge/dump-flows", "s1")
    seen = bench.state()["macs"]
    for conn in random_connections(50):
        bench.trace_connection(conn)
    assert len(bench.switch("bridge/dump-flows", "s1").splitlines()) == len(flows.splitlines())
    assert bench.state()["macs"] == seen == {TEAM: "team0", CLIENT: 4, OTHER: 5}


def test_restarted_controller_reinstalls_everything_with_the_ports_as_they_are(bench: Bench) -> None:
    controller = bench.children[0]
    controller.terminate()
    assert controller.wait(timeout=5) == 0
    bench.call("ip", "link", "set", "p1", "down")
    bench.start_controller()
    eventually(lambda: len(bench.events("switch_ready")) == 2 and bench.lag_is((2, 3)), "reconnected")
    bench.learn()
    for conn in random_connections(20):
        assert bench.trace_connection(conn) == [predicted((2, 3)).port_of(conn)]


def test_switch_that_reconnects_gets_all_it_had(bench: Bench) -> None:
    conn = random_connections(1)[0]
    target = next(port for port in MEMBERS if port != predicted(MEMBERS).port_of(conn))
    assert bench.ask(do="move", switch="s1", lag="team0", port=target, **conn._asdict()) == {"ok": True}
    database = f"--db=unix:{bench.run}/db.sock"
    bench.call("ovs-vsctl", database, "del-controller", "s1")
    eventually(lambda: not bench.state()["ready"], "disconnected")
    bench.call("ovs-ofctl", "-O", "OpenFlow13", "del-flows", f"unix:{bench.run}/s1.mgmt")
    assert bench.trace_connection(conn) == []
    bench.call("ovs-vsctl", database, "set-controller", "s1", "tcp:127.0.0.1:6653")
    eventually(lambda: bench.state()["ready"], "reconnected")
    assert bench.trace_connection(conn) == [target]
    assert bench.state()["moved"] == {str(conn): target}
    assert bench.state()["macs"] == {TEAM: "team0", CLIENT: 4}
