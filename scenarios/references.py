"""Names in a scenario that must refer to something: NICs, clients, services, traffic, measurements.

Pure. Every complaint carries its place in the file as a path of keys, so that `load` can name the line.
"""

import difflib
import keyword
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from scenarios import aggregates, conditions, configs, drivers, expect, timeline
from scenarios.grammar import ExpectationError
from scenarios.schema import PLACEHOLDERS, Scenario
from scenarios.spelling import near, nearest
from scenarios.steps import (
    PROCESSES,
    ChangeRouterMac,
    Kill,
    OfEnd,
    OfNic,
    Run,
    SetRate,
    SwitchDown,
    SwitchUp,
    SynFlood,
    Wait,
    connection_of,
    key_of_nic,
    nic_of,
)
from topologies.model import Topology, TopologyError, checked_rate
from topologies.shapes import SHAPES

Place = tuple[str | int, ...]
Complaint = tuple[Place, str]

RESERVED = ("run", *aggregates.AGGREGATES)
"""Names an expectation uses for something else than traffic; the NICs' and switches' are others."""


def topology_of(scenario: Scenario) -> Topology:
    """The network the scenario asks for. Raises TopologyError."""
    network = scenario.network
    made = SHAPES[network.shape](nics=network.nics, clients=network.clients, rate_bps=network.rate, rates=network.rates)
    return replace(made, bond=drivers.bond_of(scenario))


def subjects_of(scenario: Scenario) -> dict[str, str]:
    """What an expectation may be about: name → its kind. Raises TopologyError."""
    topology = topology_of(scenario)
    subjects = {step.name: "command" for step in scenario.timeline if isinstance(step, Run) and step.name}
    subjects |= dict.fromkeys(scenario.traffic, "traffic") | {"run": "run"}
    subjects |= {nic.name: "nic" for nic in topology.nics}
    return subjects | {switch.name: "switch" for switch in topology.switches}


def complaints(scenario: Scenario) -> list[Complaint]:
    """Everything that refers to nothing, in the order of the file's sections."""
    try:
        topology = topology_of(scenario)
    except TopologyError as error:
        return [(_place_of_topology(str(error)), str(error))]
    nics = [nic.name for nic in topology.team.nics]
    clients = [client.name for client in topology.clients]
    switches = [switch.name for switch in topology.switches]
    found: list[Complaint] = []
    found += _team(scenario, nics)
    found += _lacp(scenario, [nic.name for nic in topology.nics])
    found += drivers.complaints(scenario)
    found += _services(scenario, [team.name for team in topology.teams])
    found += _traffic(scenario, clients, [*(nic.name for nic in topology.nics), *switches])
    links = list(configs.links(topology))
    for index, link in enumerate(scenario.captures):
        if link not in links:
            found.append((("captures", index), f"`{link}` is no link of this network{nearest(link, links)}"))
    for index in range(len(scenario.timeline)):
        found += _step(scenario, index, topology)
    subjects = subjects_of(scenario)
    for index, text in enumerate(scenario.expect):
        try:
            if reason := drivers.measurable(scenario.team.driver, expect.parse(text, subjects), subjects):
                found.append((("expect", index), reason))
        except ExpectationError as error:
            found.append((("expect", index), str(error)))
    return found


def _place_of_topology(reason: str) -> Place:
    """The key of `network` that a topology's complaint is about, as far as its words tell."""
    if reason.startswith("another team"):
        return ("network", "shape")
    if reason.startswith("no NIC"):
        return ("network", "rates")
    for key in ("nics", "clients", "rate"):
        if key.rstrip("s") in reason.lower():
            return ("network", key)
    return ("network",)


def _team(scenario: Scenario, nics: Sequence[str]) -> Iterator[Complaint]:
    for nic, features in scenario.team.features.items():
        place: Place = ("team", "features", nic)
        if nic not in nics:
            yield place, f"`{nic}` is no NIC of this network{nearest(nic, nics)}"
        elif not {"ipv4", "ipv6"} & set(features):
            yield place, "neither ipv4 nor ipv6: no connection could ever go there; leave the NIC out instead"
    age = scenario.team.age
    if age <= 0:
        yield ("team", "age"), "a record that ages at once is of no use; write for example 30s"


def _lacp(scenario: Scenario, nics: Sequence[str]) -> Iterator[Complaint]:
    switch, team = scenario.network, scenario.team
    if "off" in (switch.lacp, team.lacp) and switch.lacp != team.lacp:
        where: Place = ("network", "lacp") if switch.lacp == "off" else ("team", "lacp")
        yield where, "LACP is off here and on at the other end: no link would ever carry a frame"
    elif switch.lacp == team.lacp == "passive":
        yield ("team", "lacp"), "both ends are passive: neither would begin; make one of them active"
    if switch.shape == "two_switches" and switch.min_links > 1:
        yield ("network", "min_links"), "each of the two switches counts its own members only; give it to the team"
    if switch.swapped and (len(set(switch.swapped)) != 2 or switch.lacp == "off"):
        yield ("network", "swapped"), "name the two NICs whose cables are swapped; without LACP nobody would notice"
    for nic in switch.swapped:
        if nic not in nics:
            yield ("network", "swapped"), f"`{nic}` is no NIC of this network{nearest(nic, nics)}"
    for section, words in (("network", switch), ("team", team)):
        if not 1 <= words.min_links <= switch.nics:
            yield (section, "min_links"), f"a team here has {switch.nics} NICs: write 1 to {switch.nics}"
        if words.probe is not None and not 0.01 <= words.probe <= 60:
            yield (section, "probe"), "the time between two probes is 10ms to 60s"


def _services(scenario: Scenario, teams: Sequence[str]) -> Iterator[Complaint]:
    ports: dict[int, str] = {}
    for name, service in scenario.services.items():
        place = ("services", name)
        if service.team not in teams:
            yield (*place, "team"), f"`{service.team}` is no team of this network{nearest(service.team, teams)}"
        taken = next((port for port in service.all_ports if port in ports), None)
        if taken is not None:
            key = "listen" if taken == service.listen else "ports"
            yield (*place, key), f"port {taken} is already taken by `{ports[taken]}`"
        if service.ports and service.ports[0] <= service.listen <= service.ports[1]:
            yield (*place, "ports"), f"port {service.listen} is there already, as `listen`"
        ports |= dict.fromkeys(service.all_ports, name)
        if service.ports and service.app == "builtin":
            yield (*place, "ports"), "the built-in application has one port only"
        if service.command is not None and service.app == "builtin":
            yield (
                (*place, "command"),
                "the built-in application needs no command; say where yours listens: `app: 127.0.0.1:PORT`",
            )


def _traffic(scenario: Scenario, clients: Sequence[str], taken: Sequence[str]) -> Iterator[Complaint]:
    for name, traffic in scenario.traffic.items():
        place = ("traffic", name)
        if name in (*RESERVED, *taken) or keyword.iskeyword(name):
            yield place, f"`{name}` means something else in expectations; choose another name"
        if traffic.client not in clients:
            reason = f"`{traffic.client}` is no client of this network{nearest(traffic.client, clients)}"
            yield (*place, "client"), reason
        service = scenario.services.get(traffic.service)
        if service is None:
            meant = nearest(traffic.service, list(scenario.services))
            reason = f"`{traffic.service}` is no service of this scenario{meant}"
            yield (*place, "service"), reason
        elif traffic.command is not None and service.app == "builtin":
            reason = f"`{traffic.service}` is the built-in application, which speaks to teambed's own clients only"
            yield (*place, "service"), f"{reason}; say where another one listens: `app: 127.0.0.1:PORT`"
        elif traffic.command is None and service.app != "builtin":
            reason = f"without a `command` traffic speaks to the built-in application only; `{traffic.service}` is"
            yield (*place, "service"), f"{reason} {service.app}"
        if traffic.command is not None:
            yield from _command(scenario, name)
        elif not traffic.send and not traffic.receive:
            yield place, "carries nothing; give it `send` or `receive`, for example `receive: 100MB`"


def _command(scenario: Scenario, name: str) -> Iterator[Complaint]:
    traffic, place = scenario.traffic[name], ("traffic", name)
    for word in re.findall(r"(?<!\$)\{([a-z]+)\}", traffic.command or ""):
        meant = difflib.get_close_matches(word, PLACEHOLDERS, n=1, cutoff=0.75)
        if meant and word not in PLACEHOLDERS:  # what is near none is the shell's, or a program's: awk '{print}'
            yield (*place, "command"), f"`{{{word}}}` stands for nothing; did you mean `{{{meant[0]}}}`?"
    for other, one in scenario.traffic.items():
        if other == name:
            return
        if (one.client, one.service) == (traffic.client, traffic.service):
            reason = f"`{other}` goes from {one.client} to `{one.service}` too, and nobody could tell their connections"
            yield place, f"{reason} apart; give one of them another client or another service"


def _step(scenario: Scenario, index: int, topology: Topology) -> Iterator[Complaint]:
    step, place, traffic = scenario.timeline[index], ("timeline", index), list(scenario.traffic)
    nics, clients = [nic.name for nic in topology.nics], [client.name for client in topology.clients]
    switches = [switch.name for switch in topology.switches]
    connection, nic = connection_of(step), nic_of(step)
    if connection is not None and connection not in traffic:
        yield (*place, "connection"), f"`{connection}` is no traffic of this scenario{nearest(connection, traffic)}"
    if nic is not None and not (nic == "other" and connection is not None):
        more = PROCESSES if isinstance(step, Kill) else ()
        yield from _nic((*place, key_of_nic(step)), nic, nics, traffic, more)
    match step:
        case Wait():
            yield from _condition((*place, "until"), step.until, nics, traffic)
        case Run():
            if step.node not in (nodes := [*topology.nodes, *switches]):
                yield (*place, "node"), f"`{step.node}` is no node of this network{nearest(step.node, nodes)}"
            others = [other.name for other in scenario.timeline[:index] if isinstance(other, Run)]
            if step.name and (
                step.name in (*RESERVED, *nics, *switches, *traffic, *others) or keyword.iskeyword(step.name)
            ):
                yield (*place, "name"), f"`{step.name}` means something else in expectations; choose another name"
        case Kill() if nic is None and step.process not in (known := _processes(topology)):
            yield (*place, "process"), f"`{step.process}` is no process of this run{nearest(step.process, known)}"
        case SetRate():
            try:
                checked_rate(step.rate)
            except TopologyError as error:
                yield (*place, "rate"), str(error)
        case SwitchDown() | SwitchUp() if step.switch not in switches:
            yield (*place, "switch"), f"`{step.switch}` is no switch of this network{nearest(step.switch, switches)}"
        case ChangeRouterMac() if topology.router is None:
            yield (*place, "do"), "there is no router in this network; `shape: routed` has one"
        case OfEnd() | SynFlood() if step.client is not None and step.client not in clients:
            yield (*place, "client"), f"`{step.client}` is no client of this network{nearest(step.client, clients)}"
        case SynFlood() if step.service not in scenario.services:
            meant = nearest(step.service, list(scenario.services))
            yield (*place, "service"), f"`{step.service}` is no service of this scenario{meant}"
        case OfNic() if step.do == "adapter_return" and not _before(scenario, index, "adapter_failure"):
            yield place, "no adapter fails before this; `link_up` brings back a link"


def _processes(topology: Topology) -> list[str]:
    return [*PROCESSES, *(f"{who}-{team.name}" for team in topology.teams[1:] for who in ("agent", "host"))]


def _before(scenario: Scenario, index: int, do: str) -> bool:
    at = scenario.timeline[index].at
    return any(step.do == do and step.at <= at for step in scenario.timeline)


def _nic(
    place: Place, written: str, nics: Sequence[str], traffic: Sequence[str], more: Sequence[str] = ()
) -> Iterator[Complaint]:
    """`more`: what may stand there besides NICs."""
    words = timeline.OF_TRAFFIC
    try:
        word, of = timeline.parse_word(written)
    except ValueError as error:
        yield place, str(error)
        return
    if word in words:
        if of is None:
            yield place, f"`{word}` needs a connection: `{word}({next(iter(traffic), 'TRAFFIC')})`"
        elif of not in traffic:
            yield place, f"`{of}` is no traffic of this scenario{nearest(of, traffic)}"
    elif of is not None:
        meant = f"did you mean `{one[0]}({of})`?" if (one := near(word, words)) else ""
        yield place, f"`{word}` takes no connection; {meant or 'there is ' + ', '.join(f'{w}(…)' for w in words)}"
    elif word not in nics and word not in timeline.ALONE:
        known = [*more, *nics, *timeline.ALONE]
        yield place, f"`{word}` is no {'process of this run' if more else 'NIC of this network'}{nearest(word, known)}"


def _condition(place: Place, written: str, nics: Sequence[str], traffic: Sequence[str]) -> Iterator[Complaint]:
    try:
        condition = conditions.parse(written)
    except ValueError as error:
        yield place, str(error)
        return
    of = condition.of
    if condition.word in conditions.OF_NIC:
        if of not in nics and of != "last":
            yield place, f"`{of}` is no NIC of this network{nearest(of, [*nics, 'last'])}"
    elif of not in traffic:
        yield place, f"`{of}` is no traffic of this scenario{nearest(of, traffic)}"
