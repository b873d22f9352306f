"""Reads and checks the controller's configuration file; every mistake is one line that says where and what
to do.

It opens that one file and touches nothing else; Ryu is not imported until the configuration is known to be
right.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.aggregator import MODES, RATES, Lacp
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
_LONGEST_S = 3600.0
_SHORTEST_PROBE_S = 0.01
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_MAX_PORT = 0xFF00  # the highest port number that fits every OpenFlow version; OVS never gives out more


class ConfigError(Exception):
    """What is wrong with the configuration, in one line."""


@dataclass(frozen=True)
class Config:
    """`switches` maps a datapath id to its switch, which has no ports yet; `cookies` to what marks its flows.

    The cookie is a digest of the switch's part of the configuration: flows that carry it were made for the same.
    `ways` are the members that lead to another switch.
    """

    host: str
    port: int
    socket: str
    switches: dict[int, Switch]
    cookies: dict[int, int]
    ways: list[Way] = field(default_factory=list)


def load(path: str) -> Config:
    """Read the JSON file. Raises ConfigError."""
    try:
        document = json.loads(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from None
    try:
        return parse(document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse(document: object) -> Config:
    """Check the whole document. Raises ConfigError."""
    top = _keys(document, "configuration", {"listen", "socket", "switches"})
    host, _, port = _text(top["listen"], "listen").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"listen: expected ADDRESS:PORT, not {top['listen']!r}")
    switches: dict[int, Switch] = {}
    cookies: dict[int, int] = {}
    for i, item in enumerate(_list(top["switches"], "switches")):
        where = f"switches[{i}]"
        keys = _keys(item, where, {"dpid", "name", "lags"}, _DEFAULTS)
        dpid = _number(keys["dpid"], f"{where}.dpid", 1, 2**64 - 1)
        name = _text(keys["name"], f"{where}.name")
        if dpid in switches or name in [switch.name for switch in switches.values()]:
            raise ConfigError(f"{where}: dpid {dpid} or name {name!r} is there twice")
        timing = Timing(*(_seconds(keys[key], f"{where}.{key}") for key in Timing._fields))
        switches[dpid] = Switch(name, _lags(keys, where, dpid), timing)
        cookies[dpid] = _digest({key: value for key, value in keys.items() if key not in Timing._fields})
    if not switches:
        raise ConfigError("switches: at least one is needed")
    ways = _ways(top["switches"], {switch.name: switch for switch in switches.values()})
    return Config(host.strip("[]"), int(port), _text(top["socket"], "socket"), switches, cookies, ways)


def _ways(items: list[dict[str, Any]], switches: dict[str, Switch]) -> list[Way]:
    """A LAG's `beyond` names, for each of its ports, the switch that it leads to."""
    ways: list[Way] = []
    for i, item in enumerate(items):
        for k, lag in enumerate(item["lags"]):
            where, beyond = f"switches[{i}].lags[{k}].beyond", lag.get("beyond")
            if beyond is None:
                continue
            if len(_list(beyond, where)) != len(lag["ports"]):
                raise ConfigError(f"{where}: expected {len(lag['ports'])} switches, one for each port")
            for port, to in zip(lag["ports"], (_text(name, where) for name in beyond), strict=True):
                if to not in switches or to == item["name"] or lag["name"] not in switches[to].lags:
                    raise ConfigError(f"{where}: {to!r} is no other switch with a LAG {lag['name']!r}")
                ways.append(Way(item["name"], lag["name"], port, to))
    return ways


def _digest(keys: dict[str, Any]) -> int:
    """63 bits that are the same for the same configuration, whatever the order of its keys; never 0."""
    text = json.dumps({"form": _FORM_OF_FLOWS, **keys}, sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1 | 1


def _lags(switch: dict[str, Any], where: str, dpid: int) -> list[Lag]:
    seed = _number(switch["seed"], f"{where}.seed", 0, 65535)
    rebalance = _choice(switch["rebalance"], f"{where}.rebalance", REBALANCE)
    policy = _choice(switch["hash"], f"{where}.hash", POLICIES)
    lags: list[Lag] = []
    taken: set[int] = set()
    for i, item in enumerate(_list(switch["lags"], f"{where}.lags")):
        here = f"{where}.lags[{i}]"
        keys = _keys(item, here, {"name", "ports"}, _LAG_DEFAULTS)
        name = _text(keys["name"], f"{here}.name")
        if name in [lag.name for lag in lags]:
            raise ConfigError(f"{here}.name: {name!r} is there twice")
        ports = [_number(port, f"{here}.ports", 1, _MAX_PORT) for port in _list(keys["ports"], f"{here}.ports")]
        if not ports:
            raise ConfigError(f"{here}.ports: at least one port number is needed")
        if len(ports) > MAX_MEMBERS:
            raise ConfigError(f"{here}.ports: at most {MAX_MEMBERS} ports, not {len(ports)}")
        for port in ports:
            if port in taken:
                raise ConfigError(f"{here}.ports: port {port} is there twice")
            taken.add(port)
        least = _number(keys["min_links"], f"{here}.min_links", 1, len(ports))
        lacp = _lacp(keys, here, dpid, i + 1)
        lags.append(Lag(name, i + 1, tuple(ports), seed, rebalance, policy, least, lacp))
    return lags


def _lacp(keys: dict[str, Any], where: str, dpid: int, number: int) -> Lacp:
    """Switches that act as one share `system` and `key`; their ports' LACP numbers then differ by the dpid."""
    system, key, probe = keys["system"], keys["key"], keys["probe_s"]
    if system is not None and (not isinstance(system, str) or not _MAC.fullmatch(system)):
        raise ConfigError(f"{where}.system: expected a MAC address, not {system!r}")
    if probe is not None and (_seconds(probe, f"{where}.probe_s") < _SHORTEST_PROBE_S):
        raise ConfigError(f"{where}.probe_s: expected at least {_SHORTEST_PROBE_S:g} s, not {probe!r}")
    return Lacp(
        mode=_choice(keys["lacp"], f"{where}.lacp", MODES),
        rate=_choice(keys["lacp_rate"], f"{where}.lacp_rate", RATES),
        system=system.lower() if system else f"02:00:00:00:05:{dpid & 0xFF:02x}",
        key=number if key is None else _number(key, f"{where}.key", 1, 0xFFFF),
        probe_s=probe if probe is None else float(probe),
        port_ids=(dpid - 1 & 0xF) << 12,
    )


def _keys(value: object, where: str, needed: set[str], defaults: dict[str, object] | None = None) -> dict[str, Any]:
    defaults = defaults or {}
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected an object, not {value!r}")
    for key in sorted(needed - value.keys()):
        raise ConfigError(f"{where}: the key {key!r} is missing")
    for key in value:
        if key not in needed and key not in defaults:
            known = ", ".join(sorted(needed | defaults.keys()))
            raise ConfigError(f"{where}: unknown key {key!r} (known: {known})")
    return {**defaults, **value}


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: expected a text, not {value!r}")
    return value


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise ConfigError(f"{where}: expected a list, not {value!r}")
    return value


def _number(value: object, where: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{where}: expected a whole number from {low} to {high}, not {value!r}")
    return value


def _seconds(value: object, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _LONGEST_S:
        raise ConfigError(f"{where}: expected seconds from 0 to {_LONGEST_S:g}, not {value!r}")
    return float(value)


def _choice(value: object, where: str, known: Any) -> str:
    if not isinstance(value, str) or value not in known:
        raise ConfigError(f"{where}: {value!r} is not known (known: {', '.join(known)})")
    return str(value)
