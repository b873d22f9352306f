"""The commands of the local API: checks a request, acts on its switch, and answers when the switch has confirmed.

Every request names itself by `do` and, but for `state`, its switch by `switch`. Knows no Ryu and no sockets.

    state                                       every switch: ready, MACs, LAGs, moved connections, held ports
    macs | members | flows | groups | counters  {switch}: the MAC table; the LAGs; what the switch itself says
                                                about its flows, groups and ports
    lacp      {switch}: LACP's and the probes' state of each LAG, also as `text` like /proc/net/bonding
    port_of   {switch, lag, src, sport, dst, dport[, src_mac]}: the member that carries this connection
    ports_of  {switch, lag, connections: [[src, sport, dst, dport(, src_mac)], …]}: the same for many
    move      {switch, lag, src, sport, dst, dport, port}: that connection leaves by that member from now on
    set       {switch, lag[, seed][, hash][, rebalance]}: other settings from now on
    take_out | take_back  {switch, lag, port}: no connection uses that member, or it may be used again
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from controller import checks, lacp_text
from controller.events import emit
from controller.hashing import Connection, connection
from controller.lag import Lag
from controller.pipeline import Change
from controller.policies import POLICIES
from controller.rebalance import REBALANCE
from controller.switch import Switch

Request = dict[str, Any]
_MOST = 0xFFFF


class Connected(Protocol):
    """A switch and the way to it."""

    switch: Switch
    ready: bool

    def act(self, change: Callable[[float], list[Change]]) -> None:
        """Change the switch's state, at a time, and wait until the switch has confirmed. Raises ValueError."""

    def ask(self, what: str) -> list[dict[str, Any]]:
        """What the switch says of its "flows", "groups" or "counters". Raises ValueError."""


class Commands:
    """Answers requests about these switches."""

    def __init__(self, links: Iterable[Connected]) -> None:
        self._links = {link.switch.name: link for link in links}
        self._known: dict[str, Callable[[Connected, Request], Request]] = {
            "macs": lambda link, _: {"macs": dict(link.switch.places)},
            "lacp": lambda link, _: _lacp(link.switch),
            "members": lambda link, _: {"lags": _lags(link.switch)},
            **{what: self._reader(what) for what in ("flows", "groups", "counters")},
            **{"port_of": _port_of, "ports_of": _ports_of, "move": _move, "set": _set},
            **{"take_out": _take_out, "take_back": _take_back},
        }

    def answer(self, request: Request) -> Request:
        """One request. Raises ValueError with one line for a person."""
        command = request.get("do")
        if command == "state":
            return {"switches": {name: _state(link) for name, link in self._links.items()}}
        if not isinstance(command, str) or command not in self._known:
            raise ValueError(f"do: {command!r} is not known (known: state, {', '.join(self._known)})")
        name = request.get("switch")
        if not isinstance(name, str) or name not in self._links:
            raise ValueError(f"switch: {name!r} is not known (known: {', '.join(self._links)})")
        return self._known[command](self._links[name], request)

    @staticmethod
    def _reader(what: str) -> Callable[[Connected, Request], Request]:
        def read(link: Connected, _request: Request) -> Request:
            return {what: link.ask(what)}

        return read


def _port_of(link: Connected, request: Request) -> Request:
    lag = link.switch.lag(request.get("lag"))
    return {"port": _carrier(lag, _connection(request), request.get("src_mac"))}


def _ports_of(link: Connected, request: Request) -> Request:
    lag, items = link.switch.lag(request.get("lag")), request.get("connections")
    if not isinstance(items, list) or not all(isinstance(item, list) and len(item) in (4, 5) for item in items):
        raise ValueError("connections: expected a list of [src, sport, dst, dport] with src_mac as a fifth, or without")
    return {"ports": [_carrier(lag, connection(*item[:4]), *item[4:]) for item in items]}


def _carrier(lag: Lag, conn: Connection, src_mac: object = None) -> int:
    mac = None if src_mac is None else checks.mac(src_mac, "src_mac")
    if (port := lag.port_of(conn, mac)) is None:
        raise ValueError(f"{lag.name}: no member is active")
    return port


def _move(link: Connected, request: Request) -> Request:
    lag, conn, port = link.switch.lag(request.get("lag")), _connection(request), request.get("port")
    _need_ready(link)
    number = checks.number(port, "port", 0, _MOST)
    link.act(lambda _: link.switch.moved(lag.name, conn, number))
    emit("moved", switch=link.switch.name, lag=lag.name, **conn._asdict(), port=number)
    return {}


def _set(link: Connected, request: Request) -> Request:
    lag = link.switch.lag(request.get("lag"))
    keys = {"seed", "hash", "rebalance"} & request.keys()
    if not keys:
        raise ValueError("set: at least one of seed, hash, rebalance is needed")
    seed = checks.number(request["seed"], "seed", 0, _MOST) if "seed" in request else None
    policy = checks.choice(request["hash"], "hash", POLICIES) if "hash" in request else None
    rebalance = checks.choice(request["rebalance"], "rebalance", REBALANCE) if "rebalance" in request else None
    _need_ready(link)
    link.act(lambda now: link.switch.changed(lag.name, seed, policy, rebalance, now))
    lag = link.switch.lags[lag.name]
    emit("settings", switch=link.switch.name, lag=lag.name, **_settings(lag))
    return _settings(lag)


def _take_out(link: Connected, request: Request) -> Request:
    return _drain(link, request, out=True)


def _take_back(link: Connected, request: Request) -> Request:
    return _drain(link, request, out=False)


def _drain(link: Connected, request: Request, out: bool) -> Request:
    lag, port = link.switch.lag(request.get("lag")), checks.number(request.get("port"), "port", 0, _MOST)
    _need_ready(link)
    link.act(lambda now: link.switch.drained(lag.name, port, out, now))
    emit("drained", switch=link.switch.name, lag=lag.name, port=port, out=out)
    return {}


def _connection(request: Request) -> Connection:
    return connection(*(request.get(key) for key in Connection._fields))


def _need_ready(link: Connected) -> None:
    if not link.ready:
        raise ValueError(f"{link.switch.name}: the switch is not connected")


def _settings(lag: Lag) -> Request:
    return {"hash": lag.policy, "seed": lag.seed, "rebalance": lag.rebalance}


def _lags(switch: Switch) -> Request:
    return {
        lag.name: {
            "members": list(lag.members),
            "active": [port for port in lag.members if port in lag.active],
            "drained": sorted(lag.drained),
            "buckets": list(lag.buckets),
            **_settings(lag),
        }
        for lag in switch.lags.values()
    }


def _lacp(switch: Switch) -> Request:
    lags = [(lag, switch.ends[lag.name], switch.why_not) for lag in switch.lags.values()]
    return {
        "lags": {lag.name: lacp_text.state_of(lag, end, why) for lag, end, why in lags},
        "text": "\n".join(lacp_text.text_of(*one) for one in lags),
    }


def _state(link: Connected) -> Request:
    switch = link.switch
    return {
        "ready": link.ready,
        "macs": dict(switch.places),
        "lags": _lags(switch),
        "moved": {str(conn): port for lag in switch.lags.values() for conn, port in lag.moved.items()},
        "held": switch.held(),
    }
