"""LACP's frames between the agent's sockets and the wires, through the programs of a NIC and of the server.

far end ==== wire [ NIC's programs ] bus ==== bus0 [ server's programs: team0 ]
                                              bus1, bus2 the same, without a NIC between
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.l2 import Ether

from host_agent.decision import of_the_wire
from host_agent.hold import Hold
from host_agent.lacp_pdu import End, Lacpdu, Marker, State, pack
from host_agent.lacp_wire import Wires, address_of
from host_agent.loop import Loop
from host_agent.steering import HostSteering, NicSteering, hold_of
from host_agent.tap import open_tap
from tests.kernel.frame_path import FramePath
from tests.kernel.frames import OK, PEER_MAC, REDIRECT, TEAM_MAC, V4, Port, cables, segment, silence, wait_for
from tests.kernel.test_steering import bpf_directory

pytestmark = pytest.mark.kernel
__all__ = ["bpf_directory"]

TEAM, SWITCH = (bytes.fromhex(mac.replace(":", "")) for mac in (TEAM_MAC, PEER_MAC))
PDU = Lacpdu(End(SWITCH, 1, 1, State(0x3F)), End(TEAM, 1, 1, State(0x3F)))
LAST = bytes(Ether(dst="ff:ff:ff:ff:ff:ff", type=0x88B5) / b"last")


class Ends:
    """The server's frame path over three buses, and the agent's sockets on them."""

    def __init__(self, ports: dict[str, Port], pins: Path):
        self.ports, self.heard = ports, list[tuple[int, Lacpdu | Marker]]()
        self.steering = HostSteering("team0", ["bus0", "bus1", "bus2"], pins)
        silence(hold_of("team0"))
        self.hold = Hold(open_tap(hold_of("team0"), keep=False))
        self.loop = Loop()
        self.wires = Wires(
            self.loop, ["bus0", "bus1", "bus2"], address_of("team0"), lambda nic, pdu: self.heard.append((nic, pdu))
        )

    def listen(self) -> None:
        """Lets the sockets' handlers run over what is there."""
        for nic in range(3):
            self.wires.read(nic)

    def came_up(self) -> list[bytes]:
        """What the virtual NIC got since the last call."""
        self.ports["bus2p"].send(LAST)
        return self.ports["team0"].read(until=LAST)


@pytest.fixture
def ends(namespace: None, programs: None, bpf_directory: Path) -> Iterator[Ends]:
    with cables("team0", "bus0", "bus1", "bus2", "wire") as ports:
        one = Ends(ports, bpf_directory)
        yield one
        os.close(one.hold.fd)


@pytest.mark.parametrize("nic", [0, 1, 2])
def test_a_pdu_reaches_the_socket_of_its_bus_once_and_nothing_else(ends: Ends, nic: int) -> None:
    ends.ports[f"bus{nic}p"].send(pack(PDU, SWITCH))
    wait_for(lambda: bool(ends.listen() or ends.heard))
    assert ends.came_up() == []
    ends.listen()
    assert ends.heard == [(nic, PDU)]
    for other in range(3):
        ends.ports[f"bus{other}"].send(LAST)
        assert ends.ports[f"bus{other}p"].read(until=LAST) == []  # nobody answered, nothing came round


@pytest.mark.parametrize("nic", [0, 1, 2])
def test_what_is_sent_leaves_by_its_bus_once(ends: Ends, nic: int) -> None:
    ends.wires.send(nic, PDU)
    for other in range(3):
        ends.ports[f"bus{other}"].send(LAST)
        assert ends.ports[f"bus{other}p"].read(until=LAST) == ([pack(PDU, TEAM)] if other == nic else [])
    assert ends.came_up() == []
    ends.listen()
    assert ends.heard == []  # its own voice


@pytest.mark.parametrize(
    "frame",
    [
        segment(V4),
        bytes(Ether(dst=TEAM_MAC, src=PEER_MAC, type=0x8809) / bytes(110)),  # to the team, not to the wire's end
        bytes(Ether(dst="01:80:c2:00:00:02", src=PEER_MAC, type=0x88B5) / bytes(110)),
        bytes(Ether(dst="01:80:c2:00:00:0e", src=PEER_MAC, type=0x8809) / bytes(110)),
    ],
    ids=["tcp", "unicast", "another protocol", "another group"],
)
def test_other_frames_go_up(ends: Ends, frame: bytes) -> None:
    ends.ports["bus1p"].send(frame)
    assert ends.came_up() == [frame]
    ends.listen()
    assert ends.heard == []


def test_a_bus_that_was_down_is_heard_again(ends: Ends) -> None:
    for state in ("down", "up"):
        assert os.system(f"ip link set bus1 {state}") == 0
        ends.wires.send(1, PDU)  # lost, and no error
        ends.listen()
    ends.ports["bus1p"].send(pack(PDU, SWITCH))
    wait_for(lambda: bool(ends.listen() or ends.heard))
    assert ends.heard == [(1, PDU)]


def test_a_nic_passes_them_between_wire_and_bus(ends: Ends) -> None:
    """In the NIC's own namespace they meet no protocol that would answer."""
    nic = NicSteering("wire", "bus0p")
    ends.ports["wirep"].send(pack(PDU, SWITCH))
    wait_for(lambda: bool(ends.listen() or ends.heard))
    assert ends.heard == [(0, PDU)]
    ends.wires.send(0, Marker(TEAM, 1, 7))
    assert ends.ports["wirep"].next() == pack(Marker(TEAM, 1, 7), TEAM)
    assert ends.ports["wirep"].next(0.05) is None
    counts = nic.counts()
    assert (counts.to_host, counts.to_wire, counts.silenced) == (1, 1, 0)


@pytest.mark.parametrize("group", ["01:80:c2:00:00:02", "01:80:c2:00:00:03", TEAM_MAC])
@pytest.mark.parametrize("kind", [0x8809, 0x0800, 0x0988])
def test_the_program_and_the_plain_text_agree(empty: FramePath, group: str, kind: int) -> None:
    frame = bytes(Ether(dst=group, src=PEER_MAC, type=kind) / bytes(110))
    verdict, moved = empty.bus_in(frame, 1)
    assert verdict == (OK if of_the_wire(frame) else REDIRECT)
    assert moved == {"other": 1}
