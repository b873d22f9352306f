"""Figure 4 of the method, block by block, in its own sentences."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.decision import (
    ACK,
    FIN,
    RST,
    SYN,
    Action,
    Block,
    By,
    Fins,
    Frame,
    Outward,
    Record,
    Stage,
    Verdict,
    figure_4,
    from_host,
    into_host,
)

MAC = b"\2\0\0\0\1\1"
NOW = 5_000_000_000
NEVER = 2**64 - 1


def decide(record: Record | None, nic: int, flags: int = ACK, *, offload_after=NEVER, report_every=0) -> Verdict:
    """The peer's MAC is the one on record."""
    frame, known = Frame(nic, 100, flags, MAC), record and replace(record, peer_mac=MAC)
    return figure_4(known, frame, NOW, offload_after=offload_after, report_every=report_every)


def counted(record: Record, **changes) -> Record:
    """The record after one frame."""
    return replace(record, packets=record.packets + 1, bytes=record.bytes + 100, last_seen=NOW, peer_mac=MAC, **changes)


def test_402_404_no_record_makes_one_with_the_receiving_nic_and_passes_up() -> None:
    fresh = Record(3, created=NOW, last_seen=NOW, packets=1, bytes=100, peer_mac=MAC)
    assert decide(None, 3, SYN) == Verdict(Block.NEW, Action.UP, fresh)
    assert not fresh.offloaded


def test_402_404_an_rst_starts_no_connection() -> None:
    assert decide(None, 3, RST | ACK) == Verdict(Block.NEW, Action.UP, None)


NEW_MAC = b"\2\0\0\0\1\2"


@pytest.mark.parametrize("nic", [3, 5])
def test_a_new_next_hop_of_a_connection_of_the_hosts_is_learned_and_told(nic: int) -> None:
    """NICs may have silent connections of the same peer."""
    record = Record(3, peer_mac=MAC, reported=NOW - 10)
    frame = Frame(nic, 100, ACK, NEW_MAC)
    verdict = figure_4(record, frame, NOW, offload_after=NEVER, report_every=10)
    assert verdict.new_hop
    assert (verdict.record.peer_mac, verdict.record.reported) == (NEW_MAC, NOW)


def test_it_is_learned_only_when_it_can_be_told() -> None:
    """So that the next frame tells it; two routers that take turns do not keep the agent busy."""
    record = Record(3, peer_mac=MAC, reported=NOW - 9)
    verdict = figure_4(record, Frame(3, 100, ACK, NEW_MAC), NOW, offload_after=NEVER, report_every=10)
    assert not verdict.new_hop
    assert (verdict.record.peer_mac, verdict.record.reported) == (MAC, NOW - 9)


def test_the_next_hop_of_an_offloaded_connection_is_its_nics_to_tell() -> None:
    record = Record(3, offloaded=True, peer_mac=MAC)
    verdict = figure_4(record, Frame(5, 100, ACK, NEW_MAC), NOW, offload_after=NEVER, report_every=0)
    assert not verdict.new_hop
    assert verdict.record.peer_mac == NEW_MAC


def test_406_408_the_same_nic_passes_up() -> None:
    record = Record(3, epoch=2, packets=9, bytes=900)
    assert decide(record, 3) == Verdict(Block.SAME_NIC, Action.UP, counted(record))


def test_406_408_sent_up_by_the_owner_itself_goes_back_to_it() -> None:
    """A frame that passed the NIC just before its context came: only the NIC's TCP may have it."""
    record = Record(3, offloaded=True)
    assert decide(record, 3) == Verdict(Block.SAME_NIC, Action.FORWARD, counted(record), to=3)


def test_410_412_another_nic_not_offloaded_passes_up_and_is_learnt() -> None:
    record = Record(3)
    assert decide(record, 5) == Verdict(Block.LEARN, Action.UP, counted(record, nic=5))


def test_410_414_another_nic_offloaded_is_forwarded_to_the_owner_and_told() -> None:
    record = Record(3, offloaded=True, epoch=4)
    expected = counted(record, strays=1, forwarded=1, first_stray=NOW, reported=NOW)
    assert decide(record, 5) == Verdict(Block.STRAY, Action.FORWARD, expected, to=3, stray=True)


@pytest.mark.parametrize(("age", "told"), [(999, False), (1000, True), (1001, True)])
def test_414_is_told_again_only_after_a_while(age: int, told: bool) -> None:
    record = Record(3, offloaded=True, reported=NOW - age)
    verdict = decide(record, 5, report_every=1000)
    assert verdict.stray == told
    assert verdict.record == counted(
        record, strays=1, forwarded=1, first_stray=NOW, reported=NOW if told else NOW - age
    )
    assert verdict.action is Action.FORWARD


@pytest.mark.parametrize("stage", [Stage.HELD, Stage.SILENT])
@pytest.mark.parametrize("offloaded", [False, True])
@pytest.mark.parametrize("nic", [3, 5])
def test_while_a_move_is_under_way_frames_are_held_and_nothing_is_learnt_or_told(
    stage: Stage, offloaded: bool, nic: int
) -> None:
    record = Record(3, offloaded, stage, reported=1)
    verdict = decide(record, nic, offload_after=0)
    assert verdict.action is Action.HOLD
    assert verdict.record == counted(record, strays=int(offloaded and nic == 5))
    assert not verdict.stray
    assert not verdict.due


@pytest.mark.parametrize(("threshold", "due"), [(1101, False), (1100, True), (0, True), (NEVER, False)])
def test_due_when_both_directions_together_reach_the_threshold(threshold: int, due: bool) -> None:
    record = Record(3, packets=2, bytes=400, bytes_out=600)
    verdict = decide(record, 3, offload_after=threshold)
    assert (verdict.due, verdict.record) == (due, counted(record, due=due))


def test_due_is_told_once() -> None:
    assert not decide(Record(3, packets=2, due=True), 3, offload_after=0).due
    assert decide(Record(3, packets=2), 3, offload_after=0).due
    assert not decide(Record(3, packets=2, offloaded=True), 3, offload_after=0).due


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_handshake_makes_nothing_due_though_parts_of_it_are_repeated(lost: int) -> None:
    """Its last frame, held, would let the application meet a later client before this one."""
    record, rules = None, {"offload_after": 0, "offload_after_ns": 1}
    for _ in range(1 + lost):
        verdict = figure_4(record, Frame(3, 100, SYN), NOW, report_every=0, **rules)
        answer = from_host(verdict.record, Frame(0, 100, SYN | ACK), NOW + 5, live=LIVE, **rules)
        assert (verdict.due, answer.due) == (False, False)
        record = answer.record
    acknowledged = figure_4(record, Frame(3, 100), NOW + 9, report_every=0, **rules)
    assert acknowledged.action is Action.UP
    assert lost or not acknowledged.due
    assert lost or figure_4(acknowledged.record, Frame(3, 100), NOW + 9, report_every=0, **rules).due


def test_an_rst_ends_the_record_of_a_connection_of_the_host() -> None:
    for nic in (3, 5):
        assert decide(Record(3), nic, RST).record is None
        assert decide(Record(3), nic, FIN | ACK).record is not None


def test_an_rst_for_an_offloaded_connection_is_its_owners_to_judge() -> None:
    """Whoever forges one, with any number, neither ends the connection nor keeps it from being reloaded; and no SYN of
    his that follows takes its identifier."""
    forged = decide(Record(3, offloaded=True), 5, RST)
    assert (forged.to, forged.closed) == (3, None)
    assert forged.record is not None
    assert not forged.record.closing
    later = NOW + 10**9
    assert figure_4(forged.record, Frame(5, 100), later, offload_after=NEVER, report_every=1000).stray
    assert decide(forged.record, 5, SYN).to == 3


RECORDS = st.builds(
    Record, nic=st.integers(0, 3), offloaded=st.booleans(), stage=st.sampled_from(Stage), epoch=st.integers(0, 9)
)


@given(RECORDS, st.integers(0, 3), st.integers(0, 255))
def test_no_frame_of_a_moving_or_offloaded_connection_goes_up(record: Record, nic: int, flags: int) -> None:
    verdict = decide(record, nic, flags, offload_after=0)
    assert (verdict.action is Action.UP) == (not record.offloaded and record.stage is Stage.SETTLED)
    assert (verdict.to is not None) == (verdict.action is Action.FORWARD)
    if verdict.record is not None:
        same = ("offloaded", "stage", "epoch", "created", "bytes_out", "host_segments", "silenced")
        assert all(getattr(verdict.record, name) == getattr(record, name) for name in same)


def test_labels_are_those_of_the_figure() -> None:
    assert [block.label for block in Block] == ["402_404", "406_408", "410_412", "410_414"]


# -- forward, then reload ---------------------------------------------------------------------------------------------


def strays(record: Record, times: list[int], **rules: int) -> tuple[list[bool], Record]:
    """Strays at those times: which of them are told; and the record afterwards. All are forwarded to the owner."""
    told = []
    for now in times:
        verdict = figure_4(record, Frame(5, 100), now, offload_after=NEVER, report_every=0, **rules)
        assert (verdict.block, verdict.action, verdict.to) == (Block.STRAY, Action.FORWARD, 3)
        assert verdict.record is not None
        record = verdict.record
        told.append(verdict.stray)
    return told, record


def test_414_the_reload_may_wait_for_a_number_of_frames() -> None:
    told, record = strays(Record(3, offloaded=True), [1, 2, 3, 4], stray_frames=3)
    assert told == [False, False, True, True]
    assert (record.forwarded, record.strays, record.first_stray) == (4, 4, 1)


def test_414_or_for_a_time_since_the_first() -> None:
    told, _ = strays(Record(3, offloaded=True), [10, 60, 109, 110, 111], stray_frames=100, stray_after=100)
    assert told == [False, False, False, True, True]
    assert strays(Record(3, offloaded=True), [10, 10**9], stray_frames=100)[0] == [False, False]


def test_414_whichever_is_reached_first() -> None:
    assert strays(Record(3, offloaded=True), [10, 11], stray_frames=2, stray_after=100)[0] == [False, True]


# -- ends of connections ----------------------------------------------------------------------------------------------

CLOSING = Record(3, closing=True, epoch=4, due=True, packets=9, bytes=10**9)


@pytest.mark.parametrize("offloaded", [False, True])
@pytest.mark.parametrize("nic", [3, 5])
def test_a_syn_that_uses_a_closed_connections_identifier_again_begins_a_new_record(nic: int, offloaded: bool) -> None:
    """402 to 404, wherever the old one was; nothing that was decided about the old one fits the new one's epoch."""
    fresh = Record(nic, created=NOW, last_seen=NOW, packets=1, bytes=100, peer_mac=MAC, epoch=5)
    verdict = decide(replace(CLOSING, offloaded=offloaded), nic, SYN)
    assert verdict == Verdict(Block.NEW, Action.UP, fresh, closed=By.REUSE)


@pytest.mark.parametrize("flags", [ACK, SYN | ACK, SYN | RST, FIN | ACK])
def test_late_segments_of_a_closed_connection_go_where_it_was(flags: int) -> None:
    """The stack that keeps its TIME-WAIT answers them; they are no reason to reload."""
    verdict = decide(replace(CLOSING, offloaded=True), 5, flags)
    assert (verdict.block, verdict.action, verdict.to, verdict.stray) == (Block.STRAY, Action.FORWARD, 3, False)
    assert verdict.closed is None


def test_a_syn_while_a_closed_connection_is_held_is_held_too() -> None:
    assert decide(replace(CLOSING, stage=Stage.HELD), 3, SYN).action is Action.HOLD


def test_a_syn_on_a_connection_that_is_not_closed_goes_to_its_owner() -> None:
    assert decide(Record(3, offloaded=True), 5, SYN).to == 3
    assert decide(Record(3), 5, SYN).block is Block.LEARN


def test_a_closed_connection_is_not_due() -> None:
    assert not decide(replace(CLOSING, due=False), 3, offload_after=0).due


def test_an_rst_is_told_with_who_sent_it() -> None:
    assert decide(Record(3), 3, RST).closed is By.PEER
    assert decide(Record(3, offloaded=True), 5, RST).closed is None
    assert decide(Record(3, stage=Stage.HELD), 3, RST).closed is None
    assert decide(None, 3, RST).closed is None


LIVE = frozenset({3})


def out(record: Record | None, flags: int = ACK, **numbers: int) -> Outward:
    return from_host(record, Frame(0, 100, flags, **numbers), NOW, live=LIVE, offload_after=NEVER)


def test_the_hosts_rst_ends_the_record_and_in_a_move_marks_it() -> None:
    assert out(Record(3), RST) == Outward(True, None, 3, closed=By.HOST)
    held = out(Record(3, stage=Stage.HELD), RST)
    assert held == Outward(True, Record(3, stage=Stage.HELD, closing=True, bytes_out=100), 3, closed=By.HOST)
    assert out(held.record, RST).closed is None


def test_the_host_may_call_with_a_closed_connections_identifier() -> None:
    assert out(replace(CLOSING, offloaded=True), SYN) == Outward(True, None, closed=By.REUSE)
    assert not out(Record(3, offloaded=True), SYN).sent


def test_the_host_speaks_by_the_records_nic_or_by_a_live_one() -> None:
    assert (out(Record(3)).to, out(Record(4)).to, out(None).to) == (3, None, None)
    nobody = from_host(Record(3), Frame(0, 100), NOW, live=frozenset(), offload_after=NEVER)
    assert (nobody.sent, nobody.to) == (False, None)


def closing_after(*segments: tuple[str, int, int, int, int]) -> list[bool]:
    """The flag after each segment: who sends it, flags, seq, ack, payload."""
    record: Record = Record(3)
    found = []
    for sender, flags, seq, ack, payload in segments:
        facts = {"seq": seq, "ack": ack, "payload": payload}
        after = (
            into_host(record, Frame(3, 100, flags, **facts))[1]
            if sender == "peer"
            else out(record, flags, **facts).record
        )
        assert after is not None
        record = after
        found.append(record.closing)
    return found


@pytest.mark.parametrize("wrap", [0, 2**32 - 1000, 2**32 - 1011, 2**32 - 521])
def test_a_connection_is_done_when_both_fins_are_acknowledged(wrap: int) -> None:
    def n(number: int) -> int:
        return (number + wrap) % 2**32

    calm = [
        ("peer", FIN | ACK, n(1000), n(500), 10),  # its last ten bytes and the end
        ("host", ACK, n(500), n(1010), 0),  # all but the end
        ("host", ACK, n(500), n(1011), 20),
        ("host", FIN | ACK, n(520), n(1011), 0),
        ("peer", ACK, n(1011), n(520), 0),
        ("peer", ACK, n(1011), n(521), 0),
    ]
    assert closing_after(*calm) == [False] * 5 + [True]
    both = [("host", FIN | ACK, n(520), n(1000), 0), ("peer", FIN | ACK, n(1000), n(521), 0)]
    assert closing_after(*both, ("host", ACK, n(521), n(1001), 0)) == [False, False, True]


def test_behind_both_ends_the_host_says_no_rst() -> None:
    """Its socket has gone with the last acknowledgement; the kernel would answer a second one."""
    both = Fins.PEER | Fins.HOST | Fins.PEER_ACKED | Fins.HOST_ACKED
    for stage in (Stage.SETTLED, Stage.HELD):
        done = Record(3, fins=both, closing=True, stage=stage)
        assert out(done, RST) == Outward(False, replace(done, silenced=1))
        assert out(done, ACK).sent
    for missing in (Fins.PEER_ACKED, Fins.HOST_ACKED):
        assert out(Record(3, fins=both & ~missing), RST).closed is By.HOST
    assert out(Record(3, closing=True), RST).closed is By.HOST


def test_half_closed_is_not_done_however_much_follows() -> None:
    ends = [("host", FIN | ACK, 500, 1, 0), *(("peer", ACK, n, 501, 100) for n in range(1, 1000, 100))]
    assert not any(closing_after(*ends))


def test_a_syn_begins_anew() -> None:
    again = [
        ("peer", FIN | ACK, 9, 5, 0),
        ("host", FIN | ACK, 5, 10, 0),
        ("peer", SYN, 7, 0, 0),
        ("peer", ACK, 8, 6, 0),
    ]
    assert closing_after(*again) == [False] * 4
    assert into_host(replace(CLOSING, stage=Stage.HELD), Frame(3, 9, SYN), released=True)[1] == replace(
        CLOSING, stage=Stage.HELD, closing=False, host_segments=1
    )


# -- the host's door --------------------------------------------------------------------------------------------------


def test_what_was_let_up_before_its_connection_left_does_not_get_in() -> None:
    frame = Frame(3, 100)
    assert into_host(None, frame) == (Action.UP, None)
    assert into_host(Record(3), frame) == (Action.UP, Record(3, host_segments=1))
    for offloaded in (False, True):
        held = Record(3, offloaded, Stage.HELD)
        assert into_host(held, frame) == (Action.HOLD, held)
    gone = Record(3, offloaded=True)
    assert into_host(gone, frame) == into_host(gone, frame, released=True) == (Action.FORWARD, gone)


# -- requests for an offload ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "due"), [(0, False), (1000, True), (999, True), (1001, False), (NEVER, False)])
def test_due_by_age_at_the_first_frame_from_then_on(limit: int, due: bool) -> None:
    old = Record(3, packets=3, created=NOW - 1000)
    rules = {"offload_after": NEVER, "report_every": 0, "offload_after_ns": limit}
    assert figure_4(old, Frame(3, 1), NOW, **rules).due == due
    assert from_host(old, Frame(0, 1), NOW, live=LIVE, offload_after=NEVER, offload_after_ns=limit).due == due


def test_what_the_host_sends_makes_due_too_but_not_in_a_move() -> None:
    record = Record(3, packets=3, bytes=50)
    assert from_host(record, Frame(0, 50), NOW, live=LIVE, offload_after=100).due
    held = from_host(replace(record, stage=Stage.HELD), Frame(0, 50), NOW, live=LIVE, offload_after=100)
    assert not held.due
    assert held.record is not None
    assert not held.record.due  # it may become due when the move is over
