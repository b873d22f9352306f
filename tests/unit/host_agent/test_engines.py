"""Conversations that end, with engines that are dead, alive, silent or not to be believed, over real sockets."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from host_agent import engines
from host_agent.connection import Connection
from host_agent.engines import Engines
from host_agent.peer import LIMIT, EnginePeer
from host_agent.told import Told
from host_agent.verbs import VERSION, Message, PeerGone
from tests.turned import TurnedLoop
from tests.unit.host_agent.descriptors import room_for
from tests.unit.host_agent.nics import Engine, end

ONE, TWO = (Connection("10.0.0.11", port, "10.0.0.1", 8080) for port in (1, 2))
BROKEN_OFF = {"error": "the engine is gone", "reason": "fault"}


class Case:
    """An agent, as far as engines know one, with two of them; log: what it heard."""

    def __init__(self, folder: Path, there: int = 2) -> None:
        self.loop, self.log, self.heard = TurnedLoop(), list[Any](), list[Message]()
        self.nics = [Engine(folder / f"nic{n}") for n in range(there)]
        parts: Any = (self.loop, {n: str(folder / f"nic{n}") for n in range(2)}, self)
        self.engines = Engines(*parts)
        for nic in self.nics:
            nic.accept()
        for peer in self.engines.peers.values():
            peer.taken_up({})
        self.turn()

    def turn(self) -> None:
        for _ in range(3):
            self.loop.turn()

    def due(self, seconds: float) -> None:
        self.loop.due(seconds)
        self.turn()

    def ask(self, verb: str, place: int = 0) -> Message:
        """What the engine was asked."""
        fields = {"places": [(0, 0)] * 2} if verb == "restore" else {"connections": [ONE, TWO]}
        self.engines.peers[place].ask(Message(verb, fields), self.heard.append)
        return self.nics[place].hear()[-1]

    def words(self) -> list[tuple[int, str]]:
        """The log without reasons."""
        return [(place, word) for place, word, *_ in self.log]

    # as engines.Listener
    def said(self, place: int, message: Message) -> None:
        if message.verb != "ready":
            self.log.append((place, message.verb))

    def holds(self, place: int, held: Mapping[Connection, str]) -> None:
        self.log.append((place, dict(held)))

    def gone(self, place: int, reason: str) -> Callable[[], None]:
        self.log.append((place, "gone", reason))
        return lambda: self.log.append((place, "lost"))

    def back(self, place: int) -> None:
        self.log.append((place, "back"))

    def reconnected(self, place: int, reason: str) -> None:
        self.log.append((place, "reconnected", reason))


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path)
    yield made
    end(made.engines, made.nics, made.loop)


def test_a_dead_engine_is_gone_with_all_it_held_and_looked_for(case: Case) -> None:
    for verb in ("save", "restore", "thaw"):
        case.ask(verb)
    case.nics[0].die()
    case.turn()
    assert case.log == [(0, "gone", "closed"), (0, "lost")]
    assert [one.fields for one in case.heard] == [BROKEN_OFF] * 3
    for _ in range(3):
        case.due(engines.RECONNECT)
    case.nics[0].listens()
    case.due(engines.RECONNECT)
    case.nics[0].accept()
    case.nics[0].holds()
    case.turn()
    assert case.log[2:] == [(0, {}), (0, "back")]


LISTENS = """
import socket, sys
one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
one.bind(sys.argv[1])
one.listen(8)
print("listens", flush=True)
sys.stdin.read()
"""


def test_a_dead_engine_is_gone_though_the_next_one_listens_in_its_place_already(case: Case) -> None:
    case.ask("restore")
    case.nics[0].die()
    case.nics[0].path.unlink()
    words: list[Any] = [sys.executable, "-c", LISTENS, case.nics[0].path]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as following:
        assert following.stdout
        assert following.stdout.readline() == b"listens\n"
        case.turn()
        following.communicate()
    assert case.log == [(0, "gone", "closed"), (0, "lost")]
    assert [one.fields for one in case.heard] == [BROKEN_OFF]


def test_one_that_lives_is_met_again_at_once_and_nothing_is_lost(case: Case) -> None:
    """What it holds says what became of what it has not answered."""
    for verb in ("save", "restore", "thaw"):
        case.ask(verb)
    case.nics[0].link.close()
    case.turn()
    assert (case.log, case.heard) == ([], [])
    case.nics[0].accept()
    case.nics[0].holds(live=ONE, frozen=TWO)
    case.turn()
    assert case.log == [(0, {ONE: "live", TWO: "frozen"}), (0, "reconnected", "closed")]
    # What is still to be thawed is where it was, and `holds` sees to it.
    assert [one.fields for one in case.heard] == [BROKEN_OFF, {"live": {ONE}}, {"live": {ONE, TWO}}]
    again = case.ask("save")
    assert again.verb == "save"
    assert case.engines.peers[0].unanswered()[0].message.verb == "save"


def test_one_that_lives_but_never_says_what_it_holds_is_gone_in_the_end(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have what it was given."""
    for verb in ("save", "restore"):
        case.ask(verb)
    for _ in range(5):
        case.nics[0].link.close()
        case.turn()
        case.due(engines.AGAIN)
        case.nics[0].accept()
    assert case.log == []
    later = engines.time.monotonic() + LIMIT + 1
    monkeypatch.setattr(engines.time, "monotonic", lambda: later)
    case.nics[0].link.close()
    case.turn()
    case.due(engines.AGAIN)
    assert case.words() == [(0, "gone"), (0, "lost")]
    assert [one.fields for one in case.heard] == [BROKEN_OFF, {"refused": []}]


def test_one_that_dies_while_it_is_met_again_is_dead(case: Case) -> None:
    case.ask("restore")
    case.nics[0].link.close()
    case.turn()
    case.nics[0].die()
    case.turn()
    case.due(engines.AGAIN)
    assert case.words() == [(0, "gone"), (0, "lost")]
    assert [one.fields for one in case.heard] == [BROKEN_OFF]


@pytest.fixture
def later(case: Case, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """So many seconds later, the agent looks for those that are silent."""
    began, passed = engines.time.monotonic(), [0.0]

    def pass_(seconds: float) -> None:
        passed[0] += seconds
        monkeypatch.setattr(engines.time, "monotonic", lambda: began + passed[0])
        case.due(engines.LOOK_EVERY)

    return pass_


def test_an_agent_that_was_stopped_does_not_take_its_own_silence_for_theirs(
    case: Case, later: Callable[[float], None]
) -> None:
    asked = case.ask("restore")
    case.nics[0].answer(asked, refused=[])
    later(LIMIT + 1)
    later(1)
    assert case.log == []
    assert [one.fields.get("refused") for one in case.heard] == [[]]


def test_one_that_does_not_answer_is_gone(case: Case, later: Callable[[float], None]) -> None:
    case.ask("restore")
    for _ in range(int(LIMIT)):
        later(1)
        assert case.log == []
    later(1)
    assert case.log == [(0, "gone", "it does not answer"), (0, "lost")]
    assert [one.fields for one in case.heard] == [{"refused": []}]
    case.due(engines.RECONNECT)  # and what waits there for it to wake up may be full
    case.due(engines.RECONNECT)
    case.due(engines.RECONNECT)
    assert len(case.log) == 2


REFUSED: dict[str, Any] = {"at": 0, "error": "no", "reason": "full"}
SAVED = Told(0, "ESTABLISHED", *[0] * 9)
COUNTED = {"bytes_in": 0, "bytes_out": 0, "retransmits": 0}
BAD_REPLIES: dict[str, tuple[str, dict[str, Any]]] = {
    "an error that is no text": ("save", {"error": 5}),
    "nothing": ("save", {}),
    "no list": ("save", {"saved": 7, "refused": []}),
    "none of those asked for": ("save", {"saved": [], "refused": []}),
    "more than there were": ("save", {"saved": [SAVED] * 3, "refused": []}),
    "channels that did not come": ("save", {"saved": [SAVED] * 2, "refused": []}),
    "a refusal of nobody": ("restore", {"refused": [REFUSED | {"at": 2}]}),
    "a refusal of one below": ("restore", {"refused": [REFUSED | {"at": -1}]}),
    "one refused twice": ("restore", {"refused": [REFUSED, REFUSED]}),
    "a refusal without a reason": ("thaw", {"refused": [{"at": 0}]}),
    "a refusal that is none": ("thaw", {"refused": ["no"]}),
    "refusals that are none": ("thaw", {"refused": {"at": 0}}),
    "no connections": ("query", {}),
    "a connection that is none": ("query", {"connections": [{"connection": ["x", 1, "y", 2], "state": "live"}]}),
    "a state that there is not": ("query", {"connections": [{"connection": ONE, "state": "well"}]}),
    "a query refused": ("query", {"error": "no", "reason": "kernel"}),
    "counts that are none": ("statistics", {"statistics": {"to_host": "many"}, "connections": []}),
    "a count that is missing": ("statistics", {"statistics": {}, "connections": [{"connection": ONE}]}),
    "no time": ("statistics", {"statistics": {}, "connections": [COUNTED | {"connection": ONE, "last_seen": "late"}]}),
}


@pytest.mark.parametrize(("verb", "reply"), BAD_REPLIES.values(), ids=BAD_REPLIES)
def test_a_reply_that_cannot_be_ends_that_engine_and_no_other(case: Case, verb: str, reply: dict[str, Any]) -> None:
    """In one line. It lives, so whatever it was given it may have; nobody else must get that."""
    case.ask("restore")
    asked = case.ask(verb)
    case.nics[0].answer(asked, **reply)
    case.turn()
    ((place, gone, reason), lost) = case.log
    assert (place, gone, lost) == (0, "gone", (0, "lost"))
    assert verb in reason
    assert "\n" not in reason
    assert case.heard[0].fields == {"refused": []}
    case.nics[1].link.send(Message("link", {"up": False}))
    case.turn()
    assert case.log[2:] == [(1, "link")]
    case.due(engines.RECONNECT)
    case.nics[0].accept()
    case.nics[0].holds(live=ONE)
    case.turn()
    assert case.log[3:] == [(0, {ONE: "live"}), (0, "back")]


@pytest.mark.parametrize(
    "message",
    [
        Message("reply", {}),
        Message("reply", {"re": [1]}),
        Message("link", {}),
        Message("link", {"up": "yes"}),
        Message("link", {"up": True, "wire": 5}),
        Message("link", {"up": True, "wire": [1]}),
        Message("link", {"up": True, "wire": [1, 2**40]}),
        Message("link", {"up": True}, [0]),
        Message("closed", {"connection": 7}),
        Message("accepted", {"connection": [1, 2, 3, 4]}),
        Message("neighbour", {"connection": ONE, "next_hop": "00"}),
        Message("path", {"connection": ONE, "mtu": "1400"}),
        Message("upload_requested", {"connection": [*ONE, 1], "reason": "urgent_data"}),
        Message("ready", {"version": VERSION + 1}),
    ],
    ids=str,
)
def test_an_event_that_cannot_be_does_too(case: Case, message: Message) -> None:
    case.nics[0].link.send(message)
    case.turn()
    assert case.words() == [(0, "gone"), (0, "lost")]


def test_bytes_that_are_no_message_do_too(case: Case) -> None:
    with socket.socket(fileno=case.nics[0].link.fd) as raw:
        raw.send(b'{"verb": "closed", "connec')
        case.turn()
        raw.detach()
    assert case.words() == [(0, "gone"), (0, "lost")]


def test_an_engine_that_hangs_does_not_hold_up_who_looks_for_it(case: Case) -> None:
    waiting = []
    with pytest.raises(PeerGone, match="temporarily unavailable"):
        waiting.extend(EnginePeer(str(case.nics[0].path)) for _ in range(5))
    for peer in waiting:
        peer.close()


def test_an_agent_without_a_free_descriptor_looks_again_later(case: Case) -> None:
    case.nics[0].die()
    case.turn()
    case.nics[0].listens()
    with room_for(0):
        case.due(engines.RECONNECT)
    case.due(engines.RECONNECT)
    case.nics[0].accept()
    case.nics[0].holds()
    case.turn()
    assert case.words()[-1] == (0, "back")


def test_one_that_ends_each_conversation_is_met_again_only_now_and_then(case: Case) -> None:
    """Or this would be all the agent does."""
    case.nics[0].link.close()
    case.turn()
    case.nics[0].accept()
    case.nics[0].link.close()
    case.turn()
    assert 0 not in case.engines.peers
    case.due(engines.AGAIN)
    assert 0 in case.engines.peers


def test_one_that_is_not_there_at_the_start_is_gone_and_comes_later(tmp_path: Path) -> None:
    case = Case(tmp_path, there=1)
    assert (case.engines.peers.keys(), case.engines.absent.keys(), case.log) == ({0}, {1}, [])
    assert case.engines.absent[1].startswith(f"engine at {tmp_path}/nic1: ")
    case.due(engines.RECONNECT)
    assert case.engines.peers.keys() == {0}
    case.nics.append(Engine(tmp_path / "nic1"))
    case.due(engines.RECONNECT)
    case.nics[1].accept()
    case.nics[1].holds(live=ONE)
    case.turn()
    assert case.log == [(1, {ONE: "live"}), (1, "back")]
    case.nics[1].die()
    case.turn()
    assert case.words()[2:] == [(1, "gone"), (1, "lost")]


@pytest.mark.parametrize("in_time", [True, False])
def test_one_that_is_there_and_cannot_be_met_at_the_start_is_waited_for(
    case: Case, monkeypatch: pytest.MonkeyPatch, in_time: bool
) -> None:
    """What it holds lives, and nobody may end it for a moment's sake."""
    waiting = []
    with suppress(PeerGone):
        waiting.extend(EnginePeer(str(case.nics[0].path)) for _ in range(5))
    monkeypatch.setattr(engines, "LIMIT", 60.0 if in_time else 0.05)
    monkeypatch.setattr(engines.time, "sleep", lambda _: case.nics[0].accept() if in_time else None)
    parts: Any = (case.loop, {0: str(case.nics[0].path)}, case)
    found = Engines(*parts)
    assert found.peers.keys() == ({0} if in_time else set())
    assert in_time or "temporarily unavailable" in found.absent[0]
    for peer in (*waiting, *found.peers.values()):
        peer.close()
