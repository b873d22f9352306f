"""LACP and the probe on the agent's loop: its timers, and what one agent leaves behind for the next."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from host_agent import lacp_watch
from host_agent.config import AgentConfig
from host_agent.lacp import Lacp
from host_agent.lacp_pdu import End, Lacpdu, Marker, State
from host_agent.lacp_watch import Watch
from tests.unit.host_agent.lacp_ends import HOST, SWITCH


class Clock:
    """A loop whose time passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.timers.append((self.now + seconds, act))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [one for one in self.timers if one[0] <= until]:
            one = min(due, key=lambda timer: timer[0])
            self.timers.remove(one)
            self.now = max(self.now, one[0])
            one[1]()
        self.now = until


class Silence:
    """Wires that carry nothing."""

    def __init__(self, *_: object) -> None:
        self.sent: list[Lacpdu | Marker] = []

    def send(self, _nic: int, pdu: Lacpdu | Marker) -> None:
        self.sent.append(pdu)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lacp_watch, "emit", lambda *_, **__: None)
    monkeypatch.setattr(lacp_watch, "address_of", lambda _: HOST)
    monkeypatch.setattr(lacp_watch, "Wires", Silence)
    monkeypatch.setattr(lacp_watch, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def a_watch(clock: Clock, folder: Path, inherited: tuple[int, ...] = (), *, rate: str = "fast") -> Watch:
    config = {"control": str(folder / "agent.sock"), "pins": "", "host": {"socket": ""}, "offload": {}}
    config |= {"nics": [{"name": f"nic{n}", "bus": "", "socket": ""} for n in range(2)]}
    config |= {"lacp": {"mode": "active", "rate": rate}}
    return Watch(AgentConfig.of(config), clock, inherited, lambda: None)  # type: ignore[arg-type]


def test_a_timer_that_another_has_overtaken_sets_no_further_one(clock: Clock, tmp_path: Path) -> None:
    """Links that come and go bring earlier timers; there is one chain of them all the same."""
    watch = a_watch(clock, tmp_path, rate="slow")
    assert watch.lacp is not None
    watch.carrier(0, True)
    for n in range(40):  # a member at rest speaks every 30 seconds, one that has just come every second
        watch._hear(0, Lacpdu(End(SWITCH, 1, 1, State(0x3D)), watch.lacp.ports[0].actor))
        watch.carrier(1, n % 2 == 0)
        clock.run(4)
    clock.run(60)
    assert len(clock.timers) == 1


def test_what_is_left_behind_is_read_again(clock: Clock, tmp_path: Path) -> None:
    before = a_watch(clock, tmp_path)
    assert before.lacp is not None
    before.carrier(1, True)
    for state in (State(0x0F), State(0x3F)):
        actor = before.lacp.ports[1].actor
        before._hear(1, Lacpdu(End(SWITCH, 1, 1, state), actor))
    assert before.unfit == {0: "lacp"}
    after = a_watch(clock, tmp_path, (0, 1))
    after.carrier(0, True)
    after.carrier(1, True)
    assert after.unfit == {0: "lacp"}


@pytest.mark.parametrize(
    "left",
    [b"", b"[1]", b"3", b'{"nic0": []}', b'{"nic0": {}}', b'{"nic0": ["zz"]}', b'{"nic0": ["00", 1, 1, "x", 1, 1]}'],
)
def test_what_no_agent_has_left_is_nothing(clock: Clock, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "agent.lacp").write_bytes(left)
    watch = a_watch(clock, tmp_path, (0, 1))
    watch.carrier(0, True)
    assert watch.unfit == {0: "lacp", 1: "lacp"}


def test_where_nothing_can_be_left_behind_it_goes_on(clock: Clock, tmp_path: Path) -> None:
    watch = a_watch(clock, tmp_path / "gone")
    watch.carrier(0, True)
    assert watch.unfit == {0: "lacp", 1: "lacp"}


def test_a_link_that_was_gone_when_the_agent_came_inherits_nothing() -> None:
    """Not even when it comes up later."""
    host = Lacp(HOST, 1, active=True, fast=True, inherited={0: End(SWITCH, 1, 1, State(0x3F))})
    host.carrier(0, False, 0)
    host.carrier(0, True, 2)
    assert not host.standing(0).usable
    assert host.standing(0).state == "expired"
