"""A fake OpenFlow switch: applies plain messages, then says where frames go. And a bench on it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from controller.hashing import FIELDS, TCP, UDP, Connection, connection
from controller.hashing import Frame as Facts
from controller.lag import Lag
from controller.pipeline import GROUP, Actions, Change, Key, Rules, Value
from controller.switch import Switch, Timing

TEAM, CLIENT, OTHER, STRANGER = (f"02:00:00:00:00:{i:02x}" for i in (1, 0x11, 0x12, 0x99))
EVERYBODY = "ff:ff:ff:ff:ff:ff"
Frame = dict[str, Any]


def number(mac: str) -> int:
    return int(mac.replace(":", ""), 16)


BITS = {"eth_src": 48, "eth_dst": 48, "ipv4_src": 32, "ipv4_dst": 32, "ipv6_src": 128, "ipv6_dst": 128}


class FakeTable:
    """Applies plain messages as a switch does, and says where a frame goes. `dead` are ports without carrier."""

    def __init__(self) -> None:
        self.rules: Rules = {}
        self.dead: set[int] = set()
        self._given: Frame = {}
        self._tables: dict[int, list[Key]] = {}
        self._indexed: Rules = {}
        self._size = 0

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.actions is not None:
                self._check_groups(change)
                self.rules[change.key] = change.actions
                self._size = -1
            elif change.wide:
                table, wanted = change.key.table, set(change.key.match)
                self.rules = {k: v for k, v in self.rules.items() if k.table != table or not wanted <= set(k.match)}
            else:
                self._size = -1
                del self.rules[change.key]  # a flow that is not there: the caller has lost count

    def _check_groups(self, change: Change) -> None:
        """A real switch refuses a flow that leads to a group that is not there."""
        for action in change.actions or ():
            if action[0] == "group":
                assert Key(GROUP, action[1], ()) in self.rules, change

    def forward(self, frame: Frame) -> list[int]:
        """The ports, sorted; a port that is there twice gets the frame twice."""
        return sorted(out for out in self.run(frame) if isinstance(out, int))

    def is_shown_to_controller(self, frame: Frame) -> bool:
        return "controller" in self.run(frame)

    def run(self, frame: Frame) -> list[int | str]:
        outputs: list[int | str] = []
        self._given = dict(frame)
        self._lookup(0, {**frame, **{f"reg{i}": 0 for i in range(8)}}, outputs)
        return outputs

    def _index(self) -> None:
        self._tables = {}
        for key in self.rules:
            self._tables.setdefault(key.table, []).append(key)
        self._indexed, self._size = self.rules, len(self.rules)

    def _lookup(self, table: int, frame: Frame, outputs: list[int | str]) -> None:
        if self._indexed is not self.rules or self._size != len(self.rules):
            self._index()
        hits = [key for key in self._tables.get(table, ()) if self._matches(key, frame)]
        if not hits:
            return
        best = max(key.priority for key in hits)
        chosen = [key for key in hits if key.priority == best]
        assert len({self.rules[key] for key in chosen}) == 1, f"the switch may choose any of {chosen}"
        self._do(self.rules[chosen[0]], frame, outputs)

    def _do(self, actions: Actions, frame: Frame, outputs: list[int | str]) -> None:
        for action in actions:
            match action:
                case ("output", int(port)):
                    if port != frame["in_port"]:  # OpenFlow: never back out of the port it came from
                        assert {key: frame[key] for key in self._given} == self._given, "the frame was changed"
                        outputs.append(port)
                case ("group", int(number)):
                    for _, watch, inner in self.rules[Key(GROUP, number, ())]:
                        if watch not in self.dead:
                            self._do(inner, dict(frame), outputs)
                            break
                case ("controller", *_):
                    outputs.append("controller")
                case ("load", str(register), int(value)):
                    frame[register] = value
                case ("move", str(field), int(at), str(other), int(to), int(bits)):
                    mask = (1 << bits) - 1
                    value = as_number(frame[field]) >> at & mask
                    frame[other] = like(frame[other], other, as_number(frame[other]) & ~(mask << to) | value << to)
                case ("resubmit", int(table)):
                    self._lookup(table, frame, outputs)
                case ("multipath", str(fields), int(basis), int(links)):
                    frame["reg0"] = FIELDS[fields](facts(frame), basis) % links
                case _:
                    raise AssertionError(action)

    @staticmethod
    def _matches(key: Key, frame: Frame) -> bool:
        def fits(field: str, wanted: Value) -> bool:
            if isinstance(wanted, tuple):
                value, mask = map(number, wanted)
                return number(frame[field]) & mask == value
            return bool(frame.get(field) == wanted)

        return all(fits(field, wanted) for field, wanted in key.match)


def as_number(value: Any) -> int:
    if isinstance(value, int):
        return value
    return number(value) if value.count(":") == 5 and len(value) == 17 else int(ip_address(value))


def like(old: Any, field: str, value: int) -> Any:
    """The number in the form in which frames have this field."""
    if isinstance(old, int):
        return value
    return str(ip_address(value.to_bytes(BITS[field] // 8, "big")))


def facts(frame: Frame) -> Facts:
    macs = [bytes.fromhex(frame[field].replace(":", "")) for field in ("eth_src", "eth_dst")]
    ip = {0x0800: "ipv4", 0x86DD: "ipv6"}.get(frame["eth_type"])
    if ip is None:
        return Facts(*macs, frame["eth_type"])
    src, dst = (ip_address(frame[f"{ip}_{end}"]).packed for end in ("src", "dst"))
    name = {TCP: "tcp", UDP: "udp"}.get(frame["ip_proto"], "")
    ports = (frame[f"{name}_src"], frame[f"{name}_dst"]) if f"{name}_src" in frame else None
    return Facts(*macs, frame["eth_type"], src, dst, frame["ip_proto"], ports)


def segment(conn: Connection, in_port: int, src: str = CLIENT, dst: str = TEAM) -> Frame:
    ip, eth_type = ("ipv6", 0x86DD) if ":" in conn.src else ("ipv4", 0x0800)
    return {
        **{"in_port": in_port, "eth_src": src, "eth_dst": dst, "eth_type": eth_type, "ip_proto": TCP},
        **{f"{ip}_src": conn.src, f"{ip}_dst": conn.dst, "tcp_src": conn.sport, "tcp_dst": conn.dport},
    }


def arp(in_port: int, src: str, dst: str = EVERYBODY) -> Frame:
    return {"in_port": in_port, "eth_src": src, "eth_dst": dst, "eth_type": 0x0806}


def some_connections(count: int = 60) -> list[Connection]:
    rng = random.Random(5)
    v4 = [connection(f"10.0.0.{rng.randrange(2, 250)}", rng.randrange(1, 65536), "10.0.0.1", 80) for _ in range(count)]
    v6 = [connection(f"fd00::{rng.randrange(2, 250)}", rng.randrange(1, 65536), "fd00::1", 80) for _ in range(count)]
    return v4 + v6


CONNECTIONS = some_connections()


class Bench:
    """A switch, its fake table; a LAG on ports 1..N, hosts at N+1 (CLIENT), N+2 (OTHER), N+3 (silent)."""

    def __init__(
        self,
        members: int,
        seed: int = 0,
        learn: bool = True,
        rebalance: str = "modulo",
        policy: str = "layer3+4",
        timing: Timing = Timing(),  # noqa: B008
    ) -> None:
        self.members = tuple(range(1, members + 1))
        self.client, self.other, self.silent = self.hosts = tuple(range(members + 1, members + 4))
        self.switch = Switch("s1", [Lag("team0", 1, self.members, seed, rebalance, policy)], timing)
        self.table = FakeTable()
        self.table.apply(self.switch.connected(dict.fromkeys((*self.members, *self.hosts), True)))
        if learn:
            for port, mac in ((1, TEAM), (self.client, CLIENT), (self.other, OTHER)):
                self.table.apply(self.switch.learned(port, mac))

    @property
    def lag(self) -> Lag:
        return self.switch.lags["team0"]

    def link(self, port: int, up: bool) -> None:
        """The link itself, which the switch sees before the controller does."""
        self.table.dead = self.table.dead - {port} if up else self.table.dead | {port}

    def port(self, port: int, up: bool, now: float = 0.0) -> None:
        self.link(port, up)
        self.table.apply(self.switch.port_changed(port, up, now))

    def tick(self, now: float) -> None:
        self.table.apply(self.switch.tick(now))

    def move(self, conn: Connection, port: int) -> None:
        self.table.apply(self.switch.moved("team0", conn, port))

    def out(self, conn: Connection) -> list[int]:
        return self.table.forward(segment(conn, self.client))
