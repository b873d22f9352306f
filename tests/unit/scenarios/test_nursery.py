"""Forked processes are as others: with a command line, streams and an environment; killed, waited for, and missed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scenarios.nursery import Nursery
from scenarios.processes import Children, RunError

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
import sys
sys.path.insert(0, "tests/unit/scenarios")
import test_nursery
test_nursery.inside(sys.argv[1])
"""


def inside(folder: str) -> None:
    """In a process with no other threads, as the runner is."""
    out = Path(folder)
    sys.path.insert(0, folder)
    (out / "logs").mkdir()
    events = os.open(out / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    signal.signal(signal.SIGTERM, lambda *_: None)
    children, nursery = Children(events, out / "logs", os.environ | {"WHO": "me"}), Nursery()
    children.start("nursery", ["life"], nursery.begin)

    def start(who: str, *words: str, ends: bool = False) -> None:
        children.start(who, ["life", *words], lambda argv, **how: nursery.spawn(None, argv, **how), ends=ends)

    def died() -> str:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                children.check()
            except RunError as error:
                return str(error)
            time.sleep(0.002)
        return "nobody died"

    start("one", "stay")
    pid = children.pid("one")
    while "stay" not in (out / "events").read_text():
        children.check()
    print(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
    print(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid()))
    children.kill("one")
    print(os.path.exists(f"/proc/{pid}"))
    children.restart("one")
    print(children.running("one"), children.pid("one") != pid)
    print(children.stop(["one"]))  # by SIGTERM, which it has no handler for, though its forebear has
    start("two", "what was wrong")
    print(died())
    children.stop(["two"])
    start("three", "fail")
    print(died())
    children.stop(["three"])
    os.kill(children.pid("nursery"), signal.SIGKILL)
    print(died())
    children.stop(["nursery"])
    try:
        start("four", "stay")
    except RunError as error:
        print(error)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")
def test_the_life_of_forked_processes(tmp_path):
    (tmp_path / "life.py").write_text(LIFE)
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, str(tmp_path)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"{sys.executable} -m life stay ",
        "True",
        "False",
        "True True",
        "[]",
        "two ended unexpectedly with exit status 1: what was wrong",
        "three ended unexpectedly with exit status 1: ValueError: it went wrong",
        "nursery was ended by SIGKILL; it left nothing in its log",
        "four: life cannot be started: the nursery has ended",
    ]
    said = (tmp_path / "events").read_text().splitlines()
    assert said[1] == "['stay'] me True True"
    # Nothing of the others is open in it: its streams, and what the list is read by.
    assert (tmp_path / "logs" / "two.log").read_text().splitlines()[0] == "['0', '1', '2', '3']"
