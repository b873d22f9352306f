"""What has left a NIC without a link is closed later, some at a time, and at once when the link is back."""

from typing import Any
from unittest.mock import MagicMock

import pytest

from host_agent import repair
from host_agent.left import LATER, SOME, TURN, Left
from tests.turned import TurnedLoop

MANY = 2 * SOME + 1


@pytest.fixture
def loop() -> TurnedLoop:
    return TurnedLoop()


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    closed: list[Any] = []
    monkeypatch.setattr(repair, "discard", closed.append)
    return closed


def filled(loop: TurnedLoop, count: int) -> Left:
    some = Left(loop)  # type: ignore[arg-type]
    for _ in range(count):
        some.add(MagicMock())
    return some


def test_some_at_a_time_so_that_orders_are_heard_in_between(loop: TurnedLoop, closed: list[Any]) -> None:
    filled(loop, MANY)
    assert (closed, [seconds for seconds, _ in loop.timers]) == ([], [LATER])
    loop.due(LATER)
    assert len(closed) == SOME
    loop.due(TURN)
    loop.due(TURN)
    assert (len(set(closed)), loop.timers) == (MANY, [])


def test_all_at_once_and_none_twice(loop: TurnedLoop, closed: list[Any]) -> None:
    some = filled(loop, MANY)
    some.close_all()
    assert len(set(closed)) == MANY
    loop.due(LATER)
    assert (len(closed), loop.timers) == (MANY, [])
