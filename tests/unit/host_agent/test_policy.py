"""What the agent does about strays and dead links: decided from records, team and history alone."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.connection import Connection
from host_agent.decision import Fins, Record, Stage
from host_agent.policy import (
    FAULT_WINDOW,
    HOLD_DOWN,
    HOST,
    RECOVERY,
    SEEN_FOR,
    Choice,
    Chooser,
    Evidence,
    History,
    OnFault,
    Plan,
    Seen,
    Walk,
    load_of,
    on_adapter_failure,
    on_link_down,
    on_link_up,
    on_remove,
    should_reload,
    threshold,
)
from host_agent.records import NEVER

NOW = 1000.0
STRAY = Record(1, offloaded=True, epoch=3)


def connection(n: int) -> Connection:
    return Connection("10.0.0.11", 40000 + n, "10.0.0.1", 8080)


def reload(record: Record = STRAY, *, history: History | None = None, now: float = NOW, active=(0, 1, 2, 3), **found):
    evidence = Evidence(**{"nic": 2, "epoch": 3} | found)
    return should_reload(record, evidence, history or History(), active, now)


def test_a_stray_is_the_switchs_new_choice() -> None:
    assert reload()


@pytest.mark.parametrize("epoch", [2, 4])
def test_a_report_of_another_epoch_is_old(epoch: int) -> None:
    assert not reload(epoch=epoch)


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
    assert not reload(record)


def test_what_a_dead_link_has_just_moved_recovers_first() -> None:
    history = History(fault=NOW)
    assert not reload(history=history, now=NOW + RECOVERY - 0.001)
    assert reload(history=history, now=NOW + RECOVERY + 0.001)


def test_late_frames_by_the_nic_it_just_left_are_no_new_choice() -> None:
    history = History(left={2: NOW - HOLD_DOWN + 0.001, 0: NOW - HOLD_DOWN - 0.001})
    assert not reload(nic=2, history=history, now=NOW)
    assert reload(nic=2, history=history, now=NOW + 0.002)
    assert reload(nic=0, history=history, now=NOW)
    assert reload(nic=3, history=history, now=NOW)


def test_a_nic_that_is_no_active_member_is_no_choice() -> None:
    """It may be on its way out of the team; its frames are forwarded."""
    assert not reload(active=(0, 1, 3))


@pytest.mark.parametrize(
    ("seq", "length", "ack", "counts"),
    [
        (5000, 0, 100, True),  # just what is expected next
        (5000, 1448, 100, True),
        (4000, 999, 100, False),  # ends before what had been received: an old segment
        (4000, 1448, 100, True),  # partly new
        (5000, 0, 99, False),  # acknowledges less than was acknowledged
        (5000, 0, 5000, True),
        (4, 0, 100, False),
    ],
)
def test_an_old_segment_is_no_evidence(seq: int, length: int, ack: int, counts: bool) -> None:
    history = History(seen=Seen(snd_una=100, rcv_nxt=5000, at=NOW - SEEN_FOR + 0.1))
    assert reload(history=history, seq=seq, length=length, ack=ack) is counts
    assert reload(history=history, seq=seq, length=length, ack=ack, now=NOW + 0.2)  # too long ago to tell


def test_old_and_new_are_told_apart_where_numbers_wrap() -> None:
    history = History(seen=Seen(snd_una=2**32 - 10, rcv_nxt=2**32 - 10, at=NOW))
    assert reload(history=history, seq=5, ack=5)
    assert not reload(history=history, seq=2**32 - 30, length=19, ack=5)


def test_in_flight_is_lost_for_a_while_after_a_fault() -> None:
    assert not History().in_flight_is_lost(NOW)
    assert History(fault=NOW).in_flight_is_lost(NOW + FAULT_WINDOW - 0.001)
    assert not History(fault=NOW).in_flight_is_lost(NOW + FAULT_WINDOW)


def test_threshold() -> None:
    assert (threshold(65536), threshold(0), threshold(None)) == (65536, 0, NEVER)


def pick(choice: Choice, candidates, load=None, n: int = 0) -> int | None:
    return Chooser(choice).pick(candidates, load or {}, connection(n))


def test_least_loaded() -> None:
    assert pick(Choice.LEAST_LOADED, [0, 2], {0: 5, 1: 1, 2: 3}) == 2
    assert pick(Choice.LEAST_LOADED, [2, 1], {}) == 1  # the same every time


def test_round_robin() -> None:
    chooser = Chooser(Choice.ROUND_ROBIN)
    assert [chooser.pick([0, 1, 3], {}, connection(0)) for _ in range(5)] == [0, 1, 3, 0, 1]
    assert chooser.pick([0, 3], {}, connection(0)) == 3


def test_by_hash_one_connection_has_one_nic_and_all_nics_have_connections() -> None:
    assert len({pick(Choice.BY_HASH, [0, 1, 2], n=7) for _ in range(10)}) == 1
    assert {pick(Choice.BY_HASH, [0, 1, 2], n=n) for n in range(50)} == {0, 1, 2}


@pytest.mark.parametrize("choice", Choice)
def test_nobody_to_choose(choice: Choice) -> None:
    assert pick(choice, []) is None


def down(failed: int, active, records, on_fault: OnFault = OnFault.RELOAD) -> Walk:
    return on_link_down(failed, active, records, on_fault, Chooser(Choice.LEAST_LOADED))


def mixed() -> list[tuple[Connection, Record]]:
    return [
        (connection(0), Record(1)),
        (connection(1), Record(1, offloaded=True)),
        (connection(2), Record(0, offloaded=True)),
        (connection(3), Record(0)),
        (connection(4), Record(1, offloaded=True, stage=Stage.HELD)),
        (connection(5), Record(1, stage=Stage.SILENT)),
    ]


@pytest.mark.parametrize("fins", [Fins.PEER, Fins.HOST])
@pytest.mark.parametrize(
    "walk",
    [
        lambda records: on_link_down(1, (0, 2), records, OnFault.RELOAD, Chooser(Choice.LEAST_LOADED)),
        lambda records: on_adapter_failure(1, records),
        lambda records: on_remove(1, (0, 2), records, Chooser(Choice.LEAST_LOADED)),
    ],
)
def test_a_record_that_knows_of_an_end_survives_its_nic(walk, fins: Fins) -> None:
    """A new one would not, and let the host's late RST out to a peer that has closed in good order."""
    open_, ended = connection(1), connection(2)
    assert walk([(open_, Record(1)), (ended, Record(1, fins=fins))]).remove == [open_]


def test_a_dead_link_removes_what_the_host_holds_and_reloads_what_was_offloaded() -> None:
    plan = Plan(connection(1), 1, 2, "link_down", resend=True, fallbacks=(0, HOST), record=mixed()[1][1])
    assert down(1, (0, 2), mixed()) == Walk(remove=[connection(0)], moves=[plan])


@pytest.mark.parametrize("on_fault", [OnFault.UPLOAD, OnFault.ON_FIRST_PACKET])
def test_by_policy_it_uploads_what_was_offloaded(on_fault: OnFault) -> None:
    plan = Plan(connection(1), 1, HOST, "link_down", resend=True, record=mixed()[1][1])
    assert down(1, (0, 2), mixed(), on_fault) == Walk(remove=[connection(0)], moves=[plan])
    assert down(1, (), mixed(), on_fault).moves == [plan]  # the host can wait for a link


def test_without_a_survivor_they_are_stranded_where_they_are() -> None:
    assert down(1, (), mixed()) == Walk(remove=[connection(0)], stranded=[connection(1)])
    assert down(1, (1,), mixed()) == Walk(remove=[connection(0)], stranded=[connection(1)])


def test_an_adapter_failure_loses_what_it_held_and_nothing_else() -> None:
    walk = on_adapter_failure(1, mixed())
    assert walk == Walk(remove=[connection(0)], lost=[connection(1)])


def up(returned: int, active, records, *, rebalance: bool = False) -> Walk:
    return on_link_up(returned, active, records, rebalance=rebalance, chooser=Chooser(Choice.LEAST_LOADED))


def test_a_link_that_returns_takes_up_the_stranded() -> None:
    stranded = [(connection(0), Record(1, offloaded=True)), (connection(1), Record(2, offloaded=True))]
    walk = up(2, (2,), stranded)
    assert walk.moves == [Plan(connection(0), 1, 2, "link_up", resend=True, fallbacks=(HOST,), record=stranded[0][1])]


def test_without_rebalance_a_returned_link_gets_nothing() -> None:
    assert up(0, (0, 1), [(connection(n), Record(1, offloaded=True)) for n in range(4)]) == Walk()


def test_with_rebalance_a_returned_link_gets_its_share() -> None:
    records = [(connection(n), Record(1 + n % 2, offloaded=True)) for n in range(9)]
    walk = up(0, (0, 1, 2), records, rebalance=True)
    assert Counter(plan.source for plan in walk.moves) == {1: 2, 2: 1}
    assert all((plan.target, plan.resend) == (0, False) for plan in walk.moves)


def test_a_nic_that_leaves_is_drained_first() -> None:
    chooser = Chooser(Choice.LEAST_LOADED)
    walk = on_remove(1, (0, 2), mixed(), chooser)
    drained = Plan(connection(1), 1, 2, "drain", fallbacks=(0, HOST), record=mixed()[1][1])
    assert walk == Walk(remove=[connection(0)], moves=[drained])
    assert on_remove(1, (), mixed(), chooser).moves == [Plan(connection(1), 1, HOST, "drain")]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from(Stage)), max_size=60),
    st.integers(0, 3),
    st.sets(st.integers(0, 3)),
)
def test_every_connection_of_the_nic_has_one_fate_and_survivors_share_the_load(drawn, failed, alive) -> None:
    records = {connection(n): Record(nic, offloaded, stage) for n, (nic, offloaded, stage) in enumerate(drawn)}
    active = tuple(sorted(alive - {failed}))
    walk = down(failed, active, list(records.items()))
    mine = {c for c, r in records.items() if r.nic == failed and r.stage is Stage.SETTLED}
    targets = [plan.target for plan in walk.moves]
    fates = [*walk.remove, *(plan.connection for plan in walk.moves), *walk.stranded]
    assert Counter(fates) == Counter(mine)
    assert set(walk.remove) == {c for c in mine if not records[c].offloaded}
    assert set(targets) <= set(active)
    assert bool(walk.stranded) <= (not active)
    before = Counter({nic: n for nic, n in load_of(records.items()).items() if nic in active})
    after = before + Counter(targets)
    for target in set(targets):  # none was given one that another could have taken with less
        assert all(after[target] - after[other] <= 1 for other in active)
