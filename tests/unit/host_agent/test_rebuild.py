"""What a restarted agent makes of records and engines, wherever the earlier one died."""

import pytest

from host_agent.connection import Connection
from host_agent.decision import Record, Stage
from host_agent.policy import HOST
from host_agent.rebuild import Compared, compare, rebuild

ONE = Connection("10.0.0.11", 40000, "10.0.0.1", 8080)


def at(place: int, stage: Stage = Stage.SETTLED, **fields) -> Record:
    return Record(1 if place == HOST else place, offloaded=place != HOST, stage=stage, epoch=4, packets=9, **fields)


@pytest.mark.parametrize("place", [HOST, 2])
def test_nothing_changes_for_a_connection_at_rest(place: int) -> None:
    found = rebuild([(ONE, at(place))], {place: {ONE: "live"}})
    assert found.records == {ONE: at(place)}
    assert found.join == ([] if place == HOST else [(2, ONE)])
    assert not (found.discard)
    assert not (found.thaw)
    assert not (found.lost)
    assert not (found.closing)


@pytest.mark.parametrize("source", [HOST, 1])
def test_died_before_the_new_engine_had_it(source: int) -> None:
    """The old one has it frozen: it goes on there."""
    found = rebuild([(ONE, at(source, Stage.HELD))], {source: {ONE: "frozen"}})
    assert found.thaw == [(source, ONE)]
    assert found.records == {ONE: at(source)}
    assert not (found.discard)
    assert not (found.lost)


@pytest.mark.parametrize(("source", "target"), [(HOST, 2), (1, 2), (1, HOST)])
def test_died_after_the_new_engine_had_it(source: int, target: int) -> None:
    """It lives there; the record follows, and the old engine forgets."""
    found = rebuild([(ONE, at(source, Stage.HELD))], {source: {ONE: "frozen"}, target: {ONE: "live"}})
    assert found.discard == [(source, ONE)]
    record = found.records[ONE]
    assert (record.offloaded, record.stage) == (target != HOST, Stage.SETTLED)
    assert target == HOST or record.nic == target
    assert found.join == ([] if target == HOST else [(target, ONE)])
    assert not (found.thaw)
    assert not (found.lost)


def test_held_by_nobody_it_is_lost() -> None:
    assert rebuild([(ONE, at(2))], {HOST: {}, 2: {}}).lost == [(ONE, at(2))]


def test_what_had_ended_there_is_not_lost_but_over() -> None:
    found = rebuild([(ONE, at(2, closing=True))], {HOST: {}})
    assert (found.over, found.lost, found.closing) == ([ONE], [], [])


def test_what_the_host_does_not_know_yet_keeps_its_record() -> None:
    """It may be on its way to be accepted."""
    found = rebuild([(ONE, at(HOST))], {HOST: {}})
    assert not (found.lost)
    assert not (found.records)
    held = rebuild([(ONE, at(HOST, Stage.HELD))], {HOST: {}})
    assert held.records == {ONE: at(HOST)}


def test_an_offloaded_connection_without_a_record_gets_one() -> None:
    found = rebuild([], {2: {ONE: "live"}, HOST: {ONE._replace(sport=1): "live"}})
    assert found.records == {ONE: Record(2, offloaded=True)}


def test_what_has_ended_is_kept_where_it_ended() -> None:
    found = rebuild([(ONE, at(2))], {2: {ONE: "closing"}})
    assert found.closing == [ONE]
    assert found.records == {ONE: at(2)}
    assert not found.join


@pytest.mark.parametrize(
    ("place", "record", "state", "told"),
    [
        (2, at(2), "live", Compared(release=[ONE])),  # the last time it was told may have been lost
        (2, at(2), "frozen", Compared(thaw=[ONE])),
        (2, at(2), "closing", Compared(closing=[ONE])),
        (2, at(2), None, Compared(lost=[(ONE, at(2))])),
        (2, at(2, closing=True), None, Compared()),
        (2, at(1), None, Compared()),
        (2, at(1), "frozen", Compared(discard=[ONE])),
        (2, at(1), "live", Compared(invalidate=[ONE])),
        (2, at(1), "closing", Compared()),
        (2, at(HOST), "frozen", Compared(discard=[ONE])),
        (2, None, "live", Compared(invalidate=[ONE])),  # it was lost, as far as anybody knows
        (2, None, "frozen", Compared(invalidate=[ONE])),
        (2, None, "closing", Compared()),
        (HOST, at(HOST), "live", Compared(accepted=[ONE])),
        (HOST, None, "live", Compared(accepted=[ONE])),
        (HOST, None, "frozen", Compared(invalidate=[ONE])),
        (HOST, None, "closing", Compared(closing=[ONE])),  # ended before anybody heard of it
        (HOST, at(HOST), "closing", Compared(closing=[ONE])),
        (HOST, at(HOST), "frozen", Compared(thaw=[ONE])),
        (HOST, at(HOST), None, Compared()),  # it may be on its way to be accepted
        (HOST, at(2), "frozen", Compared(discard=[ONE])),
        (HOST, at(2), None, Compared()),
    ],
)
def test_an_engine_met_again(place: int, record: Record | None, state: str | None, told: Compared) -> None:
    held = {ONE: state} if state else {}
    records = [(ONE, record)] if record else []
    assert compare(place, held, records, ()) == told
    assert compare(place, held, records, {ONE}) == Compared(), "what is moving has its own way to an end"
