"""The records as the kernel keeps them: layouts, what an assignment changes, room, services' own thresholds, traces."""

import time
from collections import Counter
from dataclasses import replace
from itertools import product, zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent import records as layouts
from host_agent.decision import ACK, SYN, Action, Block, Fins, Frame, Record, Stage
from host_agent.plain_records import PlainRecords
from host_agent.records import MAX_NICS, Assignment, Report, ReportKind, Team, Threshold
from tests.kernel.frame_path import FramePath
from tests.kernel.frames import PEER_MAC, REDIRECT, V4, V6, map_sizes, segment

pytestmark = pytest.mark.kernel

SECOND = 10**9
NICS = st.integers(0, MAX_NICS - 1)
HERE, THERE = Record(2, epoch=7), Record(5, epoch=7)  # frames come in by NIC 2
KNOWN = replace(HERE, packets=3, peer_mac=bytes.fromhex(PEER_MAC.replace(":", "")))
ON, CLOSING = {"offloaded": True}, {"closing": True}


def test_layouts(path: FramePath) -> None:
    """The sizes that Python reads are those that the compiler laid out; a smaller one would be written past."""
    for name, sizes in layouts._MAPS.items():
        fd = path.object.map(name, *sizes).fd
        if name != "reports":  # a ring buffer has no values; a report of another size would not unpack
            assert map_sizes(fd) == sizes, name
    u32, u64 = (2**32 - 2, 2**32 - 3, 2**32 - 4), range(2**64 - 10, 2**64)
    record = Record(15, True, Stage.SILENT, True, True, 2**32 - 1, b"\1\2\3\4\5\6", Fins(15), *u32, *u64)
    path.records.put(V6, record)
    assert path.records.get(V6) == record


KEPT = st.sampled_from([None, False, True])


@given(
    epoch=st.integers(0, 2**32 - 1),
    nic=NICS,
    offloaded=st.booleans(),
    stage=st.sampled_from(Stage),
    moved=st.booleans(),
    due=KEPT,
    closing=KEPT,
    before=st.tuples(st.booleans(), st.booleans()),
    fins=st.builds(Fins, st.integers(0, 15)),
)
def test_assign_changes_in_place(path: FramePath, epoch: int, due, closing, before, fins, **assigned) -> None:
    """NIC, flag, stage and epoch, the two flags that it is told to, and more ends of stream; what frames have counted
    stays, but for the strays of the epoch."""
    counted = Record(1, False, Stage.HELD, *before, epoch, b"\1\2\3\4\5\6", Fins(9), *range(10, 23))
    plain = PlainRecords()
    for records in (path.records, plain):
        records.put(V6, counted)
        assert records.assign([Assignment(V6, epoch, due=due, closing=closing, fins=fins, **assigned)]) == [True]
    moved = assigned.pop("moved")
    expected = replace(
        counted,
        **assigned,
        epoch=(epoch + moved) % 2**32,
        due=before[0] if due is None else due,
        closing=before[1] if closing is None else closing,
        fins=Fins(9) | fins,
        forwarded=0 if moved else 10,
    )
    assert path.records.get(V6) == plain.get(V6) == expected


@pytest.mark.parametrize("epoch", [6, 8, 2**32 - 1])
def test_assign_of_another_epoch_is_refused(empty: FramePath, epoch: int) -> None:
    empty.records.put(V4, HERE)
    assert empty.records.assign([Assignment(V4, epoch, 0, True, Stage.HELD, moved=True)]) == [False]
    assert empty.records.get(V4) == HERE


def test_assign_without_a_record_makes_none(empty: FramePath) -> None:
    assert empty.records.assign([Assignment(V4, 0, 0, True, Stage.HELD)]) == [False]
    assert empty.records.get(V4) is None


def test_many_are_assigned_by_themselves(empty: FramePath) -> None:
    """More than go by one system call; of some the record is gone, or another's."""
    some = [V4._replace(sport=n) for n in range(150)]
    for n, connection in enumerate(some):
        if n % 7:
            empty.records.put(connection, Record(0, epoch=n % 5 == 0))
    wanted = [Assignment(connection, 0, n % 3, True, Stage.HELD) for n, connection in enumerate(some)]
    expected = [bool(n % 7 and n % 5) for n in range(150)]
    assert empty.records.assign(wanted) == expected
    assert empty.records.assign([]) == []
    for n, connection in enumerate(some):
        record = empty.records.get(connection)
        assert (record is not None and record.stage is Stage.HELD) == expected[n]
        assert record is None or not expected[n] or record.nic == n % 3


@pytest.fixture(scope="module")
def small(namespace: None, programs: None) -> FramePath:
    return FramePath(capacity=3)


def test_when_the_records_are_full_a_new_connection_passes_up_without_one(small: FramePath) -> None:
    """And the agent is told, not more often than it wants; offloaded ones keep their records, old ones go on."""
    small.clear(Team(virtual_nic=1, hold=1, bus=(1, 1, 1), report_every=0))
    assert small.records.capacity == 3
    some = [V4._replace(sport=n) for n in range(4)]
    small.records.put(some[0], Record(2, offloaded=True))
    for connection in some[1:3]:
        assert small.bus_in(segment(connection, flags="S"), 1)[1] == {"402_404": 1, "up": 1}
    for _ in range(2):
        assert small.bus_in(segment(some[3], flags="S"), 1) == (REDIRECT, {"402_404": 1, "up": 1, "unrecorded": 1})
        assert [(r.kind, r.connection, r.nic) for r in small.reports()] == [(ReportKind.FULL, some[3], 1)]
    assert {c for c, _ in small.records.all()} == set(some[:3])
    assert small.bus_in(segment(some[1]), 1)[1] == {"406_408": 1, "up": 1}
    with pytest.raises(layouts.RecordsFull):
        small.records.put(some[3], HERE)
    small.records.team = replace(small.records.team, report_every=60 * SECOND)
    for _ in range(3):
        assert small.bus_in(segment(some[3]), 1)[1]["unrecorded"] == 1
    assert small.reports() == []
    small.records.delete(some[1])
    assert small.bus_in(segment(some[3]), 1)[1] == {"402_404": 1, "up": 1}
    assert small.records.get(some[3]) is not None


def test_an_identifier_is_used_again_also_when_the_records_are_full(small: FramePath) -> None:
    small.clear(Team(virtual_nic=1, hold=1, bus=(1, 1, 1), report_every=0))
    for n in range(3):
        small.records.put(V4._replace(sport=n), replace(THERE, **ON, **CLOSING))
    assert small.bus_in(segment(V4._replace(sport=0), flags="S"), 2)[1] == {"402_404": 1, "up": 1}
    record = small.records.get(V4._replace(sport=0))
    assert record is not None
    assert (record.nic, record.offloaded, record.epoch) == (2, False, 8)


def test_plain_records_are_full_in_the_same_way(small: FramePath) -> None:
    told: list[Report] = []
    plain = PlainRecords(3, told.append)
    plain.team = Team(report_every=10)
    for n in range(5):
        plain.arrive(V4._replace(sport=n), Frame(1, 60, SYN), 100 + 5 * n)
    assert len(list(plain.all())) == plain.capacity == 3
    assert [(r.kind, r.connection.sport) for r in told] == [(ReportKind.FULL, 3)]
    assert plain.counts(1)["unrecorded"] == 2
    with pytest.raises(layouts.RecordsFull):
        plain.put(V6, HERE)


@pytest.mark.parametrize("number", [0, 1, 64, 65, 5000, 20000])
def test_all_records_come_in_batches(path: FramePath, number: int) -> None:
    path.clear(Team())
    wanted = {V6._replace(sport=n % 60000, src=f"fd00::{n // 60000 + 1}"): Record(n % 16) for n in range(number)}
    for connection, record in wanted.items():
        path.records.put(connection, record)
    found = list(path.records.all())
    assert len(found) == number
    assert dict(found) == wanted
    few = path.records.few()
    assert few is None if number > 64 else dict(few or ()) == wanted
    path.clear(Team())


@pytest.mark.parametrize("number", [0, 1, 20000])
def test_the_quiet_ones_come_in_slices(path: FramePath, number: int) -> None:
    """The kernel asks of each record what ageing.py's may_be_old() asks, and flood.py's is_half_open()."""
    path.clear(Team())
    kinds = [(stage, on, closing) for stage in Stage for on in (False, True) for closing in (False, True)]
    plain = PlainRecords(20000)
    for n in range(number):
        stage, on, closing = kinds[n % len(kinds)]
        record = Record(n % 16, on, stage, closing=closing, last_seen=n % 1009, packets=n % 5)
        for records in (path.records, plain):
            records.put(V6._replace(sport=n), record)
    list(path.records.quiet(0, 0))  # it is loaded then
    for since, half_open in product(((500, 300), (100, 2**63), (0, 0), (2**63, 2**63)), (False, True)):
        slices = list(path.records.quiet(*since, half_open=half_open))
        (wanted,) = plain.quiet(*since, half_open=half_open)
        assert dict(one for some in slices for one in some) == dict(wanted)
        assert sum(map(len, slices)) == len(wanted)
        assert max(map(len, slices)) <= 900
    path.clear(Team())


def test_two_may_ask_for_quiet_ones_at_the_same_time(path: FramePath) -> None:
    """Ageing and the watch for floods do: each gets what it asked for, to the last slice."""
    path.clear(Team())
    for n in range(40000):
        path.records.put(V6._replace(sport=n), Record(0, last_seen=n % 100))
    list(path.records.quiet(0, 0))  # it is loaded then
    few, most = path.records.quiet(0, 0), path.records.quiet(98, 98)
    found = [0, 0]
    for slices in zip_longest(few, most, fillvalue=()):
        found = [number + len(some) for number, some in zip(found, slices, strict=True)]
    assert found == [400, 39600]
    path.clear(Team())


@pytest.mark.parametrize("number", [0, 1, 5000])
def test_records_are_counted_by_nic_and_flag(path: FramePath, number: int) -> None:
    path.clear(Team())
    wanted: Counter[tuple[int, bool]] = Counter()
    for n in range(number):
        record = Record(n % 16, n % 3 == 0, packets=n)
        path.records.put(V6._replace(sport=n), record)
        wanted[record.nic, record.offloaded] += 1
    assert sum(path.records.tally(), Counter()) == wanted
    path.clear(Team())


def test_a_service_has_its_own_threshold(empty: FramePath) -> None:
    """Other ports of the team, and the peer's ports, are none of its business."""
    web, ssh, odd = V4, V4._replace(dport=22), V4._replace(sport=22)
    empty.records.set_service(22, Threshold(after_bytes=0))
    for connection in (web, ssh, odd):
        empty.records.put(connection, KNOWN)
        empty.bus_in(segment(connection), 2)
    assert [(r.kind, r.connection) for r in empty.reports()] == [(ReportKind.DUE, ssh)]
    empty.records.set_service(22, None)
    empty.records.put(ssh, KNOWN)
    empty.bus_in(segment(ssh), 2)
    assert empty.reports() == []


def test_a_trace_tells_the_block_of_every_frame(empty: FramePath) -> None:
    empty.records.team = replace(empty.records.team, trace=True, report_every=60 * SECOND)
    empty.records.put(V6, replace(THERE, **ON, reported=time.monotonic_ns()))
    for connection, nic in ((V4, 1), (V4, 1), (V4, 0), (V6, 0), (V6, 5)):
        empty.bus_in(segment(connection, payload=b"four", seq=2**32 - 1, ack=7), nic)
    told = empty.reports()
    assert {(r.kind, r.seq, r.ack, r.payload, r.flags) for r in told} == {(ReportKind.TRACE, 2**32 - 1, 7, 4, ACK)}
    assert [(r.block, r.action, r.nic) for r in told] == [
        (Block.NEW, Action.UP, 1),
        (Block.SAME_NIC, Action.UP, 1),
        (Block.LEARN, Action.UP, 0),
        (Block.STRAY, Action.FORWARD, 0),
        (Block.SAME_NIC, Action.FORWARD, 5),
    ]


def test_traces_leave_room_for_what_the_agent_must_know(empty: FramePath) -> None:
    """An agent that does not read in time misses traces, but no stray."""
    empty.records.team = replace(empty.records.team, trace=True)
    frame = segment(V4)
    for _ in range(9000):  # 80 bytes each, of 1 MiB
        empty.object.program("bus_in").run(frame=frame)
    empty.records.put(V6, replace(THERE, **ON))
    empty.bus_in(segment(V6), 2)
    told = empty.reports()
    assert 5000 < sum(r.kind is ReportKind.TRACE for r in told) < 9000
    assert [r.connection for r in told if r.kind is ReportKind.STRAY] == [V6]
