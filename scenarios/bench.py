"""The bench of one run: network, switch, controller, engines, agent, applications, clients; up and down.

Runs inside the sandbox. Decides in which order things start, and what is awaited; independent things start
together.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scenarios import local
from scenarios.events import Emitter, Event, Tail
from scenarios.measure import Connection, connection_of
from scenarios.processes import Children, RunError, Spawn
from scenarios.references import topology_of
from scenarios.schema import Scenario
from topologies.network import Network
from topologies.sandbox import OpenVSwitch

CONTROLLER = ("127.0.0.1", 6653)
DEADLINE_S = 20.0
"""For each thing that is awaited while the bench comes up; all of it takes 1 to 2 s on a quiet machine."""
POLL_S = 0.002
SNAPLEN = 128
"""Bytes of each frame in a capture: all headers, no payload."""


class Bench:
    """One run's bench. `up`, then use it, then `down`, whatever happened."""

    def __init__(self, scenario: Scenario, run_dir: Path, out: Path, emit: Emitter) -> None:
        """Starts nothing yet. `out` holds events.jsonl and logs/."""
        self.scenario, self.run_dir, self.out, self.emit = scenario, run_dir, out, emit
        self.topology = topology_of(scenario)
        self.network = Network(self.topology, run_dir)
        self.children = Children(emit.fd, out / "logs", os.environ)
        self.connections: dict[str, Connection] = {}
        self.done: set[str] = set()
        self._tail = Tail(out / "events.jsonl")
        self._seen: set[tuple[str, str]] = set()

    # ------------------------------------------------------------------------------------------- coming up

    def up(self) -> None:
        """Bring everything up; clients wait for `start_traffic`. Raises RunError and topologies' errors."""
        here = partial(subprocess.Popen, stdin=subprocess.DEVNULL, start_new_session=True)
        self.children.start("bpf", _python("host_agent.bpf.build"), here, ends=True)
        self.children.start("controller", _python("controller", "--config", self._controller_config()), here)
        OpenVSwitch(self.run_dir).start()
        self.network.start()
        self.emit("network", **self.network.took_ms)
        self._start_applications()
        self._start_captures()
        self._start_clients()
        self.await_(lambda: not self.children.running("bpf"), "the BPF programs to be built")
        self._start_engines()
        self.await_event("controller", "listening")
        self.network.connect_controller(*CONTROLLER)
        for who in self._engines():
            self.await_event(who, "ready")
        agent = _python("host_agent.agent", "--config", self._agent_config())
        self.children.start("agent", agent, self._in(self.topology.server))
        self.await_event("agent", "ready")
        self.await_event("controller", "switch_ready")
        for nic in self.topology.nics:
            self.await_event(nic.name, "seen by the agent")
        for name, service in self.scenario.services.items():
            if service.app == "builtin":
                self.await_event(f"app-{name}", "ready")
        for client in self.scenario.captures:
            self.await_(partial(self._captures, client), f"the capture at {client} to begin")
        for name in self.scenario.traffic:
            self.await_event(_client(name), "ready")

    def _captures(self, client: str) -> bool:
        return b"listening on" in (self.out / "logs" / f"capture-{client}.log").read_bytes()

    def _in(self, node: str) -> Spawn:
        return partial(self.network.popen, node)

    def _engines(self) -> list[str]:
        return ["host", *(nic.name for nic in self.topology.nics)]

    def _app_ports(self) -> dict[str, str]:
        """Service name → where its application listens inside the server.

        The built-in one has a Unix socket, so that the server's TCP counts the team's segments only.
        """
        return {
            name: f"{self.run_dir}/app-{name}.sock" if service.app == "builtin" else service.app
            for name, service in self.scenario.services.items()
        }

    def _start_engines(self) -> None:
        apps = self._app_ports()
        team = self.topology.team
        words = ["--name", "host", "--socket", f"{self.run_dir}/host.sock", "--pins", f"{self.run_dir}/bpf"]
        words += ["--team", team.name, "--bus", *(nic.server_bus for nic in team.nics)]
        for name, service in self.scenario.services.items():
            words += ["--listen", f"{name}:{service.listen}={apps[name]}"]
        self.children.start("host", _python("host_agent.engine", *words), self._in(self.topology.server))
        for nic in self.topology.nics:
            words = [
                "--name",
                nic.name,
                "--socket",
                f"{self.run_dir}/{nic.name}.sock",
                "--wire",
                nic.wire,
                "--bus",
                nic.bus,
            ]
            self.children.start(nic.name, _python("host_agent.engine", *words), self._in(nic.name))

    def _start_applications(self) -> None:
        apps = self._app_ports()
        for name, service in self.scenario.services.items():
            if service.app == "builtin":
                argv = _python("scenarios.app", "--name", f"app-{name}", "--listen", apps[name])
            elif service.command is not None:
                # What it prints is no event.
                argv = ["sh", "-c", f"exec 1>&2; {service.command}"]
            else:
                continue
            self.children.start(f"app-{name}", argv, self._in(self.topology.server))

    def _start_clients(self) -> None:
        for name, traffic in self.scenario.traffic.items():
            service = self.scenario.services[traffic.service]
            seed = traffic.seed if traffic.seed is not None else self.scenario.seed
            asked = {"send": traffic.send, "receive": traffic.receive, "seed": seed}
            self.emit("traffic", traffic=name, client=traffic.client, service=traffic.service, **asked)
            words = [
                "--name",
                _client(name),
                "--traffic",
                name,
                "--to",
                f"{self.topology.team.ip4}:{service.listen}",
            ]
            words += [word for key, value in asked.items() for word in (f"--{key}", str(value))]
            words += ["--limit", str(self.scenario.limit)]
            argv = _python("scenarios.client", *words)
            self.children.start(_client(name), argv, self._in(traffic.client), ends=True)

    def _start_captures(self) -> None:
        for name in self.scenario.captures:
            folder = self.out / "captures"
            folder.mkdir(exist_ok=True)
            words = ["-i", self.topology.client(name).interface, "-w", str(folder / f"{name}.pcap")]
            # A capture that lacks frames proves nothing: a large buffer, and no waiting for a block of the
            # ring to fill, which would lose the last second at the end.
            words += ["-s", str(SNAPLEN), "-B", "32768", "-U", "--immediate-mode", "-n", "-Z", "root"]
            self.children.start(f"capture-{name}", ["tcpdump", *words], self._in(name))

    def _controller_config(self) -> str:
        network, topology = self.scenario.network, self.topology
        lag = {"name": topology.team.name, "ports": [nic.port_no for nic in topology.nics]}
        switch = {
            "dpid": topology.switch.dpid,
            "name": topology.switch.name,
            "hash": network.hash,
            "lags": [lag],
        }
        switch |= {"seed": network.seed, "rebalance": network.rebalance}
        listen = f"{CONTROLLER[0]}:{CONTROLLER[1]}"
        return self._write("controller", {"listen": listen, "socket": str(self.controller), "switches": [switch]})

    def _agent_config(self) -> str:
        offload = self.scenario.team.offload
        after = {"never": None, "at_once": 0}[offload] if isinstance(offload, str) else offload.after
        config = {
            "control": str(self.agent),
            "pins": f"{self.run_dir}/bpf",
            "offload": {"after_bytes": after},
        }
        engines = {name: {"name": name, "socket": f"{self.run_dir}/{name}.sock"} for name in self._engines()}
        nics = [engines[nic.name] | {"bus": nic.server_bus} for nic in self.topology.nics]
        return self._write("agent", config | {"host": {"socket": engines["host"]["socket"]}, "nics": nics})

    def _write(self, name: str, config: dict[str, Any]) -> str:
        path = self.run_dir / f"{name}.json"
        path.write_text(json.dumps(config, indent=1))
        return str(path)

    # ------------------------------------------------------------------------------------------- watching

    @property
    def controller(self) -> Path:
        """The controller's local socket."""
        return self.run_dir / "controller.sock"

    @property
    def agent(self) -> Path:
        """The agent's local socket."""
        return self.run_dir / "agent.sock"

    def look(self) -> list[Event]:
        """Take in new events; raises RunError when a process has died."""
        events = self._tail.read()
        for event in events:
            self._seen.add((event["who"], event["event"]))
            if event["event"] == "link" and event["who"] == "agent" and event["up"]:
                self._seen.add((event["nic"], "seen by the agent"))
            connection = connection_of(event)
            if event["event"] == "connected" and connection:
                self.connections[event["traffic"]] = connection
            elif event["event"] in ("done", "served", "closed"):
                self._seen.add((event["event"], event.get("traffic") or str(connection)))
                if event["event"] == "done":
                    self.done.add(event["traffic"])
        self.children.check()
        return events

    def await_(self, condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
        """Look until the condition holds. Raises RunError at the deadline, and when a process dies."""
        deadline = time.monotonic() + deadline_s
        self.look()
        while not condition():
            if time.monotonic() > deadline:
                raise RunError(f"waited {deadline_s:g} s for {what}, in vain")
            time.sleep(POLL_S)
            self.look()

    def await_event(self, who: str, event: str) -> None:
        """Look until that process has emitted that event. Raises RunError."""
        self.await_(lambda: (who, event) in self._seen, f"`{event}` from {who}")

    def settled(self) -> bool:
        """Whether the server's ends of all connections have told how they ended."""
        return all(
            ("served", name) in self._seen and ("closed", str(self.connections.get(name))) in self._seen
            for name in self.done
        )

    def records(self) -> dict[str, Event]:
        """Traffic name → the agent's record of its connection. Raises LocalError."""
        answer = local.ask(self.agent, {"do": "records"})
        by_connection = {connection_of(record): record for record in answer["records"]}
        return {name: by_connection[c] for name, c in self.connections.items() if c in by_connection}

    # ------------------------------------------------------------------------------------------- acting

    def start_traffic(self, name: str) -> None:
        """Let one client connect."""
        self.children.send(_client(name), signal.SIGUSR1)

    def clients_run(self) -> bool:
        """Whether a client has not ended yet."""
        return any(self.children.running(_client(name)) for name in self.scenario.traffic)

    def rehash(self, name: str, nic: str) -> None:
        """Make the switch send a live connection by another member from now on. Raises LocalError."""
        src, sport, dst, dport = self.connections[name]
        request: dict[str, object] = {"switch": self.topology.switch.name, "lag": self.topology.team.name}
        request |= {"src": src, "sport": sport, "dst": dst, "dport": dport}
        local.ask(self.controller, {"do": "move", **request, "port": self.topology.nic(nic).port_no})

    def down(self) -> None:
        """End every process, the agent first: it asks the engines for its last records. Never raises.

        The network and its switch end with the sandbox.
        """
        killed = self.children.stop([_client(name) for name in self.scenario.traffic], within_s=1.0)
        killed += self.children.stop(["agent"]) + self.children.stop()
        for who in killed:
            self.emit("killed", process=who, reason="it did not end within its time after SIGTERM")
        for log in (self.run_dir / "ovs").glob("*.log"):
            shutil.copy(log, self.out / "logs" / log.name)


def _client(traffic: str) -> str:
    """The name of the process that makes this traffic."""
    return f"client-{traffic}"


def _python(module: str, *words: str) -> Sequence[str]:
    return [sys.executable, "-m", module, *words]
