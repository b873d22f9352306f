"""An engine obeys the verbs of docs/verbs.md, as an agent says them, and survives what is none."""

import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

import host_agent.engine
from host_agent import verbs
from host_agent.connection import Connection
from host_agent.context import Context
from host_agent.engine import Engine
from host_agent.held import Saved
from host_agent.limits import Limits
from host_agent.told import Told
from host_agent.verbs import VERSION, Link, Message, PeerGone
from tests.kernel.moves import both_send, finish
from tests.kernel.world import MAC, World
from tests.turned import TurnedLoop

pytestmark = pytest.mark.kernel


class Conversation:
    """An engine in the world's nic0, and agents that come and go."""

    def __init__(self, world: World, engine: Engine, path: Path):
        self.world, self.engine, self._path, self._id = world, engine, path, 0
        world.engines["nic0"], world.loops["nic0"] = engine._holding, engine.loop  # type: ignore[assignment]
        self.connect()

    def connect(self, version: int = VERSION) -> None:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect(str(self._path))
        self.link = Link(s)
        self.link.send(Message("hello", {"version": version}))

    def hear(self) -> list[Message]:
        with self.world.spaces["nic0"].inside():
            for _ in range(3):
                self.engine.loop.turn()  # type: ignore[attr-defined]
        return list(self.link.receive())

    def ends(self) -> None:
        """The engine hangs up."""
        with pytest.raises(PeerGone, match="closed"):
            [self.hear() for _ in range(2)]

    def ask(self, verb: str, contexts: Sequence[bytes] = (), channels: Sequence[int] = (), **fields: Any) -> Message:
        self._id += 1
        where = None
        if contexts:
            ends = list(accumulate(map(len, contexts)))
            fields["places"] = [(end - len(one), len(one)) for end, one in zip(ends, contexts, strict=True)]
            where = verbs.memory(b"".join(contexts))
        self.link.send(Message(verb, {"id": self._id, **fields}, channels, where))
        if where is not None:
            os.close(where)
        (reply,) = (one for one in self.hear() if one.verb == "reply")
        assert reply.fields["re"] == self._id
        return reply

    def tell(self, verb: str, **fields: Any) -> list[Message]:
        self.link.send(Message(verb, fields))
        return self.hear()


@pytest.fixture
def talk(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Conversation]:
    monkeypatch.setattr(host_agent.engine, "Loop", TurnedLoop)
    monkeypatch.setattr(host_agent.engine, "emit", lambda *a, **k: None)
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        path = Path(directory) / "nic0.sock"
        control.bind(str(path))
        control.listen(1)
        features = frozenset({"ipv4", "timestamps", "sack"})
        yield Conversation(world, Engine("nic0", control, world.doors["nic0"], Limits(2, features)), path)  # type: ignore
    world.loops["nic0"] = TurnedLoop()


def offload(talk: Conversation, world: World) -> None:
    """By the verbs of docs/verbs.md, as an agent would."""
    saved = world.save("host")
    answer = talk.ask("restore", [saved.context], [saved.channel], resend=False, probe=False)
    assert answer.fields["refused"] == []
    world.engines["host"].discard([world.connection])
    talk.tell("release", connections=[world.connection])
    world.owner = "nic0"


def test_it_introduces_itself(talk: Conversation) -> None:
    (ready,) = talk.hear()
    expected = {"version": VERSION, "name": "nic0", "capacity": 2, "features": ["ipv4", "sack", "timestamps"]}
    assert (ready.verb, ready.fields) == ("ready", expected)


def test_an_agent_that_dies_in_the_middle_loses_nothing(talk: Conversation, world: World) -> None:
    world.connect(socket.AF_INET)
    both_send(world, 300_000)
    world.step()
    offload(talk, world)
    both_send(world, 300_000)
    world.step()
    saved = talk.ask("save", connections=[world.connection], next_hops=[MAC.hex()])
    assert (len(saved.channels), saved.contexts is None) == (1, False)
    saved.close()  # as the kernel does with all that a dead agent had
    talk.link.close()
    world.settle()
    talk.connect()
    found = talk.ask("query").fields["connections"]
    assert [(one["connection"], one["state"]) for one in found] == [(list(world.connection), "frozen")]
    assert talk.ask("thaw", connections=[world.connection]).fields["refused"] == []
    assert [one["state"] for one in talk.ask("query").fields["connections"]] == ["live"]
    talk.link.close()
    finish_there(world)


def finish_there(world: World) -> None:
    for end in (world.app_end, world.peer_end):
        end.wants_end = True
    world.until(lambda: world.app_end.got_end and world.peer_end.got_end)
    assert world.app_end.got.digest() == world.peer_end.sent.digest()
    assert world.peer_end.got.digest() == world.app_end.sent.digest()
    assert world.resets == 0


def test_what_a_save_replies(talk: Conversation, world: World) -> None:
    world.connect(socket.AF_INET)
    offload(talk, world)
    world.pass_out = world.pass_in = False
    world.app_end.to_send = 5000
    world.settle()
    saved = talk.ask("save", connections=[world.connection], next_hops=[MAC.hex()])
    assert saved.fields["refused"] == []
    told = Told._make(*saved.fields["saved"])
    assert saved.contexts is not None
    context = Context.unpack(os.pread(saved.contexts, told.size, 0))
    assert context.snd_nxt == (told.snd_una + 5000) % 2**32
    assert told.rcv_nxt == context.rcv_nxt
    assert context.window.snd_wnd > 5000
    assert (told.bytes_out, told.retransmits, told.state) == (5000, 0, "ESTABLISHED")
    assert told.cwnd >= 10
    assert len(saved.channels) == 1
    assert world.held().laden
    saved.close()
    assert talk.tell("discard", connections=[world.connection]) == []
    assert talk.ask("query").fields["connections"] == []


def test_statistics_and_update(talk: Conversation, world: World) -> None:
    world.connect(socket.AF_INET)
    offload(talk, world)
    both_send(world, 10_000)
    world.until(lambda: world.app_end.got_bytes == world.peer_end.got_bytes == 10_000)
    (one,) = talk.ask("statistics").fields["connections"]
    assert (one["connection"], one["bytes_in"], one["bytes_out"]) == (list(world.connection), 10_000, 10_000)
    hop = "0200000000bb"
    talk.tell("update", src=world.connection.src, next_hop=hop)
    talk.tell("update", connection=world.connection, next_hop=hop)
    talk.tell("update", src="10.9.9.9", next_hop=MAC.hex())
    talk.tell("update", src="10.9.9.9", was=hop, next_hop=MAC.hex())
    talk.tell("update", src="10.9.9.9", was=hop, next_hop=MAC.hex())  # nobody's by now
    told = [f"update 1 {hop}", f"update 1 {hop}", *(f"update {n} {MAC.hex()}" for n in (0, 1, 0))]
    assert world.doors["nic0"].log[-5:] == told
    talk.tell("invalidate", connection=world.connection)
    assert talk.ask("query").fields["connections"] == []


def test_a_refusal_costs_nothing(talk: Conversation, world: World) -> None:
    connection = world.connect(socket.AF_INET6)
    saved = world.save("host")
    (refused,) = talk.ask("restore", [saved.context], [saved.channel], resend=False, probe=False).fields["refused"]
    assert (refused["at"], refused["reason"]) == (0, "feature:ipv6")
    (refused,) = talk.ask("thaw", connections=[connection]).fields["refused"]
    assert (refused["at"], refused["reason"]) == (0, "context")
    answer = talk.ask("save", connections=[connection], next_hops=[MAC.hex()])
    (refused,) = answer.fields["refused"]
    assert "no such connection" in refused["error"]
    assert (answer.fields["saved"], answer.channels) == ([], [])
    answer.close()
    world.engines["host"].thaw(connection)
    finish(world)


@pytest.fixture
def three(world: World) -> Iterator[list[Connection]]:
    """Connections at the host, the last of which the world's ends use."""
    kept, names = [], []
    for seed in (1, 3, 5):
        names.append(world.connect(socket.AF_INET, seed=seed))
        kept.append((world.app, world.peer))
    yield names
    for engine in world.engines.values():
        for name in names[:-1]:
            engine.invalidate(name)
    for sockets in kept[:-1]:
        for s in sockets:
            s.close()


@pytest.mark.parametrize("last", [True, False])
def test_there_is_room_for_some_of_a_batch(
    talk: Conversation, world: World, three: list[Connection], last: bool
) -> None:
    """They live at the NIC, the other one thaws; both go on."""
    order = three if last else three[::-1]
    saved = [one for one in world.engines["host"].save(dict.fromkeys(order, MAC)) if isinstance(one, Saved)]
    contexts, channels = [one.context for one in saved], [one.channel for one in saved]
    (refused,) = talk.ask("restore", contexts, channels, resend=False, probe=False).fields["refused"]
    assert (refused["at"], refused["reason"]) == (2, "full")
    host = world.engines["host"]
    host.discard(order[:2])
    host.thaw(order[2])
    talk.tell("release", connections=order[:2])
    here = talk.ask("query").fields["connections"]
    assert [(tuple(one["connection"]), one["state"]) for one in here] == [(tuple(one), "live") for one in order[:2]]
    assert [one["connection"] for one in host.upkeep.describe()] == [order[2]]
    world.owner = "host" if last else "nic0"
    both_send(world, 100_000)
    world.step()
    talk.link.close()
    finish_there(world)


def test_an_agent_that_dies_in_the_middle_of_a_batch(talk: Conversation, world: World, three: list[Connection]) -> None:
    """All of it is frozen in the old engine, and thaws, whatever had become of the contexts."""
    saved = [one for one in world.engines["host"].save(dict.fromkeys(three[1:], MAC)) if isinstance(one, Saved)]
    contexts, channels = [one.context for one in saved], [one.channel for one in saved]
    assert talk.ask("restore", contexts, channels, resend=False, probe=False).fields["refused"] == []
    world.engines["host"].discard(three[1:])
    talk.tell("release", connections=three[1:])
    world.owner = "nic0"
    answer = talk.ask("save", connections=three)
    ((refused,), names) = answer.fields["refused"], [Told._make(one).state for one in answer.fields["saved"]]
    assert (refused["at"], refused["reason"], names) == (0, "absent", ["ESTABLISHED"] * 2)
    answer.close()
    talk.link.close()
    world.settle()
    talk.connect()
    assert [one["state"] for one in talk.ask("query").fields["connections"]] == ["frozen"] * 2
    (refused,) = talk.ask("thaw", connections=three).fields["refused"]
    assert (refused["at"], refused["reason"]) == (0, "context")
    both_send(world, 100_000)
    world.step()
    talk.link.close()
    finish_there(world)


@pytest.mark.parametrize("version", [VERSION - 1, VERSION + 1, None, "2"])
def test_another_version_is_not_served(talk: Conversation, version: Any, capsys: pytest.CaptureFixture[str]) -> None:
    talk.hear()
    talk.connect(version)
    talk.ends()
    assert f"version {version}, this engine {VERSION}" in capsys.readouterr().err


ONE = ["10.0.0.1", 1, "10.0.0.2", 2]


@pytest.mark.parametrize(
    "places", [[(0, 5), (5, 5)], [(-1, 5)], [(0, -1)], [(3, 5)], [(0, "5")], [(0, 2**70)], [5], 5], ids=str
)
def test_contexts_that_did_not_come(talk: Conversation, places: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fields = {"id": 1, "resend": False, "probe": False, "places": places}
    talk.link.send(Message("restore", fields, [0], verbs.memory(b"fivefiv")))
    talk.ends()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        ("save", {}),
        ("save", {"connections": [ONE]}),
        ("save", {"id": 1, "connections": 5}),
        ("save", {"id": 1, "connections": [["10.0.0.1"]]}),
        ("save", {"id": 1, "connections": [["10.0.0.1", 70000, "10.0.0.2", 1]]}),
        ("save", {"id": 1, "connections": [["x", 1, "y", 2]]}),
        ("save", {"id": 1, "connections": [ONE], "next_hops": ["02"]}),
        ("save", {"id": 1, "connections": [ONE], "next_hops": ["020000000001"] * 2}),
        ("save", {"id": 1, "connections": [ONE, ONE]}),
        ("thaw", {"id": 1, "connections": [ONE, ["10.0.0.1", 1, "10.0.0.2"]]}),
        ("restore", {"id": 1, "resend": False, "probe": False}),
        ("restore", {"id": 1, "resend": False, "probe": False, "places": []}),
        ("restore", {"id": 1}),
        ("release", {"connections": [5]}),
        ("update", {"src": "10.0.0.1", "next_hop": "zz"}),
        ("update", {"src": "10.0.0.1", "next_hop": "020000000001", "was": "02"}),
        ("update", {"connection": ["10.0.0.1", 1, "10.0.0.2", 2], "mtu": 1400}),
        ("query", {}),
        ("dance", {}),
    ],
)
def test_a_wrong_request_ends_the_conversation_and_not_the_engine(
    talk: Conversation, verb: str, fields: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    talk.link.send(Message(verb, fields))
    talk.ends()
    assert capsys.readouterr().err.count("\n") == 1
    talk.connect()
    assert talk.ask("query").fields["connections"] == []


@pytest.mark.parametrize("numbers", [{"mtu": -5}, {"mtu": 1400, "seq": 2**40}], ids=str)
def test_numbers_that_fit_nowhere_do_neither(
    talk: Conversation, world: World, numbers: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    connection = world.connect(socket.AF_INET)
    offload(talk, world)
    about = {"connection": connection} if "seq" in numbers else {"src": connection.src}
    talk.link.send(Message("update", about | numbers))
    talk.ends()
    assert capsys.readouterr().err.count("\n") == 1
    finish_there(world)


def test_a_channel_that_is_none_is_refused(talk: Conversation, world: World) -> None:
    """The connection goes on where it was."""
    connection = world.connect(socket.AF_INET)
    saved = world.save("host")
    with open(os.devnull) as file:
        answer = talk.ask("restore", [saved.context], [file.fileno()], resend=False, probe=False)
    (refused,) = answer.fields["refused"]
    assert refused == {"at": 0, "error": "its channel is no socket", "reason": "context"}
    assert talk.ask("query").fields["connections"] == []
    world.engines["host"].thaw(connection)
    finish(world)


def test_orders_of_an_agent_that_has_gone_are_not_carried_out(talk: Conversation, world: World) -> None:
    """It may have decided otherwise since, while this engine did not come round to hearing them."""
    world.connect(socket.AF_INET)
    offload(talk, world)
    talk.link.send(Message("save", {"id": 9, "connections": [world.connection], "next_hops": [MAC.hex()]}))
    talk.link.close()
    world.settle()
    talk.connect()
    assert [one["state"] for one in talk.ask("query").fields["connections"]] == ["live"]
    talk.link.close()
    finish_there(world)


def test_nothing_is_done_before_hello(talk: Conversation, world: World) -> None:
    talk.hear()
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(str(talk._path))
    talk.link = Link(s)
    talk.link.send(Message("query", {"id": 1}))
    talk.ends()
