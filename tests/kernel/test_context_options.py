"""Queues, windows, socket options, negotiated options and wrapping sequence numbers move, as test_context_matrix.py
has the states: host -> NIC -> NIC -> host, both ends sending, both streams compared at the end, no RST at the peer."""

import os
import socket
import subprocess

import pytest

from host_agent import repair
from host_agent.connection import Connection
from host_agent.context import Context, Options, Window
from host_agent.held import Saved
from host_agent.tcp_info import PLACES, info
from tests.kernel import test_context_matrix as matrix
from tests.kernel.moves import FAMILIES, TOUR, both_send, finish, peek, peer_sysctl, small_window, tour, waiting
from tests.kernel.world import MAC, Namespace, World, _packets, _ports

pytestmark = pytest.mark.kernel
TCP = socket.IPPROTO_TCP


@FAMILIES
@pytest.mark.parametrize("whose", ["peer", "ours", "both"])
def test_a_window_that_is_shut(world: World, family: int, whose: str) -> None:
    """Moved while nothing may be sent: by us (the peer does not read), by the peer (the application does not), both."""
    world.connect(family, peer_options=small_window)
    held = {"peer": [world.peer_end], "ours": [world.app_end], "both": [world.peer_end, world.app_end]}[whose]
    for end in held:
        end.reads = False
    both_send(world, 30_000_000 if whose != "peer" else 3_000_000)
    if whose == "peer":
        world.until(lambda: world.app_end.got_bytes == 3_000_000)
    else:
        world.until(lambda: waiting(world) > 100_000 and info(world.held().tcp).rcv_wnd < 65536, "a shut window")
    world.settle()
    for target in TOUR:
        context = peek(world)
        if whose != "ours":
            assert context.window.snd_wnd < 2 * 1448
            assert context.unsent
        if whose != "peer":
            assert len(context.received) > 100_000
        world.move(target)
        world.settle(0.002)
    for end in held:
        end.reads = True
    for end in (world.app_end, world.peer_end):
        end.to_send = min(end.to_send, 100_000)
    finish(world)


@FAMILIES
@pytest.mark.parametrize("resend", [False, True])
@pytest.mark.parametrize("said", [0, 100])
def test_one_that_waits_says_nothing_before_its_release(world: World, family: int, resend: bool, said: int) -> None:
    """Then what the application has goes out; a probe goes instead, if there is none and one is wanted."""
    connection = world.connect(family)
    both_send(world, 50_000)
    world.settle()
    before, world.pass_out = world.peer_end.got_bytes, False
    saved = world.save("host")
    assert world.restore("nic0", saved, resend=resend, wait=True) is None
    world.engines["host"].discard([connection])
    world.owner = "nic0"
    world.app_end.to_send = said
    world.settle()
    assert world.waiting_out == []
    world.engines["nic0"].joined([connection])
    world.deliver()
    assert len(world.waiting_out) == (1 if said or resend else 0)
    world.pass_out = True
    world.settle()
    assert world.peer_end.got_bytes == before + said
    finish(world)


@FAMILIES
def test_one_that_waits_can_leave_again(world: World, family: int) -> None:
    connection = world.connect(family)
    both_send(world, 50_000)
    world.settle()
    for old, new in (("host", "nic0"), ("nic0", "host")):
        assert world.restore(new, world.save(old), resend=True, wait=new == "nic0") is None
        world.engines[old].discard([connection])
        world.owner = new
    finish(world)


@FAMILIES
def test_a_window_that_opens_during_the_move_and_is_lost(world: World, family: int) -> None:
    """The peer's window update never arrives: probes find out, from the new place."""
    world.connect(family, peer_options=small_window)
    world.peer_end.reads = False
    both_send(world, 500_000)
    world.settle()
    peek(world)
    world.pass_in, world.lossy = False, True
    world.peer_end.reads = True
    world.settle()
    assert world.peer_end.got_bytes
    world.pass_in = True
    world.move("nic0")
    finish(world)


OPTIONS = Options(
    **{"nodelay": 1, "keepalive": 1, "keep_idle": 33, "keep_interval": 7, "keep_count": 4},
    **{"user_timeout": 77_000, "tos": 0x48, "hop_limit": 33, "priority": 4, "linger2": 9},
)


@FAMILIES
@pytest.mark.parametrize("cork", [0, 1])
@pytest.mark.parametrize("congestion", ["reno", "cubic", "bbr"])
def test_socket_options(world: World, family: int, congestion: str, cork: int) -> None:
    connection = world.connect(family)
    options = OPTIONS._replace(cork=cork, nodelay=1 - cork, priority=4 * cork)
    for where, value in zip(PLACES[connection.ipv6], options, strict=True):
        world.tcp.setsockopt(*where, value)
    world.tcp.setsockopt(TCP, socket.TCP_CONGESTION, congestion.encode())
    before = peek(world)
    assert (before.options, before.congestion) == (options, congestion)
    tour(world, 50_000)
    after = peek(world)
    for field in ("options", "congestion", "mss", "snd_wscale", "rcv_wscale", "sack", "sndbuf", "buffer_locks"):
        assert getattr(after, field) == getattr(before, field), field
    world.move("nic0")
    finish(world)


def test_a_corked_piece_stays_corked(world: World) -> None:
    """What the application is still collecting is not sent by a move."""
    world.connect(socket.AF_INET)
    world.tcp.setsockopt(TCP, socket.TCP_CORK, 1)
    world.app_end.to_send = 100
    for _ in range(3):
        world.step()
    for target in TOUR:
        world.move(target)
    world.settle(0.02)
    assert world.peer_end.got_bytes == 0
    world.held().tcp.setsockopt(TCP, socket.TCP_CORK, 0)
    world.until(lambda: world.peer_end.got_bytes == 100, limit=0.1)
    finish(world)


def test_what_was_sent_before_the_cork_is_sent_again_at_once(world: World) -> None:
    """Linux would keep a corked piece for 200 ms, and Nagle's for an acknowledgement."""
    world.connect(socket.AF_INET)
    world.pass_out, world.lossy = False, True
    world.app_end.to_send = 100
    world.until(lambda: world.held().relay.outward.total == 100)
    world.held().tcp.setsockopt(TCP, socket.TCP_CORK, 1)
    world.settle()
    world.pass_out, world.lossy = True, False
    assert len(peek(world).sent) == 100
    world.move("nic0", resend=True)
    world.until(lambda: world.peer_end.got_bytes == 100, limit=0.15)
    assert peek(world).options.cork == 1
    world.move("host")
    finish(world)


@FAMILIES
def test_a_short_timeout_stays_short(world: World, family: int) -> None:
    """A namespace that never had to do with this peer hears that its round trips are short; the wire hears nothing."""
    world.connect(family)
    both_send(world, 50_000)
    world.settle()
    assert info(world.tcp).rto < repair.SHORT_RTO
    for space in world.spaces.values():
        _knows_no_peer(space)
    for target in TOUR:
        world.move(target)
        told = info(world.held().tcp)
        assert (told.srtt, told.rto < repair.SHORT_RTO) == (0, True)
        assert not [one for one in _packets(world.spaces[target].fd) if _ports(one) == {repair.DISCARD}]
    finish(world)


def test_a_long_timeout_is_not_made_short(world: World) -> None:
    stranger = world.connect(socket.AF_INET)._replace(src="10.9.0.99")
    context = peek(world)._replace(connection=stranger)
    with world.spaces["nic0"].inside():
        for rto, short in ((2 * repair.SHORT_RTO, False), (repair.SHORT_RTO, False), (repair.SHORT_RTO - 1, True)):
            with repair.restore(context._replace(rto=rto)) as s:
                assert (info(s).rto < 1_000_000) == short


def test_a_timeout_that_was_doubled_counts_as_it_was(world: World) -> None:
    """Where nothing is acknowledged; a window that is shut doubles another one."""
    world.connect(socket.AF_INET, peer_options=small_window)
    both_send(world, 50_000)
    world.settle()
    world.pass_out, world.lossy = False, True
    world.app_end.to_send = 1000
    world.until(lambda: info(world.tcp).backoff >= 1 and info(world.tcp).rto >= repair.SHORT_RTO, "a timeout")
    assert peek(world).rto < repair.SHORT_RTO
    assert world.engines["host"].thaw(world.connection) is None
    world.pass_out, world.lossy, world.peer_end.reads = True, False, False
    world.app_end.to_send = 500_000
    world.until(lambda: info(world.tcp).backoff >= 1 and not info(world.tcp).unacked, "a window probe")
    context = peek(world)
    assert context.rto == info(world.tcp).rto
    world.move("nic0")
    finish(world)


def _knows_no_peer(space: Namespace) -> None:
    with space.inside():
        subprocess.run(["ip", "tcp_metrics", "flush"], check=True)


NEGOTIATED = {
    "no window scaling": {"tcp_window_scaling": 0},
    "no sack": {"tcp_sack": 0},
    "no timestamps": {"tcp_timestamps": 0},
    "nothing": {"tcp_window_scaling": 0, "tcp_sack": 0, "tcp_timestamps": 0},
    "ecn": {"tcp_ecn": 1},
}


@FAMILIES
@pytest.mark.parametrize("what", NEGOTIATED)
@pytest.mark.parametrize("resend", [False, True], ids=["", "resend"])
def test_negotiated_options(world: World, family: int, what: str, resend: bool) -> None:
    with peer_sysctl(world, **NEGOTIATED[what]):
        world.connect(family)
        context = peek(world)
        assert (context.snd_wscale is None) == ("tcp_window_scaling" in NEGOTIATED[what])
        assert context.sack == ("tcp_sack" not in NEGOTIATED[what])
        assert (context.timestamp is None) == ("tcp_timestamps" in NEGOTIATED[what])
        assert context.ecn == (what == "ecn")
        saved = tour(world, 100_000, resend=resend)
        # Nothing restores ECN: the connection goes on without, and says so, once.
        assert [one.ecn for one in saved] == [int(what == "ecn"), 0, 0, 0, 0]
        after = peek(world)
        for field in ("snd_wscale", "rcv_wscale", "sack", "mss"):
            assert getattr(after, field) == getattr(context, field), field
        assert (after.timestamp is None) == (context.timestamp is None)
        world.move("nic1")
        finish(world)


@FAMILIES
def test_a_small_segment_size(world: World, family: int) -> None:
    world.connect(family, peer_options=lambda s: s.setsockopt(TCP, socket.TCP_MAXSEG, 700))
    before = info(world.tcp).snd_mss
    assert before <= 700
    tour(world, 100_000)
    assert info(world.held().tcp).snd_mss == before
    finish(world)


@FAMILIES
def test_a_path_of_its_own(world: World, family: int) -> None:
    """The path's MTU is learned by one NIC, and travels to the next."""
    connection = world.connect(family)
    world.move("nic0")
    with world.spaces["nic0"].inside():
        world.engines["nic0"].upkeep.new_mtu(connection.src, 1300)
    world.app_end.to_send = 100_000
    world.until(lambda: world.peer_end.got_bytes == 100_000)
    assert peek(world).mtu == 1300
    world.move("nic1")
    assert peek(world).mtu == 1300
    world.move("host")
    world.app_end.to_send = 100_000
    world.until(lambda: world.peer_end.got_bytes == 200_000)
    assert world.longest_out <= 1300
    finish(world)


def sequence_number(packet: bytes) -> int:
    start = (packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 40
    return int.from_bytes(packet[start + 4 : start + 8])


@FAMILIES
def test_a_router_finds_a_segment_too_big(world: World, family: int) -> None:
    """It says so to the team's address, and some NIC hands that to the host. Told to the NIC of the connection, the
    segments go again at once, smaller; not if the message quotes what was not sent."""
    connection = world.connect(family)
    world.move("nic0")
    world.pass_out, world.app_end.to_send = False, 5000
    world.settle()
    lost = [packet for packet in world.waiting_out if len(packet) > 1280]
    assert lost
    seq = sequence_number(lost[0])
    with world.spaces["nic0"].inside():
        assert not world.engines["nic0"].upkeep.too_big(connection, 1280, (seq - 10_000_000) % 2**32)
        world.waiting_out.clear()
        assert world.engines["nic0"].upkeep.too_big(connection, 1280, seq)
    world.settle(0.001)
    again = [packet for packet in world.waiting_out if sequence_number(packet) == seq]
    assert again
    assert max(len(packet) for packet in again) <= 1280
    world.pass_out = True
    world.until(lambda: world.peer_end.got_bytes == 5000)
    assert world.longest_out <= 1280
    finish(world)


# -- sequence numbers that wrap ---------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("beyond", range(-2, 3))
@pytest.mark.parametrize("way", ["fin_wait1_sent", "fin_wait2", "close_wait_read", "last_ack_sent", "closing_sent"])
def test_sequence_numbers_wrap_at_the_fin(world: World, family: int, way: str, beyond: int) -> None:
    """Both FINs come to lie around 2**32: from two before to two behind."""
    ours = {"fin_wait1_sent": 8000, "fin_wait2": 50_000, "last_ack_sent": 3000, "closing_sent": 3000}.get(way, 1000)
    theirs = {"closing_sent": 2000}.get(way, 1000)
    world.connect(family)
    shift(world, snd=(2**32 + beyond - ours) % 2**32, rcv=(2**32 + beyond - theirs) % 2**32)
    getattr(matrix, way)(world)
    reached = matrix.tcp_state(world)
    for target in TOUR:
        world.move(target)
        assert matrix.tcp_state(world) == reached
    finish(world)


@FAMILIES
def test_sequence_numbers_wrap_in_mid_stream(world: World, family: int) -> None:
    world.connect(family)
    shift(world, snd=2**32 - 200_000, rcv=2**32 - 150_000)
    tour(world, 100_000)
    finish(world)


def shift(world: World, *, snd: int, rcv: int) -> None:
    """Gives an idle connection other sequence numbers, at both ends."""
    backward = Connection(*world.connection[2:], *world.connection[:2])
    ours = peek(world)
    with world.peer_space.inside():
        repair.freeze([world.peer])
        theirs = repair.read(world.peer, backward, MAC).context
        repair.discard(world.peer)
        world.peer = repair.restore(_shifted(theirs, rcv, snd))
        repair.resume(world.peer, theirs, probe=False)
    channel = os.dup(world.held().channel.fileno())
    world.engines["host"].discard([world.connection])
    assert world.restore("host", Saved(world.connection, {}, _shifted(ours, snd, rcv).pack(), channel)) is None
    os.close(channel)


def _shifted(c: Context, snd: int, rcv: int) -> Context:
    w = c.window
    return c._replace(snd_una=snd, rcv_nxt=rcv, window=Window(rcv, w.snd_wnd, w.max_window, w.rcv_wnd, rcv))
