"""The host engine's ears, where they cannot serve."""

import errno
import os
import select
import socket
from collections.abc import Callable

import pytest

from host_agent import listener
from host_agent.listener import Listener, Service
from host_agent.loop import Loop


def test_a_peer_that_took_the_last_descriptor_is_refused_and_the_engine_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    made: list[tuple[object, ...]] = []
    monkeypatch.setattr(listener, "emit", lambda who, event, **facts: told.append(f"{event}: {facts['reason']}"))
    monkeypatch.setattr(listener.repair, "limit_unsent", lambda _: None)
    ears: list[Callable[[int], None]] = []
    monkeypatch.setattr(Loop, "watch", lambda _self, _fd, handler: ears.append(handler))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    Listener("host", Service("files", port, "/nowhere"), ["127.0.0.1"], Loop(), lambda *each: made.append(each))

    def none_left(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with socket.create_connection(("127.0.0.1", port)) as peer:
        with monkeypatch.context() as full:
            # accept() makes its socket by the same name, but with a descriptor that is there already
            whole = socket.socket
            full.setattr(socket, "socket", lambda *a, **k: whole(*a, **k) if "fileno" in k else none_left())
            ears[0](select.EPOLLIN)
        peer.settimeout(5)
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
    assert told == ["refused: application: Too many open files"]
    assert made == []


def test_where_no_descriptor_is_left_it_rests_instead_of_asking_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(listener, "emit", lambda _who, event, **_facts: told.append(event))
    watched: dict[int, Callable[[int], None]] = {}
    later: list[Callable[[], None]] = []
    monkeypatch.setattr(Loop, "watch", lambda _self, fd, handler: watched.update({fd: handler}))
    monkeypatch.setattr(Loop, "unwatch", lambda _self, fd: watched.pop(fd))
    monkeypatch.setattr(Loop, "after", lambda _self, _seconds, act: later.append(act))

    def none_left(_self: socket.socket) -> tuple[socket.socket, object]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket.socket, "accept", none_left)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    Listener("host", Service("files", port, "/nowhere"), ["127.0.0.1"], Loop(), lambda *_: None)
    (fd,) = watched
    watched[fd](select.EPOLLIN)
    assert (told, watched) == (["refused"], {})
    later.pop()()
    assert list(watched) == [fd]
