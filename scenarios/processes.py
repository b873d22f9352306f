"""The child processes of a run: starts them, notices when one dies, ends them. Touches no network itself.

Every child writes its events to `events.jsonl` by its standard output and everything else to `logs/NAME.log`.
"""

import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol


class Process(Protocol):
    """As subprocess.Popen."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


Spawn = Callable[..., Process]
"""As subprocess.Popen, with stdout=, stderr= and env=; `topologies` gives one that starts inside a node."""


class RunError(Exception):
    """The run cannot go on: one line for a person."""


@dataclass
class Child:
    """One process. `ends` says that it may end by itself, with status 0."""

    who: str
    process: Process
    log: Path
    ends: bool
    again: Callable[[], "Child"]
    """Starts it anew, by the same words."""


class Children:
    """All child processes of a run, by name."""

    def __init__(self, events_fd: int, logs: Path, env: Mapping[str, str]) -> None:
        """`events_fd` appends to events.jsonl; `env` is the children's environment."""
        self._events_fd, self._logs, self._env = events_fd, logs, dict(env)
        self._children: dict[str, Child] = {}
        self._killed: dict[str, Child] = {}

    def start(self, who: str, argv: Sequence[str], spawn: Spawn, ends: bool = False) -> Child:
        """Start one. Raises RunError when the program is not there."""
        log = self._logs / f"{who}.log"
        with log.open("ab") as stderr:
            try:
                process = spawn(argv, stdout=self._events_fd, stderr=stderr, env=self._env)
            except OSError as error:
                raise RunError(f"{who}: {argv[0]} cannot be started: {error.strerror}") from None
        again = partial(self.start, who, argv, spawn, ends)
        child = self._children[who] = Child(who, process, log, ends, again)
        return child

    def kill(self, who: str) -> None:
        """SIGKILL, as part of the scenario: this death is expected, and `restart` undoes it. Raises RunError."""
        child = self._children.pop(who, None)
        if child is None:
            raise RunError(f"{who} does not run and cannot be killed")
        child.process.kill()
        status = child.process.wait()
        if status != -signal.SIGKILL:
            raise RunError(f"{who} {_ended(status)} before it was to be killed{last_words(child.log)}")
        self._killed[who] = child

    def restart(self, who: str) -> None:
        """Start one again that was killed. Raises RunError."""
        child = self._killed.pop(who, None)
        if child is None:
            raise RunError(f"{who} was not killed and cannot be started again")
        child.again()

    def again(self, who: str) -> None:
        """Start one again that has ended by itself. Raises RunError."""
        self._children[who].again()

    def killed(self, who: str) -> bool:
        """Whether it was killed as part of the scenario and not started again."""
        return who in self._killed

    def check(self) -> None:
        """Raises RunError when a process has died that should not have."""
        for child in self._children.values():
            status = child.process.poll()
            if status is not None and not (child.ends and status == 0):
                raise RunError(f"{child.who} {_ended(status)}{last_words(child.log)}")

    def running(self, who: str) -> bool:
        """Whether that process has been started and has not ended."""
        child = self._children.get(who)
        return child is not None and child.process.poll() is None

    def pid(self, who: str) -> int:
        """Of a process that was started."""
        return self._children[who].process.pid

    def send(self, who: str, number: signal.Signals) -> None:
        """Send a signal to a process that runs. Raises RunError."""
        if who not in self._children:
            raise RunError(f"{who} does not run: it was killed, and not started again")
        self._children[who].process.send_signal(number)

    def stop(self, names: Iterable[str] | None = None, within_s: float = 3.0) -> list[str]:
        """SIGTERM to these (or all), at the same time; those left at the deadline are killed and returned."""
        chosen = [
            self._children.pop(who) for who in list(self._children if names is None else names) if who in self._children
        ]
        for child in chosen:
            if child.process.poll() is None:
                child.process.terminate()
        deadline, killed = time.monotonic() + within_s, []
        for child in chosen:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
                killed.append(child.who)
        return killed


def raise_descriptor_limit() -> None:
    """As many open descriptors as this process may have, for it and its children; the usual 1,024 are soon used up."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended unexpectedly with exit status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def last_words(log: Path) -> str:
    """What a process wrote last, to go behind what became of it; also of an archived log, which may be gone."""
    lines: list[str] = []
    with suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else "; it left nothing in its log"
