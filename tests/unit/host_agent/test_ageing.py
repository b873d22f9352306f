"""Which records go: the idle ones by age, closed ones after their last segments, and room for new ones."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.ageing import LINGER, Aged, give_way, may_be_old, since, too_old
from host_agent.connection import Connection
from host_agent.decision import Record, Stage

SECOND = 10**9
NOW = 1_000_000 * SECOND
ONE, TWO, SIX = (Connection("10.0.0.11", port, "10.0.0.1", 8080) for port in (1, 2, 6))


def quiet(seconds: float, **fields) -> Record:
    """A record whose last frame came so long ago."""
    return Record(1, last_seen=NOW - int(seconds * SECOND), **fields)


def aged(record: Record, active: float | None = None, *, age: float | None = 300, linger: float = 60) -> str:
    """What becomes of one record; active: seconds since its NIC has seen a frame of it."""
    held = {} if active is None else {ONE: NOW - int(active * SECOND)}
    result = too_old([(ONE, record)], held, NOW, age=age, linger=linger)
    return {((ONE,), ()): "remove", ((), (ONE,)): "upload", ((), ()): "stay"}[result.remove, result.upload]


@given(
    st.builds(
        quiet,
        st.one_of(st.sampled_from([9.999, 10, 60, 300]), st.floats(0, 400)),
        offloaded=st.booleans(),
        closing=st.booleans(),
        stage=st.sampled_from(Stage),
    ),
    st.none() | st.floats(0, 400),
    st.sampled_from([10, 60, 300]),
)
def test_what_is_too_old_was_given_out_before(record: Record, active: float | None, age: float) -> None:
    """Most that cannot be too old is not even looked at; nothing that is too old is missed, whatever a NIC says."""
    given_out = may_be_old(record, *since(NOW, age))
    assert given_out or aged(record, active, age=age) == "stay"
    if not record.offloaded and age >= LINGER:  # nobody else has a word
        assert given_out == (aged(record, age=age) == "remove")


@pytest.mark.parametrize(("seconds", "fate"), [(0, "stay"), (299.9, "stay"), (300, "remove"), (9999, "remove")])
def test_a_record_without_frames_for_the_settable_time_is_removed(seconds: float, fate: str) -> None:
    assert aged(quiet(seconds)) == fate
    assert aged(quiet(seconds), age=seconds + 1) == "stay"


def test_without_an_age_idle_records_stay() -> None:
    assert aged(quiet(10**6), age=None) == "stay"
    assert aged(quiet(10**6, closing=True), age=None) == "remove"


@pytest.mark.parametrize("seen", [0, 299.9])
def test_an_offloaded_connection_is_judged_by_its_nics_own_activity(seen: float) -> None:
    """The server sees nothing of it; its own last frame may be hours ago."""
    assert aged(quiet(9999, offloaded=True), active=seen) == "stay"


def test_an_idle_offloaded_connection_goes_to_the_host_before_its_record_may_go() -> None:
    assert aged(quiet(9999, offloaded=True), active=300) == "upload"
    assert aged(quiet(10, offloaded=True), active=300) == "stay"  # a stray came by the server meanwhile


def test_an_offloaded_connection_that_no_nic_speaks_of_stays() -> None:
    """Its NIC may only be slow to answer."""
    assert aged(quiet(9999, offloaded=True)) == "stay"


@pytest.mark.parametrize("offloaded", [False, True])
def test_a_closed_connection_lingers_for_its_last_segments(offloaded: bool) -> None:
    assert aged(quiet(59.9, closing=True, offloaded=offloaded)) == "stay"
    assert aged(quiet(60, closing=True, offloaded=offloaded)) == "remove"
    assert LINGER == 60  # TCP_TIMEWAIT_LEN


def test_an_rst_that_its_owner_did_not_believe_costs_nothing() -> None:
    """Whatever its record says of its end: while a NIC holds it, it ages like any other."""
    assert aged(quiet(9999, closing=True, offloaded=True), active=299) == "stay"
    assert aged(quiet(9999, closing=True, offloaded=True), active=300) == "upload"


@pytest.mark.parametrize("stage", [Stage.HELD, Stage.SILENT])
@pytest.mark.parametrize("fields", [{}, {"closing": True}, {"offloaded": True}])
def test_what_is_on_the_move_neither_ages_nor_gives_way(stage: Stage, fields: dict) -> None:
    record = quiet(9999, stage=stage, **fields)
    assert aged(record, active=9999) == "stay"
    assert give_way([(ONE, record)], 1) == ()


def test_each_is_judged_for_itself() -> None:
    records = [(ONE, quiet(400)), (TWO, quiet(1)), (SIX, quiet(400, offloaded=True))]
    assert too_old(records, {SIX: 0}, NOW, age=300) == Aged(remove=(ONE,), upload=(SIX,))


def test_closed_ones_give_way_first_then_the_quietest_and_offloaded_ones_never() -> None:
    closed, calm, busy = quiet(1, closing=True), quiet(50), quiet(2)
    seven = SIX._replace(sport=7)
    records = [(SIX, quiet(9999, offloaded=True)), (ONE, busy), (TWO, calm), (seven, closed)]
    order = (seven, TWO, ONE)
    assert [give_way(records, n) for n in range(5)] == [order[:n] for n in range(5)]
    assert give_way([(SIX, replace(closed, offloaded=True))], 1) == ()


def test_a_machine_that_has_just_started_has_no_old_record() -> None:
    assert since(60 * 10**9, age=300) == (0, 0)  # the clock has no time below 0, nor has the kernel's question
    assert since(61 * 10**9, age=300) == (0, 10**9)


RECORDS = st.builds(
    Record,
    nic=st.just(0),
    offloaded=st.booleans(),
    stage=st.sampled_from(Stage),
    closing=st.booleans(),
    last_seen=st.integers(0, 9),
)


@given(st.lists(RECORDS, max_size=20), st.integers(0, 30))
def test_as_many_give_way_as_are_asked_for_and_can(drawn: list[Record], room: int) -> None:
    records = {Connection("10.0.0.11", n, "10.0.0.1", 80): record for n, record in enumerate(drawn)}
    able = [r for r in drawn if not r.offloaded and r.stage is Stage.SETTLED]
    gone = [records[c] for c in give_way(records.items(), room)]
    assert len(gone) == min(room, len(able))
    assert all(r in able for r in gone)
