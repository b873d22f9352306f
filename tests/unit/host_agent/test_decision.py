"""Figure 4 of the method, block by block, in its own sentences."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.decision import ACK, FIN, RST, SYN, Action, Block, Frame, Record, Stage, Verdict, figure_4

MAC = b"\2\0\0\0\1\1"
NOW = 5_000_000_000
NEVER = 2**64 - 1


def decide(record: Record | None, nic: int, flags: int = ACK, *, offload_after=NEVER, report_every=0) -> Verdict:
    frame = Frame(nic, 100, flags, MAC)
    return figure_4(record, frame, NOW, offload_after=offload_after, report_every=report_every)


def counted(record: Record, **changes) -> Record:
    """The record after one frame."""
    return replace(record, packets=record.packets + 1, bytes=record.bytes + 100, last_seen=NOW, peer_mac=MAC, **changes)


def test_402_404_no_record_makes_one_with_the_receiving_nic_and_passes_up() -> None:
    fresh = Record(3, created=NOW, last_seen=NOW, packets=1, bytes=100, peer_mac=MAC)
    assert decide(None, 3, SYN) == Verdict(Block.NEW, Action.UP, fresh)
    assert not fresh.offloaded


def test_402_404_an_rst_starts_no_connection() -> None:
    assert decide(None, 3, RST | ACK) == Verdict(Block.NEW, Action.UP, None)


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
    expected = counted(record, strays=1, reported=NOW)
    assert decide(record, 5) == Verdict(Block.STRAY, Action.FORWARD, expected, to=3, stray=True)


@pytest.mark.parametrize(("age", "told"), [(999, False), (1000, True), (1001, True)])
def test_414_is_told_again_only_after_a_while(age: int, told: bool) -> None:
    record = Record(3, offloaded=True, reported=NOW - age)
    verdict = decide(record, 5, report_every=1000)
    assert verdict.stray == told
    assert verdict.record == counted(record, strays=1, reported=NOW if told else NOW - age)
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
    record = Record(3, bytes=400, bytes_out=600)
    verdict = decide(record, 3, offload_after=threshold)
    assert (verdict.due, verdict.record) == (due, counted(record, due=due))


def test_due_is_told_once() -> None:
    assert not decide(Record(3, due=True), 3, offload_after=0).due
    assert decide(Record(3), 3, offload_after=0).due
    assert not decide(Record(3, offloaded=True), 3, offload_after=0).due


def test_an_rst_ends_the_record_of_a_connection_of_the_host() -> None:
    for nic in (3, 5):
        assert decide(Record(3), nic, RST).record is None
        assert decide(Record(3), nic, FIN | ACK).record is not None


def test_an_rst_for_an_offloaded_connection_is_its_owners_to_judge() -> None:
    record = Record(3, offloaded=True)
    assert decide(record, 5, RST).record is not None
    assert decide(record, 5, RST).to == 3


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
