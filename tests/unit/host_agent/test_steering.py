"""What a NIC's offload table says of a connection, beside what the programs count in it."""

import time
from collections.abc import Iterable

from host_agent.connection import Connection
from host_agent.steering import NicSteering

ONE = Connection("10.0.0.11", 40000, "10.0.0.1", 8080)


class Table(dict[bytes, bytes]):
    """A BPF map in small."""

    def put_many(self, elements: Iterable[tuple[bytes, bytes]]) -> None:
        self.update(elements)


def test_a_connection_that_has_just_come_was_not_silent_for_ever() -> None:
    """Or it would be the first to be asked to leave, and idle by its age in the sweep."""
    steering = NicSteering.__new__(NicSteering)  # without loading the programs
    steering._offloads = Table()  # type: ignore[assignment]
    before = time.monotonic_ns()
    steering.joining({ONE: bytes(6)})
    seen = steering.seen(ONE)
    assert seen is not None
    assert before <= seen.last_seen <= time.monotonic_ns()
    assert (seen.frames_in, seen.frames_out) == (0, 0)
