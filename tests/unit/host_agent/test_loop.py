"""What is urgent comes first; and a process goes before others as long as nobody gives it orders."""

import os
import select
import socket
from collections.abc import Callable
from unittest.mock import MagicMock

import pytest

from host_agent.loop import _ROUND, EDGE, Loop, Precedence

AHEAD, ORDINARY = os.SCHED_RR, os.SCHED_OTHER


class Machine(Loop):
    """Its clock stands still; `classes` is what the scheduler was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, allowed: bool = True, started: int = ORDINARY):
        self.now, self.classes, self.waiting = 100.0, list[int](), list[tuple[float, Callable[[], None]]]()
        self._allowed = allowed
        monkeypatch.setattr("host_agent.loop.time.monotonic", lambda: self.now)
        monkeypatch.setattr("host_agent.loop.os.sched_setscheduler", self._schedule)
        monkeypatch.setattr("host_agent.loop.os.sched_getscheduler", lambda _process: [started, *self.classes][-1])

    def _schedule(self, process: int, policy: int, _param: object) -> None:
        assert process == 0
        assert policy & os.SCHED_RESET_ON_FORK
        if not self._allowed:
            raise PermissionError
        self.classes.append(policy & ~os.SCHED_RESET_ON_FORK)

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.waiting.append((self.now + seconds, act))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        due = [act for at, act in self.waiting if at <= self.now]
        self.waiting = [one for one in self.waiting if one[0] > self.now]
        for act in due:
            act()


def test_it_stands_back_while_orders_come(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    one = Precedence(machine)
    one.take()
    assert machine.classes == [AHEAD]
    for _ in range(5):
        one.stand_back()
        machine.wait(0.03)
    assert machine.classes == [AHEAD, ORDINARY]
    assert len(machine.waiting) == 1
    machine.wait(0.03)
    assert machine.classes == [AHEAD, ORDINARY, AHEAD]
    assert not machine.waiting


def test_who_is_not_allowed_to_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, allowed=False)
    one = Precedence(machine)
    one.take()
    one.stand_back()
    assert (machine.classes, machine.waiting) == ([], [])


def test_who_never_took_it_has_nothing_to_give_back(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    Precedence(machine).stand_back()
    assert (machine.classes, machine.waiting) == ([], [])


@pytest.mark.parametrize("started", [os.SCHED_RR, os.SCHED_FIFO, os.SCHED_IDLE])
def test_who_was_started_in_another_class_stays_there(started: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, started=started)
    one = Precedence(machine)
    one.take()
    one.stand_back()
    assert (machine.classes, machine.waiting) == ([], [])


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    """It runs, and leaves this process as it is."""
    monkeypatch.setattr("host_agent.loop.signal", MagicMock())
    monkeypatch.setattr("host_agent.loop.gc", MagicMock())
    return Loop()


def test_what_was_said_of_a_closed_descriptor_is_not_heard_by_the_next_of_its_number(loop: Loop) -> None:
    """An agent that ends its conversation begins the next one at once."""
    control, calls = os.pipe(), list[str]()
    (old, ended), (other, more) = os.pipe(), os.pipe()

    def leave(_mask: int) -> None:
        loop.unwatch(old)
        os.close(old)

    def greet(_mask: int) -> None:
        os.read(control[0], 1)
        assert os.dup2(other, old) == old
        loop.watch(old, lambda mask: calls.append(f"new hears {mask}"))
        loop.after(0, loop._stop)

    loop.watch(control[0], greet)
    loop.watch(old, leave, urgent=True)
    os.write(control[1], b"!")
    os.close(ended)
    loop.run()
    assert calls == []
    for end in (*control, old, other, more):
        os.close(end)


def test_what_is_urgent_waits_for_a_round_at_most(loop: Loop) -> None:
    """However many are ready, and whenever it becomes so."""
    calls = list[str]()
    pipes = [os.pipe() for _ in range(5 * _ROUND + 1)]
    *others, (urgent, ring) = pipes

    def heard(_mask: int) -> None:
        os.read(urgent, 1)
        calls.append("urgent")
        loop.unwatch(urgent)

    def other(reader: int, _mask: int) -> None:
        if not calls:
            os.write(ring, b"!")
        os.read(reader, 1)
        calls.append("other")
        if calls.count("other") == len(others):
            loop._stop()

    for reader, writer in others:
        os.write(writer, b"!")
        loop.watch(reader, lambda mask, reader=reader: other(reader, mask))
    loop.watch(urgent, heard, urgent=True)
    loop.run()
    assert calls.index("urgent") <= _ROUND
    assert calls.count("urgent") == 1
    for pipe in pipes:
        for end in pipe:
            os.close(end)


def test_what_is_urgent_is_heard_once_and_first_with_all_that_is_known_of_it(loop: Loop) -> None:
    calls = list[tuple[str, int]]()
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    for name, fd, urgent in (("other", reader, False), ("urgent", ours.fileno(), True)):
        loop.watch(fd, lambda mask, name=name: calls.append((name, mask)), EDGE, urgent=urgent)
    os.write(writer, b"!")
    theirs.send(b"!")
    theirs.close()
    loop.after(0, loop._stop)
    loop.run()
    gone = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLHUP
    assert calls == [("urgent", gone), ("other", select.EPOLLIN)]
    ours.close()
    for end in (reader, writer):
        os.close(end)
