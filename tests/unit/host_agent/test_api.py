"""The agent's API: whole lines in order, long ones a little at a time, whatever the client does."""

import json
import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from host_agent import api
from host_agent.api import Client
from host_agent.desk import Answer, Refused


class Desk:
    """Answers what it is asked for, at once or later."""

    def __init__(self) -> None:
        self.later: list[Answer] = []
        self.parts = 0

    def long(self) -> Iterator[list[int]]:
        for n in range(1000):
            self.parts += 1
            yield [n] * 100

    def serve(self, request: Any, answer: Answer) -> None:
        match request["do"]:
            case "long":
                answer({"many": self.long(), "few": 1})
            case "none":
                answer({"many": iter(())})
            case "slow":
                answer(iter([None, None, {"many": self.long()}]))
            case "later":
                self.later.append(answer)
            case "refuse":
                raise Refused("no")
            case other:
                answer({"echo": other})


class Hand:
    """A loop that is turned by hand."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], None]] = []
        self.handler: Callable[[int], None] | None = None

    def watch(self, _fd: int, handler: Callable[[int], None], _mask: int) -> None:
        self.handler = handler

    def unwatch(self, _fd: int) -> None:
        self.handler = None

    def after(self, _seconds: float, act: Callable[[], None]) -> None:
        self.timers.append(act)

    def turn(self) -> None:
        if self.handler:
            self.handler(select.EPOLLIN)
        for _ in range(len(self.timers)):
            self.timers.pop(0)()


class Case:
    def __init__(self) -> None:
        self.loop, self.desk = Hand(), Desk()
        ours, self.client = socket.socketpair()
        parts: Any = (self.loop, self.desk, ours)
        Client(*parts)
        self.client.setblocking(False)
        self.got = b""

    def ask(self, *words: str) -> None:
        self.client.sendall(b"".join(json.dumps({"do": one}).encode() + b"\n" for one in words))

    def read(self) -> None:
        try:
            while data := self.client.recv(1 << 20):
                self.got += data
        except BlockingIOError:
            pass

    def answers(self, count: int) -> list[Any]:
        for _ in range(10_000):
            self.loop.turn()
            self.read()
            if self.got.count(b"\n") >= count:
                break
        return [json.loads(line) for line in self.got.splitlines()]


@pytest.fixture
def case() -> Iterator[Case]:
    made = Case()
    yield made
    made.client.close()
    made.loop.turn()
    assert made.loop.handler is None


def test_answers_come_in_their_order(case: Case) -> None:
    """Also those that are made later than the next one is asked for."""
    case.ask("a", "slow", "none", "refuse", "b")
    case.client.sendall(b"{}\nno JSON\n")
    first, slow, none, refused, second, *wrong = case.answers(7)
    assert (first, none, second) == ({"ok": True, "echo": "a"}, {"ok": True, "many": []}, {"ok": True, "echo": "b"})
    assert slow["many"] == [n for n in range(1000) for _ in range(100)]
    assert refused == {"ok": False, "error": "no"}
    assert [one["ok"] for one in wrong] == [False, False]
    assert all(one["error"].startswith("not a request: ") for one in wrong)


@pytest.mark.parametrize("error", [struct.error("of a port"), OSError("of an address"), RecursionError("of JSON")])
def test_a_request_with_what_cannot_be_ends_no_agent(case: Case, monkeypatch: pytest.MonkeyPatch, error: Any) -> None:
    monkeypatch.setattr(case.desk, "serve", Mock(side_effect=error))
    case.ask("a")
    assert case.answers(1) == [{"ok": False, "error": f"not a request: {error!r}"}]


def test_a_long_answer_takes_a_share_of_each_turn(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "SHARE", 0.0)
    case.ask("long")
    case.loop.turn()
    assert case.desk.parts < 5
    assert case.answers(1)[0]["few"] == 1
    assert case.desk.parts == 1000


def test_a_client_that_does_not_read_holds_nobody_up(case: Case) -> None:
    """And what it does not read is not even made."""
    case.ask("long", "long")
    for _ in range(1000):
        case.loop.turn()
    assert case.desk.parts < 2000
    assert len(case.answers(2)) == 2


def test_a_client_that_has_gone_gets_nothing_more(case: Case) -> None:
    case.ask("long", "later")
    case.loop.turn()
    case.client.close()
    for _ in range(3):
        case.loop.turn()
    (answer,) = case.desk.later
    answer({"too": "late"})
    made = case.desk.parts
    case.loop.turn()
    assert case.desk.parts == made < 1000
