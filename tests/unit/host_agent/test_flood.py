"""What a flood is, by the records, and what is none."""

import time
from dataclasses import replace

import pytest

from host_agent import flood_watch
from host_agent.ageing import give_way
from host_agent.connection import Connection
from host_agent.decision import SYN, Frame, Record, Stage
from host_agent.flood import PATIENCE, WINDOW, Count, Flood, Floods
from host_agent.sweep import TURN
from tests.unit.host_agent.test_sweep import OLD, Sliced, Timers

SECOND = 10**9
NOW = 1000 * SECOND
THEN = NOW - int((PATIENCE + WINDOW / 2) * SECOND)
SYN_ONLY = Record(0, created=THEN, last_seen=THEN, packets=1)


def count(number: int, record: Record = SYN_ONLY, *, port: int = 80, sources: int = 5) -> Count:
    found = Count()
    found.add([(Connection(f"10.0.{n % sources}.1", n, "10.0.0.1", port), record) for n in range(number)], NOW)
    return found


def test_a_flood_begins_goes_on_and_is_over() -> None:
    floods = Floods(100)
    assert floods.judge(count(99)) == ([], [])
    first = Flood(80, 100, 5)
    assert floods.judge(count(100)) == ([first], [])
    assert floods.now == {80: first}
    assert first.fields() == {"port": 80, "records": 100, "per_s": 100 / WINDOW, "sources": 5}
    assert floods.judge(count(500, sources=7)) == ([], [])
    assert floods.now == {80: Flood(80, 500, 7)}
    assert floods.judge(count(50)) == ([], [])
    assert floods.judge(count(49)) == ([], [Flood(80, 50, 5)])
    assert floods.now == {}
    assert floods.judge(Count()) == ([], [])


def test_each_port_by_itself() -> None:
    floods, both = Floods(100), Count()
    for port in (80, 443):
        both.records[port], both.sources[port] = 99 + port // 443, {"10.0.0.1"}
    assert floods.judge(both) == ([Flood(443, 100, 1)], [])
    assert floods.judge(Count())[1] == [Flood(443, 100, 1)]


@pytest.mark.parametrize(
    "record",
    [
        replace(SYN_ONLY, packets=2),  # its peer has answered
        replace(SYN_ONLY, offloaded=True),
        replace(SYN_ONLY, stage=Stage.HELD),
        replace(SYN_ONLY, created=NOW - int(0.9 * PATIENCE * SECOND)),  # it may still go on
        replace(SYN_ONLY, created=NOW - int((1.1 * WINDOW + PATIENCE) * SECOND)),  # that is long ago
    ],
)
def test_these_are_no_sign_of_a_flood(record: Record) -> None:
    assert count(1000, record).records == {}


def test_it_looks_when_many_frames_had_no_record_and_for_as_long_as_it_takes_to_judge_them() -> None:
    floods = Floods(100)
    assert not floods.worth_a_look(49, 0.5, 10.0)
    assert floods.worth_a_look(50, 0.5, 10.0)
    assert floods.worth_a_look(0, 0.5, 9.9 + PATIENCE + WINDOW)
    assert not floods.worth_a_look(0, 0.5, 10.1 + PATIENCE + WINDOW)


def test_it_looks_on_while_there_is_a_flood() -> None:
    floods = Floods(100)
    floods.judge(count(1000))
    assert floods.worth_a_look(0, 0.5, 1e9)


def test_records_of_a_flood_give_way_before_those_that_are_alive_and_offloaded_ones_never() -> None:
    alive = Connection("10.0.0.11", 1, "10.0.0.1", 80)
    records = [(alive._replace(sport=n), SYN_ONLY) for n in range(100, 200)]
    records += [(alive, Record(0, last_seen=1, packets=9)), (alive._replace(sport=2), Record(0, offloaded=True))]
    records += [(alive._replace(sport=3), Record(0, closing=True, last_seen=NOW, packets=9))]
    chosen = give_way(records, 101)
    assert chosen[0] == alive._replace(sport=3)
    assert set(chosen[1:]) == {connection for connection, record in records if record is SYN_ONLY}
    assert give_way(records, 1000)[101:] == (alive,)


def test_a_look_takes_a_slice_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, records = Timers(), Sliced()
    monkeypatch.setattr(flood_watch, "emit", lambda *_, **__: None)
    watch = flood_watch.FloodWatch("agent", loop, records, 1, 1.0)  # type: ignore[arg-type]
    for connection in OLD:
        records.arrive(connection, Frame(0, 60, SYN), time.monotonic_ns() - SECOND)
    turns = [loop.turn() for _ in range(4)]
    assert turns[1:] == [TURN] * 3
    assert watch.floods.now[80].records == len(OLD)
