"""What an engine does with its connections beside moving them: frozen ones, refusals, ends, and the agent's verbs."""

import os
import socket
import time

import pytest

from host_agent import repair, segment
from host_agent.held import Saved
from host_agent.holding import FIN_TIMEOUT, TIME_WAIT
from host_agent.limits import Limits, Refused
from host_agent.tcp_info import FIN_WAIT2, state
from tests.kernel.moves import FAMILIES, both_send, finish, peek, peer_sysctl, small_window, tour, waiting
from tests.kernel.world import World, flags_of

pytestmark = pytest.mark.kernel
RST, ACK = 4, 16


def states(world: World, place: str) -> list[str]:
    return [one["state"] for one in world.engines[place].upkeep.describe()]


# -- frozen -----------------------------------------------------------------------------------------------------------


@FAMILIES
def test_frozen_and_thawed_it_goes_on(world: World, family: int) -> None:
    """With what the relay held in both directions, which is in the context all the same."""
    world.connect(family, peer_options=small_window)
    world.app_end.reads = world.peer_end.reads = False
    both_send(world, 30_000_000)
    held = world.held()
    world.until(lambda: held.relay.inward.held and waiting(world) > 100_000)
    for _ in range(3):
        context = peek(world)
        assert states(world, "host") == ["frozen"]
        assert context.received.startswith(held.frozen[1])
        world.settle(0.001)
        world.engines["host"].thaw(world.connection)
        assert states(world, "host") == ["live"]
        world.step()
    world.app_end.to_send = world.peer_end.to_send = 0
    finish(world)
    assert world.doors["host"].log[:4] == ["leaving", "left", "joining", "joined"]


def test_a_frozen_connection_says_nothing_and_hears_nothing(world: World) -> None:
    world.connect(socket.AF_INET)
    peek(world)
    before = world.peer_end.got_bytes, world.app_end.got_bytes
    world.pass_in = False
    both_send(world, 10_000)
    world.settle()
    assert (world.peer_end.got_bytes, world.app_end.got_bytes) == before
    world.engines["host"].thaw(world.connection)
    finish(world)


def test_saved_again_it_is_the_same(world: World) -> None:
    world.connect(socket.AF_INET)
    both_send(world, 500_000)
    world.step()
    one, two = peek(world), peek(world)
    assert one.timestamp is not None
    # A timer may have sent some of it meanwhile, to nowhere: the split into sent and unsent may differ.
    assert (one.snd_una, one.sent + one.unsent) == (two.snd_una, two.sent + two.unsent)
    assert (one.rcv_nxt, one.received) == (two.rcv_nxt, two.received)
    world.move("nic0")
    finish(world)


def test_only_what_is_frozen_is_thawed_or_discarded(world: World) -> None:
    connection = world.connect(socket.AF_INET)
    with pytest.raises(Refused, match="no such frozen"):
        world.engines["host"].thaw(connection)
    world.engines["host"].discard([connection])
    assert states(world, "host") == ["live"]
    with pytest.raises(Refused, match="no such frozen"):
        world.engines["nic0"].thaw(connection)
    world.engines["nic0"].discard([connection])
    with pytest.raises(repair.CannotMove, match="no such connection"):
        world.save("nic0")
    finish(world)


def test_what_came_back_replaces_what_was_frozen(world: World) -> None:
    """Nobody told the old engine that it was to be discarded."""
    connection = world.connect(socket.AF_INET)
    both_send(world, 100_000)
    discard = world.engines["host"].discard
    world.engines["host"].discard = lambda connections: None  # type: ignore[method-assign]
    world.move("nic0")
    world.engines["host"].discard = discard  # type: ignore[method-assign]
    assert (states(world, "host"), states(world, "nic0")) == (["frozen"], ["live"])
    both_send(world, 100_000)
    world.step()
    world.move("host")
    assert (states(world, "host"), states(world, "nic0")) == (["live"], [])
    assert connection in world.doors["host"].speaks
    finish(world)


# -- a dead link ------------------------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("moves", [True, False], ids=["moved", "stayed"])
def test_behind_a_dead_link_bytes_stay_with_the_application(world: World, family: int, moves: bool) -> None:
    """Elsewhere they go on at once, and here when the link is back; so does an application's end."""
    world.connect(family)
    world.move("nic0")
    world.engines["nic0"].fault = True
    world.app_end.to_send = 10_000
    world.settle()
    assert (world.app_end.sent_bytes, world.held().relay.outward.total, world.peer_end.got_bytes) == (10_000, 0, 0)
    world.peer_end.to_send = 10_000
    world.until(lambda: world.app_end.got_bytes == 10_000, "the other direction")
    if moves:
        assert not peek(world).unsent
        world.move("nic1")
    else:
        world.engines["nic0"].recovered()
    world.until(lambda: world.peer_end.got_bytes == 10_000, "what the application had sent")
    world.engines["nic0"].fault = True
    finish(world)


# -- refused ----------------------------------------------------------------------------------------------------------


def refusal(world: World, place: str, saved: Saved) -> str:
    """The channel is still whose it was."""
    refused = world.restore(place, saved)
    assert refused
    assert str(refused)
    return refused.reason


@FAMILIES
def test_refused_for_a_reason_and_thawed(world: World, family: int) -> None:
    connection = world.connect(family)
    both_send(world, 200_000)
    world.step()
    saved = world.save("host")
    no = Limits()
    own = "ipv6" if connection.ipv6 else "ipv4"
    for lacking in (own, "timestamps", "sack"):
        world.limit("nic0", Limits(0, no.features - {lacking}))
        assert refusal(world, "nic0", saved) == f"feature:{lacking}"
    world.limit("nic0", Limits(0, no.features - {"ipv4" if connection.ipv6 else "ipv6"}))
    world.engines["nic0"].fault = True
    assert refusal(world, "nic0", saved) == "fault"
    world.engines["nic0"].fault = False
    assert refusal(world, "nic0", saved._replace(context=saved.context[:-1])) == "context"
    with world.spaces["nic0"].inside(), socket.socket(family, socket.SOCK_STREAM) as taken:
        taken.bind((connection.dst, connection.dport))
        taken.listen()
        assert refusal(world, "nic0", saved._replace(context=b"")) == "context"
    assert states(world, "nic0") == []
    world.engines["host"].thaw(connection)
    finish(world)


def test_full(world: World) -> None:
    """A place is free again when a connection has left, not before."""
    connection = world.connect(socket.AF_INET)
    world.limit("nic0", Limits(1))
    others = world.engines["nic0"]._connections
    others[connection._replace(sport=1)] = None  # type: ignore[assignment]
    saved = world.save("host")
    assert refusal(world, "nic0", saved) == "full"
    others.clear()
    world.move("nic0")
    finish(world)


def test_what_lives_here_is_not_overwritten(world: World) -> None:
    connection = world.connect(socket.AF_INET)
    saved = world.save("host")
    world.engines["host"].thaw(connection)
    assert refusal(world, "host", saved) == "context"
    finish(world)


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("ip route replace default dev tun0 initcwnd 2", "ip route replace default dev tun0 initcwnd 256"),
        ("tc qdisc replace dev tun0 root pfifo limit 0", "tc qdisc del dev tun0 root"),
    ],
    ids=["first window", "full queue"],
)
def test_what_cannot_go_again_at_once_is_restored_as_sent(world: World, narrow: str, wide: str) -> None:
    """Linux would drop the acknowledgement of bytes that it has not sent yet, and wait for ever."""
    world.connect(socket.AF_INET)
    with world.spaces["nic0"].inside():
        assert os.system(narrow) == 0
    try:
        world.pass_in = False  # all is delivered, and no acknowledgement comes back
        world.app_end.to_send = 13_000
        world.until(lambda: world.peer_end.got_bytes == 13_000)
        assert len(peek(world).sent) == 13_000
        world.move("nic0", resend=True)
        assert len(peek(world).sent) == 13_000
        world.engines["nic0"].thaw(world.connection)
    finally:
        with world.spaces["nic0"].inside():
            os.system(wide)
    finish(world)


# -- ends -------------------------------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("first", ["application", "peer"])
def test_a_late_segment_after_the_end(world: World, family: int, first: str) -> None:
    """TIME-WAIT, where we were the first to close, answers it; else it meets silence. Never an RST."""
    world.connect(family)
    tour(world, 10_000)
    world.move("nic1")
    one, other = (world.app_end, world.peer_end) if first == "application" else (world.peer_end, world.app_end)
    one.wants_end = True
    world.until(lambda: other.got_end)
    finish(world)
    assert states(world, "nic1") == ["closing"]
    assert world.doors["nic1"].log[-1] == f"ended {first == 'application'}"
    out = world.waiting_out
    world.pass_out = False
    with world.peer_space.inside():
        ghost = segment._header(world.connection, 6, 20)
        tcp = bytearray(20)
        tcp[0:2], tcp[2:4] = world.connection.sport.to_bytes(2), world.connection.dport.to_bytes(2)
        tcp[12], tcp[13] = 5 << 4, ACK | 1
        pseudo = ghost[8:40] + (20).to_bytes(4) + (6).to_bytes(4) if family == socket.AF_INET6 else b""
        pseudo = pseudo or ghost[12:20] + b"\0\6" + (20).to_bytes(2)
        tcp[16:18] = segment._sum(pseudo + bytes(tcp)).to_bytes(2)
        if family == socket.AF_INET:
            head = bytearray(ghost)
            head[10:12] = segment._sum(ghost).to_bytes(2)
            ghost = bytes(head)
    os.write(world.spaces["nic1"].fd, ghost + bytes(tcp))
    world.settle()
    answers = [flags_of(packet) for packet in (out or world.waiting_out)]
    assert answers == ([ACK] if first == "application" else [])
    with pytest.raises(repair.CannotMove, match="it has ended here"):
        world.save("nic1")
    # After a minute nothing is left of it.
    (seconds, done) = world.loops["nic1"].timers[-1]
    assert seconds == TIME_WAIT
    done()
    assert states(world, "nic1") == []
    assert world.doors["nic1"].log[-1] == "left"


def test_invalidated_it_is_gone_and_only_the_application_hears_of_it(world: World) -> None:
    connection = world.connect(socket.AF_INET)
    world.move("nic0")
    sent = []
    world.settle()
    world.pass_out = False
    world.engines["nic0"].invalidate(connection)
    world.settle()
    sent = world.waiting_out
    assert sent == []
    assert states(world, "nic0") == []
    assert world.events[-1] == ("nic0", "closed", {"reason": "invalidated", "linger_s": 0.0})
    assert world.app.recv(1) == b""


def test_a_reset_by_the_peer_is_told(world: World) -> None:
    world.connect(socket.AF_INET)
    world.move("nic0")
    world.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    world.peer.close()
    deadline = time.monotonic() + 2
    while not world.events:
        assert time.monotonic() < deadline
        world.deliver()
        world.loops["nic0"].turn()
    place, event, facts = world.events[-1]
    assert (place, event, facts["reason"]) == ("nic0", "closed", "peer: Connection reset by peer")
    assert world.doors["nic0"].log[-1] == "ended False"


def finish_by_the_application(world: World) -> None:
    """It closes first, so that the TIME-WAIT is where the connection is."""
    world.app_end.wants_end = True
    world.until(lambda: world.peer_end.got_end)
    finish(world)


@FAMILIES
@pytest.mark.parametrize("timestamps", [0, 1])
def test_an_identifier_that_is_used_again_is_no_matter_to_a_nic_in_time_wait(
    world: World, family: int, timestamps: int
) -> None:
    """Without timestamps the kernel would refuse to make another connection of that name for a minute."""
    with peer_sysctl(world, tcp_timestamps=timestamps):
        connection = world.connect(family)
        world.move("nic0")
        both_send(world, 10_000)
        finish_by_the_application(world)
        world.peer.close()
        world.events.clear()
        world.owner = "host"
        assert world.connect(family, again=connection, seed=7) == connection
        both_send(world, 10_000)
        world.move("nic0")
        finish_by_the_application(world)


def test_a_new_connection_ends_what_is_left_of_an_old_one_of_its_name(world: World) -> None:
    """The kernel may have both at once, if the old one has ended and nobody has been told yet."""
    connection = world.connect(socket.AF_INET)
    old = world.held()
    (tcp, one), (channel, other) = socket.socketpair(), socket.socketpair()
    world.engines["host"].take(connection, tcp, channel)
    assert (old.tcp.fileno(), old.channel.fileno(), world.held().tcp) == (-1, -1, tcp)
    one.close()
    other.close()


@pytest.mark.parametrize("first", ["app", "peer"])
def test_the_steering_is_told_of_the_end_before_the_socket_is_gone(world: World, first: str) -> None:
    """A late segment that finds no socket, before anybody has noticed that, is answered with an RST."""
    world.connect(socket.AF_INET)
    world.move("nic0")
    (world.app_end if first == "app" else world.peer_end).wants_end = True
    world.until(lambda: world.peer_end.got_end if first == "app" else world.app_end.got_end)
    assert "ending" not in world.doors["nic0"].log
    world.move("nic1")
    finish(world)
    log = world.doors["nic1"].log
    assert (log.count("ending"), log[-1]) == (1, f"ended {first == 'app'}")


def test_an_application_that_is_gone_does_not_keep_a_half_closed_connection_for_ever(world: World) -> None:
    """FIN-WAIT-2 has its time (TCP_FIN_TIMEOUT) when nobody is left to read what the peer may send."""
    world.connect(socket.AF_INET)
    world.move("nic0")
    world.app_end.to_send = 5000
    world.until(lambda: world.peer_end.got_bytes == 5000)
    world.app.close()
    world.app, spare = socket.socketpair()  # for the turns of the world
    world.app.setblocking(False)
    loop = world.loops["nic0"]
    world.until(lambda: world.peer_end.got_end and state(world.held().tcp) == FIN_WAIT2)
    assert [seconds for seconds, _ in loop.timers] == [FIN_TIMEOUT]
    assert not world.events
    loop.timers.pop()[1]()
    ((place, event, facts),) = world.events
    assert (place, event, facts["reason"]) == ("nic0", "closed", "abandoned")
    assert states(world, "nic0") == ["closing"]
    assert world.doors["nic0"].log[-1] == "ended True"
    assert world.resets == 0
    world.peer_end.wants_end = True  # it may still end in good order
    world.until(lambda: state(world.peer) == 7)
    assert world.resets == 0
    spare.close()


def test_an_application_that_only_finished_sending_may_read_for_ever(world: World) -> None:
    world.connect(socket.AF_INET)
    world.move("nic0")
    world.app_end.wants_end = True
    world.until(lambda: world.peer_end.got_end and state(world.held().tcp) == FIN_WAIT2)
    assert world.loops["nic0"].timers == []
    finish(world)


def test_a_nic_whose_memory_is_short_asks_for_uploads(world: World) -> None:
    """It takes no more until there is room."""
    world.limit("nic0", Limits(memory=100_000))
    world.connect(socket.AF_INET)
    world.move("nic0")
    (_, look), *_ = world.loops["nic0"].timers
    look()
    assert world.events == []
    world.pass_out, world.app_end.to_send = False, 400_000
    world.settle()
    look()
    look()
    assert world.events == [("nic0", "upload_requested", {"reason": "low_memory"})]
    with pytest.raises(Refused, match="of 100000 that there are") as refused:
        world.engines["nic0"].limits.check(peek(world), 1, world.engines["nic0"].upkeep.memory(), fault=False)
    assert refused.value.reason == "full"
    world.engines["nic0"].thaw(world.connection)
    world.pass_out = True
    world.move("host")
    finish(world)


def test_urgent_data_asks_for_an_upload_and_is_a_byte_of_the_stream(world: World) -> None:
    world.connect(socket.AF_INET)
    world.move("nic0")
    world.peer_end.to_send = 5000
    world.settle()
    world.pass_in = False
    world.peer.send(b"!", socket.MSG_OOB)
    world.peer_end.sent.update(b"!")
    world.peer_end.to_send = 5000
    world.settle()
    world.pass_in = True
    world.deliver()
    with pytest.raises(repair.CannotMove, match="urgent data pending"):
        world.move("host")
    world.pass_in = True
    world.until(lambda: world.app_end.got_bytes == 10_001)
    assert [one for one in world.events if one[1] == "upload_requested"] == [
        ("nic0", "upload_requested", {"reason": "urgent_data"})
    ]
    world.move("host")
    finish(world)


def test_out_of_order_bytes_are_lost_and_said_to_be(world: World) -> None:
    world.connect(socket.AF_INET)
    world.peer_end.to_send = 3000
    world.settle()
    world.pass_in = False
    world.peer_end.to_send = 5 * 1448
    world.peer_end.turn(world.peer)
    world.deliver()
    first, *rest = world.waiting_in
    for packet in rest:
        os.write(world.spaces["host"].fd, packet)
    told = world.move("nic0")
    assert told.out_of_order_segments >= 1
    assert told.out_of_order_memory > 1448
    os.write(world.spaces["nic0"].fd, first)
    finish(world)


def test_release_opens_no_doors_of_what_has_ended(world: World) -> None:
    """The agent's word may come when all is over."""
    connection = world.connect(socket.AF_INET)
    world.move("nic0")
    finish(world)
    log = list(world.doors["nic0"].log)
    world.engines["nic0"].joined([connection])
    assert world.doors["nic0"].log == log
    assert state(world.peer) == 7
