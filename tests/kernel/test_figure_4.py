"""The compiled programs of bpf/team.bpf.c decide frame by frame as host_agent/decision.py says.

The kernel runs each program over one frame (BPF_PROG_TEST_RUN). Which interface it redirects to cannot be seen so.
"""

import time
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from host_agent.connection import Connection
from host_agent.decision import (
    ACK,
    FIN,
    RST,
    SYN,
    Action,
    Block,
    Fins,
    Frame,
    Outward,
    Record,
    Stage,
    Verdict,
)
from host_agent.plain_records import PlainRecords
from host_agent.records import MAX_NICS, NEVER, Report, ReportKind, Team, Threshold
from tests.kernel.frame_path import LOOPBACK, FramePath
from tests.kernel.frames import OK, REDIRECT, SHOT, V4, V6, segment

pytestmark = pytest.mark.kernel

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


NO_WAIT = Team(report_every=0)


@dataclass(frozen=True)
class Vector:
    """One frame at one door, what is on record when it comes, and the team's settings."""

    connection: Connection
    record: Record | None
    nic: int
    flags: int = ACK
    payload: int = 0
    options: int = 0
    mac: bytes = bytes.fromhex("020000000101")
    seq: int = 1
    ack: int = 1
    door: str = "bus_in"
    team: Team = NO_WAIT
    service: Threshold | None = None

    def frame(self) -> bytes:
        parts = {"payload": bytes(self.payload), "options": b"\x01" * self.options, "mac": self.mac.hex(":")}
        parts |= {"seq": self.seq, "ack": self.ack, "outbound": self.door == "team_out"}
        return segment(self.connection, flags=self.flags, **parts)


def clearly(draw: st.DrawFn, age: int) -> int:
    """A limit of time that lies clearly below an age, or clearly above: the program's clock is a tick late."""
    return draw(st.sampled_from([0, max(0, age - SECOND), age + 60 * SECOND]))


@st.composite
def vectors(draw: st.DrawFn, door: str = "bus_in") -> Vector:
    """Any state of a record, with its neighbourhoods: the same NIC, a threshold just reached, a report just made."""
    nic, number, u32 = draw(NICS), st.integers(0, 2**62), st.integers(0, 2**32 - 1)
    now = time.monotonic_ns()
    record, seq, ack = None, draw(u32), draw(u32)
    payload, options = draw(st.integers(0, 1400)), draw(st.sampled_from([0, 4, 40]))
    team = Team(
        live=tuple(draw(st.sets(NICS))),
        offload_after=draw(st.sampled_from([0, 1, NEVER])),
        report_every=draw(st.sampled_from([0, 10, 2**62])),
        trace=draw(st.booleans()),
    )
    service = draw(st.sampled_from([None, Threshold(0), Threshold(NEVER), Threshold(NEVER, 1)]))
    if draw(st.integers(0, 5)):
        near = st.integers(-2, 2)
        record = Record(
            nic=draw(st.one_of(st.just(nic), NICS)),
            offloaded=draw(st.booleans()),
            stage=draw(st.sampled_from([Stage.SETTLED, Stage.SETTLED, Stage.HELD, Stage.SILENT])),
            due=draw(st.booleans()),
            closing=draw(st.booleans()),
            epoch=draw(u32),
            peer_mac=draw(st.binary(min_size=6, max_size=6)),
            fins=Fins(draw(st.integers(0, 15))),
            forwarded=draw(st.one_of(st.integers(0, 3), u32)),
            peer_fin=(draw(st.sampled_from([seq, ack, seq + payload])) + draw(near)) % 2**32,
            host_fin=(draw(st.sampled_from([seq, ack, ack + 2**31])) + draw(near)) % 2**32,
            created=draw(st.sampled_from([0, now // 2, now])),
            last_seen=draw(number),
            reported=draw(st.sampled_from([0, now // 2, now])),
            first_stray=draw(st.sampled_from([0, now // 2, now])),
            packets=draw(st.one_of(st.integers(0, 4), number)),
            bytes=draw(number),
            bytes_out=draw(number),
            strays=draw(number),
            host_segments=draw(number),
            silenced=draw(number),
        )
        team = replace(
            team,
            report_every=clearly(draw, now - record.reported),
            stray_frames=max(0, record.forwarded + 1 + draw(near)) % 2**32,
            stray_after=clearly(draw, now - record.first_stray),
            offload_after_ns=clearly(draw, now - record.created),
        )
        if draw(st.booleans()):
            service = draw(st.sampled_from([None, Threshold(NEVER, clearly(draw, now - record.created))]))
    flags = st.sampled_from([SYN, SYN | ACK, ACK, RST, RST | ACK, FIN | ACK])
    vector = Vector(
        connection=draw(st.sampled_from(PEERS)),
        record=record,
        nic=nic,
        flags=draw(st.one_of(flags, st.integers(0, 255))),
        payload=payload,
        options=options,
        mac=draw(st.one_of(st.just(record.peer_mac if record else bytes(6)), st.binary(min_size=6, max_size=6))),
        seq=seq,
        ack=ack,
        door=door,
        team=team,
        service=service,
    )
    if record is not None and draw(st.booleans()):
        exact = record.bytes + record.bytes_out + len(vector.frame()) + draw(st.integers(-1, 1))
        vector = replace(vector, team=replace(team, offload_after=exact))
        if draw(st.booleans()):
            vector = replace(vector, service=Threshold(exact))
    return vector


TIMES = ("created", "last_seen", "reported", "first_stray")
MONOTONIC_COARSE = 6  # linux/time.h: the kernel's last tick
TICK = round(time.clock_getres(MONOTONIC_COARSE) * SECOND)


def compare(path: FramePath, v: Vector) -> Verdict | Action | Outward:
    """One frame through both, the program and plain Python; gives what both decided."""
    told: list[Report] = []
    plain = PlainRecords(take=told.append)
    path.clear(replace(v.team, virtual_nic=1, hold=1, bus=(1,) * MAX_NICS))
    plain.team = v.team
    for records in (path.records, plain):
        records.set_service(v.connection.dport, v.service)
        if v.record is not None:
            records.put(v.connection, v.record)
    frame = v.frame()
    facts = Frame(v.nic, len(frame), v.flags, v.mac, v.seq, v.ack, v.payload)
    decided: Verdict | Action | Outward
    ticked, started = time.clock_gettime_ns(MONOTONIC_COARSE) - TICK, time.monotonic_ns()  # bpf/clock.h
    match v.door:
        case "bus_in":
            verdict, moved = path.bus_in(frame, v.nic)
            decided = plain.arrive(v.connection, facts, started)
            assert moved == {name: n for name, n in plain.counts(v.nic).items() if n}
            wanted = REDIRECT
        case "host_in":
            verdict, _ = path.run(v.door, frame)
            decided = plain.enter(v.connection, facts)
            wanted = OK if decided is Action.UP else REDIRECT
        case _:
            verdict, _ = path.run(v.door, frame)
            decided = plain.leave(v.connection, facts, started)
            wanted = REDIRECT if decided.sent else SHOT
    ended = time.monotonic_ns()
    path.records.set_service(v.connection.dport, None)

    assert verdict == wanted
    found, expected = path.records.get(v.connection), plain.get(v.connection)
    if expected is None or found is None:
        assert found == expected
    else:  # where the text has put its time, the program has put its own
        times = {}
        for name in TIMES:
            if getattr(expected, name) == started:
                assert (started if name == "created" else ticked) <= getattr(found, name) <= ended, name
                times[name] = started
        assert replace(found, **times) == expected
    assert [c for c, _ in path.records.all()] == [c for c, _ in plain.all()]
    reports = path.reports()
    assert all(started <= r.at <= ended for r in reports)
    assert [replace(r, at=started) for r in reports] == told
    return decided


@given(vectors())
@settings(max_examples=300)
def test_the_program_decides_as_the_text(path: FramePath, v: Vector) -> None:
    compare(path, v)


@given(vectors(door="host_in"))
@settings(max_examples=200)
def test_the_hosts_door_is_as_the_text(path: FramePath, v: Vector) -> None:
    compare(path, v)


@given(vectors(door="team_out"))
@settings(max_examples=300)
def test_what_the_host_sends_is_decided_as_the_text(path: FramePath, v: Vector) -> None:
    compare(path, v)


# A record that names NIC 2, where frames come in, and one that names another.
HERE, THERE = Record(2, epoch=7), Record(5, epoch=7)
ON, CLOSING = {"offloaded": True}, {"closing": True}
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
    "402-404-closing-SYN": (replace(THERE, **CLOSING), SYN, Block.NEW, Action.UP),
    "402-404-closing-offloaded-SYN": (replace(THERE, **ON, **CLOSING), SYN, Block.NEW, Action.UP),
    "410-412-closing-SYN-ACK": (replace(THERE, **CLOSING), SYN | ACK, Block.LEARN, Action.UP),
    "410-414-closing-late": (replace(THERE, **ON, **CLOSING), ACK, Block.STRAY, Action.FORWARD),
    "410-414-closing-held-SYN": (replace(THERE, **ON, **CLOSING, stage=Stage.HELD), SYN, Block.STRAY, Action.HOLD),
    "410-414-other-nic-held": (replace(THERE, **ON, stage=Stage.HELD), ACK, Block.STRAY, Action.HOLD),
    "410-414-other-nic-silent": (replace(THERE, **ON, stage=Stage.SILENT), RST, Block.STRAY, Action.HOLD),
}


@pytest.mark.parametrize("connection", [V4, V6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize(("record", "flags", "block", "action"), TABLE.values(), ids=TABLE)
def test_block(
    path: FramePath, record: Record | None, flags: int, block: Block, action: Action, connection: Connection
) -> None:
    verdict = compare(path, Vector(connection, record, 2, flags))
    assert (verdict.block, verdict.action) == (block, action)


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
    fresh = FramePath()  # knows no bus yet
    empty.records.set_bus(LOOPBACK, MAX_NICS)
    for one in (fresh, empty):
        assert one.object.program("bus_in").run(frame=segment(V4))[0] == SHOT
        assert list(one.records.all()) == []


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
    empty.records.put(V4, replace(HERE, packets=3, bytes=1000))
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


@pytest.mark.parametrize("ack", [49, 50, 51, 50 + 2**31])
@pytest.mark.parametrize("fins", list(range(16)))
@pytest.mark.parametrize("door", ["host_in", "team_out"])
def test_the_ends_of_both_streams(path: FramePath, door: str, fins: int, ack: int) -> None:
    record = replace(HERE, fins=Fins(fins), peer_fin=50, host_fin=50)
    for flags in (ACK, FIN | ACK, SYN, RST):
        compare(path, Vector(V4, record, 2, flags, payload=7, seq=2**32 - 3, ack=ack, door=door))
