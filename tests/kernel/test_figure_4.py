"""The compiled programs of bpf/team.bpf.c decide frame by frame as host_agent/decision.py says.

The kernel runs each program over one frame (BPF_PROG_TEST_RUN). Which interface it redirects to cannot be seen that
way: the counters tell the action here, and test_steering.py sees the frames come out.
"""

import struct
import time
from dataclasses import dataclass, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from host_agent import kernel
from host_agent import records as layouts
from host_agent.bpf import build
from host_agent.connection import Connection
from host_agent.decision import ACK, FIN, RST, SYN, Action, Block, Frame, Record, Stage, figure_4
from host_agent.records import MAX_NICS, NEVER, Records, Report, ReportKind, StaleRecord, Team
from tests.kernel.frames import OK, REDIRECT, SHOT, V4, V6, map_sizes, segment

pytestmark = pytest.mark.kernel

LOOPBACK = 1  # where a test run's frame comes in
RELEASED = 0x4E1  # bpf/team.bpf.c
SECOND = 10**9
NICS = st.integers(0, MAX_NICS - 1)
PEERS = [
    V4,
    V6,
    V4._replace(src="10.0.0.12"),
    V4._replace(sport=40001),
    V6._replace(src="fd00::12", dport=443),
]


class FramePath:
    """The loaded object; frames come in by whichever NIC the test says."""

    def __init__(self) -> None:
        self.object = kernel.BpfObject(build.path("team"))
        self.records = Records.of_object(self.object)
        self.told: list[Report] = []
        self._ring = self.records.reports(self.told.append)

    def clear(self, team: Team) -> None:
        for connection, _ in list(self.records.all()):
            self.records.delete(connection)
        self.reports()
        self.records.team = team

    def reports(self) -> list[Report]:
        """Those made since the last call."""
        self._ring.consume()
        told = list(self.told)
        self.told.clear()
        return told

    def bus_in(self, frame: bytes, nic: int) -> tuple[int, dict[str, int]]:
        """What the program answers, and the counters that moved."""
        self.records.set_bus(LOOPBACK, nic)
        before = [self.records.counts(n) for n in range(MAX_NICS)]
        verdict, _ = self.object.program("bus_in").run(frame=frame)
        after = [self.records.counts(n) for n in range(MAX_NICS)]
        assert all(a == b for n, (a, b) in enumerate(zip(after, before, strict=True)) if n != nic)
        return verdict, {k: after[nic][k] - v for k, v in before[nic].items() if after[nic][k] != v}

    def run(self, program: str, frame: bytes, mark: int = 0) -> tuple[int, int]:
        """What a program answers, and the frame's mark afterwards (third word of struct __sk_buff)."""
        verdict, context = self.object.program(program).run(frame=frame, context=struct.pack("=8xI244x", mark))
        return verdict, struct.unpack_from("=8xI", context)[0]


@pytest.fixture(scope="module")
def path(namespace: None, programs: None) -> FramePath:
    return FramePath()


@pytest.fixture
def empty(path: FramePath) -> FramePath:
    """No record, three live NICs."""
    path.clear(Team(virtual_nic=1, hold=1, live=(0, 1, 2), bus=(1, 1, 1)))
    return path


@dataclass(frozen=True)
class Vector:
    """One frame, what is on record when it comes, and the team's settings."""

    connection: Connection
    record: Record | None
    nic: int
    flags: int = ACK
    payload: int = 0
    options: int = 0
    mac: bytes = bytes.fromhex("020000000101")
    offload_after: int = NEVER
    report_every: int = 0

    def frame(self) -> bytes:
        parts = {"payload": bytes(self.payload), "options": b"\x01" * self.options, "mac": self.mac.hex(":")}
        return segment(self.connection, flags=self.flags, **parts)


@st.composite
def vectors(draw: st.DrawFn) -> Vector:
    """Any state of a record, with its neighbourhoods: the same NIC, a threshold just reached, a report just made."""
    nic, number = draw(NICS), st.integers(0, 2**62)
    now = time.monotonic_ns()
    record, after, every = None, draw(st.sampled_from([0, 1, NEVER])), draw(st.sampled_from([0, 10, 2**62]))
    payload, options = draw(st.integers(0, 1400)), draw(st.sampled_from([0, 4, 40]))
    if draw(st.integers(0, 5)):
        record = Record(
            nic=draw(st.one_of(st.just(nic), NICS)),
            offloaded=draw(st.booleans()),
            stage=draw(st.sampled_from([Stage.SETTLED, Stage.SETTLED, Stage.HELD, Stage.SILENT])),
            due=draw(st.booleans()),
            epoch=draw(st.integers(0, 2**32 - 1)),
            peer_mac=draw(st.binary(min_size=6, max_size=6)),
            created=draw(number),
            last_seen=draw(number),
            reported=draw(st.sampled_from([0, now // 2, now])),
            packets=draw(number),
            bytes=draw(number),
            bytes_out=draw(number),
            strays=draw(number),
            host_segments=draw(number),
            silenced=draw(number),
        )
        # A report lies clearly longer ago than the limit, or clearly less long: the program has its own clock.
        age = now - record.reported
        every = draw(st.sampled_from([0, max(0, age - 1), age + 60 * SECOND]))
    vector = Vector(
        connection=draw(st.sampled_from(PEERS)),
        record=record,
        nic=nic,
        flags=draw(st.one_of(st.sampled_from([SYN, SYN | ACK, ACK, RST, RST | ACK, FIN | ACK]), st.integers(0, 255))),
        payload=payload,
        options=options,
        mac=draw(st.binary(min_size=6, max_size=6)),
        offload_after=after,
        report_every=every,
    )
    if record is not None and draw(st.booleans()):
        exact = record.bytes + record.bytes_out + len(vector.frame())
        vector = replace(vector, offload_after=exact + draw(st.integers(-1, 1)))
    return vector


def compare(path: FramePath, v: Vector) -> tuple[Block, Action]:
    """One frame through both; gives what both decided."""
    path.clear(Team(1, 1, (0,), (1,) * MAX_NICS, v.offload_after, v.report_every))
    if v.record is not None:
        path.records.put(v.connection, v.record)
    frame = v.frame()
    started = time.monotonic_ns()
    verdict, moved = path.bus_in(frame, v.nic)
    ended = time.monotonic_ns()

    facts = Frame(v.nic, len(frame), v.flags, v.mac)
    expected = figure_4(v.record, facts, started, offload_after=v.offload_after, report_every=v.report_every)
    action = {Action.UP: "up", Action.FORWARD: "forwarded", Action.HOLD: "held"}[expected.action]
    assert verdict == REDIRECT
    assert moved == {expected.block.label: 1, action: 1}

    found = path.records.get(v.connection)
    if expected.record is None or found is None:
        assert found == expected.record
    else:  # where decision.py has put its time, the program has put its own
        times = {}
        for name in ("created", "last_seen", "reported"):
            if getattr(expected.record, name) == started:
                assert started <= getattr(found, name) <= ended, name
                times[name] = started
        assert replace(found, **times) == expected.record
    assert [c for c, _ in path.records.all()] == [v.connection] * (found is not None)

    epoch = v.record.epoch if v.record else 0
    told = [(r.connection, r.kind, r.nic, r.epoch) for r in path.reports() if started <= r.at <= ended]
    nic = expected.record.nic if expected.record else v.nic
    due = [(v.connection, ReportKind.DUE, nic, epoch)] * expected.due
    assert told == [(v.connection, ReportKind.STRAY, v.nic, epoch)] * expected.stray + due
    return expected.block, expected.action


@given(vectors())
@settings(max_examples=600)
@example(Vector(V4, Record(3, offloaded=True, reported=0), 4, report_every=SECOND))
def test_the_program_decides_as_the_text(path: FramePath, v: Vector) -> None:
    compare(path, v)


# A record that names NIC 2, where frames come in, and one that names another.
HERE, THERE = Record(2, epoch=7), Record(5, epoch=7)
ON = {"offloaded": True}
TABLE = {
    "402-404-no-record": (None, ACK, Block.NEW, Action.UP),
    "402-404-no-record-SYN": (None, SYN, Block.NEW, Action.UP),
    "402-404-no-record-RST": (None, RST, Block.NEW, Action.UP),
    "406-408-same-nic": (HERE, ACK, Block.SAME_NIC, Action.UP),
    "406-408-same-nic-FIN": (HERE, FIN | ACK, Block.SAME_NIC, Action.UP),
    "406-408-same-nic-RST": (HERE, RST, Block.SAME_NIC, Action.UP),
    "406-408-same-nic-offloaded": (replace(HERE, **ON), ACK, Block.SAME_NIC, Action.FORWARD),
    "406-408-same-nic-held": (replace(HERE, stage=Stage.HELD), ACK, Block.SAME_NIC, Action.HOLD),
    "410-412-other-nic": (THERE, ACK, Block.LEARN, Action.UP),
    "410-412-other-nic-RST": (THERE, RST, Block.LEARN, Action.UP),
    "410-412-other-nic-held": (replace(THERE, stage=Stage.HELD), ACK, Block.LEARN, Action.HOLD),
    "410-412-other-nic-silent": (replace(THERE, stage=Stage.SILENT), ACK, Block.LEARN, Action.HOLD),
    "410-414-other-nic-offloaded": (replace(THERE, **ON), ACK, Block.STRAY, Action.FORWARD),
    "410-414-other-nic-offloaded-RST": (replace(THERE, **ON), RST, Block.STRAY, Action.FORWARD),
    "410-414-other-nic-offloaded-SYN": (replace(THERE, **ON), SYN, Block.STRAY, Action.FORWARD),
    "410-414-other-nic-held": (replace(THERE, **ON, stage=Stage.HELD), ACK, Block.STRAY, Action.HOLD),
    "410-414-other-nic-silent": (replace(THERE, **ON, stage=Stage.SILENT), RST, Block.STRAY, Action.HOLD),
}


@pytest.mark.parametrize("connection", [V4, V6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize(("record", "flags", "block", "action"), TABLE.values(), ids=TABLE)
def test_block(
    path: FramePath, record: Record | None, flags: int, block: Block, action: Action, connection: Connection
) -> None:
    assert compare(path, Vector(connection, record, 2, flags)) == (block, action)


def test_a_new_connection_is_counted_frame_by_frame(empty: FramePath) -> None:
    """402 to 404 once, then 406 to 408; when the switch chooses anew, 410 to 412, and 406 to 408 again."""
    frames = [segment(V4, flags="S"), *(segment(V4, payload=b"x" * n) for n in (0, 100, 1400, 1))]
    labels = [next(iter(empty.bus_in(f, nic)[1])) for f, nic in zip(frames, (1, 1, 1, 0, 0), strict=True)]
    assert labels == ["402_404", "406_408", "406_408", "410_412", "406_408"]
    record = empty.records.get(V4)
    assert record is not None
    assert (record.nic, record.packets, record.bytes) == (0, 5, sum(map(len, frames)))


HEADS = {"ipv4": Ether() / IP(src=V4.src, dst=V4.dst), "ipv6": Ether() / IPv6(src=V6.src, dst=V6.dst)}
ONE = TCP(sport=V4.sport, dport=V4.dport, flags="R") / Raw(b"data")
OTHER = {
    "arp": Ether() / ARP(pdst="10.0.0.1"),
    "udp": HEADS["ipv4"] / UDP(sport=V4.sport, dport=V4.dport) / Raw(bytes(30)),
    "icmp": HEADS["ipv4"] / ICMP() / Raw(bytes(30)),
    "udp over ipv6": HEADS["ipv6"] / UDP() / Raw(bytes(30)),
    "second fragment": Ether() / IP(src=V4.src, dst=V4.dst, frag=1) / ONE,
    "last fragment": Ether() / IP(src=V4.src, dst=V4.dst, frag=0x1FFF) / ONE,
    "ipv6 fragment": HEADS["ipv6"] / IPv6ExtHdrFragment() / ONE,
    "ipv6 hop by hop": HEADS["ipv6"] / IPv6ExtHdrHopByHop() / ONE,
    "vlan": Ether() / Dot1Q(vlan=5) / IP(src=V4.src, dst=V4.dst) / ONE,
    "impossible ihl": Ether() / IP(src=V4.src, dst=V4.dst, ihl=4) / ONE,
}


@pytest.mark.parametrize("frame", OTHER.values(), ids=OTHER)
def test_what_is_not_the_head_of_a_segment_goes_up_unrecorded(empty: FramePath, frame: Ether) -> None:
    for connection in (V4, V6):
        empty.records.put(connection, replace(THERE, offloaded=True))
    before = dict(empty.records.all())
    assert empty.bus_in(bytes(frame), 2) == (REDIRECT, {"other": 1})
    assert dict(empty.records.all()) == before
    assert empty.reports() == []


@pytest.mark.parametrize("connection", [V4, V6], ids=["ipv4", "ipv6"])
def test_a_frame_cut_short_is_other_until_its_flags_are_there(empty: FramePath, connection: Connection) -> None:
    """Down to the IP header: the kernel makes no test frames shorter than that."""
    whole, tcp = segment(connection), 54 if connection.ipv6 else 34
    for size in range(tcp, len(whole) + 1):
        _, moved = empty.bus_in(whole[:size], 2)
        assert ("other" in moved) == (size < tcp + 14), size


def test_a_first_fragment_belongs_to_its_connection(empty: FramePath) -> None:
    frame = Ether() / IP(src=V4.src, dst=V4.dst, flags="MF") / TCP(sport=V4.sport, dport=V4.dport)
    assert empty.bus_in(bytes(frame), 2)[1] == {"402_404": 1, "up": 1}
    assert empty.records.get(V4) is not None


def test_a_bus_that_is_no_nic_of_the_team_is_dropped(empty: FramePath) -> None:
    empty.records.set_bus(LOOPBACK, MAX_NICS)
    assert empty.object.program("bus_in").run(frame=segment(V4))[0] == SHOT
    assert list(empty.records.all()) == []


@given(st.integers(0, 2**32 - 1), NICS, st.booleans(), st.sampled_from(Stage), st.booleans())
def test_assign_changes_in_place(
    path: FramePath, epoch: int, nic: int, offloaded: bool, stage: Stage, moved: bool
) -> None:
    """NIC, flag, stage and epoch; what frames have counted stays."""
    counted = Record(1, False, Stage.HELD, True, epoch, b"\1\2\3\4\5\6", *range(10, 19))
    path.records.put(V6, counted)
    path.records.assign(V6, epoch=epoch, nic=nic, offloaded=offloaded, stage=stage, moved=moved)
    expected = replace(counted, nic=nic, offloaded=offloaded, stage=stage, epoch=(epoch + moved) % 2**32)
    assert path.records.get(V6) == expected


@pytest.mark.parametrize("epoch", [6, 8, 2**32 - 1])
def test_assign_of_another_epoch_is_refused(empty: FramePath, epoch: int) -> None:
    empty.records.put(V4, HERE)
    with pytest.raises(StaleRecord):
        empty.records.assign(V4, epoch=epoch, nic=0, offloaded=True, stage=Stage.HELD, moved=True)
    assert empty.records.get(V4) == HERE


def test_assign_without_a_record_makes_none(empty: FramePath) -> None:
    with pytest.raises(StaleRecord):
        empty.records.assign(V4, epoch=0, nic=0, offloaded=True, stage=Stage.HELD)
    assert empty.records.get(V4) is None


# -- from the host, into the host, out of the hold queue --------------------------------------------------------------


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("offloaded", [False, True])
@pytest.mark.parametrize("up", [False, True])
def test_team_out(empty: FramePath, stage: Stage, offloaded: bool, up: bool) -> None:
    """The host speaks for what it holds, unless it is to be silent; then nothing but the silence is counted."""
    record = replace(HERE, offloaded=offloaded, stage=stage)
    empty.records.put(V4, record)
    empty.records.team = replace(empty.records.team, live=(0, 1, 2) if up else ())
    frame = segment(V4, outbound=True, payload=b"x" * 99)
    silent = offloaded or stage is Stage.SILENT
    assert empty.run("team_out", frame)[0] == (SHOT if silent or not up else REDIRECT)
    counted = {"silenced": 1} if silent else {"bytes_out": len(frame)}
    assert empty.records.get(V4) == replace(record, **counted)


def test_team_out_tells_when_a_connection_is_due_once(empty: FramePath) -> None:
    empty.records.put(V4, replace(HERE, bytes=1000))
    frame = segment(V4, outbound=True)
    empty.records.team = replace(empty.records.team, offload_after=1000 + 2 * len(frame))
    counts = []
    for _ in range(4):
        empty.run("team_out", frame)
        counts.append([(r.kind, r.nic, r.epoch) for r in empty.reports()])
    assert counts == [[], [(ReportKind.DUE, 2, 7)], [], []]


def test_team_out_ends_the_record_with_an_rst(empty: FramePath) -> None:
    empty.records.put(V4, HERE)
    assert empty.run("team_out", segment(V4, outbound=True, flags="RA"))[0] == REDIRECT
    assert empty.records.get(V4) is None


def test_team_out_knows_a_connection_by_its_own_direction_only(empty: FramePath) -> None:
    empty.records.put(V4, replace(HERE, offloaded=True))
    assert empty.run("team_out", segment(V4))[0] == REDIRECT


@pytest.mark.parametrize("live", [(), (0,), (2, 0)], ids=str)
def test_team_out_without_a_record_needs_a_live_nic(empty: FramePath, live: tuple[int, ...]) -> None:
    empty.records.team = replace(empty.records.team, live=live)
    for frame in (segment(V4, outbound=True), bytes(OTHER["arp"])):
        assert empty.run("team_out", frame)[0] == (REDIRECT if live else SHOT)


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("offloaded", [False, True])
@pytest.mark.parametrize("released", [False, True])
def test_host_in(empty: FramePath, stage: Stage, offloaded: bool, released: bool) -> None:
    """Only a settled connection of the host's own gets in, or a released frame of one that is about to be."""
    record = replace(HERE, offloaded=offloaded, stage=stage)
    empty.records.put(V4, record)
    verdict, _ = empty.run("host_in", segment(V4), RELEASED if released else 0)
    enters = not offloaded and (stage is Stage.SETTLED or released)
    assert verdict == (OK if enters else REDIRECT)
    assert empty.records.get(V4) == replace(record, host_segments=int(enters))


def test_host_in_lets_in_what_has_no_record(empty: FramePath) -> None:
    for frame in (segment(V4), segment(V6, flags="S"), *map(bytes, OTHER.values())):
        assert empty.run("host_in", frame)[0] == OK
    assert list(empty.records.all()) == []


@pytest.mark.parametrize("stage", Stage)
def test_hold_in(empty: FramePath, stage: Stage) -> None:
    """A released frame goes to the owner; one for the host carries the mark that opens its door."""
    empty.records.put(V4, replace(THERE, offloaded=True, stage=stage))
    empty.records.put(V6, replace(THERE, stage=stage))
    gone = V4._replace(sport=1)
    answers = [(REDIRECT, 0), (REDIRECT, RELEASED), (REDIRECT, RELEASED)]
    assert [empty.run("hold_in", segment(c)) for c in (V4, V6, gone)] == answers
    assert empty.run("hold_in", bytes(OTHER["udp"]))[0] == SHOT


def test_layouts(path: FramePath) -> None:
    """The sizes that Python reads are those that the compiler laid out; a smaller one would be written past."""
    for name, sizes in layouts._MAPS.items():
        fd = path.object.map(name, *sizes).fd
        if name != "reports":  # a ring buffer has no values; a report of another size would not unpack
            assert map_sizes(fd) == sizes, name
    record = Record(15, True, Stage.SILENT, True, 2**32 - 1, b"\1\2\3\4\5\6", *range(2**64 - 9, 2**64))
    path.records.put(V6, record)
    assert path.records.get(V6) == record
