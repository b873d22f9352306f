"""A link is lost: what was on it is on its way before a word is said of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import pytest

from host_agent import agent as agent_module
from host_agent.agent import LATER, Agent
from host_agent.config import AgentConfig
from host_agent.plain_records import PlainRecords
from host_agent.team import TeamState


class Case:
    """done: what was done, in its order, by the agent with two NICs whose links are up. later: its timers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.now = 1.0
        self.agent: Any = object.__new__(Agent)
        config = {"control": "", "pins": "", "host": {"socket": ""}, "offload": {"after_bytes": 0}}
        config |= {"nics": [{"name": f"nic{n}", "bus": "", "socket": ""} for n in range(2)]}
        self.agent.config, self.agent.records = AgentConfig.of(config), PlainRecords()
        self.agent.team = TeamState(("nic0", "nic1"), links={0, 1}, engines={0, 1})
        self.agent._active, self.agent._settings, self.agent._news = frozenset({0, 1}), self.agent.records.team, []
        self.agent.watch, self.agent.custody, self.agent.loop = MagicMock(unfit={}), self, self
        self.moves, self.tracker = self, MagicMock()
        monkeypatch.setattr(agent_module, "now", lambda: self.now)
        monkeypatch.setattr(agent_module, "emit", self._emit)

    def _emit(self, _who: str, event: str, **facts: Any) -> None:
        self.done.append((event, *facts.values()))

    def run(self, _behind: Callable[[], bool]) -> None:
        pass

    def links_down(self, *nics: int) -> None:
        self.done += [("leaves", nic, self.agent.records.team.live) for nic in nics]

    def removed(self, nic: int) -> None:
        self.done.append(("removed", nic))

    def link_up(self, nic: int) -> None:
        self.done.append(("returned", nic))

    def begin(self) -> None:
        self.done.append(("begun",))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.later.append((seconds, act))

    def behind_the_move(self) -> None:
        for _, act in self.later:
            act()


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(monkeypatch)


LOST = [("link", "nic0", False, 1.0), ("fault", "nic0", "link", 1.0), ("member", "nic0", False, "carrier", 1.0)]


def test_what_is_on_a_dead_link_is_on_its_way_before_that_is_told(case: Case) -> None:
    """And what the host sends leaves by the others already. Each event has the time of what it tells."""
    case.agent._link(0, up=False)
    assert case.done == [("leaves", 0, (1,)), ("begun",)]
    assert [seconds for seconds, _ in case.later] == [LATER]
    case.now = 2.0
    case.behind_the_move()
    assert case.done[2:] == LOST


def test_a_link_that_returns_at_once_is_told_of_behind_its_loss(case: Case) -> None:
    case.agent._link(0, up=False)
    case.now = 1.001
    case.agent._link(0, up=True)
    case.done.clear()
    case.behind_the_move()
    assert case.done == [*LOST, ("link", "nic0", True, 1.001), ("member", "nic0", True, None, 1.001)]


def test_what_was_not_told_yet_goes_ahead_of_what_comes_then(case: Case) -> None:
    case.agent._link(0, up=False)
    case.done.clear()
    case.agent.remove_nic(1)
    assert case.done[: len(LOST)] == LOST
    assert case.done[len(LOST) :] == [("member", "nic1", False, "removed", 1.0), ("removed", 1)]


def test_an_agent_that_ends_says_what_it_has_not_told_yet(case: Case) -> None:
    case.agent._link(0, up=False)
    case.done.clear()
    case.agent.run()
    assert case.done[1:-1] == LOST
