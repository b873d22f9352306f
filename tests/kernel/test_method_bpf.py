"""The method as a whole, in random sequences: the BPF programs against the model of the method's text.

The same rules as tests/unit/host_agent/test_method.py, and the same policy, moves and ageing; here each frame's verdict
is the kernel's (BPF_PROG_TEST_RUN), and the records are its maps.
"""

import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from host_agent.connection import Connection
from host_agent.decision import ACK, FIN, RST, SYN
from host_agent.records import Records, Report, Team
from tests.kernel.frame_path import FramePath
from tests.kernel.frames import OK, REDIRECT, segment
from tests.method.machine import MethodMachine
from tests.method.model import Segment
from tests.method.world import Doors

pytestmark = pytest.mark.kernel

ACTIONS = {"up": "up", "forwarded": "forward", "held": "hold"}
BITS = {"S": SYN, "A": ACK, "F": FIN, "R": RST}
TIMES = ("created", "last_seen", "reported", "first_stray")


class BpfDoors:
    """The kernel's clock cannot be set; so the records grow older instead, and now() runs ahead of it."""

    def __init__(self, path: FramePath):
        self._path = path
        self.records: Records = path.records
        self.ahead = 0
        self._start = time.monotonic_ns()

    def arrive(self, who: Connection, nic: int, s: Segment) -> tuple[str, str]:
        verdict, moved = self._path.bus_in(packet(who, s), nic)
        assert verdict == REDIRECT
        moved.pop("unrecorded", None)
        (action,) = moved.keys() & ACTIONS.keys()
        (block,) = moved.keys() - {action}
        return block, ACTIONS[action]

    def enter(self, who: Connection, s: Segment, *, released: bool) -> bool:
        return self._path.run("host_in", packet(who, s), 0x4E1 if released else 0)[0] == OK

    def leave(self, who: Connection, s: Segment) -> bool:
        return self._path.run("team_out", packet(who, s, outbound=True))[0] == REDIRECT

    def reports(self) -> list[Report]:
        return self._path.reports()

    def now(self) -> int:
        return self._start + self.ahead

    def wait(self, ns: int) -> None:
        self.ahead += ns
        for who, record in list(self.records.all()):
            older = {name: getattr(record, name) - ns for name in TIMES if getattr(record, name)}
            self.records.put(who, replace(record, **older))


def packet(who: Connection, s: Segment, *, outbound: bool = False) -> bytes:
    flags = sum(BITS[bit] for bit in s.bits)
    frame = segment(who, flags=flags, payload=bytes(s.payload), outbound=outbound, seq=s.seq, ack=s.ack)
    assert len(frame) == s.length
    return frame


@pytest.fixture(scope="module")
def paths(namespace: None, programs: None) -> dict[int, FramePath]:
    """One loaded object for each capacity."""
    return {capacity: FramePath(capacity) for capacity in range(2, 9)}


def test_the_programs_follow_the_method(paths: dict[int, FramePath]) -> None:
    class BpfMethod(MethodMachine):
        def doors(self, capacity: int) -> Doors:
            path = paths[capacity]
            path.clear(Team(virtual_nic=1, hold=1, bus=(1, 1, 1)))
            path.records.set_service(22, None)
            return BpfDoors(path)

    # Without Phase.shrink, which would take minutes.
    rules = settings(
        max_examples=60,
        stateful_step_count=50,
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(BpfMethod, settings=rules)
