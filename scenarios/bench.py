"""The bench of one run: network, switch, controller, engines, agent, applications, clients; up and down.

Runs inside the sandbox. Decides in which order things start, and what is awaited; independent things start
together. How each process is started, `cast` knows.
"""

import shutil
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from scenarios import configs, local, sockets
from scenarios.cast import CONTROLLER, Cast, client_of
from scenarios.drivers import switch_lacp
from scenarios.events import Emitter, Event, Tail
from scenarios.known import Known
from scenarios.measure import connection_of
from scenarios.ports import Ports
from scenarios.processes import RunError
from scenarios.references import topology_of
from scenarios.schema import Scenario
from topologies.model import Team
from topologies.network import Network
from topologies.sandbox import OpenVSwitch

DEADLINE_S = 20.0
"""For each thing that is awaited while the bench comes up; all of it takes 1 to 2 s on a quiet machine."""
POLL_S = 0.002
AGENT_S = 3.0
"""For an agent to ask the engines for its last records."""


class Bench:
    """One run's bench. `up`, then use it, then `down`, whatever happened."""

    def __init__(self, scenario: Scenario, run_dir: Path, out: Path, emit: Emitter) -> None:
        """Starts nothing yet. `out` holds events.jsonl and logs/."""
        self.scenario, self.run_dir, self.out, self.emit = scenario, run_dir, out, emit
        self.topology = topology_of(scenario)
        self.network = Network(self.topology, run_dir)
        self.cast = Cast(scenario, self.network, run_dir, out, emit)
        self.children = self.cast.children
        self.known = Known()
        self._tail = Tail(out / "events.jsonl")
        self._seen: set[tuple[str, str]] = set()
        self._ports: Ports | None = None
        self._members: dict[tuple[str, str], list[int]] = {}

    # ------------------------------------------------------------------------------------------- coming up

    def up(self) -> None:
        """Bring everything up; clients wait for `start_traffic`. Raises RunError, NetworkError and others."""
        self.emit("topology", **configs.described(self.topology))
        self.cast.start_nursery()
        with ThreadPoolExecutor() as beside:
            first = beside.submit(self._start_first)
            open_vswitch = beside.submit(OpenVSwitch(self.run_dir).start)

            def meanwhile() -> None:
                first.result()
                if not self.topology.bond:
                    self._start_members()
                self.await_event(
                    "controller", "listening"
                )  # a switch that found nobody would wait before it tries again
                open_vswitch.result()

            self.network.start(meanwhile, CONTROLLER)
        self.emit("network", **self.network.took_ms)
        if self.topology.bond:
            self.cast.start_applications()
        self.cast.start_captures()
        self.cast.start_clients()
        if not self.topology.bond:
            self._bring_up_teams()
        self.await_(self.switches_ready, "all switches to have their flows")
        self.await_(self.network.bond_ready, "all members of the server's bond to be enabled")
        if switch_lacp(self.scenario) != "off" or self.scenario.network.probe is not None:
            self.await_(self.all_members_active, "all members of the team to be used by the switch")
        for name, service in self.scenario.services.items():
            if service.app == "builtin":
                self.await_event(f"app-{name}", "ready")
            elif service.command is not None:
                what = f"`{name}` to listen at {service.app}"
                self.await_(partial(self._listens, service.app), what, self.scenario.limit)
        for link in self.scenario.captures:
            self.await_(partial(self._captures, link), f"the capture at {link} to begin")
        for name in self.scenario.traffic:
            self.await_event(client_of(name), "ready")
        self._ports = Ports({nic.switch_port for nic in self.topology.nics})

    def _start_first(self) -> None:
        """What must run before others start; it waits for the nursery to have imported all."""
        self.cast.start_controller()
        if not self.topology.bond:
            self.cast.build()

    def _start_members(self) -> None:
        """What lives in nodes that have their links and addresses, and needs no switch."""
        self.await_(lambda: not self.children.running("bpf"), "the BPF programs to be built")
        self.cast.start_engines()
        self.cast.start_applications()

    def _bring_up_teams(self) -> None:
        for who in self.cast.engines():
            self.await_event(who, "ready")
        self.cast.start_agents()
        for team in self.topology.teams:
            self.await_event(configs.agent_name(team, self.topology), "ready")
        for nic in self.topology.nics:
            if nic.name not in self.scenario.network.swapped:
                self.await_event(nic.name, "active in its team")

    def all_members_active(self) -> bool:
        """Whether every LAG uses all of its links."""
        self.look()
        return all(
            nic.port_no in self._members.get((nic.switch, team.name), [])
            for team in self.topology.teams
            for nic in team.nics
            if nic.name not in self.scenario.network.swapped
        )

    def _captures(self, link: str) -> bool:
        return b"listening on" in (self.out / "logs" / f"capture-{link}.log").read_bytes()

    def _listens(self, app: str) -> bool:
        return int(app.rpartition(":")[2]) in sockets.listening(self.network.sockets(self.topology.server))

    # ------------------------------------------------------------------------------------------- watching

    def agent(self, team: Team | None = None) -> Path:
        """The local socket of a team's agent, the first one's by default."""
        return self.run_dir / f"{configs.agent_name(team or self.topology.team, self.topology)}.sock"

    def look(self) -> list[Event]:
        """Take in new events; raises RunError when a process has died."""
        events = self._tail.read()
        for event in events:
            self._seen.add((event["who"], event["event"]))
            if event["event"] == "switch_ready":
                self._seen.add((event["switch"], "switch_ready"))
            if event["event"] == "member" and event["who"].startswith("agent") and event["usable"]:
                self._seen.add((event["nic"], "active in its team"))
            if event["event"] == "members":
                self._members[event["switch"], event["lag"]] = event["active"]
            self.known.take_in(event)
        self.children.check()
        self.look_at_ports()
        return events

    def busiest_nic(self) -> str | None:
        """The NIC whose wire has carried the most bytes of late."""
        port = self._ports.busiest if self._ports else None
        return next((nic.name for nic in self.topology.nics if nic.switch_port == port), None)

    def look_at_ports(self, *, at_once: bool = False) -> None:
        """Tell what has passed the switch's ports to the NICs, from the end of `up` on."""
        if self._ports and (changed := self._ports.look(time.monotonic(), at_once=at_once)):
            self.emit("ports", over=round(self._ports.over, 3), ports=changed)

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
        known = self.known
        return all(
            name in known.served and known.closed.issuperset(known.connections.get(name, ())) for name in known.done
        )

    def all_records(self) -> list[Event]:
        """The records of all agents; there is none where another team than ours is. Raises LocalError."""
        if self.topology.bond:
            return []
        return [
            record
            for team in self.topology.teams
            for record in local.ask(self.agent(team), {"do": "records"})["records"]
        ]

    def records(self) -> dict[str, list[Event]]:
        """Traffic name → the agents' records of its connections. Raises LocalError."""
        by_connection = {connection_of(record): record for record in self.all_records()}
        return {
            name: [by_connection[one] for one in connections if one in by_connection]
            for name, connections in self.known.connections.items()
        }

    def differences(self) -> tuple[int, list[str]]:
        """How many connections the clients hold, and what the agents' records and the sockets disagree about.

        Raises LocalError, NetworkError.
        """
        topology = self.topology
        before = self._held_by_clients()
        places = {nic.name: self.network.sockets(nic.name) for nic in topology.nics}
        places[sockets.HOST] = self.network.sockets(topology.server)
        records = self.all_records()
        held = sorted(before & self._held_by_clients())  # looking takes long; one that has ended meanwhile says nothing
        return len(held), sockets.differences(held, places, records)

    def _held_by_clients(self) -> set[sockets.Connection]:
        ours = {ip for team in self.topology.teams for ip in (team.ip4, team.ip6)}
        ports = {port for service in self.scenario.services.values() for port in service.all_ports}
        return {
            one
            for client in {traffic.client for traffic in self.scenario.traffic.values()}
            for one in sockets.connections(self.network.sockets(client), mine_first=True)
            if one[2] in ours and one[3] in ports
        }

    # ------------------------------------------------------------------------------------------- acting

    def start_traffic(self, name: str) -> None:
        """Let one client connect."""
        self.children.send(client_of(name), signal.SIGUSR1)

    def traffic_again(self, name: str) -> None:
        """Let a client connect that has not begun yet, or has ended. Raises RunError."""
        who = client_of(name)
        if (who, "begun") in self._seen:
            if self.children.running(who):
                raise RunError(f"{name} is under way")
            self._seen.discard((who, "ready"))
            self.children.again(who)
            self.await_event(who, "ready")
        self._seen.add((who, "begun"))
        self.start_traffic(name)

    def clients_run(self) -> bool:
        """Whether a client has not ended yet."""
        return any(self.children.running(client_of(name)) for name in self.scenario.traffic)

    def rehash(self, name: str, nic: str) -> None:
        """Make the switches send live connections by another member from now on. Raises LocalError."""
        team = self.topology.team_of(nic)
        for switch, port in self.topology.way_to(self.topology.nic(nic)):
            request: dict[str, object] = {"do": "move", "switch": switch, "lag": team.name, "port": port}
            for src, sport, dst, dport in self.known.connections.get(name, ()):
                local.ask(self.cast.controller, request | {"src": src, "sport": sport, "dst": dst, "dport": dport})

    def set_switch(self, words: Mapping[str, Any]) -> None:
        """Other settings of every LAG from now on: hash, seed, rebalance. Raises LocalError."""
        for team in self.topology.teams:
            for switch in sorted({switch for nic in team.nics for switch, _ in self.topology.way_to(nic)}):
                own = {"seed": configs.seed_at(self.topology, switch, words["seed"])} if "seed" in words else {}
                local.ask(self.cast.controller, {"do": "set", "switch": switch, "lag": team.name, **words, **own})

    def use_member(self, nic: str, use: bool) -> None:
        """Let the switch use this member of its LAG, or not. Raises LocalError."""
        one, team = self.topology.nic(nic), self.topology.team_of(nic)
        request = {"switch": one.switch, "lag": team.name, "port": one.port_no}
        local.ask(self.cast.controller, {"do": "take_back" if use else "take_out", **request})

    def command(self, verb: str, name: str, nic: str | None) -> None:
        """offload, reload or upload every connection of a traffic; a refusal is told as an event, and goes on."""
        for src, sport, dst, dport in self.known.connections.get(name, ()):
            team = next(team for team in self.topology.teams if dst in (team.ip4, team.ip6))
            request: dict[str, object] = {"do": verb, "src": src, "sport": sport, "dst": dst, "dport": dport}
            request |= {"nic": nic} if nic is not None else {}
            keys = {"do": verb, "src": src, "sport": sport, "dst": dst, "dport": dport}
            try:
                local.ask(self.agent(team), request)
                self.emit("answered", **keys, ok=True)
            except local.LocalError as error:
                self.emit("answered", **keys, ok=False, error=str(error))

    def membership(self, verb: str, nic: str) -> None:
        """add_nic or remove_nic, at the agent of the NIC's team. Raises LocalError."""
        local.ask(self.agent(self.topology.team_of(nic)), {"do": verb, "nic": nic})

    def kill(self, who: str) -> None:
        """SIGKILL to an engine or an agent; what it had told of itself no longer counts. Raises RunError."""
        self.look()
        self.children.kill(who)
        self._seen = {(process, event) for process, event in self._seen if process != who}
        if who == "controller":
            self.forget_switches()
        # A socket that nobody listens to any more would keep the next one from listening there.
        (self.run_dir / f"{who}.sock").unlink(missing_ok=True)

    def restart(self, who: str) -> None:
        """Start it again. Raises RunError."""
        self.emit("restarted", process=who)
        self.children.restart(who)

    def seen(self, who: str, event: str) -> bool:
        """Whether that process has emitted that event since it was last started."""
        return (who, event) in self._seen

    def switches_ready(self) -> bool:
        """Whether every switch has its flows from the controller."""
        return all((switch.name, "switch_ready") in self._seen for switch in self.topology.switches)

    def forget_switches(self) -> None:
        """That they had their flows counts no longer. Raises RunError."""
        self.look()
        self._seen -= {(switch.name, "switch_ready") for switch in self.topology.switches}

    def _end_agents(self) -> None:
        """Until each has said its last words; while it ends, and its sockets with it, the engines can end too."""
        left = {configs.agent_name(team, self.topology) for team in self.topology.teams}
        left = {who for who in left if self.children.running(who)}
        self._tail.read()
        for who in left:
            self.children.send(who, signal.SIGTERM)
        deadline = time.monotonic() + AGENT_S
        while left and time.monotonic() < deadline:
            left -= {event["who"] for event in self._tail.read() if event["event"] == "counters"}
            left = {who for who in left if self.children.running(who)}
            time.sleep(POLL_S)

    def down(self) -> None:
        """End every process, the agent first: it asks the engines for its last records. Never raises.

        The network and its switch end with the sandbox.
        """
        killed = self.children.stop([client_of(name) for name in self.scenario.traffic], within_s=1.0)
        self._end_agents()
        killed += self.children.stop()
        for who in killed:
            self.emit("killed", process=who, reason="it did not end within its time after SIGTERM")
        for log in self.run_dir.glob("*ovs/*.log"):
            shutil.copy(log, self.out / "logs" / (log.parent.name.removesuffix("ovs") + log.name))
