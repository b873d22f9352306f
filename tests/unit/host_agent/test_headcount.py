"""The records are counted a slice a turn, and what has not changed is not told again."""

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from host_agent import headcount
from host_agent.connection import Connection
from host_agent.decision import Record
from host_agent.headcount import EVERY, Headcount
from host_agent.plain_records import PlainRecords
from host_agent.sweep import TURN
from tests.unit.host_agent.test_sweep import Timers

ONE, TWO, THREE = (Connection("10.0.0.11", port, "10.0.0.1", 80) for port in (1, 2, 3))


class Sliced(PlainRecords):
    """One NIC's at a time."""

    def tally(self) -> Iterator[Counter[tuple[int, bool]]]:
        (every,) = super().tally()
        return iter([Counter({key: count}) for key, count in every.items()])


def told(capfd: pytest.CaptureFixture[str]) -> list[dict[str, list[int]]]:
    return [json.loads(line)["nics"] for line in capfd.readouterr().out.splitlines()]


def test_a_change_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    loop, records = Timers(), Sliced()
    Headcount("agent", loop, records, ["nic0", "nic1"])  # type: ignore[arg-type]

    def count() -> list[float]:
        waits = [loop.turn()]
        while loop.due[0][0] == TURN:
            waits.append(loop.turn())
        return waits

    count()
    assert told(capfd) == []
    records.put(ONE, Record(0, offloaded=True))
    records.put(TWO, Record(0))
    records.put(THREE, Record(1))
    assert count() == [EVERY, TURN, TURN, TURN]
    assert told(capfd) == [{"nic0": [2, 1], "nic1": [1, 0]}]
    count()
    assert told(capfd) == []
    records.delete(TWO)
    count()
    assert told(capfd) == [{"nic0": [1, 1], "nic1": [1, 0]}]


def test_a_long_count_is_rare(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """It is never more than a fiftieth of the agent's time."""
    loop, clock = Timers(), iter(n * 0.5 for n in range(100))
    monkeypatch.setattr(headcount.time, "monotonic", lambda: next(clock))
    Headcount("agent", loop, PlainRecords(), ["nic0"])  # type: ignore[arg-type]
    assert loop.turn() == EVERY
    assert loop.turn() == TURN
    assert loop.due[0][0] == pytest.approx(50 * 1.0)
