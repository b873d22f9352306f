"""The compiled programs of bpf/team.bpf.c, run over one frame at a time (BPF_PROG_TEST_RUN)."""

import struct

from host_agent import kernel
from host_agent.bpf import build
from host_agent.records import MAX_NICS, Records, Report, Team

LOOPBACK = 1  # where a test run's frame comes in


class FramePath:
    """The loaded object; frames come in by whichever NIC the test says."""

    def __init__(self, capacity: int = 65536) -> None:
        self.object = kernel.BpfObject(build.path("team"), {"records": capacity})
        self.records = Records.of_object(self.object)
        self.told: list[Report] = []
        self._ring = self.records.reports(self.told.append)

    def clear(self, team: Team) -> None:
        for connection, _ in list(self.records.all()):
            self.records.delete(connection)
        self.reports()
        self.records.team = team

    def reports(self) -> list[Report]:
        """Those made since the last call."""
        self._ring.consume()
        told = list(self.told)
        self.told.clear()
        return told

    def bus_in(self, frame: bytes, nic: int) -> tuple[int, dict[str, int]]:
        """What the program answers, and the counters that moved."""
        self.records.set_bus(LOOPBACK, nic)
        before = [self.records.counts(n) for n in range(MAX_NICS)]
        verdict, _ = self.object.program("bus_in").run(frame=frame)
        after = [self.records.counts(n) for n in range(MAX_NICS)]
        assert all(a == b for n, (a, b) in enumerate(zip(after, before, strict=True)) if n != nic)
        return verdict, {k: after[nic][k] - v for k, v in before[nic].items() if after[nic][k] != v}

    def run(self, program: str, frame: bytes, mark: int = 0) -> tuple[int, int]:
        """What a program answers, and the frame's mark afterwards (third word of struct __sk_buff)."""
        verdict, context = self.object.program(program).run(frame=frame, context=struct.pack("=8xI244x", mark))
        return verdict, struct.unpack_from("=8xI", context)[0]
