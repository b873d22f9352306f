"""What the tests of moving connections share: both ends send, the connection tours the engines, and all is checked."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from host_agent import repair, tcp_info
from host_agent.context import Context
from host_agent.tcp_info import state
from host_agent.told import Told
from tests.kernel.world import World, sysctl

TOUR = ("nic0", "nic1", "host", "nic1", "host")
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])


def finish(world: World) -> None:
    """Both streams to their ends; nothing was lost, doubled or reset."""
    world.pass_in = world.pass_out = True
    world.lossy = False
    for end in (world.app_end, world.peer_end):
        end.reads = end.wants_end = True
    world.until(lambda: world.app_end.got_end and world.peer_end.got_end, "ends of stream")
    assert world.app_end.got.digest() == world.peer_end.sent.digest()
    assert world.peer_end.got.digest() == world.app_end.sent.digest()
    world.until(lambda: ("closed", "finished") in [(e, f["reason"]) for _, e, f in world.events], "closed")
    world.until(lambda: state(world.peer) == 7, "the peer's end")  # TIME-WAIT keeps no socket
    world.settle(0.005)
    assert world.resets == 0
    assert [f["reason"] for _, e, f in world.events if e == "closed"] == ["finished"]


def both_send(world: World, size: int) -> None:
    """On top of all that is still under way."""
    for end in (world.app_end, world.peer_end):
        if not end.wants_end:
            end.to_send += size


def tour(world: World, size: int = 300_000, *, resend: bool = False) -> list[Told]:
    """Moves in the middle of both streams, as far as they are still open."""
    saved = []
    for target in TOUR:
        both_send(world, size)
        for _ in range(3):
            world.step()
        saved.append(world.move(target, resend=resend))
        for _ in range(3):
            world.step()
    return saved


def waiting(world: World) -> int:
    """Bytes that TCP has for the relay."""
    return tcp_info.count(world.held().tcp, repair.SIOCINQ)


def small_window(s: socket.socket) -> None:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)


def peek(world: World) -> Context:
    """Freezes the connection, as save does, and leaves it so. All of it is asked of the socket itself."""
    world.held().settings = None
    return Context.unpack(world.save(world.owner).context)


@contextmanager
def peer_sysctl(world: World, **values: int) -> Iterator[None]:
    """In all namespaces; ecn is negotiated by both ends."""
    spaces = (*world.spaces.values(), world.peer_space)
    before = {}
    for space in spaces:
        with space.inside():
            for key, value in values.items():
                before[key] = Path(f"/proc/sys/net/ipv4/{key}").read_text().strip()
                sysctl(f"net/ipv4/{key}", value)
    try:
        yield
    finally:
        for space in spaces:
            with space.inside():
                for key, text in before.items():
                    sysctl(f"net/ipv4/{key}", text)
