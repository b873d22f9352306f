"""What is asked of several engines comes together, and adds up: per NIC, per connection, of the team."""

from collections import Counter
from typing import Any

import pytest

from host_agent.connection import Connection
from host_agent.decision import Record
from host_agent.peer import EnginePeer, Heard, ask_all
from host_agent.policy import HOST
from host_agent.statistics import gather
from host_agent.team import TeamState
from host_agent.verbs import Message, PeerGone

ONE, TWO, THREE = (Connection("10.0.0.11", port, "10.0.0.1", 8080) for port in (1, 2, 3))


class FakePeer(EnginePeer):
    """Keeps who asks, or is gone."""

    def __init__(self, *, gone: bool = False) -> None:
        self.gone, self.asked = gone, list[Heard]()

    def ask(self, message: Message, heard: Heard) -> None:
        assert message.verb == "statistics"
        if self.gone:
            raise PeerGone("gone")
        self.asked.append(heard)

    def answer(self, **fields: Any) -> None:
        self.asked.pop()(Message("reply", fields))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_done_is_called_once_when_all_have_answered(order: tuple[int, int]) -> None:
    peers, done = {n: FakePeer(gone=n == 2) for n in range(3)}, list[dict[int, Any]]()
    ask_all(peers, "statistics", done.append)
    for n in order:
        assert done == []
        peers[n].answer(n=n)
    assert done == [{n: {"n": n} for n in order}]


def test_engines_that_go_are_left_out_and_nobody_waits_for_them() -> None:
    peer, done = FakePeer(), list[dict[int, Any]]()
    ask_all({0: peer, 1: FakePeer(gone=True)}, "statistics", done.append)
    peer.answer(error="the engine is gone", reason="fault")
    ask_all({}, "statistics", done.append)
    ask_all({1: FakePeer(gone=True)}, "statistics", done.append)
    assert done == [{}, {}, {}]


def told(connection: Connection, bytes_in: int, bytes_out: int, retransmits: int) -> dict[str, Any]:
    return {"connection": list(connection), "bytes_in": bytes_in, "bytes_out": bytes_out, "retransmits": retransmits}


def test_it_adds_up() -> None:
    """What earlier engines counted of a connection is counted with it, where it is now."""
    answers = {
        HOST: {"connections": [told(ONE, 1, 2, 0)], "statistics": {}},
        0: {"connections": [told(TWO, 10, 20, 1), told(THREE, 100, 200, 2)], "statistics": {"own_in": 7, "own_out": 5}},
        1: {"connections": [], "statistics": {"own_in": 1, "own_out": 0}},
    }
    before = {THREE: Counter({"bytes_in": 1000, "bytes_out": 2000, "retransmits": 1}), TWO: Counter[str]()}
    figure_4 = {"nic0": {"402_404": 1, "410_414": 2}, "nic1": {"402_404": 2, "410_414": 0}}
    records = [(ONE, Record(0)), (TWO, Record(0, offloaded=True, epoch=3, strays=4))]
    *between, found = gather(answers, [records[:1], records[1:]], before, figure_4, TeamState(("nic0", "nic1")))
    assert found is not None
    assert set(between) == {None}
    assert found["nics"]["nic0"] == {
        "connections": 2,
        **{"bytes_in": 1110, "bytes_out": 2220, "retransmits": 4},
        "frames": {"own_in": 7, "own_out": 5},
        "figure_4": figure_4["nic0"],
    }
    assert found["nics"]["nic1"]["connections"] == found["nics"]["nic1"]["bytes_in"] == 0
    assert found["host"] == {"connections": 1, "bytes_in": 1, "bytes_out": 2, "retransmits": 0}
    (told_of,) = found["connections"]
    assert [(one["sport"], one["place"], one["bytes_in"]) for one in told_of] == [
        *((1, "host", 1), (2, "nic0", 10), (3, "nic0", 1100)),
    ]
    assert (told_of[1]["epoch"], told_of[1]["strays"]) == (3, 4)
    assert found["team"] == {
        **{"connections": 3, "offloaded": 2, "records": 2, "bytes_in": 1111, "bytes_out": 2222, "retransmits": 4},
        **{"frames": {"own_in": 8, "own_out": 5}, "figure_4": {"402_404": 3, "410_414": 2}},
    }


def test_a_nic_without_an_answer_is_there_with_what_its_frames_counted() -> None:
    (found,) = gather({}, [], {}, {"nic0": {"402_404": 1}}, TeamState(("nic0",)))
    assert found is not None
    assert (found["nics"]["nic0"]["connections"], found["nics"]["nic0"]["figure_4"]) == (0, {"402_404": 1})
    assert (list(found["connections"]), found["team"]["offloaded"]) == ([], 0)
