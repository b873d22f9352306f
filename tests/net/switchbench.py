"""A live Open vSwitch and the controller in a sandbox of their own; `ofproto/trace` says where a frame would go.

p1 … pN (LAG team0)     s1: OVS, userspace datapath      pN+1, pN+2 (hosts: CLIENT, OTHER)
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from controller.hashing import Connection

ROOT = Path(__file__).parents[2]
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

    def __init__(self, run: Path, members: int = 3, lag: dict[str, Any] | None = None, **settings: Any) -> None:
        """`lag` goes into the LAG's part of the controller's configuration, `settings` into the switch's."""
        self.run = run
        self.members = tuple(range(1, members + 1))
        self.client, self.other = self.hosts = (members + 1, members + 2)
        self.lag_settings, self.settings = lag or {}, settings
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
        lag = {"name": "team0", "ports": list(self.members), **self.lag_settings}
        config = {
            "listen": "127.0.0.1:6653",
            "socket": str(self.run / "controller.sock"),
            "control": str(self.run / "switch.ctl"),
            "switches": [{"dpid": 1, "name": "s1", "seed": SEED, "lags": [lag], **self.settings}],
        }
        (self.run / "controller.json").write_text(json.dumps(config))
        with (self.run / "events.jsonl").open("ab") as events:
            command = (sys.executable, "-m", "controller", "--config", str(self.run / "controller.json"))
            self.controller = self.start(*command, stdout=events)
        return self.controller

    def start_switch(self) -> None:
        database, control = f"{self.run}/conf.db", f"{self.run}/db.sock"
        self.call("ovsdb-tool", "create", database, "/usr/share/openvswitch/vswitch.ovsschema")
        self.call("ip", "link", "set", "lo", "up")
        self.call("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")  # no frames but the test's own
        self.start("ovsdb-server", database, f"--remote=punix:{control}", f"--unixctl={self.run}/db.ctl")
        eventually(lambda: os.path.exists(control), "ovsdb-server")
        self.start_daemon()
        arguments = [
            *("--", "add-br", "s1", "--", "set", "bridge", "s1", "datapath_type=netdev", "fail_mode=secure"),
            *("protocols=OpenFlow13", "other-config:datapath-id=0000000000000001"),
            *("other-config:disable-in-band=true", "--", "set-controller", "s1", "tcp:127.0.0.1:6653"),
        ]
        for port in (*self.members, *self.hosts):
            self.call("ip", "link", "add", f"p{port}", "type", "veth", "peer", "name", f"peer{port}")
            self.call("ip", "link", "set", f"p{port}", "up")
            self.call("ip", "link", "set", f"peer{port}", "up")
            arguments += ["--", "add-port", "s1", f"p{port}"]
            arguments += ["--", "set", "interface", f"p{port}", f"ofport_request={port}"]
        self.call("ovs-vsctl", f"--db=unix:{control}", *arguments)
        eventually(lambda: self.switch("dpif/show"), "ovs-vswitchd")

    def start_daemon(self) -> subprocess.Popen[bytes]:
        self.daemon = self.start("ovs-vswitchd", f"unix:{self.run}/db.sock", f"--unixctl={self.run}/switch.ctl")
        return self.daemon

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

    def trace_connection(self, conn: Connection, mac: str = CLIENT) -> list[int]:
        ip, src, dst = ("tcp6", "ipv6_src", "ipv6_dst") if ":" in conn.src else ("tcp", "nw_src", "nw_dst")
        return self.trace(
            f"in_port={self.client},dl_src={mac},dl_dst={TEAM},{ip},{src}={conn.src},{dst}={conn.dst},"
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
        self.send(self.members[-1], TEAM)
        self.send(self.client, CLIENT)
        eventually(lambda: {TEAM, CLIENT} <= self.state()["macs"].keys(), "both stations learned")

    def lag(self) -> dict[str, Any]:
        lag: dict[str, Any] = self.state()["lags"]["team0"]
        return lag

    def lag_is(self, active: Iterable[int]) -> bool:
        return bool(self.lag()["active"] == list(active))

    def command(self, do: str, **request: Any) -> dict[str, Any]:
        """A command for the LAG; it must succeed."""
        reply = self.ask(do=do, switch="s1", lag="team0", **request)
        assert reply["ok"], reply
        return reply

    def link(self, port: int, state: str) -> None:
        self.call("ip", "link", "set", f"p{port}", state)

    def up(self) -> None:
        """Controller and switch, all members active, the team and a client learned."""
        self.start_controller()
        eventually(lambda: self.events("listening"), "controller")
        self.start_switch()
        eventually(lambda: self.state()["ready"] and self.lag_is(self.members), "switch ready with all members")
        self.learn()

    def close(self) -> None:
        for child in self.children:
            child.terminate()
        self.holder.kill()
        for child in (*self.children, self.holder):
            child.wait()
