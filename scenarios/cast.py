"""The processes of one run: controller, engines, agents, applications, clients, captures; how each is started.

Decides the words of each and where it runs; in which order, and what is awaited, `bench` decides. What is Python
comes from the nursery.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from scenarios import configs
from scenarios.events import Emitter
from scenarios.files import Files
from scenarios.nursery import SHARED
from scenarios.processes import Children, Spawn
from scenarios.room import Room
from scenarios.schema import Scenario
from topologies.network import Network
from topologies.sandbox import OpenVSwitch

CONTROLLER = ("127.0.0.1", 6653)


class Cast:
    """Starts them; they are `children`, by the names of `configs`."""

    def __init__(self, scenario: Scenario, network: Network, run_dir: Path, out: Path, emit: Emitter) -> None:
        """Starts nothing yet."""
        self._scenario, self._network, self._topology = scenario, network, network.topology
        self._run_dir, self._out, self._emit = run_dir, out, emit
        self._files = Files(run_dir, out)
        self._room = Room(SHARED)
        # Commands of a scenario find the programs of teambed's own environment, python first of all, and the switch.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        env = os.environ | OpenVSwitch(run_dir).env | {"PATH": path}
        self.children = Children(emit.fd, out / "logs", env)

    @property
    def controller(self) -> Path:
        """The controller's local socket."""
        return self._run_dir / "controller.sock"

    def start_controller(self) -> None:
        """It listens before the switches are told of it."""
        listen, control = f"{CONTROLLER[0]}:{CONTROLLER[1]}", str(OpenVSwitch(self._run_dir).control)
        config = configs.controller(self._scenario, self._topology, listen, str(self.controller), control)
        argv = ["controller.__main__", "--config", self._write("controller", config)]
        self.children.start("controller", argv, partial(self._room.spawn, None))

    def start_nursery(self) -> None:
        """It may import still; what it is asked to fork meanwhile has to wait."""
        self.children.start("nursery", ["nursery"], self._room.begin)

    def build(self) -> None:
        """The BPF programs, should they be older than their sources."""
        self.children.start("bpf", ["host_agent.bpf.build"], partial(self._room.spawn, None), ends=True)

    def start_engines(self) -> None:
        """The hosts' and the NICs'."""
        run_dir, topology = str(self._run_dir), self._topology
        for team in topology.teams:
            Path(configs.pins(team, topology, run_dir)).mkdir(exist_ok=True)
            words = configs.host_engine(self._scenario, topology, team, run_dir)
            self._start_python(configs.engine_name(team, topology), topology.server, "host_agent.engine", *words)
        for nic in topology.nics:
            words = configs.nic_engine(self._scenario, topology, nic.name, run_dir)
            self._start_python(nic.name, nic.name, "host_agent.engine", *words)

    def engines(self) -> list[str]:
        """Their names."""
        hosts = [configs.engine_name(team, self._topology) for team in self._topology.teams]
        return [*hosts, *(nic.name for nic in self._topology.nics)]

    def start_agents(self) -> None:
        """One for each team."""
        for team in self._topology.teams:
            name = configs.agent_name(team, self._topology)
            config = configs.agent(self._scenario, self._topology, team, str(self._run_dir))
            self._start_python(name, self._topology.server, "host_agent.agent", "--config", self._write(name, config))

    def start_applications(self) -> None:
        """Built-in ones, and users' commands."""
        apps = configs.applications(self._scenario, str(self._run_dir))
        server = self._topology.server
        for name, service in self._scenario.services.items():
            who = f"app-{name}"
            if service.app == "builtin":
                self._start_python(who, server, "scenarios.app", "--name", who, "--listen", apps[name])
            elif service.command is not None:
                run_dir, files = str(self._run_dir), str(self._files.of(name))
                text = configs.application(self._scenario, self._topology, name, run_dir, files)
                self.children.start(who, ["sh", "-c", text], self._in(server))

    def start_clients(self) -> None:
        """They wait for their signal."""
        for name, traffic in self._scenario.traffic.items():
            asked = configs.asked(self._scenario, name)
            self._emit("traffic", traffic=name, client=traffic.client, service=traffic.service, **asked)
            files = str(self._files.of(name)) if traffic.command is not None else ""
            module, *words = configs.client(self._scenario, self._topology, name, client_of(name), files)
            self._start_python(client_of(name), traffic.client, module, *words, ends=True)

    def start_captures(self) -> None:
        """One for each link that the scenario names."""
        for name in self._scenario.captures:
            folder = self._out / "captures"
            folder.mkdir(exist_ok=True)
            node, words = configs.capture(self._topology, name, str(folder))
            self.children.start(f"capture-{name}", words, self._in(node))

    def start_flood(self, who: str, client: str, service: str, rate: float, seconds: float) -> None:
        """SYNs from that client to that service. Raises RunError."""
        words = configs.flood(self._scenario, self._topology, service)
        words += ["--rate", str(rate), "--seconds", str(seconds)]
        self._start_python(who, client, "scenarios.flood", "--name", who, *words, ends=True)

    def start_command(self, who: str, node: str, command: str, *, may_fail: bool = False) -> None:
        """A shell command inside a node, in the folder of the run's files; what it prints goes to its log.

        Of one that may fail it goes to WHO.out in the run directory, and how it ended to WHO.status. Raises RunError.
        """
        words = configs.command(command, str(self._files.of()), str(self._run_dir / who) if may_fail else None)
        self.children.start(who, words, self._in(node), ends=True)

    def _start_python(self, who: str, node: str, module: str, *words: str, ends: bool = False) -> None:
        self.children.start(who, [module, *words], partial(self._room.spawn, self._network.pid(node)), ends=ends)

    def _in(self, node: str) -> Spawn:
        return partial(self._network.popen, node)

    def _write(self, name: str, config: dict[str, Any]) -> str:
        path = self._run_dir / f"{name}.json"
        path.write_text(json.dumps(config, indent=1))
        return str(path)


def client_of(traffic: str) -> str:
    """The name of the process that makes this traffic."""
    return f"client-{traffic}"
