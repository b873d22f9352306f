"""A process that imports what others of a run are made of, and forks them: none of them waits for an interpreter.

    teambed ─┬─ nursery            imports, from teambed's first moment on; serves all runs of one call
             │     └─ room         one in each sandbox; forks, and takes in what has ended
             │          └─ controller, engine, …   each in its node, with its own command line
             └─ … runner           asks its room (room.py)

Decides nothing of what they do; knows them by the names of modules that have a `main`. It ends with the process that
began it, and a room with its sandbox.
"""

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
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

NAMESPACES = {"pid": 0x20000000, "mnt": 0x00020000, "net": 0x40000000}  # linux/sched.h, by their names in /proc
LONGEST = 100  # bytes of a message; what it is about comes in memory of its own
_PATH = 4096  # bytes of a folder's name at most, linux/limits.h
MOST = 8  # descriptors of a message
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


def _import(desk: socket.socket, modules: Sequence[str]) -> int:
    """The life of the nursery: everything is imported, then a room is made for each that asks."""
    gc.disable()
    wrong = b""
    try:
        for module in modules:
            importlib.import_module(module)
    except BaseException:
        wrong = traceback.format_exc().encode()
    gc.freeze()  # or the first collection in each fork would copy all that is imported
    gc.enable()
    raise_descriptor_limit()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel waits for rooms
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    while True:
        folder, descriptors, *_ = socket.recv_fds(desk, _PATH, MOST)
        if not folder:
            return 0
        with suppress(OSError):  # that sandbox has ended
            if wrong:  # whoever asks has no room, but the reason in its log
                os.write(descriptors[2], wrong)
            else:
                _make_room(folder, *descriptors)
        _enter(own, "pid")
        forks.close(descriptors)


def _make_room(folder: bytes, channel: int, stdout: int, stderr: int, *namespaces: int) -> None:
    """Forks it. Raises OSError, and leaves this process's children in whichever PID namespace."""
    first, *others = zip(namespaces, NAMESPACES, strict=True)
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
            words, descriptors, *_ = socket.recv_fds(channel, LONGEST, MOST)
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
    if _libc.setns(namespace, NAMESPACES[kind]) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
