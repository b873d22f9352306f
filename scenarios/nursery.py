"""A process that imports what others of a run are made of, and forks them: none of them waits for an interpreter.

    teambed ─┬─ nursery            imports, from teambed's first moment on; serves all runs of one call
             │     └─ room         one in each sandbox; forks, and takes in what has ended
             │          └─ controller, engine, …   each in its node, with its own command line
             └─ … runner           asks its room

Decides nothing of what they do; knows them by the names of modules that have a `main`. It ends with the process that
began it, and a room with its sandbox.
"""

import ctypes
import errno
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from scenarios import title
from scenarios.processes import raise_descriptor_limit
from topologies import forks

MODULES = (
    "controller.__main__",
    "controller.app",
    "host_agent.bpf.build",
    "host_agent.engine",
    "host_agent.agent",
    "scenarios.app",
    "scenarios.client",
    "scenarios.command",
)
"""What a run is made of: whatever starts more than once, or while somebody waits."""

_NAMESPACES = {"pid": 0x20000000, "mnt": 0x00020000, "net": 0x40000000}  # linux/sched.h, by their names in /proc
_LONGEST = 100  # bytes of a message; what it is about comes in memory of its own
_PATH = 4096  # bytes of a folder's name at most, linux/limits.h
_MOST = 8  # descriptors of a message
_UNKNOWN = 1
"""The status of what ended when nobody was left to be told how."""
_libc = ctypes.CDLL(None, use_errno=True)


class Nursery:
    """The process that imports. Forks of this one share it: each may have its own room."""

    def __init__(self, modules: Sequence[str] = MODULES) -> None:
        """Forks nothing yet. modules: what it imports."""
        self._modules = modules
        self._desk: socket.socket | None = None
        self._pid = 0

    def begin(self) -> None:
        """Fork it, unless it is there. No other threads must run yet, and it ends with the one that calls this."""
        if self._desk is not None:
            if not forks.ready(self._desk.fileno(), 0):  # it never says a word, so it is there
                return
            self._desk.close()
            with suppress(ChildProcessError):
                os.waitpid(self._pid, os.WNOHANG)
        while (nothing := os.open(os.devnull, os.O_RDWR)) <= 2:  # closed by the caller: ours would be taken for it
            pass
        os.close(nothing)
        self._desk, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        caller = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            forks.die_with_parent(lambda: os.getppid() == caller)
            os.setsid()  # Ctrl-C is not for it
            _begin_anew(["nursery"], theirs.fileno(), (os.open(os.devnull, os.O_WRONLY), 2))
            forks.end(lambda: _import(theirs, self._modules))
        theirs.close()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a fork of this process must keep open to ask for a room."""
        return () if self._desk is None else (self._desk.fileno(),)

    def ask(self, descriptors: Sequence[int]) -> None:
        """For a room in this folder: its channel, standard output and error, and namespaces.

        Raises OSError when the nursery has ended.
        """
        assert self._desk is not None
        socket.send_fds(self._desk, [os.fsencode(os.getcwd())], descriptors)

    def end(self) -> None:
        """Of the process that began it; returns when it is gone. Its rooms stay."""
        if self._pid:
            with suppress(ProcessLookupError, ChildProcessError):  # whoever called us may have SIGCHLD ignored
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            self._pid = 0


SHARED = Nursery()
"""That of this process and its forks."""


class Forked:
    """A process that a room has forked; as subprocess.Popen, as far as a run needs it."""

    def __init__(self, room: "Room", pid: int, pidfd: int) -> None:
        """Made by a room alone, which knows how it ends."""
        self.pid = pid
        self.returncode: int | None = None
        self._room, self._pidfd = room, pidfd

    def poll(self) -> int | None:
        """Its exit status, minus a signal's number, or None."""
        if self.returncode is None and not self._room.hear(0) and forks.ready(self._pidfd, 0):
            self.ended(_UNKNOWN)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            if not self._room.hear(left):
                forks.ready(self._pidfd, left)
        assert self.returncode is not None
        return self.returncode

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
        self._asked = 0
        self._wanted: int | None = None
        self._answers: list[Forked] = []
        self._living: dict[int, Forked] = {}
        self._itself: Forked | None = None
        self._dismissed = False

    def begin(self, _argv: Sequence[str], *, stdout: int, stderr: Any, env: Mapping[str, str]) -> "Room":
        """As a Spawn of `processes`; it is there once the nursery has imported everything. Raises OSError."""
        self._nursery.begin()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        namespaces = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in _NAMESPACES]
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
            raise OSError(errno.ESRCH, "the nursery has ended")
        return self._answers.pop()

    def hear(self, timeout: float | None) -> bool:
        """Take in what it says, waiting so long at most for the first word (None: for ever). False: it has ended."""
        assert self._channel is not None
        while forks.ready(self._channel.fileno(), timeout):
            try:
                words, descriptors, *_ = socket.recv_fds(self._channel, _LONGEST, _MOST)
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


def _import(desk: socket.socket, modules: Sequence[str]) -> int:
    """The life of the nursery: everything is imported, then a room is made for each that asks."""
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    gc.freeze()  # or the first collection in each fork would copy all that is imported
    gc.enable()
    raise_descriptor_limit()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel waits for rooms
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    while True:
        folder, descriptors, *_ = socket.recv_fds(desk, _PATH, _MOST)
        if not folder:
            return 0
        with suppress(OSError):  # that sandbox has ended
            _make_room(folder, *descriptors)
        _enter(own, "pid")
        forks.close(descriptors)


def _make_room(folder: bytes, channel: int, stdout: int, stderr: int, *namespaces: int) -> None:
    """Forks it. Raises OSError, and leaves this process's children in whichever PID namespace."""
    first, *others = zip(namespaces, _NAMESPACES, strict=True)
    _enter(*first)  # that of PIDs is for what is forked from here on; this process stays where it is
    if os.fork():
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def live() -> int:
        try:
            for one in others:
                _enter(*one)
            os.chdir(folder)
        except OSError:  # the sandbox has ended
            return 1
        _begin_anew(["nursery"], channel, (stdout, stderr))
        return _serve(channel)

    forks.end(live)


def _serve(descriptor: int) -> int:
    """The life of a room, until nobody asks any more and all its children have ended."""
    channel = socket.socket(fileno=descriptor)
    children: dict[int, int] = {}
    heard = select.poll()
    heard.register(channel, select.POLLIN)
    asked_on = True
    _tell(channel, 0, os.getpid(), os.pidfd_open(os.getpid()))
    while asked_on or children:
        for one, _ in heard.poll():
            if one in children:
                pid = children.pop(one)
                heard.unregister(one)
                os.close(one)
                _tell(channel, 0, pid, status=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                continue
            words, descriptors, *_ = socket.recv_fds(channel, _LONGEST, _MOST)
            if not words:
                heard.unregister(channel)
                asked_on = False
                continue
            *streams, request = descriptors
            with open(request) as file:
                file.seek(0)
                asked = json.load(file)
            pid = os.fork()
            if pid == 0:
                _live(asked, streams)
            pidfd = os.pidfd_open(pid)
            children[pidfd] = pid
            heard.register(pidfd, select.POLLIN)
            _tell(channel, int(words), pid, pidfd)
            forks.close(streams)
    return 0


def _tell(channel: socket.socket, number: int, pid: int, *pidfd: int, status: int = 0) -> None:
    with suppress(OSError):  # nobody is there any more who wants to know
        socket.send_fds(channel, [f"{number} {pid} {status}".encode()], pidfd)


def _live(asked: dict[str, Any], streams: Sequence[int]) -> NoReturn:
    """The life of one that was forked."""
    module, *words = asked["argv"]
    os.setsid()
    os.environ.clear()
    os.environ.update(asked["env"])
    _begin_anew([sys.executable, "-m", module.removesuffix(".__main__"), *words], 0, streams)
    sys.argv = [module, *words]

    def run() -> int | None:
        if asked["pid"] is not None:
            folder = os.getcwd()
            for kind in ("net", "mnt"):
                namespace = os.open(f"/proc/{asked['pid']}/ns/{kind}", os.O_RDONLY)
                _enter(namespace, kind)
                os.close(namespace)
            os.chdir(folder)
        status: int | None = importlib.import_module(module).main()
        return status

    forks.end(run)


def _begin_anew(argv: Sequence[str], kept: int, streams: Sequence[int]) -> None:
    """Nothing is left of the process that forked this one but what it has imported, and the descriptor `kept`."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, one in enumerate((nothing, *streams)):
        os.dup2(one, number)
    forks.close(forks.descriptors() - {0, 1, 2, kept})
    forks.begin()
    title.call_it(argv)


def _enter(namespace: int, kind: str) -> None:
    """Raises OSError."""
    if _libc.setns(namespace, _NAMESPACES[kind]) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
