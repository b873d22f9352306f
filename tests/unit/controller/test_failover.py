"""What the switch does by itself when a port dies, what the controller makes of it afterwards, and what a
controller that is started anew makes of the flows it finds. On the fake switch.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.lag import Lag
from controller.pipeline import BUCKET
from controller.policies import POLICIES
from controller.rebalance import REBALANCE, moved_share
from controller.switch import Switch, Timing
from tests.unit.controller.fake import CLIENT, CONNECTIONS, TEAM, Bench, FakeTable, segment

PROBES = CONNECTIONS[::4]
MODES = list(REBALANCE)


def outs(bench: Bench) -> list[list[int]]:
    return [bench.out(conn) for conn in PROBES]


def again(bench: Bench, table: FakeTable, now: float = 0.0, ports: dict[int, bool] | None = None) -> Bench:
    """A controller started anew meets that table; what it sends is applied."""
    new = Bench(len(bench.members), learn=False)
    old = bench.lag
    first = Lag("team0", 1, bench.members, rebalance=new.lag.rebalance)
    new.switch = Switch("s1", [first], bench.switch.timing)
    assert old.name == first.name
    new.table = table
    table.apply(new.switch.connected(ports or bench.switch.ports, dict(table.rules), now))
    return new


@pytest.mark.parametrize("rebalance", MODES)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("members", [2, 3, 8])
def test_each_connection_of_a_dead_port_moves_once_and_the_switch_moves_it(
    members: int, policy: str, rebalance: str
) -> None:
    bench = Bench(members, policy=policy, rebalance=rebalance)
    before = outs(bench)
    bench.link(2, False)  # the controller does not know yet
    alone = outs(bench)
    for was, out in zip(before, alone, strict=True):
        assert out == was if was != [2] else out != [2] and len(out) == 1
    old = bench.lag
    bench.table.apply(bench.switch.port_changed(2, False))
    after = outs(bench)
    for was, out, final in zip(before, alone, after, strict=True):
        if was == [2]:
            assert final == out
        elif rebalance != "modulo":
            assert final == was
    moved, had_to = moved_share(old.buckets, bench.lag.buckets)
    if rebalance == "modulo" and members > 2:
        assert moved > had_to
    else:
        assert moved == had_to


@pytest.mark.parametrize("rebalance", MODES)
def test_any_number_of_dead_ports_is_survived_with_no_controller(rebalance: str) -> None:
    bench = Bench(5, rebalance=rebalance)
    bench.move(PROBES[0], 3)
    for port in (3, 1, 5, 2):
        bench.link(port, False)
        for out in outs(bench):
            assert len(out) == 1
            assert out[0] not in bench.table.dead
    bench.link(4, False)
    assert outs(bench) == [[] for _ in PROBES]


@pytest.mark.parametrize("rebalance", MODES)
def test_a_moved_connection_goes_where_the_hash_will_send_it(rebalance: str) -> None:
    for own in (1, 2, 3):  # by hash; 1 is where it is moved to
        bench = Bench(3, rebalance=rebalance)
        conn = next(conn for conn in PROBES if bench.out(conn) == [own])
        bench.move(conn, 1)
        bench.link(1, False)
        alone = bench.out(conn)
        bench.table.apply(bench.switch.port_changed(1, False))
        assert bench.out(conn) == alone == [bench.lag.port_of(conn)]
    with pytest.raises(ValueError, match="not an active member"):
        bench.move(conn, 1)


def test_down_delay_holds_back_the_re_enumeration_not_the_switch() -> None:
    bench = Bench(3, timing=Timing(downdelay_s=1.0))
    before = outs(bench)
    bench.port(2, False, now=10.0)
    for was, out in zip(before, outs(bench), strict=True):
        assert out == was if was != [2] else out != [2]
    assert bench.lag.active == {1, 2, 3}
    with pytest.raises(ValueError, match="port 2 is down"):
        bench.move(PROBES[0], 2)
    bench.port(2, True, now=10.5)
    bench.tick(20.0)
    assert outs(bench) == before
    bench.port(2, False, now=30.0)
    assert bench.switch.due() == 31.0
    bench.tick(31.0)
    assert bench.lag.active == {1, 3}
    assert bench.table.rules == bench.switch.rules()


def test_up_delay_holds_a_member_back_unless_nobody_else_is_there() -> None:
    bench = Bench(2, timing=Timing(updelay_s=5.0))
    bench.port(1, False, now=1.0)
    bench.port(1, True, now=2.0)
    assert (bench.lag.active, bench.switch.held()) == ({2}, [1])
    bench.tick(6.9)
    assert bench.lag.active == {2}
    bench.tick(7.0)
    assert bench.lag.active == {1, 2}
    bench.port(1, False, now=8.0)
    bench.port(2, False, now=8.0)
    bench.port(2, True, now=9.0)
    assert bench.lag.active == {2}


@pytest.mark.parametrize("met_again", [False, True])
def test_a_member_that_waits_waits_no_longer_once_nobody_else_is_left(met_again: bool) -> None:
    bench = Bench(2, timing=Timing(updelay_s=5.0))
    bench.port(1, False, now=1.0)
    bench.port(1, True, now=2.0)
    if met_again:
        bench.table.apply(bench.switch.connected({**bench.switch.ports, 2: False}, dict(bench.table.rules), 3.0))
    else:
        bench.port(2, False, now=3.0)
    assert (bench.lag.active, bench.switch.held(), bench.switch.due()) == ({1}, [], None)


def test_where_too_few_are_left_those_that_wait_are_let_in() -> None:
    switch = Switch("s1", [Lag("team0", 1, (1, 2, 3), min_links=2)], Timing(updelay_s=5.0, downdelay_s=1.0))
    switch.connected({1: True, 2: True, 3: True})
    switch.port_changed(1, False, 1.0)
    switch.tick(2.0)
    switch.port_changed(1, True, 3.0)
    switch.port_changed(2, False, 4.0)
    assert (switch.lags["team0"].active, switch.held()) == ({2, 3}, [1, 2])
    switch.tick(5.0)
    assert (switch.lags["team0"].active, switch.held()) == ({1, 3}, [])


def test_a_resilient_lag_fills_a_returned_member_slowly() -> None:
    bench = Bench(3, rebalance="resilient", timing=Timing(fill_s=0.5))
    bench.port(2, False, now=1.0)
    before = outs(bench)
    bench.port(2, True, now=2.0)
    assert outs(bench) == before
    now, steps = 2.0, 0
    while (due := bench.switch.due()) is not None:
        assert due == pytest.approx(now + 0.5)
        now, steps = due, steps + 1
        old = bench.lag.buckets
        bench.tick(now)
        assert sum(a != b for a, b in zip(old, bench.lag.buckets, strict=True)) == 1
        assert bench.table.rules == bench.switch.rules()
    assert steps == len(bench.lag.buckets) // 3
    assert {bench.lag.buckets.count(port) for port in bench.members} == {len(bench.lag.buckets) // 3}
    assert {port for (port,) in outs(bench)} == {1, 2, 3}


def test_a_new_controller_goes_on_filling_up() -> None:
    bench = Bench(3, rebalance="resilient", timing=Timing(fill_s=0.5))
    for up in (False, True):
        bench.port(2, up, now=1.0)
    bench.tick(1.5)
    assert bench.lag.buckets.count(2) == 1
    anew = again(bench, bench.table, 1.7)
    assert anew.lag.buckets == bench.lag.buckets
    while (due := anew.switch.due()) is not None:
        anew.tick(due)
    assert len({anew.lag.buckets.count(port) for port in anew.members}) == 1


def test_a_new_controller_ends_what_one_that_died_between_two_messages_had_begun() -> None:
    bench = Bench(3, rebalance="rendezvous")
    bench.port(2, False)
    bench.table.dead = set()
    changes = bench.switch.port_changed(2, True)
    buckets = [change for change in changes if change.key.table == BUCKET]
    bench.table.apply(buckets[: len(buckets) // 2])
    anew = again(bench, bench.table)
    assert anew.lag.buckets == bench.lag.buckets
    assert anew.table.rules == bench.switch.rules()


def test_a_connection_lost_and_found_does_not_shorten_the_up_delay() -> None:
    bench = Bench(3, timing=Timing(updelay_s=5.0))
    bench.port(2, False, now=1.0)
    bench.port(2, True, now=2.0)
    bench.table.apply(bench.switch.connected(bench.switch.ports, dict(bench.table.rules), 3.0))
    assert bench.lag.active == {1, 3}
    bench.tick(8.0)
    assert bench.lag.active == {1, 2, 3}


@pytest.mark.parametrize("rebalance", MODES)
def test_a_member_taken_out_carries_nothing_until_it_is_back(rebalance: str) -> None:
    bench = Bench(3, rebalance=rebalance, timing=Timing(fill_s=0.0))
    before = outs(bench)
    bench.table.apply(bench.switch.drained("team0", 2, True))
    for was, out in zip(before, outs(bench), strict=True):
        assert out != [2]
        assert rebalance == "modulo" or out == was or was == [2]
    bench.port(2, False)
    bench.port(2, True)
    assert bench.lag.active == {1, 3}
    bench.table.apply(bench.switch.drained("team0", 1, True))
    with pytest.raises(ValueError, match="last active member"):
        bench.switch.drained("team0", 3, True)
    for port, says in ((9, "not a member"), (bench.client, "not a member")):
        with pytest.raises(ValueError, match=says):
            bench.switch.drained("team0", port, True)
    for port in (1, 2):
        bench.table.apply(bench.switch.drained("team0", port, False))
    while bench.switch.due() is not None:
        bench.tick(1.0)
    assert bench.table.rules == bench.switch.rules()
    if rebalance != "resilient":
        assert outs(bench) == before


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("port"), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("drain"), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("set"), st.sampled_from(list(POLICIES)), st.integers(0, 9)),
        st.tuples(st.just("mode"), st.sampled_from(MODES), st.none()),
        st.tuples(st.just("move"), st.integers(0, len(PROBES) - 1), st.integers(1, 4)),
        st.tuples(st.just("tick"), st.none(), st.none()),
    ),
    max_size=8,
)


@settings(max_examples=60)
@given(st.sampled_from(MODES), STEPS)
def test_whatever_happened_a_new_controller_finds_all_and_changes_nothing(mode: str, steps: list[tuple]) -> None:
    bench = Bench(4, rebalance=mode)
    now = 0.0
    for step in steps:
        now += 1.0
        old = {conn: bench.out(conn) for conn in PROBES}
        match step:
            case ("port", port, up):
                bench.link(port, up)
                changes = bench.switch.port_changed(port, up, now)
            case ("drain", port, out):
                if out and bench.lag.active <= {port}:
                    continue
                changes = bench.switch.drained("team0", port, out, now)
            case ("set", policy, seed):
                changes = bench.switch.changed("team0", seed, policy, now=now)
            case ("mode", rebalance, _):
                changes = bench.switch.changed("team0", rebalance=rebalance, now=now)
            case ("move", index, port):
                if port not in bench.lag.active:
                    continue
                changes = bench.switch.moved("team0", PROBES[index], port)
            case _:
                changes = bench.switch.tick(now)
        new = FakeTable()
        new.dead = bench.table.dead
        new.rules = dict(bench.switch.rules())
        final = {conn: new.forward(segment(conn, bench.client)) for conn in PROBES}
        for change in changes:
            bench.table.apply([change])
            for conn in PROBES[::3]:
                assert bench.out(conn) in (old[conn], final[conn])
        assert bench.table.rules == bench.switch.rules()
    rules = dict(bench.table.rules)
    anew = again(bench, bench.table, now)
    if bench.lag.active:
        assert anew.table.rules == rules
        assert anew.lag == bench.lag
    assert anew.switch.places == bench.switch.places


def test_a_new_controller_brings_in_line_what_changed_meanwhile() -> None:
    bench = Bench(3, rebalance="resilient")
    bench.switch.timing = Timing(updelay_s=3.0)
    bench.port(3, False)
    before = outs(bench)
    anew = again(bench, bench.table, 10.0, {**bench.switch.ports, 3: True, bench.other: False})
    assert anew.lag.active == {1, 2}
    assert outs(anew) == before
    assert anew.switch.held() == [3]
    anew.tick(13.0)
    assert anew.lag.active == {1, 2, 3}
    assert anew.switch.places == {TEAM: "team0", CLIENT: anew.client}


def test_a_switch_that_lost_all_its_flows_gets_the_same_map() -> None:
    for mode in MODES:
        bench = Bench(3, rebalance=mode)
        for up in (False, True):
            bench.port(2, up)
        bench.move(PROBES[0], 1)
        before = outs(bench)
        bench.table.rules = {}
        bench.table.apply(bench.switch.connected(bench.switch.ports, None, 5.0))
        assert outs(bench) == before
        assert bench.table.rules == bench.switch.rules()


def test_moved_connections_stay_moved_whatever_is_set() -> None:
    bench = Bench(3)
    conn = next(conn for conn in PROBES if bench.out(conn) == [3])
    bench.move(conn, 1)
    for change in ({"seed": 5}, {"policy": "src-ip"}, {"rebalance": "resilient"}, {"rebalance": "modulo"}):
        bench.table.apply(bench.switch.changed("team0", **change))
        assert bench.out(conn) == [1]
