"""What the flows do with frames, on a fake OpenFlow table: forwarding is asserted, never the text of
messages.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.hashing import Connection, connection
from controller.lag import Lag
from controller.switch import Switch
from tests.unit.controller.fake import (
    CLIENT,
    CONNECTIONS,
    EVERYBODY,
    OTHER,
    STRANGER,
    TEAM,
    Bench,
    FakeTable,
    arp,
    segment,
)


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
        dead = min(bench.lag.active)
        bench.link(dead, False)  # known to the switch alone
        if bench.lag.active != {dead}:
            lag_port, *hosts = bench.table.forward(arp(bench.client, CLIENT, dst))
            assert lag_port in bench.lag.active - {dead}
            assert hosts == [bench.other, bench.silent]
        bench.table.apply(bench.switch.port_changed(dead, False))
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
def test_a_members_death_is_in_force_after_one_message_a_bucket_and_one_more(members: int) -> None:
    bench = Bench(members)
    bench.link(1, False)
    bench.table.apply(bench.switch.port_changed(1, False)[:members])
    assert [bench.out(conn) for conn in CONNECTIONS] == [[bench.lag.port_of(conn)] for conn in CONNECTIONS]


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
        bench.link(port, up)
        changes = bench.switch.port_changed(port, up)
        new = {conn: [] if (p := bench.lag.port_of(conn)) is None else [p] for conn in probes}
        for change in changes:
            bench.table.apply([change])
            for conn in probes:
                assert bench.out(conn) in (old[conn], new[conn])
                assert not set(bench.out(conn)) & bench.table.dead
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
