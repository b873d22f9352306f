"""The hold queue, over a real tap: one connection's frames come out again in order, and only when they are let out.

tap (frames redirected to it) --> Hold: a queue per connection --> tap, as if they came in
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Ether

from host_agent.connection import Connection
from host_agent.hold import Hold
from host_agent.tap import open_tap, set_up
from tests.kernel.frames import V4, V6, Port, segment, silence

pytestmark = pytest.mark.kernel

TAP = "holdtest"
LAST = bytes(Ether(type=0x88B5) / b"last")  # IEEE 802: for local experiments
CONNECTIONS = [V4, V6, V4._replace(sport=40001), V4._replace(src="10.0.0.12"), V6._replace(dport=443)]


@dataclass
class Queue:
    hold: Hold
    port: Port

    def queue(self, *frames: bytes) -> None:
        for frame in frames:
            self.port.send(frame)

    def release(self, connection: Connection) -> int:
        return self.hold.release([connection]).get(connection, 0)

    def came_out(self) -> list[bytes]:
        os.write(self.hold.fd, LAST)
        return self.port.read(until=LAST)


@pytest.fixture
def tap(namespace: None) -> Iterator[int]:
    fd = open_tap(TAP, keep=False)
    silence(TAP)
    set_up(TAP)
    yield fd
    os.close(fd)


@pytest.fixture
def queue(tap: int) -> Iterator[Queue]:
    port = Port(TAP)
    yield Queue(Hold(tap), port)
    port.close()


@pytest.mark.parametrize("connection", [V4, V6], ids=["ipv4", "ipv6"])
def test_frames_come_out_as_they_went_in(queue: Queue, connection) -> None:
    options = b"" if connection.ipv6 else b"\x01" * 8
    sizes = (0, 1, 1400, 6)
    frames = [segment(connection, payload=bytes(range(n % 256)), options=options) for n in sizes]
    queue.queue(*frames)
    queue.hold.sort()
    assert queue.came_out() == []
    assert queue.release(connection) == 4
    assert queue.came_out() == frames
    assert queue.release(connection) == 0


def test_release_takes_what_is_still_in_the_tap(queue: Queue) -> None:
    """In order behind what was taken before."""
    frames = [segment(V4, payload=bytes([n])) for n in range(10)]
    queue.queue(*frames[:5])
    queue.hold.sort()
    queue.queue(*frames[5:])
    assert queue.release(V4) == 10
    assert queue.came_out() == frames


def test_a_frame_that_came_too_late_for_its_release_is_not_kept(queue: Queue) -> None:
    """Else the last segment of a connection would wait for ever, and the peer would have to send it again."""
    moving, settled = segment(V4), segment(V6)
    queue.queue(moving, settled)
    queue.hold.take({V4})
    assert queue.came_out() == [settled]
    assert queue.release(V4) == 1
    assert queue.came_out() == [moving]


def test_nor_one_that_was_read_while_others_were_released(queue: Queue) -> None:
    """The descriptor tells of it no more."""
    moving, settled = segment(V4), segment(V6)
    queue.queue(moving, settled)
    assert queue.hold.waiting([V4]) == {V4}
    queue.hold.let_on({V4})
    assert queue.came_out() == [settled]
    queue.hold.let_on(set())
    assert queue.came_out() == []
    assert queue.release(V4) == 1


def test_several_are_let_out_together(queue: Queue) -> None:
    """Each in its order; who is not named waits."""
    frames = [segment(one, payload=bytes([n])) for n, one in enumerate(CONNECTIONS * 3)]
    queue.queue(*frames)
    some, other = CONNECTIONS[:-1], CONNECTIONS[-1]
    assert queue.hold.release([*some, V4._replace(sport=9)]) == dict.fromkeys(some, 3)
    came = queue.came_out()
    for n, _ in enumerate(some):
        assert [frame for frame in came if frame in frames[n :: len(CONNECTIONS)]] == frames[n :: len(CONNECTIONS)]
    assert len(came) == 3 * len(some)
    assert queue.release(other) == 3


def test_nothing_to_release(queue: Queue) -> None:
    queue.queue(segment(V6))
    assert queue.release(V4) == 0
    assert queue.came_out() == []


@given(
    came=st.lists(st.sampled_from(CONNECTIONS), max_size=40),
    order=st.permutations(CONNECTIONS),
    taken=st.integers(0, 40),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])  # a Hold per example
def test_a_release_lets_out_its_own_connection_only(tap: int, came, order, taken: int) -> None:
    port = Port(TAP)
    queue = Queue(Hold(tap), port)
    frames = [(c, segment(c, payload=bytes([n]))) for n, c in enumerate(came)]
    queue.queue(*(frame for _, frame in frames[:taken]))
    queue.hold.sort()
    queue.queue(*(frame for _, frame in frames[taken:]))
    for connection in order:
        mine = [frame for c, frame in frames if c == connection]
        assert queue.release(connection) == len(mine)
        assert queue.came_out() == mine
    port.close()


def test_what_is_no_segment_is_let_go(queue: Queue) -> None:
    """The kernel itself may put a frame on the tap."""
    held = segment(V4)
    ether = Ether(dst="02:00:00:00:00:01")
    v4, v6 = ether / IP(src=V4.src, dst=V4.dst), ether / IPv6(src=V6.src, dst=V6.dst)
    others = [ether / ARP(), v4 / UDP(), v6 / UDP(), v6 / IPv6ExtHdrHopByHop()]
    queue.queue(*(bytes(o) + bytes(40) for o in others), held)
    assert queue.release(V4) == 1
    assert queue.came_out() == [held]


@pytest.mark.parametrize("connection", [V4, V6], ids=["ipv4", "ipv6"])
def test_a_frame_cut_short_is_let_go(queue: Queue, connection) -> None:
    """Without its ports it belongs to nobody; the queue goes on."""
    whole, ports_end = segment(connection), (54 if connection.ipv6 else 34) + 4
    for size in range(15, len(whole) + 1):
        queue.queue(whole[:size])
        assert queue.release(connection) == int(size >= ports_end), size
