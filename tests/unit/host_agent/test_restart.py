"""A restarted agent asks engines, and goes on without those that do not answer; and it makes room for the records that
lead strays to a NIC."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host_agent import engines, restart
from host_agent.connection import Connection
from host_agent.decision import Record
from host_agent.engines import Engines
from host_agent.plain_records import PlainRecords
from host_agent.rebuild import Rebuilt
from host_agent.restart import _put_right, ask_engines
from host_agent.verbs import VERSION, Message, PeerGone
from tests.turned import TurnedLoop
from tests.unit.host_agent.nics import Engine, end

ONE, TWO, THREE = (Connection("10.0.0.11", port, "10.0.0.1", 8080) for port in (1, 2, 3))


class Start:
    """Of an agent with two NICs, each of which holds a connection by the records."""

    def __init__(self, folder: Path) -> None:
        self.loop, self.nics = TurnedLoop(), [Engine(folder / f"nic{n}") for n in range(2)]
        self.records = PlainRecords(10)
        for n, one in enumerate((ONE, TWO)):
            self.records.put(one, Record(n, offloaded=True))
        listener: Any = None
        self.engines = Engines(self.loop, {n: str(nic.path) for n, nic in enumerate(self.nics)}, listener)
        for nic in self.nics:
            nic.accept()
        self.says(0, ONE)

    def says(self, place: int, one: Connection) -> None:
        held = [{"connection": one, "state": "live"}]
        self.nics[place].link.send(Message("reply", {"re": 0, "connections": held}))

    def ask(self) -> Rebuilt:
        records: Any = self.records
        return ask_engines(self.engines, records, lambda *_: None, lambda *_: None)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(restart, "LIMIT", 0.2)
    monkeypatch.setattr(engines, "LIMIT", 0.2)
    made = Start(tmp_path)
    yield made
    end(made.engines, made.nics, made.loop)


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (lambda nic: nic.die(), "Connection refused"),
        (lambda nic: None, "it does not say what it holds"),
        (lambda nic: nic.link.send(Message("reply", {"re": 0, "connections": 7})), "`connections` is no list"),
        (lambda nic: nic.link.close(), "it does not say what it holds"),
    ],
    ids=["dies", "hangs", "says what cannot be", "hangs up, and then hangs"],
)
def test_it_goes_on_without_an_engine_that_does_not_answer(
    start: Start, happens: Callable[[Engine], object], why: str
) -> None:
    happens(start.nics[1])
    found = start.ask()
    assert (found.records.keys(), [one for one, _ in found.lost]) == ({ONE}, [TWO])
    assert (start.engines.peers.keys(), start.engines.absent.keys()) == ({0}, {1})
    assert why in start.engines.absent[1]
    assert start.engines.peers[0].known
    start.nics[1].listens()
    start.loop.due(engines.RECONNECT)
    assert start.engines.peers.keys() == {0, 1}, "it is looked for"


def test_one_that_ends_the_conversation_and_lives_has_lost_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(*_: object) -> None:
        start.nics[1].accept()
        start.says(1, TWO)

    start.nics[1].link.close()
    monkeypatch.setattr(restart, "_await", answers)
    assert (start.ask().records.keys(), start.engines.absent) == ({ONE, TWO}, {})


@pytest.mark.parametrize("hangs_up", [False, True])
def test_one_of_another_version_keeps_what_it_holds(start: Start, hangs_up: bool) -> None:
    """There is no agent then: one that took it for gone would end thousands of connections that live."""
    start.nics[1].link.send(Message("ready", {"version": VERSION - 1}))
    if hangs_up:
        assert start.nics[1].hear() == []
        start.nics[1].link.close()
    with pytest.raises(PeerGone, match=f"speaks version {VERSION - 1}"):
        start.ask()
    assert {one for one, _ in start.records.all()} == {ONE, TWO}
    assert start.engines.absent == {}


def test_one_that_dies_behind_its_answer_is_as_any_that_dies_later(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(message: Message) -> None:
        if message.verb != "query":
            raise PeerGone("sending: Broken pipe")

    start.says(1, TWO)
    monkeypatch.setattr(start.engines.peers[1], "send", send)
    assert start.ask().records.keys() == {ONE, TWO}


def test_a_record_of_a_nic_s_connection_takes_the_place_of_one_that_can_be_made_anew() -> None:
    records = PlainRecords(2)
    records.put(ONE, Record(0, packets=9))
    records.put(TWO, Record(1, offloaded=True))
    _put_right(records, THREE, Record(1, offloaded=True))
    assert dict(records.all()) == {TWO: Record(1, offloaded=True), THREE: Record(1, offloaded=True)}
