"""Reads and checks the controller's configuration file; every mistake is one line that says where and what
to do.

It opens that one file and touches nothing else; Ryu is not imported until the configuration is known to be
right.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller import checks
from controller.aggregator import MODES, RATES, Lacp
from controller.checks import Mistake
from controller.lag import Lag
from controller.policies import POLICIES
from controller.rebalance import MAX_MEMBERS, REBALANCE
from controller.switch import Switch, Timing
from controller.tracking import Way

_DEFAULTS: dict[str, object] = {
    **{"hash": "layer3+4", "seed": 0, "rebalance": "modulo"},
    **Timing._field_defaults,
}
_LAG_DEFAULTS: dict[str, object] = {
    **{"lacp": "off", "lacp_rate": "fast", "min_links": 1, "probe_s": None, "system": None, "key": None},
    "beyond": None,
}
_FORM_OF_FLOWS = 2  # counts up when `pipeline` makes other flows of the same configuration
_SHORTEST_PROBE_S = 0.01
_MAX_PORT = 0xFF00  # the highest port number that fits every OpenFlow version; OVS never gives out more


@dataclass(frozen=True)
class Config:
    """`switches` maps a datapath id to its switch, which has no ports yet; `cookies` to what marks its flows.

    The cookie is a digest of the switch's part of the configuration: flows that carry it were made for the same.
    `ways` are the members that lead to another switch. `control` is the path of Open vSwitch's own
    control socket, if told.
    """

    host: str
    port: int
    socket: str
    switches: dict[int, Switch]
    cookies: dict[int, int]
    ways: list[Way] = field(default_factory=list)
    control: str | None = None


def load(path: str) -> Config:
    """Read the JSON file. Raises Mistake."""
    try:
        document = json.loads(Path(path).read_text())
    except OSError as error:
        raise Mistake(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise Mistake(f"{path}: not JSON: {error}") from None
    try:
        return parse(document)
    except Mistake as error:
        raise Mistake(f"{path}: {error}") from None


def parse(document: object) -> Config:
    """Check the whole document. Raises Mistake."""
    top = checks.keys(document, "configuration", {"listen", "socket", "switches"}, {"control": None})
    host, _, port = checks.text(top["listen"], "listen").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise Mistake(f"listen: expected ADDRESS:PORT, not {top['listen']!r}")
    switches: dict[int, Switch] = {}
    cookies: dict[int, int] = {}
    for i, item in enumerate(checks.items(top["switches"], "switches")):
        where = f"switches[{i}]"
        keys = checks.keys(item, where, {"dpid", "name", "lags"}, _DEFAULTS)
        dpid = checks.number(keys["dpid"], f"{where}.dpid", 1, 2**64 - 1)
        name = checks.text(keys["name"], f"{where}.name")
        if dpid in switches or name in [switch.name for switch in switches.values()]:
            raise Mistake(f"{where}: dpid {dpid} or name {name!r} is there twice")
        timing = Timing(*(checks.seconds(keys[key], f"{where}.{key}") for key in Timing._fields))
        switches[dpid] = Switch(name, _lags(keys, where, dpid), timing)
        cookies[dpid] = _digest({key: value for key, value in keys.items() if key not in Timing._fields})
    if not switches:
        raise Mistake("switches: at least one is needed")
    ways = _ways(top["switches"], {switch.name: switch for switch in switches.values()})
    control = None if top["control"] is None else checks.text(top["control"], "control")
    return Config(host.strip("[]"), int(port), checks.text(top["socket"], "socket"), switches, cookies, ways, control)


def _ways(items: list[dict[str, Any]], switches: dict[str, Switch]) -> list[Way]:
    """A LAG's `beyond` names, for each of its ports, the switch that it leads to."""
    ways: list[Way] = []
    for i, item in enumerate(items):
        for k, lag in enumerate(item["lags"]):
            where, beyond = f"switches[{i}].lags[{k}].beyond", lag.get("beyond")
            if beyond is None:
                continue
            if len(checks.items(beyond, where)) != len(lag["ports"]):
                raise Mistake(f"{where}: expected {len(lag['ports'])} switches, one for each port")
            for port, to in zip(lag["ports"], (checks.text(name, where) for name in beyond), strict=True):
                if to not in switches or to == item["name"] or lag["name"] not in switches[to].lags:
                    raise Mistake(f"{where}: {to!r} is no other switch with a LAG {lag['name']!r}")
                ways.append(Way(item["name"], lag["name"], port, to))
    return ways


def _digest(keys: dict[str, Any]) -> int:
    """63 bits that are the same for the same configuration, whatever the order of its keys; never 0."""
    text = json.dumps({"form": _FORM_OF_FLOWS, **keys}, sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1 | 1


def _lags(switch: dict[str, Any], where: str, dpid: int) -> list[Lag]:
    seed = checks.number(switch["seed"], f"{where}.seed", 0, 65535)
    rebalance = checks.choice(switch["rebalance"], f"{where}.rebalance", REBALANCE)
    policy = checks.choice(switch["hash"], f"{where}.hash", POLICIES)
    lags: list[Lag] = []
    taken: set[int] = set()
    for i, item in enumerate(checks.items(switch["lags"], f"{where}.lags")):
        here = f"{where}.lags[{i}]"
        keys = checks.keys(item, here, {"name", "ports"}, _LAG_DEFAULTS)
        name = checks.text(keys["name"], f"{here}.name")
        if name in [lag.name for lag in lags]:
            raise Mistake(f"{here}.name: {name!r} is there twice")
        ports = [
            checks.number(port, f"{here}.ports", 1, _MAX_PORT) for port in checks.items(keys["ports"], f"{here}.ports")
        ]
        if not ports:
            raise Mistake(f"{here}.ports: at least one port number is needed")
        if len(ports) > MAX_MEMBERS:
            raise Mistake(f"{here}.ports: at most {MAX_MEMBERS} ports, not {len(ports)}")
        for port in ports:
            if port in taken:
                raise Mistake(f"{here}.ports: port {port} is there twice")
            taken.add(port)
        least = checks.number(keys["min_links"], f"{here}.min_links", 1, len(ports))
        lacp = _lacp(keys, here, dpid, i + 1)
        lags.append(Lag(name, i + 1, tuple(ports), seed, rebalance, policy, least, lacp))
    return lags


def _lacp(keys: dict[str, Any], where: str, dpid: int, number: int) -> Lacp:
    """Switches that act as one share `system` and `key`; their ports' LACP numbers then differ by the dpid."""
    system, key, probe = keys["system"], keys["key"], keys["probe_s"]
    own = f"02:00:00:00:05:{dpid & 0xFF:02x}"
    if probe is not None and (checks.seconds(probe, f"{where}.probe_s") < _SHORTEST_PROBE_S):
        raise Mistake(f"{where}.probe_s: expected at least {_SHORTEST_PROBE_S:g} s, not {probe!r}")
    return Lacp(
        mode=checks.choice(keys["lacp"], f"{where}.lacp", MODES),
        rate=checks.choice(keys["lacp_rate"], f"{where}.lacp_rate", RATES),
        system=own if system is None else checks.mac(system, f"{where}.system").lower(),
        key=number if key is None else checks.number(key, f"{where}.key", 1, 0xFFFF),
        probe_s=probe if probe is None else float(probe),
        port_ids=(dpid - 1 & 0xF) << 12,
    )
