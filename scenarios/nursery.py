"""A process that imports what others of the run are made of, and forks them: none of them waits for an interpreter.

    runner ── nursery        imports once, while the network is made
       └───── engine, …      each in its node, with its own command line; the runner's child, as any other

Decides nothing of what they do; knows them by the names of modules that have a `main`. It ends with the runner.
"""

import array
import ctypes
import errno
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from scenarios import title
from topologies import forks

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000  # linux/sched.h
_LONGEST = 100  # bytes of a message; what it is about comes in memory of its own
_libc = ctypes.CDLL(None, use_errno=True)


class Forked:
    """A child process that nobody executed; as subprocess.Popen, as far as a run needs it."""

    def __init__(self, pid: int) -> None:
        """It must be this process's child."""
        self.pid = pid
        self.returncode: int | None = None
        self._ended = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Its exit status, minus a signal's number, or None."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
                os.close(self._ended)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            forks.ended(self._ended, timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._ended, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """`begin` it, then `spawn` from it. Both are a Spawn of `processes`, the latter once it knows where."""

    def __init__(self) -> None:
        """Forks nothing yet."""
        self._channel: socket.socket | None = None
        self._asked = 0

    def begin(self, modules: Sequence[str], *, stdout: int, stderr: Any, env: Mapping[str, str]) -> Forked:
        """Fork it; it imports these modules. Other threads must not run yet."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.setsid()  # Ctrl-C in a shell on the network is not for it
            _begin_anew(["nursery", *modules], theirs.fileno(), (stdout, stderr.fileno()), env)
            forks.end(lambda: _serve(theirs, modules))
        theirs.close()
        self._channel = ours
        return Forked(pid)

    def spawn(
        self, pid: int | None, argv: Sequence[str], *, stdout: int, stderr: Any, env: Mapping[str, str]
    ) -> Forked:
        """`python -m argv`, in the network and mount namespaces of that process (None: in ours). Raises OSError."""
        assert self._channel is not None
        self._asked += 1
        request = os.memfd_create("request")
        descriptors = array.array("i", [stdout, stderr.fileno(), request])
        # What it forks, and then forks once more, becomes a child of the next process above that asks for orphans.
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            with open(request, "w", closefd=False) as file:
                json.dump({"argv": list(argv), "pid": pid, "env": dict(env)}, file)
            words = str(self._asked).encode()
            self._channel.sendmsg([words], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            child = self._answer()
        except OSError:
            child = None
        finally:
            os.close(request)
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        if child is None:
            raise OSError(errno.ESRCH, "the nursery has ended")
        return Forked(child)

    def _answer(self) -> int | None:
        """The last one's process; None: the nursery has ended. Raises OSError."""
        assert self._channel is not None
        while answer := self._channel.recv(_LONGEST):
            asked, child = map(int, answer.split())
            if asked == self._asked:
                return child
            with suppress(ProcessLookupError):  # whoever asked for it was interrupted, and nobody knows of it
                os.kill(child, signal.SIGKILL)
        return None


def _serve(channel: socket.socket, modules: Sequence[str]) -> int:
    """The life of the nursery, to the end of the channel's other end."""
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # or the first collection in each fork would copy all that is imported
    while True:
        number, ancillary, *_ = channel.recvmsg(_LONGEST, socket.CMSG_SPACE(3 * array.array("i").itemsize))
        if not number:
            return 0
        *streams, request = array.array("i", ancillary[0][2])
        with open(request) as file:
            file.seek(0)
            asked = json.load(file)
        heard, told = os.pipe()
        between = os.fork()
        if between == 0:
            child = os.fork()
            if child == 0:
                _live(asked, tuple(streams))
            os.write(told, str(child).encode())
            os._exit(0)
        os.waitpid(between, 0)  # now the child has its new parent
        os.close(told)
        channel.send(number + b" " + os.read(heard, 32))
        os.close(heard)
        for one in streams:
            os.close(one)


def _live(asked: dict[str, Any], streams: tuple[int, ...]) -> NoReturn:
    """The life of one that was forked."""
    module, *words = asked["argv"]
    _begin_anew([sys.executable, "-m", module, *words], 0, streams, asked["env"])
    os.setsid()
    sys.argv = [module, *words]

    def run() -> int | None:
        _in_node(asked["pid"])
        status: int | None = importlib.import_module(module).main()
        return status

    forks.end(run)


def _begin_anew(argv: Sequence[str], kept: int, streams: Sequence[int], env: Mapping[str, str]) -> None:
    """Nothing is left of the process that forked this one but what it has imported, and the descriptor `kept`."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, one in enumerate((nothing, *streams)):
        os.dup2(one, number)
    forks.close(forks.descriptors() - {0, 1, 2, kept})
    forks.begin()
    os.environ.clear()
    os.environ.update(env)
    title.call_it(argv)


def _in_node(pid: int | None) -> None:
    """Raises OSError."""
    if pid is None:
        return
    folder = os.getcwd()
    for kind, flag in (("net", _CLONE_NEWNET), ("mnt", _CLONE_NEWNS)):
        namespace = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
        if _libc.setns(namespace, flag) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        os.close(namespace)
    os.chdir(folder)
