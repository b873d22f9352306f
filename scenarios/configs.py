"""What the bench tells the other processes: their configurations and their command lines.

Pure: a scenario, its topology and a run directory's name in, documents and words out. Keys that have the agent's own
default are left out.
"""

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from scenarios.drivers import has_lag, switch_lacp
from scenarios.schema import Distribution, OffloadAfter, Scenario, Traffic
from scenarios.sizes import Size, total
from topologies.model import Switch, Team, Topology

SNAPLEN = 128
"""Bytes of each frame in a capture: all headers, no payload."""

Document = dict[str, Any]


def engine_name(team: Team, topology: Topology) -> str:
    """The name of a team's host engine: `host`, and `host-team1` where there are several."""
    return "host" if team == topology.team else f"host-{team.name}"


def agent_name(team: Team, topology: Topology) -> str:
    """The name of a team's agent."""
    return "agent" if team == topology.team else f"agent-{team.name}"


def described(topology: Topology) -> dict[str, Any]:
    """What is connected to what, for whoever reads the run's events: node → switch."""
    return {
        "server": topology.server,
        "switches": [switch.name for switch in topology.switches],
        "teams": {team.name: {nic.name: nic.switch for nic in team.nics} for team in topology.teams},
        "clients": {client.name: client.switch for client in topology.clients},
        "uplinks": {uplink.switch: uplink.core for uplink in topology.uplinks},
        "router": {topology.router.name: topology.router.switch} if topology.router else {},
        "driver": topology.bond.driver if topology.bond else "offload",
        "rate_bps": topology.rate_bps,
    }


def links(topology: Topology) -> dict[str, tuple[str, str]]:
    """The links that can be captured, by name → node and interface: clients', NICs' wires, those between switches."""
    found = {client.name: (client.name, client.interface) for client in topology.clients}
    found |= {nic.name: topology.wire_end(nic) for nic in topology.nics}
    if topology.router:
        found[topology.router.name] = (topology.router.name, topology.router.interface)
    ports = [port for uplink in topology.uplinks for port in uplink.ports]
    return found | {port.device: (port.switch, port.device) for port in ports if port.switch != topology.switch.name}


def capture(topology: Topology, link: str, folder: str) -> tuple[str, list[str]]:
    """The node where a link is captured, and the command that does it."""
    node, interface = links(topology)[link]
    # A capture that lacks frames proves nothing: a large buffer, and no waiting for a block of the ring to fill, which
    # would lose the last second at the end.
    words = ["-s", str(SNAPLEN), "-B", "32768", "-U", "--immediate-mode", "-n", "-Z", "root"]
    return node, ["tcpdump", "-i", interface, "-w", f"{folder}/{link}.pcap", *words]


def flood(scenario: Scenario, topology: Topology, service: str) -> list[str]:
    """The words after `scenarios.flood --name NAME` that say where it goes."""
    asked = scenario.services[service]
    team = next(team for team in topology.teams if team.name == asked.team)
    return ["--to", f"{team.ip4}:{asked.listen}", "--seed", str(scenario.seed)]


def controller(
    scenario: Scenario, topology: Topology, listen: str, socket: str, control: str | None = None
) -> Document:
    """The controller's configuration. control: Open vSwitch's own control socket."""
    switches = [_switch(scenario, topology, switch) for switch in topology.switches]
    return {"listen": listen, "socket": socket, "switches": switches, "control": control}


def _switch(scenario: Scenario, topology: Topology, switch: Switch) -> Document:
    network, lags = scenario.network, []
    wrong = dict(zip(network.swapped, reversed(network.swapped), strict=True))
    for team in topology.teams:
        there = [nic for nic in team.nics if nic.switch == switch.name]
        # The switch's ports have the names of the NICs that are connected to them; which team they are for, it is told.
        ports = [topology.nic(wrong.get(nic.name, nic.name)).port_no for nic in there]
        # Switches that share a team's members are one LACP system to it.
        shared = {"system": topology.switch.mac, "key": 1} if len(ports) not in (0, len(team.nics)) else {}
        if ports and has_lag(scenario):
            lags.append({"name": team.name, "ports": ports, **lag_settings(scenario), **shared})
    if ups := [uplink for uplink in topology.uplinks if uplink.core == switch.name]:
        ports, beyond = [one.core_port_no for one in ups], [one.switch for one in ups]
        lags.append({"name": topology.team.name, "ports": ports, "beyond": beyond})
    return {
        **{"dpid": switch.dpid, "name": switch.name, "hash": network.hash, "lags": lags},
        **{"seed": seed_at(topology, switch.name, network.seed), "rebalance": network.rebalance},
        **{"updelay_s": network.updelay, "downdelay_s": network.downdelay, "fill_s": network.fill},
    }


def seed_at(topology: Topology, switch: str, seed: int) -> int:
    """A switch behind another hashes with another seed: else all that comes to it has the same hash (polarization)."""
    return seed if switch == topology.switch.name else (seed + 1) % 65536


def lag_settings(scenario: Scenario) -> Document:
    """What the switch does on the links to a team, besides the hash."""
    network = scenario.network
    settings = {
        "lacp": (switch_lacp(scenario), "off"),
        "lacp_rate": (network.lacp_rate, "fast"),
        "min_links": (network.min_links, 1),
        "probe_s": (network.probe, None),
    }
    return {key: value for key, (value, default) in settings.items() if value != default}


def agent(scenario: Scenario, topology: Topology, team: Team, run_dir: str) -> Document:
    """The configuration of a team's agent."""
    words, host = scenario.team, engine_name(team, topology)
    offload = offload_rule(words.offload)
    services = {
        str(port): offload_rule(service.offload)
        for service in scenario.services.values()
        for port in service.all_ports
        if service.offload is not None and service.team == team.name
    }
    config: Document = {
        "control": f"{run_dir}/{agent_name(team, topology)}.sock",
        "pins": pins(team, topology, run_dir),
        "offload": offload | ({"services": services} if services else {}),
        "host": {"socket": f"{run_dir}/{host}.sock"},
        "nics": [
            {"name": nic.name, "socket": f"{run_dir}/{nic.name}.sock", "bus": nic.server_bus} for nic in team.nics
        ],
    }
    evidence = words.reload_after
    chosen = {
        "name": (agent_name(team, topology), "agent"),
        "team": (team.name, "team0"),
        "on_fault": (words.on_fault, "reload"),
        "choice": (words.choice, "least_loaded"),
        "fail_back": (words.fail_back, "none"),
        "reload_after": ({"frames": evidence.frames, "seconds": evidence.time}, {"frames": 1, "seconds": 0.0}),
        "lacp": ({"mode": words.lacp, "rate": words.lacp_rate}, {"mode": "off", "rate": "fast"}),
        "min_links": (words.min_links, 1),
        "probe_s": (words.probe, None),
        "age_s": (words.age, 300.0),
        "trace": (words.trace, False),
    }
    return config | {key: value for key, (value, default) in chosen.items() if value != default}


def offload_rule(offload: OffloadAfter | str) -> Document:
    """When to offload, as the agent's configuration says it. `after_s` is there only when it is asked for."""
    if isinstance(offload, str):
        return {"after_bytes": {"never": None, "at_once": 0}[offload]}
    if isinstance(offload.after, float):
        return {"after_bytes": None, "after_s": offload.after}
    return {"after_bytes": offload.after}


def pins(team: Team, topology: Topology, run_dir: str) -> str:
    """Where a team's host engine pins its maps."""
    return f"{run_dir}/bpf" if team == topology.team else f"{run_dir}/bpf/{team.name}"


def host_engine(scenario: Scenario, topology: Topology, team: Team, run_dir: str) -> list[str]:
    """The words after `host_agent.engine` for a team's host engine."""
    name = engine_name(team, topology)
    words = ["--name", name, "--socket", f"{run_dir}/{name}.sock", "--pins", pins(team, topology, run_dir)]
    words += ["--team", team.name, "--bus", *(nic.server_bus for nic in team.nics)]
    words += ["--address", team.ip4, "--address", team.ip6]
    if scenario.team.records is not None:
        words += ["--records", str(scenario.team.records)]
    for service, application in applications(scenario, run_dir).items():
        if scenario.services[service].team == team.name:
            first, *more = scenario.services[service].all_ports
            words += ["--listen", f"{service}:{first}={application}"]
            host = application.rpartition(":")[0]
            words += [word for port in more for word in ("--listen", f"{service}:{port}={host}:{port}")]
    return words


def nic_engine(scenario: Scenario, topology: Topology, nic: str, run_dir: str) -> list[str]:
    """The words after `host_agent.engine` for a NIC's engine."""
    one = topology.nic(nic)
    words = ["--name", nic, "--socket", f"{run_dir}/{nic}.sock", "--wire", one.wire, "--bus", one.bus]
    if scenario.team.capacity is not None:
        words += ["--capacity", str(scenario.team.capacity)]
    if scenario.team.memory is not None:
        words += ["--memory", str(scenario.team.memory)]
    if nic in scenario.team.features:
        words += ["--features", ",".join(scenario.team.features[nic])]
    return words


def applications(scenario: Scenario, run_dir: str) -> dict[str, str]:
    """Service → where its application listens inside the server.

    The built-in one has a Unix socket, so that the server's TCP counts the team's segments only.
    """
    bonded = scenario.team.driver != "offload"  # then it is the server's own TCP that clients reach
    return {
        name: service.app
        if service.app != "builtin"
        else f"[::]:{service.listen}"
        if bonded
        else f"{run_dir}/app-{name}.sock"
        for name, service in scenario.services.items()
    }


def application(scenario: Scenario, topology: Topology, name: str, run_dir: str, out: str) -> str:
    """The shell command that starts a service's own application, in a folder of its own; `out` is for its files."""
    service = scenario.services[name]
    team = next(team for team in topology.teams if team.name == service.team)
    command = filled(service.command or "", {"server": team.ip4, "out": out})
    # What it prints is no event.
    return f"exec 1>&2; mkdir -p {run_dir}/apps/{name}; cd {run_dir}/apps/{name}; {command}"


def asked(scenario: Scenario, name: str) -> Document:
    """What a traffic asks for, by the client's own words."""
    traffic = scenario.traffic[name]
    if traffic.command is not None:
        return {"command": traffic.command}
    seed = traffic.seed if traffic.seed is not None else scenario.seed
    rounds = traffic.requests or 1
    sizes: Document = {"send": _size(traffic.send), "receive": _size(traffic.receive)}
    totals = {
        f"{key}_bytes": rounds * total(size, seed, key, traffic.count)
        for key, size in sizes.items()
        if rounds > 1 or not isinstance(size, int)
    }
    return sizes | totals | {"seed": seed} | _tempo(traffic)


def _size(size: int | Distribution) -> Size:
    return size if isinstance(size, int) else size.model_dump(exclude_none=True)


def _tempo(traffic: Traffic) -> Document:
    words = {
        "count": traffic.count if traffic.count > 1 else None,
        "arrivals": traffic.rate,
        "pace": traffic.pace / 8 if traffic.pace is not None else None,
        "every": traffic.idle,
        "half": traffic.half_close,
        "requests": traffic.requests,
        "think": traffic.think or None,
    }
    return {key: value for key, value in words.items() if value is not None}


def client(scenario: Scenario, topology: Topology, name: str, who: str, out: str) -> list[str]:
    """The module and the words of the process that makes a traffic; `out` is the folder of its files."""
    traffic = scenario.traffic[name]
    service = scenario.services[traffic.service]
    team = next(team for team in topology.teams if team.name == service.team)
    server = team.ip6 if traffic.ipv6 else team.ip4
    address = f"[{server}]:{service.listen}" if traffic.ipv6 else f"{server}:{service.listen}"
    words = ["--name", who, "--traffic", name, "--to", address]
    if traffic.command is not None:
        stands_for = {"server": server, "port": str(service.listen), "address": address, "out": out}
        command = f"cd {out}; {filled(traffic.command, stands_for)}"
        words += ["--ports", *map(str, service.all_ports[1:])] if service.ports else []
        return ["scenarios.command", *words, "--command", command, "--limit", str(scenario.limit)]
    for key, value in asked(scenario, name).items():
        if not key.endswith("_bytes"):  # sums, for those who measure
            words += [f"--{key}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return ["scenarios.client", *words, "--limit", str(scenario.limit)]


def command(command: str, folder: str, told: str | None) -> list[str]:
    """A step's command, in that folder; where it may fail, its output goes to TOLD.out, its status to TOLD.status."""
    script = f"exec 1>&2; {command}"
    if told is not None:
        script = f"sh -c {shlex.quote(command)} >{told}.out; echo $? >{told}.status"
    return ["sh", "-c", f"cd {folder}; {script}"]


def filled(command: str, stands_for: Mapping[str, str]) -> str:
    """A command with its placeholders filled in; all other braces are left alone."""
    return re.sub(r"(?<!\$)\{([a-z]+)\}", lambda found: stands_for.get(found.group(1), found.group(0)), command)
