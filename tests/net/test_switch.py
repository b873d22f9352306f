"""The controller on a live Open vSwitch: what the switch would do with a frame is what the pure modules
predict.

    p1 p2 p3 (LAG team0)     s1: OVS, userspace datapath      p4 p5 (hosts)

Open vSwitch and the controller run in a sandbox of their own; `ofproto/trace` says where a frame would go.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.hashing import Connection, connection
from controller.lag import Lag

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("ovs-vswitchd") is None, reason="needs Open vSwitch (ovs-vswitchd)"),
]

ROOT = Path(__file__).parents[2]
MEMBERS, HOSTS = (1, 2, 3), (4, 5)
TEAM, CLIENT, OTHER = "02:00:00:00:00:01", "02:00:00:00:01:01", "02:00:00:00:01:02"
SEED = 7


def eventually(condition: Callable[[], Any], what: str, deadline_s: float = 10) -> Any:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):
            if value := condition():
                return value
        time.sleep(0.005)
    raise AssertionError(f"not within {deadline_s} s: {what}")


class Bench:
    """A switch and its controller in one sandbox, which ends with its holder."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.children: list[subprocess.Popen[bytes]] = []
        self.holder = subprocess.Popen(
            ["unshare", "-n", "-m", "-p", "-f", "--mount-proc", "--kill-child", "sleep", "infinity"]
        )
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children")
        self.init = eventually(lambda: children.read_text().strip(), "the sandbox")
        # unshare has forked, but only once it has executed sleep are all namespaces in place
        eventually(lambda: "sleep" in Path(f"/proc/{self.init}/comm").read_text(), "the sandbox")
        names = ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR")
        self.environment = {**os.environ, **dict.fromkeys(names, str(run)), "PYTHONPATH": str(ROOT)}

    def inside(self, *command: str) -> list[str]:
        # Not in its process namespace: a signal reaches the command itself. It ends with pytest all the same.
        return ["nsenter", "-t", self.init, "-n", "-m", "setpriv", "--pdeathsig", "KILL", *command]

    def call(self, *command: str) -> str:
        done = subprocess.run(self.inside(*command), env=self.environment, check=True, capture_output=True, text=True)
        return done.stdout

    def start(self, *command: str, stdout: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        with (self.run / "errors.log").open("ab") as errors:
            child = subprocess.Popen(self.inside(*command), env=self.environment, stdout=stdout, stderr=errors)
        self.children.append(child)
        return child

    def start_controller(self) -> subprocess.Popen[bytes]:
        config = {
            "listen": "127.0.0.1:6653",
            "socket": str(self.run / "controller.sock"),
            "switches": [{"dpid": 1, "name": "s1", "seed": SEED, "lags": [{"name": "team0", "ports": list(MEMBERS)}]}],
        }
        (self.run / "controller.json").write_text(json.dumps(config))
        with (self.run / "events.jsonl").open("ab") as events:
            command = (sys.executable, "-m", "controller", "--config", str(self.run / "controller.json"))
            return self.start(*command, stdout=events)

    def start_switch(self) -> None:
        database, control = f"{self.run}/conf.db", f"{self.run}/db.sock"
        self.call("ovsdb-tool", "create", database, "/usr/share/openvswitch/vswitch.ovsschema")
        self.call("ip", "link", "set", "lo", "up")
        self.call("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")  # no frames but the test's own
        self.start("ovsdb-server", database, f"--remote=punix:{control}", f"--unixctl={self.run}/db.ctl")
        eventually(lambda: os.path.exists(control), "ovsdb-server")
        self.start("ovs-vswitchd", f"unix:{control}", f"--unixctl={self.run}/switch.ctl")
        arguments = [
            *("--", "add-br", "s1", "--", "set", "bridge", "s1", "datapath_type=netdev", "fail_mode=secure"),
            *("protocols=OpenFlow13", "other-config:datapath-id=0000000000000001"),
            *("other-config:disable-in-band=true", "--", "set-controller", "s1", "tcp:127.0.0.1:6653"),
        ]
        for port in (*MEMBERS, *HOSTS):
            self.call("ip", "link", "add", f"p{port}", "type", "veth", "peer", "name", f"peer{port}")
            self.call("ip", "link", "set", f"p{port}", "up")
            self.call("ip", "link", "set", f"peer{port}", "up")
            arguments += ["--", "add-port", "s1", f"p{port}"]
            arguments += ["--", "set", "interface", f"p{port}", f"ofport_request={port}"]
        self.call("ovs-vsctl", f"--db=unix:{control}", *arguments)
        eventually(lambda: self.switch("dpif/show"), "ovs-vswitchd")

    def switch(self, method: str, *params: str) -> str:
        """One ovs-appctl command, spoken directly: JSON-RPC over the daemon's control socket."""
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(f"{self.run}/switch.ctl")
            control.sendall(json.dumps({"method": method, "params": params, "id": 0}).encode())
            decoder, text = json.JSONDecoder(), ""
            while True:
                data = control.recv(65536)
                assert data, f"no answer to {method}"
                text += data.decode()
                with contextlib.suppress(ValueError):
                    reply = decoder.decode(text)
                    break
        assert reply["error"] is None, reply["error"]
        return str(reply["result"])

    def ask(self, **request: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as api:
            api.connect(str(self.run / "controller.sock"))
            api.sendall(json.dumps(request).encode() + b"\n")
            reply: dict[str, Any] = json.loads(api.makefile().readline())
        return reply

    def state(self) -> dict[str, Any]:
        reply = self.ask(do="state")
        assert reply["ok"], reply
        state: dict[str, Any] = reply["switches"]["s1"]
        return state

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (self.run / "events.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def trace(self, frame: str) -> list[int]:
        """The ports by which the switch would send this frame out, sorted."""
        shown = self.switch("dpif/show")
        ports = {int(dp): int(of) for of, dp in re.findall(r"\bp\d+ (\d+)/(\d+):", shown)}
        (line,) = re.findall(r"Datapath actions: (.*)", self.switch("ofproto/trace", "s1", frame))
        # 'userspace' is the copy for the controller
        words = re.sub(r"userspace\([^()]*(\([^()]*(\([^()]*\)[^()]*)*\)[^()]*)*\)", "", line).split(",")
        return sorted(ports[int(word)] for word in words if word.strip().isdigit())

    def trace_connection(self, conn: Connection) -> list[int]:
        ip, src, dst = ("tcp6", "ipv6_src", "ipv6_dst") if ":" in conn.src else ("tcp", "nw_src", "nw_dst")
        return self.trace(
            f"in_port=4,dl_src={CLIENT},dl_dst={TEAM},{ip},{src}={conn.src},{dst}={conn.dst},"
            f"tp_src={conn.sport},tp_dst={conn.dport}"
        )

    def send(self, port: int, src: str, dst: str = "ff:ff:ff:ff:ff:ff") -> None:
        """A real frame from what is connected to a port."""
        frame = bytes.fromhex((dst + src).replace(":", "")) + b"\x88\xb5" + bytes(46)
        code = (
            "import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW);"
            f"s.bind(('peer{port}', 0)); s.send(bytes.fromhex('{frame.hex()}'))"
        )
        self.call(sys.executable, "-c", code)

    def learn(self) -> None:
        """Let the switch see the team and a client once."""
        self.send(3, TEAM)
        self.send(4, CLIENT)
        eventually(lambda: {TEAM, CLIENT} <= self.state()["macs"].keys(), "both stations learned")

    def lag_is(self, active: tuple[int, ...]) -> bool:
        return bool(self.state()["lags"]["team0"]["active"] == list(active))

    def close(self) -> None:
        for child in self.children:
            child.terminate()
        self.holder.kill()
        for child in (*self.children, self.holder):
            child.wait()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    try:
        bench.start_controller()
        eventually(lambda: bench.events("listening"), "controller")
        bench.start_switch()
        eventually(lambda: bench.state()["ready"] and bench.lag_is(MEMBERS), "switch ready with all members")
        bench.learn()
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
