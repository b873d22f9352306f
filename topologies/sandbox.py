"""The private world of one run: its namespaces, its file systems, its Open vSwitch.

    caller ── watcher ── PID 1: init ── the run itself ── ovsdb-server, ovs-vswitchd, …
              dies with    ends with      (argv of launch,
              the caller   the run         after enter)

Decides what a run shares with the machine: its files, and nothing else. When any of the first three dies,
however it dies, the kernel ends every process in it and removes every interface, mount and socket. Never
touches the machine's own network, services or mounts; never ends a process by name.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from topologies import forks

RUN_DIR = Path("/run/teambed")
"""Where a run keeps its sockets and data: on the private /run, so the same path serves every run."""
OVS_SECONDS = 20.0
"""The longest that Open vSwitch may take to be ready; it takes about 0.1 s on a quiet machine."""

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 1 << 14, 1 << 18  # linux/mount.h
_CLONE_NEWNS, _CLONE_NEWPID, _CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000  # linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)
# A daemon that detaches returns when it is ready, or with an error: nothing to poll.
_DETACH = ("--detach", "--no-chdir", "--pidfile", "--log-file", "-vconsole:off")


class SandboxError(Exception):
    """A run's private world could not be made. The message is one line for a person."""


class Sandbox(subprocess.Popen[bytes]):
    """The process around a run. kill() ends all at once; terminate() lets the run finish."""

    def wait(self, timeout: float | None = None) -> int:
        """As Popen's, which looks every 50 ms when it has a timeout; this one hears of the end at once."""
        if timeout and self.poll() is None:
            ended = os.pidfd_open(self.pid)
            forks.ready(ended, timeout)
            os.close(ended)
        return super().wait(timeout and 0.0)

    def terminate(self) -> None:
        """Asks the run to finish (SIGTERM). This process itself blocks that signal, so it goes to its child."""
        if self.poll() is None:
            for pid in _children(self.pid):
                with suppress(ProcessLookupError):  # it ended a moment ago
                    os.kill(pid, signal.SIGTERM)


def launch(
    argv: Sequence[str],
    *,
    inside: Callable[[], int] | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    **streams: Any,
) -> Sandbox:
    """Starts `argv` as the first process of new network, mount and PID namespaces; it shall call enter().

    inside: called there in place of executing argv, in a fork of this process, which has imported all that it needs;
    gives the exit status. Whatever ends this process, kill -9 included, ends the whole sandbox. The kernel ties that to
    the calling *thread*: call it from one that lives as long as the sandbox shall. streams: stdin, stdout, stderr as
    for Popen. A machine that allows no namespaces is told of on stderr, with exit status 1.
    """
    caller = os.getpid()

    def begin() -> None:
        # Among them what Popen opens to hear of errors: it waits until that is closed, by an exec or by hand.
        others = forks.descriptors() - {0, 1, 2, *pass_fds}
        forks.die_with_parent(lambda: os.getppid() == caller)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored by the caller, no end of a child would be told in here
        try:
            _new_namespaces()
        except SandboxError as error:
            os.write(2, f"{error}\n".encode())
            os._exit(1)
        alive, held = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})  # until enter() can heed them
        child = os.fork()
        if child:
            forks.close(others)
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
        os.close(held)
        # Its parent is in another namespace and cannot be asked for; it holds the other end of this pipe.
        forks.die_with_parent(lambda: not select.select([alive], [], [], 0)[0])
        os.close(alive)
        _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        if inside is not None:
            forks.close(others)
            forks.begin()
            forks.end(inside)

    sys.stdout.flush()
    sys.stderr.flush()
    return Sandbox(argv, env=env, pass_fds=pass_fds, preexec_fn=begin, **streams)


def _new_namespaces() -> None:
    """For this process, and the PID namespace for its children. Raises SandboxError."""
    if _libc.unshare(_CLONE_NEWNET | _CLONE_NEWNS | _CLONE_NEWPID) != 0:
        why = os.strerror(ctypes.get_errno())
        raise SandboxError(f"new namespaces: {why} (as root; a container needs --privileged)")
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)


def enter(run_dir: str | os.PathLike[str] = RUN_DIR) -> None:
    """Makes the world private from inside: called once, first thing, by the process that launch() started.

    Afterwards: run_dir is an empty tmpfs with a BPF file system at run_dir/bpf; /run (so also /run/netns) and
    /sys are fresh; `lo` is up; mounts do not spread to the machine; SIGTERM raises SystemExit as Ctrl-C
    raises KeyboardInterrupt. A run_dir outside /run must exist beforehand. The caller goes on as a child of
    PID 1, which only waits: it takes in orphans, so that no zombie stays, passes SIGTERM on, and ends with
    the caller. Raises SandboxError.
    """
    if os.getpid() != 1:
        raise SandboxError("this is not the first process of a sandbox; start it with topologies.sandbox.launch")
    if threading.active_count() > 1:
        raise SandboxError("enter the sandbox before any thread is started")
    run = Path(run_dir)
    _mount("tmpfs", "/run", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
    Path("/run/netns").mkdir()
    Path("/run/lock").mkdir()
    if run.is_relative_to("/run"):
        run.mkdir(parents=True, exist_ok=True)
    else:
        _mount("tmpfs", str(run), "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
    # The machine's sysfs shows the machine's interfaces: this one shows the sandbox's.
    _mount("sysfs", "/sys", "sysfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    (run / "bpf").mkdir()
    _mount("bpf", str(run / "bpf"), "bpf", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "mode=700")
    _run(["ip", "link", "set", "lo", "up"], "bringing up lo", 5.0)
    _become_child_of_init()


def _become_child_of_init() -> None:
    """Forks: PID 1 stays behind as init and never returns from here, the child goes on with the run.

    A run that were PID 1 itself could not take in orphans: waiting for any child would steal the exit status
    from whichever Popen waits for its own.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    watched = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    child = os.fork()
    if child:
        _init(child, watched)
    signal.signal(signal.SIGTERM, _finish)
    # A shell starts background jobs with SIGINT ignored; here it always means: finish.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)


def _init(child: int, watched: set[signal.Signals]) -> NoReturn:
    """The life of PID 1: takes in every process that ends, passes signals on, ends with its child."""
    while True:
        got = signal.sigwaitinfo(watched)
        if got.si_signo != signal.SIGCHLD:
            # What a terminal sends (si_code above 0) reaches the child by itself.
            if got.si_code <= 0:
                os.kill(child, got.si_signo)
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(1)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)


def _finish(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


class OpenVSwitch:
    """An Open vSwitch of the run's own: database, daemon, sockets and logs below run_dir/ovs."""

    def __init__(
        self,
        run_dir: str | os.PathLike[str] = RUN_DIR,
        name: str = "ovs",
        inside: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        """Starts nothing yet. run_dir: as given to enter(). inside: gives the words before a command that make it run
        in the node that this one belongs to; None: it is the sandbox's own, and its commands need no words."""
        self.dir = Path(run_dir) / name
        self.control = self.dir / "ovs-vswitchd.ctl"
        """Leads to the control socket of ovs-vswitchd, whose own name changes with every start."""
        self._inside = inside
        self.env = {
            "OVS_RUNDIR": str(self.dir),
            "OVS_LOGDIR": str(self.dir),
            "OVS_DBDIR": str(self.dir),
            "OVS_SYSCONFDIR": str(self.dir),
        }

    def start(self) -> None:
        """Starts both daemons and returns when they answer. Raises SandboxError, with what they said.

        The sandbox's own sets the OVS_… variables in this process's environment, so that ovs-vsctl and all children
        find it.
        """
        if self._inside is None:
            os.environ.update(self.env)
        self.dir.mkdir(mode=0o755, parents=True)
        database, socket = str(self.dir / "conf.db"), str(self.dir / "db.sock")
        _run(["ovsdb-tool", "create", database, _schema()], "creating the switch's database", OVS_SECONDS)
        server = self.words("ovsdb-server", database, f"--remote=punix:{socket}", *_DETACH)
        _run(server, "starting ovsdb-server", OVS_SECONDS)
        _run(self.words("ovs-vsctl", "--no-wait", "init"), "preparing the switch's database", OVS_SECONDS)
        self.start_daemon()

    def words(self, *argv: str) -> list[str]:
        """A command as it must be called to speak to this one."""
        if self._inside is None:
            return [*argv]
        return [*self._inside(), "env", *(f"{key}={value}" for key, value in self.env.items()), *argv]

    def start_daemon(self) -> None:
        """Starts ovs-vswitchd, with the bridges that the database has and no flow in them. Raises SandboxError."""
        daemon = self.words("ovs-vswitchd", f"unix:{self.dir / 'db.sock'}", *_DETACH)
        _run(daemon, "starting ovs-vswitchd", OVS_SECONDS)
        self.control.unlink(missing_ok=True)
        self.control.symlink_to(f"ovs-vswitchd.{self.daemon_pid()}.ctl")

    def kill_daemon(self) -> None:
        """Ends ovs-vswitchd by SIGKILL, and returns when it is gone. Raises SandboxError when it does not run."""
        try:
            process = os.pidfd_open(self.daemon_pid())
        except ProcessLookupError:
            raise SandboxError("ovs-vswitchd does not run and cannot be killed") from None
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            if not forks.ready(process, OVS_SECONDS):
                raise SandboxError(f"ovs-vswitchd did not end within {OVS_SECONDS:g} s")
        finally:
            os.close(process)

    def daemon_pid(self) -> int:
        """The process of ovs-vswitchd, as it was last started."""
        return int((self.dir / "ovs-vswitchd.pid").read_text())

    def stop(self) -> None:
        """Ends both daemons. Never raises: what is left ends with the sandbox."""
        for name in ("ovs-vswitchd", "ovsdb-server"):
            try:
                pid = int((self.dir / f"{name}.pid").read_text())
                process = os.pidfd_open(pid)
            except (OSError, ValueError):
                continue  # it was not started, or has ended
            try:
                _call(self.words("ovs-appctl", "-t", name, "-T", "5", "exit"))
                # It answers first and ends then.
                if not forks.ready(process, 5.0):
                    os.kill(pid, signal.SIGKILL)
            finally:
                os.close(process)


def _schema() -> str:
    """Where the distribution keeps the schema of the switch's database."""
    for folder in ("/usr/share/openvswitch", "/usr/local/share/openvswitch"):
        path = Path(folder, "vswitch.ovsschema")
        if path.exists():
            return str(path)
    raise SandboxError("vswitch.ovsschema (Debian package openvswitch-common) is not installed")


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2). Raises SandboxError."""
    words = (
        source.encode(),
        target.encode(),
        kind.encode(),
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    if _libc.mount(*words) != 0:
        why = os.strerror(ctypes.get_errno())
        raise SandboxError(f"mounting {kind} at {target}: {why} (a container needs --privileged)")


def _run(argv: Sequence[str], what: str, timeout: float) -> None:
    """Runs a command to its end. Raises SandboxError with the first line of what it said."""
    try:
        done = _call(argv, timeout)
    except FileNotFoundError:
        raise SandboxError(f"{what}: the program {argv[0]!r} is not installed") from None
    except subprocess.TimeoutExpired:
        raise SandboxError(f"{what}: not done within {timeout:g} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise SandboxError(f"{what}: {said[0] if said else f'exit status {done.returncode}'}")


def _call(argv: Sequence[str], timeout: float = 10.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)


def _children(parent: int) -> list[int]:
    """The processes whose parent is `parent`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        # "pid (name) state ppid …", and a name may hold anything.
        if int(text.rpartition(")")[2].split()[1]) == parent:
            found.append(int(path.parent.name))
    return found
