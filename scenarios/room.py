"""The room that a runner has in the nursery, and the processes that were forked there: as `subprocess` has processes.

Decides nothing. Hears from the room, by a channel of their own, who was forked and how each has ended; never touches
what runs there.
"""

import errno
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from scenarios.nursery import LONGEST, MOST, NAMESPACES, Nursery
from scenarios.processes import last_words
from topologies import forks

_UNKNOWN = 1
"""The status of what ended when nobody was left to be told how."""


class Forked:
    """A process that a room has forked; as subprocess.Popen, as far as a run needs it."""

    def __init__(self, room: "Room", pid: int, pidfd: int) -> None:
        """Made by a room alone, which knows how it ends."""
        self.pid = pid
        self.returncode: int | None = None
        self._room, self._pidfd = room, pidfd

    def poll(self) -> int | None:
        """Its exit status, minus a signal's number, or None."""
        self._look(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            self._look(left)
        assert self.returncode is not None
        return self.returncode

    def _look(self, timeout: float | None) -> None:
        """Waits so long at most for news of it."""
        if self.returncode is not None or self._room.hear(timeout):
            return
        # The room has ended, and its last word may have been of this one.
        if self.returncode is None and forks.ready(self._pidfd, timeout):
            self.ended(_UNKNOWN)

    def ended(self, status: int) -> None:
        """Called once it has."""
        self.returncode = status
        os.close(self._pidfd)

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it ended a moment ago
                signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Room:
    """The nursery's part in this process's namespaces: `begin` it, then `spawn` from it."""

    def __init__(self, nursery: Nursery) -> None:
        """Asks for nothing yet."""
        self._nursery = nursery
        self._channel: socket.socket | None = None
        self._log = Path(os.devnull)
        self._asked = 0
        self._wanted: int | None = None
        self._answers: list[Forked] = []
        self._living: dict[int, Forked] = {}
        self._itself: Forked | None = None
        self._dismissed = False

    def begin(self, _argv: Sequence[str], *, stdout: int, stderr: Any, env: Mapping[str, str]) -> "Room":
        """As a Spawn of `processes`; it is there once the nursery has imported everything. Raises OSError."""
        self._log = Path(stderr.name)
        self._nursery.begin()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        namespaces = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in NAMESPACES]
        try:
            self._nursery.ask([theirs.fileno(), stdout, stderr.fileno(), *namespaces])
        finally:
            theirs.close()
            for one in namespaces:
                os.close(one)
        self._channel = ours
        return self

    def spawn(
        self, pid: int | None, argv: Sequence[str], *, stdout: int, stderr: Any, env: Mapping[str, str]
    ) -> Forked:
        """`python -m argv`, in the network and mount namespaces of that process (None: in ours). Raises OSError."""
        assert self._channel is not None
        self._asked += 1
        request = os.memfd_create("request")
        try:
            with open(request, "w", closefd=False) as file:
                json.dump({"argv": list(argv), "pid": pid, "env": dict(env)}, file)
            self._wanted = self._asked
            with suppress(OSError):
                socket.send_fds(self._channel, [str(self._asked).encode()], [stdout, stderr.fileno(), request])
                while not self._answers and self.hear(None):
                    pass
        finally:
            self._wanted = None
            os.close(request)
        if not self._answers:
            raise OSError(errno.ESRCH, f"the nursery has ended{last_words(self._log)}")
        return self._answers.pop()

    def hear(self, timeout: float | None) -> bool:
        """Take in what it says, waiting so long at most for the first word (None: for ever). False: it has ended."""
        assert self._channel is not None
        while forks.ready(self._channel.fileno(), timeout):
            try:
                words, descriptors, *_ = socket.recv_fds(self._channel, LONGEST, MOST)
            except OSError:
                return False
            if not words:
                return False
            self._take(words, descriptors)
            timeout = 0
        return True

    def _take(self, words: bytes, descriptors: list[int]) -> None:
        number, pid, status = map(int, words.split())
        if not descriptors:
            self._living.pop(pid).ended(status)
            return
        child = Forked(self, pid, *descriptors)
        if number == 0:
            self._itself = child
            return
        self._living[pid] = child
        if number == self._wanted:
            self._answers.append(child)
        else:  # whoever asked for it was interrupted, and nobody knows of it
            child.kill()

    # ------------------------------------------------------------------------- itself, as a Process of `processes`

    @property
    def pid(self) -> int:
        """Waits until it is there."""
        while self._itself is None and self.hear(None):
            pass
        return 0 if self._itself is None else self._itself.pid

    def poll(self) -> int | None:
        """None while it lives. How it ended is told to the nursery alone."""
        return None if self.hear(0) else 0 if self._dismissed else _UNKNOWN

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired("nursery", timeout or 0.0)
            self.hear(left)
        return status

    def send_signal(self, number: int) -> None:
        """Unless it has ended, or is not there yet."""
        if self._itself is not None:
            self._itself.send_signal(number)

    def terminate(self) -> None:
        """Nothing more will be asked for: it ends once all that it has forked has ended."""
        assert self._channel is not None
        self._dismissed = True
        self._channel.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """SIGKILL; and should it come only now, it finds nobody."""
        assert self._channel is not None
        self._channel.shutdown(socket.SHUT_RDWR)
        self.send_signal(signal.SIGKILL)
