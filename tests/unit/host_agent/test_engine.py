"""An engine that has no descriptor to spare, and one whose link goes and comes back."""

import errno
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_agent import rtnetlink
from host_agent.connection import Connection
from host_agent.engine import Engine
from host_agent.limits import Limits
from host_agent.verbs import CHANNELS, VERSION, Link, Message
from tests.unit.host_agent.descriptors import room_for


class Full(socket.socket):
    """There is none left for whoever calls, at first."""

    full = True

    def accept(self) -> tuple[socket.socket, Any]:
        if self.full:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def test_an_agent_waits_for_a_descriptor_and_the_connections_go_on(tmp_path: Path) -> None:
    path = str(tmp_path / "engine")
    with Full(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.bind(path)
        control.listen(1)
        engine = Engine("nic0", control, None, Limits())  # type: ignore[arg-type]
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as agent:
            agent.connect(path)
            engine._greet(select.EPOLLIN)
            assert control.fileno() not in engine.loop._handlers  # it would be readable all the time
            control.full = False
            engine.loop._timers[-1][2]()
            assert control.fileno() in engine.loop._handlers
            engine._greet(select.EPOLLIN)
            agent.settimeout(5)
            assert b'"ready"' in agent.recv(1000)
        engine._hang_up()


@pytest.fixture
def met(tmp_path: Path) -> Iterator[tuple[Engine, Link]]:
    """An engine, and an agent that has said hello."""
    path = str(tmp_path / "engine")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.bind(path)
        control.listen(1)
        engine = Engine("nic0", control, None, Limits())  # type: ignore[arg-type]
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(path)
        agent = Link(sock)
        engine._greet(select.EPOLLIN)
        agent.send(Message("hello", {"version": VERSION}))
        yield engine, agent
        engine._hang_up()
        agent.close()


def test_a_batch_that_there_is_no_room_for_is_refused_and_the_conversation_goes_on(met: tuple[Engine, Link]) -> None:
    """Hanging up would look like a NIC that is lost with all that it holds."""
    engine, agent = met
    places = {"places": [(0, 0)] * CHANNELS, "resend": False, "probe": False}
    agent.send(Message("restore", {"id": 7} | places, [0] * CHANNELS, 0))
    before = len(os.listdir("/proc/self/fd"))
    with room_for(20):
        engine._listen_to_agent(select.EPOLLIN)
    assert len(os.listdir("/proc/self/fd")) <= before
    ready, reply = agent.receive()
    assert (ready.verb, reply.verb) == ("ready", "reply")
    assert reply.fields == {"re": 7, "error": "no descriptor is free", "reason": "kernel"}


def test_contexts_that_cannot_be_read_end_the_conversation_and_not_the_engine(
    met: tuple[Engine, Link], capsys: pytest.CaptureFixture[str]
) -> None:
    engine, agent = met
    pipe = os.pipe()
    agent.send(Message("restore", {"id": 7, "places": [(0, 5)], "resend": False, "probe": False}, [0], pipe[0]))
    engine._listen_to_agent(select.EPOLLIN)
    assert engine._link is None
    assert "Illegal seek" in capsys.readouterr().err
    for end in pipe:
        os.close(end)


def test_what_an_agent_has_left_behind_is_not_done(met: tuple[Engine, Link]) -> None:
    """The next one may have decided otherwise since."""
    engine, agent = met
    done = list[Message]()
    engine._obey = done.append  # type: ignore[method-assign]
    assert [one.verb for one in agent.receive()] == ["ready"]
    agent.send(Message("query", {"id": 1}))
    agent.close()
    engine._listen_to_agent(select.EPOLLIN | select.EPOLLHUP)
    assert done == []
    assert engine._link is None


class Carrier:
    """CarrierWatch of an interface that there is not."""

    wire = (0, 0)

    def __init__(self, _interface: str):
        self.up, (self.fd, self.writer) = True, os.pipe()

    def read(self) -> bool:
        self.up = not self.up
        return self.up


def test_what_the_application_sends_while_the_link_is_dead_goes_on_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rtnetlink, "CarrierWatch", Carrier)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as control:
        engine = Engine("nic0", control, None, Limits())  # type: ignore[arg-type]
        engine.watch_carrier("wire")
        peer = socket.create_connection(listener.getsockname())
        tcp, (application, channel) = listener.accept()[0], socket.socketpair()
        for one in (tcp, channel, peer):
            one.setblocking(False)
        engine._holding.take(Connection("127.0.0.1", 1, "127.0.0.1", 2), tcp, channel)
        assert isinstance(engine._carrier, Carrier)
        link = engine.loop._handlers[engine._carrier.fd]
        link(select.EPOLLIN)
        application.send(b"meanwhile")
        engine.loop._handlers[channel.fileno()](select.EPOLLIN)
        assert not select.select([peer], [], [], 0.05)[0]
        link(select.EPOLLIN)
        assert select.select([peer], [], [], 5)[0]
        assert peer.recv(100) == b"meanwhile"
        for end in (peer, tcp, application, channel):
            end.close()
        os.close(engine._carrier.fd)
        os.close(engine._carrier.writer)
