"""Frames go where steering.py says, seen on real interfaces: through one NIC, and through the server's frame path.

wirep ==== wire [ NIC ] bus ==== busp          bus0p ==== bus0 [ server: team0, hold-team0 ]
                                               bus1p ==== bus1
                                               bus2p ==== bus2
"""

import ctypes
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.l2 import Ether

from host_agent import steering
from host_agent.connection import Connection
from host_agent.decision import Record, Stage
from host_agent.hold import Hold
from host_agent.records import PINNED_LAST, Assignment, Records
from host_agent.steering import HostSteering, NicCounts, NicSteering, Steer, hold_of
from host_agent.tap import open_tap
from tests.kernel.frames import V4, V6, Port, cables, map_sizes, segment, silence, wait_for

pytestmark = pytest.mark.kernel

ROUTER = "02:00:00:00:aa:01"  # it brings the frames; segments to the peer are written with another MAC, to be replaced
NEXT_HOP = bytes.fromhex(ROUTER.replace(":", ""))
LAST = bytes(Ether(dst="ff:ff:ff:ff:ff:ff", type=0x88B5) / b"last")  # IEEE 802: for local experiments
CONNECTIONS = pytest.mark.parametrize("connection", [V4, V6], ids=["ipv4", "ipv6"])


# -- one NIC ----------------------------------------------------------------------------------------------------------


class Nic:
    def __init__(self, ports: dict[str, Port]):
        self.steering = NicSteering("wire", "bus")
        self.ports = ports

    def __call__(self, door: str, frame: bytes) -> dict[str, int]:
        """Puts a frame to a door (wire_in, bus_in or out); the counters that moved."""
        before = vars(self.steering.counts())
        self.ports[{"wire_in": "wirep", "bus_in": "busp", "out": "wire"}[door]].send(frame)
        wait_for(lambda: vars(self.steering.counts()) != before)
        return {k: v - before[k] for k, v in vars(self.steering.counts()).items() if v != before[k]}

    def left_by(self, end: str) -> list[bytes]:
        """What came out at wirep or busp since the last call."""
        self("wire_in" if end == "busp" else "bus_in", LAST)
        return self.ports[end].read(until=LAST)

    def stage(self, connection: Connection, name: str) -> None:
        steps = {
            "never": [],
            "joining": ["joining"],
            "joined": ["joining", "joined"],
            "leaving": ["joining", "joined", "leaving"],
            "left": ["joining", "joined", "leaving", "left"],
            "back": ["joining", "joined", "leaving", "left", "joining", "joined"],
            "stays": ["joining", "joined", "leaving", "joining", "joined"],
        }[name]
        for step in steps:
            getattr(self.steering, step)({connection: NEXT_HOP} if step == "joining" else [connection])


@pytest.fixture
def nic(namespace: None, programs: None) -> Iterator[Nic]:
    with cables("wire", "bus") as ports:
        yield Nic(ports)


OPEN = {
    "never": set(),
    "joining": {"bus_in", "out"},
    "joined": {"wire_in", "bus_in", "out"},
    "leaving": {"out"},
    "left": set(),
    "back": {"wire_in", "bus_in", "out"},
    "stays": {"wire_in", "bus_in", "out"},
}


BITS = {"wire_in": Steer.WIRE_IN, "bus_in": Steer.BUS_IN, "out": Steer.OUT}


@CONNECTIONS
@pytest.mark.parametrize("stage", OPEN)
def test_doors(nic: Nic, stage: str, connection: Connection) -> None:
    """The doors of a NIC that are open to a connection, stage by stage; another connection sees none of it."""
    nic.stage(connection, stage)
    shut = {"wire_in": {"to_host": 1}, "bus_in": {"to_wire": 1}, "out": {"silenced": 1}}
    for one in (connection, connection._replace(sport=1)):
        doors = OPEN[stage] if one == connection else set()
        for door in ("wire_in", "bus_in", "out"):
            frame = segment(one, payload=b"x", outbound=True) if door == "out" else segment(one, mac=ROUTER)
            own = {"own_out" if door == "out" else "own_in": 1}
            assert nic(door, frame) == (own if door in doors else shut[door]), door
            if door == "out":
                assert nic.left_by("wirep") == ([NEXT_HOP + frame[6:]] if door in doors else [])
            else:
                end = "busp" if door == "wire_in" else "wirep"
                assert nic.left_by(end) == ([] if door in doors else [frame])


@pytest.mark.parametrize("doors", range(8))
def test_each_door_by_itself(nic: Nic, doors: int) -> None:
    nic.stage(V4, "joined")
    nic.steering._set([V4], Steer(doors))
    own = {door: set(nic(door, segment(V4, outbound=door == "out"))) <= {"own_in", "own_out"} for door in BITS}
    assert own == {door: bool(doors & bit) for door, bit in BITS.items()}


def test_every_flag_of_a_silenced_segment_is_dropped(nic: Nic) -> None:
    for flags in ("R", "RA", "A", "FA", "S", "SA"):
        assert nic("out", segment(V4, flags=flags, outbound=True)) == {"silenced": 1}
    assert nic.left_by("wirep") == []


def test_what_is_not_tcp_passes_through_but_not_from_the_nic_itself(nic: Nic) -> None:
    nic.stage(V4, "joined")
    assert nic("wire_in", LAST[:-1]) == {"to_host": 1}
    assert nic("bus_in", LAST[:-2]) == {"to_wire": 1}
    assert nic("out", LAST[:-3]) == {"silenced": 1}
    assert (nic.left_by("busp"), nic.left_by("wirep")) == ([LAST[:-1]], [LAST[:-2]])


@CONNECTIONS
def test_only_the_host_opens_connections(nic: Nic, connection: Connection) -> None:
    """A SYN passes to the host even when an old connection of that name is still here; a SYN-ACK is the NIC's own."""
    nic.stage(connection, "joined")
    opening = segment(connection, flags="S")
    assert nic("wire_in", opening) == {"to_host": 1}
    assert nic.left_by("busp") == [opening]
    assert nic("wire_in", segment(connection, flags="SA")) == {"own_in": 1}


@CONNECTIONS
def test_a_syn_from_the_peer_is_never_sent_back_to_the_network(nic: Nic, connection: Connection) -> None:
    """The server forwards it here while its record says so (block 414): out of the wire it would come round again."""
    nic.stage(connection, "joined")
    nic("bus_in", segment(connection, flags="S"))
    assert nic.left_by("wirep") == []


@CONNECTIONS
def test_a_frame_that_the_switch_floods_for_another_mac_is_not_taken(nic: Nic, connection: Connection) -> None:
    """As by any NIC that does not listen to everything: else another team's frames would make records here."""
    mine = segment(connection)
    flooded = bytes.fromhex("0200000000aa") + mine[6:]
    nic.ports["wirep"].send(flooded)
    assert nic("wire_in", mine) == {"to_host": 1}
    assert nic.left_by("busp") == [mine]


@CONNECTIONS
@pytest.mark.parametrize("answers", [True, False])
def test_a_connection_that_has_ended(nic: Nic, connection: Connection, answers: bool) -> None:
    """Late segments still come to the NIC, whose TIME-WAIT answers them; without one nothing is said, not even RST."""
    nic.stage(connection, "joined")
    nic.steering.ended(connection, answers=answers)
    late, answer = segment(connection, flags="FA"), segment(connection, flags="R", outbound=True)
    for door in ("wire_in", "bus_in"):
        assert nic(door, late) == {"own_in": 1}
    assert nic("out", answer) == ({"own_out": 1} if answers else {"silenced": 1})


@CONNECTIONS
def test_a_syn_that_reuses_an_identifier_belongs_to_the_host_with_all_that_follows(
    nic: Nic, connection: Connection
) -> None:
    nic.stage(connection, "joined")
    nic.steering.ended(connection, answers=True)
    frames = [segment(connection, flags=flags) for flags in ("S", "A", "PA")]
    for frame in frames:
        assert nic("wire_in", frame) == {"to_host": 1}
    assert nic.left_by("busp") == frames
    assert nic.steering.seen(connection) is None


@CONNECTIONS
@pytest.mark.parametrize("door", ["wire_in", "bus_in"])
def test_a_neighbour_whose_mac_changes_is_answered_at_its_new_one(nic: Nic, connection: Connection, door: str) -> None:
    """It travels with the context, and the next frame from it says where it is now."""
    nic.stage(connection, "joined")
    answer = segment(connection, outbound=True)
    nic("out", answer)
    nic(door, segment(connection, mac="02:00:00:00:bb:03"))
    nic("out", answer)
    there = bytes.fromhex("02000000bb03") + answer[6:]
    assert nic.left_by("wirep") == [NEXT_HOP + answer[6:], there]


def test_what_a_frame_teaches_is_told_once(nic: Nic) -> None:
    """For other connections of that peer may be silent, here and in other NICs."""
    told: list[tuple[Connection, bytes]] = []
    ring = nic.steering.new_hops(lambda connection, mac: told.append((connection, mac)))
    for connection in (V4, V6):
        nic.stage(connection, "joined")
        nic("wire_in", segment(connection, mac=ROUTER))
    ring.consume()
    assert told == []
    for _ in range(2):
        nic("wire_in", segment(V4, mac="02:00:00:00:bb:03"))
    ring.consume()
    assert told == [(V4, bytes.fromhex("02000000bb03"))]
    assert nic.steering.next_hop(V4) == told[0][1]
    assert (nic.steering.next_hop(V6), nic.steering.next_hop(V4._replace(sport=1))) == (NEXT_HOP, None)


def test_two_routers_that_take_turns_are_not_followed_frame_by_frame(nic: Nic) -> None:
    told: list[bytes] = []
    ring = nic.steering.new_hops(lambda _, mac: told.append(mac))
    nic.stage(V4, "joined")
    began, frames = time.monotonic(), 200
    for n in range(frames):
        nic.ports["wirep"].send(segment(V4, mac=f"02:00:00:00:bb:0{n % 2}"))
    wait_for(lambda: nic.steering.counts().own_in == frames)
    took = time.monotonic() - began
    ring.consume()
    assert 1 <= len(told) <= 2 + took / 0.01


def test_a_new_neighbour(nic: Nic) -> None:
    """For those connections only that are named and here; nothing is counted anew."""
    other = V4._replace(sport=1)
    for one in (V4, other):
        nic.stage(one, "joined")
    frame = segment(V4, outbound=True)
    nic("out", frame)
    hop = bytes.fromhex("02000000bb02")
    nic.steering.update([V4, V6], hop)
    assert nic.left_by("wirep") == [NEXT_HOP + frame[6:]]
    nic("out", frame)
    nic("out", segment(other, outbound=True))
    assert nic.left_by("wirep") == [hop + frame[6:], NEXT_HOP + segment(other, outbound=True)[6:]]
    seen = nic.steering.seen(V4)
    assert seen is not None
    assert (seen.frames_out, seen.wire_bytes_out, nic.steering.seen(V6)) == (2, 2 * len(frame), None)


def test_the_entry_counts_frames_and_bytes(nic: Nic) -> None:
    nic.stage(V4, "joined")
    inward, outward = segment(V4, payload=b"x" * 100, mac=ROUTER), segment(V4, payload=b"y", outbound=True)
    for door, frame in (("wire_in", inward), ("bus_in", inward), ("out", outward)):
        nic(door, frame)
    _, hop, *counted, _, _ = steering._STEER.unpack(nic.steering._offloads.get(steering.key_of(V4)))
    assert (hop, counted) == (NEXT_HOP, [2, 2 * len(inward), 1, len(outward)])
    nic.steering.leaving([V4])
    _, hop, *still, _, _ = steering._STEER.unpack(nic.steering._offloads.get(steering.key_of(V4)))
    assert (hop, still) == (NEXT_HOP, counted)


def test_many_are_set_at_once(nic: Nic) -> None:
    """More than the kernel takes at a time; each gives its own next hop, and one that is not here none."""
    many = [V4._replace(sport=port) for port in range(1000, 1600)]
    hops = {one: one.sport.to_bytes(6) for one in many if one.sport != 1300}
    nic.steering.joining(hops)
    nic.steering.joined(many)
    doors = [nic.steering._offloads.get(steering.key_of(one)) for one in hops]
    assert {one and one[0] for one in doors} == {Steer.WIRE_IN | Steer.BUS_IN | Steer.OUT}
    assert list(nic.steering.leaving(many)) == [hops.get(one) for one in many]
    assert nic.steering._offloads.get(steering.key_of(many[300])) is None


def test_once_both_streams_have_ended_no_rst_gets_out(nic: Nic) -> None:
    """The kernel answers a late segment with one when the socket is gone, and its engine may not have noticed yet."""
    nic.steering.ending(V6)  # not here
    nic.stage(V4, "joining")
    for flags in ("R", "RA"):
        assert nic("out", segment(V4, flags=flags, outbound=True)) == {"own_out": 1}
    nic.steering.ending(V4)
    nic.steering.joined([V4])  # the agent's word may come later
    for flags in ("R", "RA"):
        assert nic("out", segment(V4, flags=flags, outbound=True)) == {"silenced": 1}
    for flags in ("A", "FA", "PA"):
        assert nic("out", segment(V4, flags=flags, outbound=True)) == {"own_out": 1}
    for door in ("wire_in", "bus_in"):
        assert nic(door, segment(V4, mac=ROUTER)) == {"own_in": 1}
    nic.steering.ended(V4, answers=True)
    assert nic("out", segment(V4, flags="R", outbound=True)) == {"silenced": 1}
    assert nic("out", segment(V4, flags="A", outbound=True)) == {"own_out": 1}
    nic.stage(V4, "back")
    assert nic("out", segment(V4, flags="R", outbound=True)) == {"own_out": 1}


def test_a_connection_that_is_not_here_does_not_join_by_leaving(nic: Nic) -> None:
    for step in (nic.steering.leaving, nic.steering.joined, nic.steering.left):
        step([V4])
        assert nic("wire_in", segment(V4)) == {"to_host": 1}


def test_nic_layouts(nic: Nic) -> None:
    assert map_sizes(nic.steering._offloads.fd) == (steering.KEY.size, steering._STEER.size)
    assert map_sizes(nic.steering._nic.fd) == (4, steering._PORTS.size)
    assert nic.steering.counts() == NicCounts(0, 0, 0, 0, 0)


# -- the server -------------------------------------------------------------------------------------------------------

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18  # linux/sched.h, linux/mount.h


@pytest.fixture
def bpf_directory(tmp_path: Path) -> Iterator[Path]:
    """A BPF file system of this test's own, in a mount namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    home, here = os.open("/proc/self/ns/mnt", os.O_RDONLY), os.getcwd()
    assert libc.unshare(CLONE_NEWNS) == 0
    assert libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) == 0
    assert libc.mount(b"bpf", bytes(tmp_path), b"bpf", 0, None) == 0
    yield tmp_path
    assert libc.setns(home, CLONE_NEWNS) == 0
    os.close(home)
    os.chdir(here)


class Server:
    """The frame path as the host engine sets it up, and as the agent opens it."""

    def __init__(self, ports: dict[str, Port], pins: Path):
        self.ports = ports
        self.steering = HostSteering("team0", ["bus0", "bus1", "bus2"], pins)
        silence(hold_of("team0"))
        self.records = Records.pinned(pins)
        assert self.records.team.live == ()  # which NICs are live, the agent says
        self.records.team = replace(self.records.team, live=(0, 1, 2))
        self.hold = Hold(open_tap(hold_of("team0"), keep=False))

    def seen(self) -> dict[str, list[bytes]]:
        """What came out since the last call, by team0 and the far ends of the buses."""
        self.ports["bus0p"].send(LAST)
        frames = {"team0": self.ports["team0"].read(until=LAST)}
        for n in range(3):
            self.ports[f"bus{n}"].send(LAST)
            frames[f"bus{n}p"] = self.ports[f"bus{n}p"].read(until=LAST)
        return {name: f for name, f in frames.items() if f}


@pytest.fixture
def server(namespace: None, programs: None, bpf_directory: Path) -> Iterator[Server]:
    with cables("team0", "bus0", "bus1", "bus2") as ports:
        one = Server(ports, bpf_directory)
        yield one
        os.close(one.hold.fd)  # the tap goes with its last descriptor


def test_the_next_host_engine_takes_over_what_is_pinned_and_begins_anew_where_that_is_not_all(
    server: Server, bpf_directory: Path
) -> None:
    buses = ["bus0", "bus1", "bus2"]
    server.records.put(V4, Record(1, offloaded=True))
    HostSteering("team0", buses, bpf_directory)
    assert Records.pinned(bpf_directory).get(V4) == Record(1, offloaded=True)
    (bpf_directory / PINNED_LAST).unlink()  # one that died before it had pinned all, and so before any agent
    os.close(server.hold.fd)
    HostSteering("team0", buses, bpf_directory)
    server.hold = Hold(open_tap(hold_of("team0"), keep=False))
    records = Records.pinned(bpf_directory)
    assert records.get(V4) is None
    records.team = replace(records.team, live=(0, 1, 2))
    frame = segment(V4)
    server.ports["bus2p"].send(frame)
    assert server.seen() == {"team0": [frame]}
    found = records.get(V4)
    assert found is not None
    assert found.nic == 2


@CONNECTIONS
def test_a_connection_of_the_host_goes_up_and_comes_back_by_the_nic_it_came_by(
    server: Server, connection: Connection
) -> None:
    for nic in (1, 2, 2, 0):
        frame, answer = segment(connection, payload=b"in"), segment(connection, payload=b"out", outbound=True)
        server.ports[f"bus{nic}p"].send(frame)
        assert server.seen() == {"team0": [frame]}
        server.ports["team0"].send(answer)
        assert server.seen() == {f"bus{nic}p": [answer]}
    record = server.records.get(connection)
    assert record is not None
    assert (record.nic, record.packets, record.host_segments, record.silenced) == (0, 4, 4, 0)


@CONNECTIONS
@pytest.mark.parametrize("arrives", [0, 1, 2])
def test_an_offloaded_connection_goes_to_its_owner_and_never_up(
    server: Server, connection: Connection, arrives: int
) -> None:
    server.records.put(connection, Record(2, offloaded=True))
    frame = segment(connection)
    server.ports[f"bus{arrives}p"].send(frame)
    assert server.seen() == {"bus2p": [frame]}
    server.ports["team0"].send(segment(connection, flags="R", outbound=True))
    assert server.seen() == {}
    record = server.records.get(connection)
    assert record is not None
    assert (record.host_segments, record.silenced, record.strays) == (0, 1, int(arrives != 2))


@CONNECTIONS
@pytest.mark.parametrize(("to_nic", "out"), [(True, "bus1p"), (False, "team0")], ids=["to a NIC", "to the host"])
def test_held_frames_go_in_order_to_whoever_owns_the_connection_then(
    server: Server, connection: Connection, to_nic: bool, out: str
) -> None:
    record = Record(0, offloaded=True, stage=Stage.HELD)
    server.records.put(connection, record)
    frames = [segment(connection, payload=bytes([n])) for n in range(20)]
    for n, frame in enumerate(frames):
        server.ports[f"bus{n % 3}p"].send(frame)
    wait_for(lambda: sum(server.records.counts(n)["held"] for n in range(3)) == 20)
    assert server.seen() == {}
    assert server.records.assign([Assignment(connection, 0, 1, to_nic, Stage.HELD, moved=True)]) == [True]
    assert server.hold.release([connection]) == {connection: 20}
    if to_nic:
        assert server.seen() == {out: frames}
    else:
        wait_for(lambda: server.records.get(connection).host_segments == 20)
        assert server.seen() == {out: frames}


def test_a_connection_that_left_the_host_is_silent(server: Server) -> None:
    server.steering.left([V4])  # no record: nothing to do
    record = Record(1, epoch=4, stage=Stage.HELD)
    server.records.put(V4, record)
    answer = segment(V4, outbound=True)
    server.ports["team0"].send(answer)
    assert server.seen() == {"bus1p": [answer]}
    server.steering.left([V4])
    server.ports["team0"].send(answer)
    assert server.seen() == {}
    expected = replace(record, stage=Stage.SILENT, bytes_out=len(answer), silenced=1)
    assert server.records.get(V4) == expected


def test_the_record_of_one_that_has_ended_stays_at_rest_when_its_time_wait_is_over(server: Server) -> None:
    """On the move for ever it would never age, and hold all frames of the next connection of that name."""
    record = Record(1, epoch=4, closing=True)
    server.records.put(V4, record)
    server.steering.left([V4])
    assert server.records.get(V4) == record


@pytest.mark.parametrize("live", [(0, 2), (1,), ()], ids=str)
def test_the_host_uses_live_nics_only(server: Server, live: tuple[int, ...]) -> None:
    """Frames of a record whose NIC is down, and frames without a record, go by hash over those that are up."""
    server.records.team = replace(server.records.team, live=live)
    frames = []
    for port in range(40000, 40040):
        connection = V4._replace(sport=port)
        if port % 2:
            server.records.put(connection, Record(1))
        frames.append(segment(connection, outbound=True))
        server.ports["team0"].send(frames[-1])
    seen = server.seen()
    assert set(seen) == {f"bus{n}p" for n in live}
    assert sorted(f for out in seen.values() for f in out) == (sorted(frames) if live else [])


@pytest.mark.parametrize(
    ("connection", "options"), [(V4, 0), (V6, 0), (V4, 40)], ids=["ipv4", "ipv6", "ipv4 with options"]
)
def test_headers_in_a_second_page_are_read(server: Server, connection: Connection, options: int) -> None:
    """Only the Ethernet header lies where a program sees it at once; options take all the room that IPv4 has."""
    server.records.put(connection, Record(2, offloaded=True))
    frame = segment(connection, payload=bytes(5000), options=b"\x01" * options)
    server.ports["bus1p"].send_in_pages(frame)
    assert server.seen() == {"bus2p": [frame]}


@CONNECTIONS
def test_a_frame_cut_short_goes_up(server: Server, connection: Connection) -> None:
    server.records.put(connection, Record(2, offloaded=True))
    whole = segment(connection)
    short = [whole[:size] for size in range(15, (54 if connection.ipv6 else 34) + 14)]
    for frame in short:
        server.ports["bus1p"].send(frame)
    assert server.seen() == {"team0": short}
    assert server.records.counts(1)["other"] == len(short)
