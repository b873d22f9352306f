"""A wire's loss is heard when its far end is closed, before rtnetlink has told of it; nothing else is taken for one.

far ── veth ── near (the wire)        other ends of other wires
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from host_agent import link_loss
from host_agent.link_loss import LinkLoss
from host_agent.rtnetlink import CarrierWatch
from tests.turned import TurnedLoop
from topologies import capabilities

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(bool(capabilities.missing(["link_tracing"])), reason="the kernel tells of no emptied queue"),
]


class Wires:
    def __init__(self) -> None:
        self.lost: list[int] = []
        self.loop = TurnedLoop()
        self._loss = LinkLoss(self.loop, self.lost.append)
        namespace = os.stat("/proc/self/ns/net").st_ino
        for nic in range(2):
            self.ip(f"link add name near{nic} type veth peer name far{nic}")
            self.ip(f"link set near{nic} up")
            self.ip(f"link set far{nic} up")
        self._wires = [(namespace, socket.if_nametoindex(f"near{nic}")) for nic in range(2)]
        self.engine_speaks(0)
        self.loop.timers.pop()[1]()
        self.until(lambda: self._loss._wires)
        self.engine_speaks(1)

    def engine_speaks(self, nic: int) -> None:
        self._loss.watch(nic, self._wires[nic])

    def ip(self, words: str, program: str = "ip") -> None:
        subprocess.run([program, *words.split()], check=True)

    def until(self, holds) -> None:
        deadline = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < deadline
            self.loop.turn()

    def close(self) -> None:
        for nic in range(2):
            self.ip(f"link delete near{nic}")


@pytest.fixture
def wires(namespace: None, programs: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wires]:
    monkeypatch.setattr(link_loss, "LATER", 0.0)
    wires = Wires()
    yield wires
    wires.close()


def test_the_far_end_of_a_wire_is_closed(wires: Wires) -> None:
    wires.ip("link set far1 down")
    wires.until(lambda: wires.lost)
    wires.ip("link set far0 down")
    wires.until(lambda: 0 in wires.lost)
    assert wires.lost == sorted(wires.lost, reverse=True)


def test_what_is_no_loss_of_a_carrier(wires: Wires) -> None:
    wires.ip("qdisc replace dev far0 root pfifo", "tc")  # empties the queue of an end that stays open
    wires.ip("qdisc replace dev far0 root bfifo", "tc")
    wires.ip("link set near0 down")  # the wire itself, which its own carrier survives
    wires.ip("link set near0 up")
    wires.ip("link set far1 down")
    wires.until(lambda: wires.lost)
    assert set(wires.lost) == {1}


def test_a_wire_that_is_not_up_itself_has_no_carrier_and_one_that_goes_ends_no_engine(namespace: None) -> None:
    """The kernel does not answer then when it is asked."""
    subprocess.run(["ip", "link", "add", "name", "near9", "type", "veth", "peer", "name", "far9"], check=True)
    watch = CarrierWatch("near9")
    assert not watch.up
    subprocess.run(["ip", "link", "delete", "near9"], check=True)
    assert not watch.read()
    watch._socket.close()


def test_what_was_lost_is_told_before_what_its_engine_says_of_it_later(wires: Wires) -> None:
    """A link that flaps while the agent is busy would be down for ever: the loss was heard last."""
    wires.ip("link set far0 down")
    wires.ip("link set far0 up")
    wires.engine_speaks(0)
    assert set(wires.lost) == {0}
