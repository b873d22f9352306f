"""The sweep goes through the records a slice a turn, and then waits for its next time."""

from collections.abc import Callable

from host_agent.ageing import Aged
from host_agent.connection import Connection
from host_agent.decision import Record
from host_agent.plain_records import PlainRecords
from host_agent.records import Slices
from host_agent.sweep import TURN, Sweep

OLD = [Connection("10.0.0.11", port, "10.0.0.1", 80) for port in range(40000, 40005)]


class Timers:
    """A loop that only remembers what is to be called."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.due.append((seconds, act))

    def turn(self) -> float:
        seconds, act = self.due.pop()
        assert not self.due
        act()
        return seconds


class Sliced(PlainRecords):
    """Two at a time."""

    def quiet(self, since: int, closed_since: int, *, half_open: bool = False) -> Slices:
        (every,) = super().quiet(since, closed_since, half_open=half_open)
        return iter([every[n : n + 2] for n in range(0, len(every), 2)])


def test_a_slice_a_turn() -> None:
    loop, records, aged = Timers(), Sliced(), list[Aged]()
    for connection in OLD:
        records.put(connection, Record(0, last_seen=1))
    Sweep(loop, records, {}, 8.0, aged.append)  # type: ignore[arg-type]
    assert loop.turn() == 2.0  # a quarter of the age
    assert [len(each.remove) for each in aged] == [2]
    assert loop.turn() == TURN
    assert loop.turn() == TURN
    assert [one for each in aged for one in each.remove] == OLD
    assert loop.turn() == TURN  # nothing is left
    assert loop.turn() == 2.0
    assert len(aged) == 4
