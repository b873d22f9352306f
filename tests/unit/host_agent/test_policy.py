"""What the agent does about strays and dead links: decided from records, team and history alone."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.connection import Connection
from host_agent.decision import Record, Stage
from host_agent.policy import (
    FAULT_WINDOW,
    HOLD_DOWN,
    FaultPlan,
    History,
    OffloadPolicy,
    guess,
    on_link_down,
    should_reload,
)
from host_agent.records import NEVER

NOW = 1000.0
STRAY = Record(1, offloaded=True, epoch=3)


def connection(n: int) -> Connection:
    return Connection("10.0.0.11", 40000 + n, "10.0.0.1", 8080)


def test_a_stray_is_the_switchs_new_choice() -> None:
    assert should_reload(STRAY, arrived=2, epoch=3, history=History(), now=NOW)


@pytest.mark.parametrize("epoch", [2, 4])
def test_a_report_of_another_epoch_is_old(epoch: int) -> None:
    assert not should_reload(STRAY, arrived=2, epoch=epoch, history=History(), now=NOW)


@pytest.mark.parametrize(
    "record",
    [
        Record(1, offloaded=True, epoch=3, stage=Stage.HELD),
        Record(1, offloaded=True, epoch=3, stage=Stage.SILENT),
        Record(1, offloaded=False, epoch=3),
        Record(2, offloaded=True, epoch=3),
    ],
    ids=["held", "silent", "not offloaded", "there already"],
)
def test_what_is_moving_or_need_not_move_is_left_alone(record: Record) -> None:
    assert not should_reload(record, arrived=2, epoch=3, history=History(), now=NOW)


def test_late_frames_by_the_nic_it_just_left_are_no_new_choice() -> None:
    history = History(left={2: NOW - HOLD_DOWN + 0.001, 0: NOW - HOLD_DOWN - 0.001})
    assert not should_reload(STRAY, arrived=2, epoch=3, history=history, now=NOW)
    assert should_reload(STRAY, arrived=2, epoch=3, history=history, now=NOW + 0.002)
    assert should_reload(STRAY, arrived=0, epoch=3, history=history, now=NOW)
    assert should_reload(STRAY, arrived=3, epoch=3, history=history, now=NOW)


def test_in_flight_is_lost_for_a_while_after_a_fault() -> None:
    assert not History().in_flight_is_lost(NOW)
    assert History(fault=NOW).in_flight_is_lost(NOW + FAULT_WINDOW - 0.001)
    assert not History(fault=NOW).in_flight_is_lost(NOW + FAULT_WINDOW)


def test_threshold() -> None:
    assert OffloadPolicy(65536).threshold == 65536
    assert OffloadPolicy(0).threshold == 0
    assert OffloadPolicy(None).threshold == NEVER


def test_guess_takes_the_least_loaded_survivor() -> None:
    assert guess([0, 1, 2], {0: 5, 1: 1, 2: 3}, avoid=1) == 2
    assert guess([0, 1, 2], {0: 5}, avoid=3) == 1
    assert guess([2, 1, 0], {}, avoid=0) == 1  # the same every time
    assert guess([0], {}, avoid=0) is None
    assert guess([], {}, avoid=0) is None


def test_a_dead_link_removes_what_the_host_holds_and_reloads_what_was_offloaded() -> None:
    records = [
        (connection(0), Record(1)),
        (connection(1), Record(1, offloaded=True)),
        (connection(2), Record(0, offloaded=True)),
        (connection(3), Record(0)),
        (connection(4), Record(1, offloaded=True, stage=Stage.HELD)),
        (connection(5), Record(1, stage=Stage.SILENT)),
    ]
    plan = on_link_down(1, (0, 2), records)
    assert plan == FaultPlan(remove=(connection(0),), reload=((connection(1), 2),), stranded=())


def test_without_a_survivor_they_are_stranded_where_they_are() -> None:
    records = [(connection(0), Record(1)), (connection(1), Record(1, offloaded=True))]
    assert on_link_down(1, (), records) == FaultPlan((connection(0),), (), (connection(1),))
    assert on_link_down(1, (1,), records) == FaultPlan((connection(0),), (), (connection(1),))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from(Stage)), max_size=60),
    st.integers(0, 3),
    st.sets(st.integers(0, 3)),
)
def test_every_connection_of_the_nic_has_one_fate_and_survivors_share_the_load(drawn, failed, alive) -> None:
    records = {connection(n): Record(nic, offloaded, stage) for n, (nic, offloaded, stage) in enumerate(drawn)}
    live = tuple(sorted(alive - {failed}))
    plan = on_link_down(failed, live, records.items())
    mine = {c for c, r in records.items() if r.nic == failed and r.stage is Stage.SETTLED}
    fates = [*plan.remove, *(c for c, _ in plan.reload), *plan.stranded]
    assert Counter(fates) == Counter(mine)
    assert set(plan.remove) == {c for c in mine if not records[c].offloaded}
    assert {target for _, target in plan.reload} <= set(live)
    assert bool(plan.stranded) <= (not live)
    before = Counter(r.nic for r in records.values() if r.offloaded and r.nic in live)
    after = before + Counter(target for _, target in plan.reload)
    for target in {t for _, t in plan.reload}:  # none was given one that another could have taken with less
        assert all(after[target] - after[other] <= 1 for other in live)
