"""Every state and option that moves, moved host -> NIC -> NIC -> host while both ends keep sending.

Afterwards both streams go to their ends, are compared by SHA-256, and not one RST may have come to the peer. The ends
close then, to the last acknowledgement.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from host_agent.context import Context, State
from host_agent.restoring import Restoring
from host_agent.tcp_info import state
from tests.kernel.moves import FAMILIES, TOUR, both_send, finish, peek, small_window, tour
from tests.kernel.world import World

pytestmark = pytest.mark.kernel

TCP = socket.IPPROTO_TCP


@FAMILIES
@pytest.mark.parametrize("resend", [False, True], ids=["", "resend"])
def test_established(world: World, family: int, resend: bool) -> None:
    world.connect(family)
    saved = tour(world, resend=resend)
    assert {one.state for one in saved} == {"ESTABLISHED"}
    finish(world)
    assert world.app_end.sent_bytes == world.peer_end.sent_bytes == 5 * 300_000


# -- half-closed ------------------------------------------------------------------------------------------------------


def close_wait(world: World) -> None:
    """The peer has ended its stream, and the application has not read all of it."""
    world.app_end.reads = False
    world.peer_end.to_send = 1_000_000
    world.peer_end.wants_end = True
    world.app_end.to_send = 1_000_000
    world.settle()
    world.app_end.reads = True
    world.until(lambda: tcp_state(world) == State.CLOSE_WAIT)


def close_wait_read(world: World) -> None:
    """… and the application has read the end."""
    world.peer_end.to_send = 1000
    world.peer_end.wants_end = True
    world.until(lambda: world.app_end.got_end)


def close_wait_without_bytes(world: World) -> None:
    world.peer_end.wants_end = True
    world.until(lambda: world.app_end.got_end)


def fin_wait1_unsent(world: World) -> None:
    """The application has ended; the peer does not read, so that bytes and FIN wait for its window."""
    fill_small_window(world)
    world.until(lambda: tcp_state(world) == State.FIN_WAIT1)


def fill_small_window(world: World) -> None:
    world.peer_end.reads = False
    world.app_end.to_send = 200_000
    world.app_end.wants_end = True
    world.until(lambda: world.held().relay.outward.done)
    world.settle()


def fin_wait1_lost(world: World) -> None:
    """The last bytes and the FIN were sent, and lost."""
    world.app_end.to_send = 5000
    world.until(lambda: world.peer_end.got_bytes == 5000)
    world.pass_out, world.lossy = False, True
    end_here(world)


def fin_wait1_sent(world: World) -> None:
    """The peer has it all, but its acknowledgement is still on the way."""
    world.app_end.to_send = 5000
    world.until(lambda: world.peer_end.got_bytes == 5000)
    world.settle(0.005)
    world.pass_in = False
    end_here(world)
    world.until(lambda: world.peer_end.got_end)


def end_here(world: World) -> None:
    world.app_end.to_send = 3000
    world.app_end.wants_end = True
    world.until(lambda: world.held().relay.outward.done)
    world.step()


def fin_wait2(world: World) -> None:
    world.app_end.to_send = 50_000
    world.app_end.wants_end = True
    world.until(lambda: tcp_state(world) == State.FIN_WAIT2)


def fin_wait2_without_bytes(world: World) -> None:
    world.app_end.wants_end = True
    world.until(lambda: tcp_state(world) == State.FIN_WAIT2)


def last_ack_lost(world: World) -> None:
    close_wait_read(world)
    world.pass_out, world.lossy = False, True
    end_here(world)


def last_ack_sent(world: World) -> None:
    close_wait_read(world)
    world.settle(0.005)
    world.pass_in = False
    end_here(world)
    world.until(lambda: world.peer_end.got_end)


def last_ack_unsent(world: World) -> None:
    """The peer has ended and does not read: our bytes and FIN wait for its window."""
    close_wait_read(world)
    fill_small_window(world)


def closing_lost(world: World) -> None:
    """Both have ended at once; ours was lost."""
    world.pass_out, world.lossy = False, True
    end_here(world)
    world.peer_end.to_send = 2000
    world.peer_end.wants_end = True
    world.until(lambda: tcp_state(world) == State.CLOSING)


def closing_sent(world: World) -> None:
    """Both have ended at once, and neither knows what the other has got."""
    world.pass_in = world.pass_out = False
    end_here(world)
    world.peer_end.to_send = 2000
    world.peer_end.wants_end = True
    for _ in range(5):
        world.step()
    world.pass_in = True
    world.until(lambda: tcp_state(world) == State.CLOSING)
    world.pass_in = False
    world.pass_out = True
    world.until(lambda: world.peer_end.got_end)


def closing_unsent(world: World) -> None:
    fill_small_window(world)
    world.peer_end.wants_end = True
    world.until(lambda: tcp_state(world) == State.CLOSING)


def tcp_state(world: World) -> int:
    return state(world.held().tcp)


@dataclass(frozen=True)
class Case:
    reach: Callable[[World], None]
    state: State
    fin_sent: bool
    resend: bool = False  # what was in flight is lost: as after the loss of a link


CASES = [
    Case(close_wait, State.CLOSE_WAIT, False),
    Case(close_wait, State.CLOSE_WAIT, False, resend=True),
    Case(close_wait_read, State.CLOSE_WAIT, False),
    Case(close_wait_without_bytes, State.CLOSE_WAIT, False),
    Case(fin_wait1_unsent, State.FIN_WAIT1, False),
    Case(fin_wait1_unsent, State.FIN_WAIT1, False, resend=True),
    Case(fin_wait1_lost, State.FIN_WAIT1, True),
    Case(fin_wait1_lost, State.FIN_WAIT1, True, resend=True),
    Case(fin_wait1_sent, State.FIN_WAIT1, True),
    Case(fin_wait1_sent, State.FIN_WAIT1, True, resend=True),
    Case(fin_wait2, State.FIN_WAIT2, True),
    Case(fin_wait2, State.FIN_WAIT2, True, resend=True),
    Case(fin_wait2_without_bytes, State.FIN_WAIT2, True),
    Case(last_ack_lost, State.LAST_ACK, True),
    Case(last_ack_lost, State.LAST_ACK, True, resend=True),
    Case(last_ack_sent, State.LAST_ACK, True),
    Case(last_ack_unsent, State.LAST_ACK, False),
    Case(closing_lost, State.CLOSING, True),
    Case(closing_lost, State.CLOSING, True, resend=True),
    Case(closing_sent, State.CLOSING, True),
    Case(closing_unsent, State.CLOSING, False),
]


SMALL = (fin_wait1_unsent, last_ack_unsent, closing_unsent)


def name(case: Case) -> str:
    return case.reach.__name__ + ("-resend" if case.resend else "")


@FAMILIES
@pytest.mark.parametrize("case", CASES, ids=name)
def test_half_closed(world: World, family: int, case: Case) -> None:
    world.connect(family, peer_options=small_window if case.reach in SMALL else lambda s: None)
    case.reach(world)
    assert tcp_state(world) == case.state
    first = True
    for target in TOUR:
        both_send(world, 100_000)
        context = peek(world)
        assert context.state == case.state
        assert context.fin_sent == case.fin_sent or not first
        world.move(target, resend=case.resend)  # a frozen connection is saved again
        assert tcp_state(world) == case.state
        first = False
        world.step()
    finish(world)


def test_where_both_streams_have_ended_no_rst_is_allowed_before_the_socket_speaks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last segment may be answered at once; what comes then finds no socket, and nobody has looked yet."""
    world.connect(socket.AF_INET)
    last_ack_lost(world)
    log, resumed = world.doors["nic0"].log, Restoring.resumed

    def logged(how: Restoring, context: Context) -> socket.socket:
        log.append("resumed")
        return resumed(how, context)

    monkeypatch.setattr(Restoring, "resumed", logged)
    world.move("nic0", resend=True)
    assert log[:3] == ["joining", "ending", "resumed"]
    finish(world)
