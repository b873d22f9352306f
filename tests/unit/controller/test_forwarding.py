"""What the flows do with frames, on a fake OpenFlow table: forwarding is asserted, never the text of
messages.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.hashing import TCP, Connection, connection, symmetric_l2, symmetric_l3l4
from controller.lag import Lag
from controller.pipeline import Actions, Change, Key, Rules, Value
from controller.switch import Switch

TEAM, CLIENT, OTHER, STRANGER = (f"02:00:00:00:00:{i:02x}" for i in (1, 0x11, 0x12, 0x99))
EVERYBODY = "ff:ff:ff:ff:ff:ff"
Frame = dict[str, Any]


def number(mac: str) -> int:
    return int(mac.replace(":", ""), 16)


class FakeTable:
    """Applies plain flow-mods as a switch does, and says where a frame goes."""

    def __init__(self) -> None:
        self.rules: Rules = {}

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.actions is not None:
                self.rules[change.key] = change.actions
            elif change.wide:
                table, wanted = change.key.table, set(change.key.match)
                self.rules = {k: v for k, v in self.rules.items() if k.table != table or not wanted <= set(k.match)}
            else:
                del self.rules[change.key]  # a flow that is not there: the caller has lost count

    def forward(self, frame: Frame) -> list[int]:
        """The ports, sorted; a port that is there twice gets the frame twice."""
        return sorted(out for out in self.run(frame) if isinstance(out, int))

    def is_shown_to_controller(self, frame: Frame) -> bool:
        return "controller" in self.run(frame)

    def run(self, frame: Frame) -> list[int | str]:
        outputs: list[int | str] = []
        self._lookup(0, {**frame, "reg0": 0, "reg1": 0, "reg2": 0, "reg3": 0}, outputs)
        return outputs

    def _lookup(self, table: int, frame: Frame, outputs: list[int | str]) -> None:
        hits = [key for key in self.rules if key.table == table and self._matches(key, frame)]
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
                        outputs.append(port)
                case ("controller",):
                    outputs.append("controller")
                case ("load", str(register), int(value)):
                    frame[register] = value
                case ("resubmit", int(table)):
                    self._lookup(table, frame, outputs)
                case ("multipath", int(basis), int(links)):
                    frame["reg0"] = frame_hash(frame, basis) % links
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


def frame_hash(frame: Frame, basis: int) -> int:
    ip = {0x0800: "ipv4", 0x86DD: "ipv6"}.get(frame["eth_type"])
    if ip is None:
        macs = (bytes.fromhex(frame[field].replace(":", "")) for field in ("eth_src", "eth_dst"))
        return symmetric_l2(*macs, frame["eth_type"], basis)
    addresses = (ip_address(frame[f"{ip}_{end}"]).packed for end in ("src", "dst"))
    return symmetric_l3l4(*addresses, frame["ip_proto"], (frame["tcp_src"], frame["tcp_dst"]), basis)


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

    def __init__(self, members: int, seed: int = 0, learn: bool = True) -> None:
        self.members = tuple(range(1, members + 1))
        self.client, self.other, self.silent = self.hosts = tuple(range(members + 1, members + 4))
        self.switch = Switch("s1", [Lag("team0", 1, self.members, seed)])
        self.table = FakeTable()
        self.table.apply(self.switch.connected(dict.fromkeys((*self.members, *self.hosts), True)))
        if learn:
            for port, mac in ((1, TEAM), (self.client, CLIENT), (self.other, OTHER)):
                self.table.apply(self.switch.learned(port, mac))

    @property
    def lag(self) -> Lag:
        return self.switch.lags["team0"]

    def port(self, port: int, up: bool) -> None:
        self.table.apply(self.switch.port_changed(port, up))

    def move(self, conn: Connection, port: int) -> None:
        self.table.apply(self.switch.moved("team0", conn, port))

    def out(self, conn: Connection) -> list[int]:
        return self.table.forward(segment(conn, self.client))


@pytest.mark.parametrize("members", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("seed", [0, 77])
def test_a_connection_leaves_by_one_port_and_it_is_the_predicted_one(members: int, seed: int) -> None:
    bench = Bench(members, seed)
    ports = [bench.out(conn) for conn in CONNECTIONS]
    assert ports == [[bench.lag.port_of(conn)] for conn in CONNECTIONS]
    assert {port for (port,) in ports} == set(bench.members)


def test_it_is_the_same_port_before_the_team_is_learned() -> None:
    bench = Bench(3, learn=False)
    early = [bench.out(conn) for conn in CONNECTIONS]
    bench.table.apply(bench.switch.learned(2, TEAM))
    for conn, ports in zip(CONNECTIONS, early, strict=True):
        assert ports == sorted([*bench.out(conn), bench.other, bench.silent])


@pytest.mark.parametrize("dst", [EVERYBODY, "33:33:00:00:00:01", STRANGER])
def test_flooding_reaches_each_host_and_exactly_one_member_and_never_goes_back(dst: str) -> None:
    bench = Bench(3)
    for _ in range(3):
        lag_port, *hosts = bench.table.forward(arp(bench.client, CLIENT, dst))
        assert lag_port in bench.lag.active
        assert hosts == [bench.other, bench.silent]
        for member in bench.lag.active:
            assert bench.table.forward(arp(member, TEAM, dst)) == list(bench.hosts)
        bench.port(min(bench.lag.active), False)
    assert bench.lag.active == frozenset()
    assert bench.table.forward(arp(bench.client, CLIENT, dst)) == [bench.other, bench.silent]


def test_no_frame_passes_between_members_of_one_lag() -> None:
    bench = Bench(3)
    for conn in CONNECTIONS:
        assert bench.table.forward(segment(conn, 2, STRANGER, TEAM)) == []
    bench.move(CONNECTIONS[0], 1)
    assert bench.table.forward(segment(CONNECTIONS[0], 2, STRANGER, TEAM)) == []


def test_known_hosts_get_their_frames_alone() -> None:
    bench = Bench(3)
    assert bench.table.forward(arp(2, TEAM, CLIENT)) == [bench.client]
    assert bench.table.forward(arp(bench.client, CLIENT, OTHER)) == [bench.other]
    assert bench.table.forward(arp(bench.client, OTHER, CLIENT)) == []  # it is where it came from


def test_frames_that_concern_one_link_only_are_not_forwarded() -> None:
    bench = Bench(3)
    for dst in ("01:80:c2:00:00:00", "01:80:c2:00:00:02", "01:80:c2:00:00:0e"):
        assert bench.table.run(arp(bench.client, CLIENT, dst)) == []
    assert bench.table.run(arp(bench.client, "03:00:00:00:00:01")) == []


def test_only_a_new_source_at_a_port_is_shown_to_the_controller() -> None:
    bench = Bench(3)
    size = len(bench.table.rules)
    for conn in CONNECTIONS:
        assert not bench.table.is_shown_to_controller(segment(conn, bench.client))
        for member in bench.members:  # learned at one member, known at all
            assert not bench.table.is_shown_to_controller(segment(conn, member, TEAM, CLIENT))
    assert len(bench.table.rules) == size
    assert bench.table.is_shown_to_controller(arp(bench.silent, STRANGER))
    assert bench.table.is_shown_to_controller(arp(bench.silent, CLIENT))
    assert bench.table.is_shown_to_controller(arp(1, STRANGER))
    assert bench.switch.learned(bench.client, CLIENT) == []
    assert bench.switch.learned(3, TEAM) == []


def test_a_station_that_moves_is_followed() -> None:
    bench = Bench(3)
    bench.table.apply(bench.switch.learned(bench.silent, CLIENT))
    assert bench.table.forward(arp(2, TEAM, CLIENT)) == [bench.silent]
    assert bench.table.is_shown_to_controller(arp(bench.client, CLIENT))
    bench.table.apply(bench.switch.learned(2, CLIENT))
    assert len(bench.table.forward(arp(bench.other, OTHER, CLIENT))) == 1
    assert bench.table.forward(arp(1, TEAM, CLIENT)) == []
    assert bench.table.rules == bench.switch.rules()


def test_a_dead_host_port_gets_nothing_and_its_station_is_forgotten() -> None:
    bench = Bench(3)
    bench.port(bench.client, False)
    assert CLIENT not in bench.switch.places
    assert bench.table.forward(arp(2, TEAM, CLIENT)) == [bench.other, bench.silent]
    assert bench.switch.learned(bench.client, CLIENT) == []  # a late packet-in
    bench.port(bench.client, True)
    assert bench.client in bench.table.forward(arp(2, TEAM, CLIENT))


def test_after_a_port_died_nothing_leaves_by_it_and_all_come_back_with_it() -> None:
    bench = Bench(4)
    before = [bench.out(conn) for conn in CONNECTIONS]
    bench.port(3, False)
    for conn in CONNECTIONS:
        assert bench.out(conn) == [Lag("", 1, (1, 2, 4)).with_active((1, 2, 4)).port_of(conn)]
    bench.port(3, True)
    assert [bench.out(conn) for conn in CONNECTIONS] == before


def test_a_port_event_that_changes_nothing_sends_nothing() -> None:
    bench = Bench(3)
    bench.port(2, False)
    assert bench.switch.port_changed(2, False) == []
    assert bench.switch.port_changed(bench.client, True) == []


@pytest.mark.parametrize("members", [2, 3, 16])
def test_a_members_death_takes_one_message_a_bucket_and_two_more(members: int) -> None:
    assert len(Bench(members).switch.port_changed(1, False)) == members - 1 + 2


@st.composite
def changes_of_members(draw: st.DrawFn) -> tuple[int, list[tuple[int, bool]]]:
    members = draw(st.integers(1, 6))
    return members, draw(st.lists(st.tuples(st.integers(1, members), st.booleans()), max_size=12))


@given(changes_of_members(), st.lists(st.tuples(st.integers(0, 119), st.integers(1, 6)), max_size=6))
def test_at_every_message_a_connection_leaves_by_its_old_or_its_new_port(
    history: tuple[int, list[tuple[int, bool]]], moves: list[tuple[int, int]]
) -> None:
    members, events = history
    bench = Bench(members)
    probes = list({*CONNECTIONS[::10], *(CONNECTIONS[index] for index, _ in moves)})
    for port, up in events:
        for index, target in moves:
            if target in bench.lag.active:
                bench.move(CONNECTIONS[index], target)
        old = {conn: bench.out(conn) for conn in probes}
        changes = bench.switch.port_changed(port, up)
        new = {conn: [] if (p := bench.lag.port_of(conn)) is None else [p] for conn in probes}
        for change in changes:
            bench.table.apply([change])
            for conn in probes:
                assert bench.out(conn) in (old[conn], new[conn])
        for conn in probes:
            assert bench.out(conn) == new[conn]
            assert set(bench.out(conn)) <= bench.lag.active
        assert bench.table.rules == bench.switch.rules()  # no flow too many, none too few


def test_a_moved_connection_stays_where_it_was_moved_until_that_port_dies() -> None:
    bench = Bench(3)
    conn, target = next((conn, 2) for conn in CONNECTIONS if bench.out(conn) == [3])
    others = {other: bench.out(other) for other in CONNECTIONS if other != conn}
    bench.move(conn, target)
    assert bench.out(conn) == [target]
    assert {other: bench.out(other) for other in others} == others
    assert bench.table.forward(segment(conn, bench.client, dst=STRANGER))[0] == target  # team not learned
    bench.port(1, False)
    assert bench.out(conn) == [target]
    bench.port(1, True)
    assert bench.out(conn) == [target]
    bench.port(target, False)
    assert bench.out(conn) == [bench.lag.port_of(conn)] != [target]
    bench.port(target, True)
    assert bench.out(conn) == [3]  # forgotten, not revived
    bench.move(conn, 1)
    bench.move(conn, 3)
    assert bench.out(conn) == [3]
    assert bench.table.rules == bench.switch.rules()


@pytest.mark.parametrize(
    "conn", [connection("10.0.0.9", 1000, "10.0.0.1", 80), connection("fd00::9", 1000, "fd00::1", 80)]
)
def test_only_that_connection_is_moved(conn: Connection) -> None:
    bench = Bench(5)
    neighbours = [
        conn._replace(sport=1001),
        conn._replace(dport=81),
        conn._replace(src=conn.src[:-1] + "8"),
        conn._replace(dst=conn.dst[:-1] + "2"),
    ]
    for target in bench.members:
        bench.move(conn, target)
        assert bench.out(conn) == [target]
        for other in neighbours:
            assert bench.out(other) == [bench.lag.port_of(other)], other


def test_a_move_to_a_port_that_cannot_carry_it_is_refused() -> None:
    bench = Bench(3)
    bench.port(2, False)
    for port in (2, bench.client, 99):
        with pytest.raises(ValueError, match=f"team0: port {port} is not an active member"):
            bench.move(CONNECTIONS[0], port)
    with pytest.raises(ValueError, match="no LAG 'team9'"):
        bench.switch.moved("team9", CONNECTIONS[0], 1)


def test_a_switch_that_comes_back_gets_everything_with_its_ports_as_they_are_now() -> None:
    bench = Bench(3)
    conn = CONNECTIONS[0]
    bench.move(conn, 2)
    back = FakeTable()
    ports = {1: True, 2: True, 3: False, bench.client: True, bench.other: False}
    back.apply(bench.switch.connected(ports))
    assert back.rules == bench.switch.rules()
    assert bench.switch.places == {TEAM: "team0", CLIENT: bench.client}
    assert bench.lag.buckets == (1, 2)
    assert back.forward(segment(conn, bench.client)) == [2]
    for other in CONNECTIONS[1:]:
        assert back.forward(segment(other, bench.client)) == [bench.lag.port_of(other)]


def test_members_that_are_down_at_the_start_are_not_used() -> None:
    switch, table = Switch("s1", [Lag("team0", 1, (1, 2, 3))]), FakeTable()
    table.apply(switch.connected({1: True, 3: False, 4: True}))  # 2 is not there yet
    assert {tuple(table.forward(segment(conn, 4))) for conn in CONNECTIONS} == {(1,)}
    table.apply(switch.port_changed(2, True))
    assert {tuple(table.forward(segment(conn, 4))) for conn in CONNECTIONS} == {(1,), (2,)}


def test_two_lags_on_one_switch() -> None:
    switch, table = Switch("s1", [Lag("a", 1, (1, 2)), Lag("b", 2, (3, 4, 5))]), FakeTable()
    table.apply(switch.connected(dict.fromkeys(range(1, 8), True)))
    first, second, host = table.forward(arp(6, CLIENT))
    assert (first in (1, 2), second in (3, 4, 5), host) == (True, True, 7)
    member, *hosts = table.forward(arp(1, TEAM))
    assert member in (3, 4, 5)
    assert hosts == [6, 7]
    table.apply(switch.learned(1, TEAM))
    for conn in CONNECTIONS:
        assert table.forward(segment(conn, 4, CLIENT)) == [switch.lags["a"].port_of(conn)]
        assert table.forward(segment(conn, 6)) == [switch.lags["a"].port_of(conn)]
    table.apply(switch.port_changed(4, False))
    assert table.rules == switch.rules()
    assert {table.forward(arp(6, mac))[1] for mac in (f"02:00:00:00:02:{i:02x}" for i in range(40))} == {3, 5}
