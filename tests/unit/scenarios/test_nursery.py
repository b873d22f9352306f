"""Forked processes are as others: with a command line, streams and an environment; killed, waited for, and missed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from scenarios.nursery import Nursery
from scenarios.processes import Children, RunError
from scenarios.room import Room
from tests.unit.scenarios.deaths import died

LIFE = """
import os, signal, sys, time
print(sys.argv, os.environ.get("WHO"), os.getsid(0) == os.getpid(), flush=True)
def main():
    default = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    print(sys.argv[1:], os.environ["WHO"], os.getsid(0) == os.getpid(), default, flush=True)
    print(sorted(os.listdir("/proc/self/fd")), file=sys.stderr)
    if sys.argv[1] == "stay":
        time.sleep(60)
    if sys.argv[1] == "fail":
        raise ValueError("it went wrong")
    sys.exit(sys.argv[1])
"""
INSIDE = """
import sys, types
sys.modules["tests"] = tests = types.ModuleType("tests")  # another package has some of that name
tests.__path__ = ["tests"]
from tests.unit.scenarios import test_nursery
getattr(test_nursery, sys.argv[1])(sys.argv[2])
"""


def begun(folder: str, module: str = "life", **env: str) -> tuple[Children, Callable[..., None]]:
    """Children with a nursery, and what starts another one from it. In a process with no other threads, as the runner
    is."""
    out = Path(folder)
    sys.path.insert(0, folder)
    (out / "logs").mkdir()
    events = os.open(out / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nursery = Nursery([module])
    nursery.begin()
    nursery.ask([os.open(os.devnull, os.O_RDWR)] * 6)  # by one whose sandbox has ended meanwhile; others get theirs
    children, room = Children(events, out / "logs", os.environ | {"WHO": "me"} | env), Room(nursery)
    children.start("nursery", ["nursery"], room.begin)

    def start(who: str, *words: str, ends: bool = False) -> None:
        children.start(who, ["life", *words], lambda argv, **how: room.spawn(None, argv, **how), ends=ends)

    return children, start


def life(folder: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    children, start = begun(folder)
    out = Path(folder)
    start("one", "stay")
    pid = children.pid("one")
    while "stay" not in (out / "events").read_text():
        children.check()
    print(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
    print(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(children.pid("nursery")))
    children.kill("one")
    print(os.path.exists(f"/proc/{pid}"))
    children.restart("one")
    print(children.running("one"), children.pid("one") != pid)
    print(children.stop(["one"]))  # by SIGTERM, which it has no handler for, though its forebear has
    start("two", "what was wrong")
    print(died(children))
    children.stop(["two"])
    start("three", "fail")
    print(died(children))
    children.stop(["three"])
    os.kill(children.pid("nursery"), signal.SIGKILL)
    print(died(children))
    children.stop(["nursery"])
    try:
        start("four", "stay")
    except RunError as error:
        print(error)


def interrupted(folder: str) -> None:
    """By Ctrl-C, while it waits for the nursery, which is stopped meanwhile."""
    children, start = begun(folder)
    nursery = children.pid("nursery")
    os.kill(nursery, signal.SIGSTOP)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        start("lost", "stay", "lost")
    except KeyboardInterrupt:
        print("interrupted")
    os.kill(nursery, signal.SIGCONT)
    start("next", "stay", "next")
    while "'next'" not in (Path(folder) / "events").read_text():
        children.check()
    print(Path(f"/proc/{children.pid('next')}/cmdline").read_text().replace("\0", " "))
    print(children.stop())


def large(folder: str) -> None:
    """With more words and a larger environment than a packet takes."""
    children, start = begun(folder, MUCH="x" * 100_000, MORE="y" * 100_000)
    start("one", "w" * 120_000, ends=True)
    print(len(died(children)) > 100)
    print(children.running("nursery"))
    children.stop()


def unable(folder: str) -> None:
    """It cannot import what it is to, and whoever asks hears why, not only the first."""
    (Path(folder) / "broken.py").write_text("import nothing_of_that_name")
    children, start = begun(folder, "broken")
    try:
        start("one", "stay")
    except RunError as error:
        print(error)
    print(died(children))


def ends(folder: str) -> None:
    """By the word of the process that began it, and with that process, however this ends, though a runner asks on."""
    for number in (None, signal.SIGKILL):
        told, heard = os.pipe()
        asking, done = os.pipe()
        beginner = os.fork()
        if beginner == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as its own caller may have had it
            nursery = Nursery(["json"])
            nursery.begin()
            nursery.begin()  # it is there
            (pid,) = children_of(os.getpid())
            if os.fork() == 0:  # the runner
                os.close(heard)
                os.close(done)
                os.read(asking, 1)
                os._exit(0)
            os.write(heard, f"{pid} ".encode())
            if number:
                os.kill(os.getpid(), number)
            nursery.end()
            os.write(heard, f"{os.path.exists(f'/proc/{pid}')}".encode())
            os._exit(0)
        os.waitpid(beginner, 0)
        os.close(heard)
        os.close(asking)
        pid, _, there = os.read(told, 100).decode().partition(" ")
        deadline = time.monotonic() + 5
        while os.path.exists(f"/proc/{pid}/exe") and time.monotonic() < deadline:
            time.sleep(0.001)
        print(there, os.path.exists(f"/proc/{pid}/exe"))
        os.close(done)


def late(folder: str) -> None:
    """Those who wait for a room may be elsewhere than when the nursery began, and may give up; after its death there is
    another one."""
    here = Path(folder, "here")
    here.mkdir()
    os.chdir(here)
    os.close(0)  # as some callers have it
    nursery = Nursery(["json"])
    nursery.begin()
    print(nursery.descriptors[0] > 2)
    here.rmdir()
    os.chdir(folder)
    room = Room(nursery).begin([], stdout=1, stderr=sys.stderr, env={})
    print(os.path.samefile(f"/proc/{room.pid}/cwd", folder))
    (pid,) = children_of(os.getpid())
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    room = Room(nursery).begin([], stdout=1, stderr=sys.stderr, env={})
    room.terminate()
    room.kill()
    print(room.wait())
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    room = Room(nursery).begin([], stdout=1, stderr=sys.stderr, env={})
    print(room.pid > 0, pid in children_of(os.getpid()))
    nursery.end()


def children_of(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")


def said_by(name: str, folder: Path) -> list[str]:
    """What a function of this file prints, in a process of its own."""
    (folder / "life.py").write_text(LIFE)
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, name, str(folder)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@needs_pidfd
def test_an_interrupted_start_leaves_no_answer_for_the_next(tmp_path):
    assert said_by("interrupted", tmp_path) == ["interrupted", f"{sys.executable} -m life stay next ", "[]"]


class Desk(Nursery):
    """Of a nursery whose room is in the test's hands."""

    def begin(self) -> None:
        pass

    def ask(self, descriptors: Sequence[int]) -> None:
        self.room = socket.socket(fileno=os.dup(descriptors[0]))


@needs_pidfd
@pytest.mark.parametrize("heard", ["poll", "wait"])
def test_the_last_word_of_a_room_counts(tmp_path: Path, heard: str) -> None:
    """It tells how a process has ended, and ends itself before anybody has listened."""
    desk = Desk()
    with (tmp_path / "log").open("w") as log:
        room = Room(desk).begin([], stdout=1, stderr=log, env={})
        socket.send_fds(desk.room, [b"1 4242 0"], [os.pidfd_open(os.getpid())])
        child = room.spawn(None, ["life"], stdout=1, stderr=log, env={})
    desk.room.recv(100)  # who closes on an unread word has its own last one lost
    desk.room.send(b"0 4242 7")
    desk.room.close()
    assert getattr(child, heard)() == 7
    assert child.poll() == child.wait() == child.returncode == 7


@needs_pidfd
def test_it_ends_with_the_process_that_began_it(tmp_path):
    assert said_by("ends", tmp_path) == ["False False", " False"]


@needs_pidfd
def test_a_room_is_where_it_is_asked_for_and_nobody_waits_for_one_that_does_not_come(tmp_path):
    assert said_by("late", tmp_path) == ["True", "True", "0", "True False"]


@needs_pidfd
def test_what_it_cannot_import_is_the_reason_that_is_told(tmp_path):
    why = "ModuleNotFoundError: No module named 'nothing_of_that_name'"
    assert said_by("unable", tmp_path) == [
        f"one: life cannot be started: the nursery has ended: {why}",
        f"nursery ended unexpectedly with exit status 1: {why}",
    ]
    assert (tmp_path / "logs" / "nursery.log").read_text().startswith("Traceback ")


@needs_pidfd
def test_words_and_environment_may_be_as_long_as_of_any_process(tmp_path):
    assert said_by("large", tmp_path) == ["True", "True"]


@needs_pidfd
def test_the_life_of_forked_processes(tmp_path):
    assert said_by("life", tmp_path) == [
        f"{sys.executable} -m life stay ",
        "True",
        "False",
        "True True",
        "[]",
        "two ended unexpectedly with exit status 1: what was wrong",
        "three ended unexpectedly with exit status 1: ValueError: it went wrong",
        "nursery ended unexpectedly with exit status 1; it left nothing in its log",
        "four: life cannot be started: the nursery has ended; it left nothing in its log",
    ]
    said = (tmp_path / "events").read_text().splitlines()
    assert said[0] == "['stay'] me True True"
    # Nothing of the others is open in it: its streams, and what the list is read by.
    assert (tmp_path / "logs" / "two.log").read_text().splitlines()[0] == "['0', '1', '2', '3']"
