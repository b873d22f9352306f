"""Open vSwitch is told to look at its flows at once, by both commands or by none, and its answers are awaited."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TELLS = """
import sys
from controller import revalidate
revalidate.now(sys.argv[1])
print("told", flush=True)
"""

LATE = """
import sys
from controller import revalidate
from controller.green import eventlet
revalidate._DEADLINE_S = 0.1
for death in range(3):
    revalidate.now(sys.argv[1])
print("went on", flush=True)
while revalidate._asked:
    eventlet.sleep(0.01)
sys.stdin.read()
revalidate.now(sys.argv[1])
"""

PORTS = """
from types import SimpleNamespace as Some
from controller import app
app.revalidate.now = print
app.openflow.port_is_up = lambda desc: desc.up
app.Controller._link = lambda self, datapath: Some(port_changed=print, port_died=lambda port: print(port, "died"))
controller = object.__new__(app.Controller)
datapath = Some(ofproto=Some(OFPPR_DELETE=1))
for control, ways in (("switch.ctl", ()), ("switch.ctl", ("s2",)), (None, ())):
    controller._control, controller._ways = control, ways
    for reason, up in ((2, True), (2, False), (1, True)):
        desc = Some(port_no=1, up=up)
        controller.port_changed(Some(msg=Some(datapath=datapath, reason=reason, desc=desc)))
    print(flush=True)
"""


@pytest.fixture
def control(tmp_path: Path) -> str:
    return str(tmp_path / "switch.ctl")


@pytest.fixture
def controller(control: str) -> Iterator[subprocess.Popen[bytes]]:
    """Not in this process, where eventlet would warn of every fork."""
    child = subprocess.Popen([sys.executable, "-c", TELLS, control], stdout=subprocess.PIPE, cwd=ROOT)
    yield child
    child.kill()
    child.communicate()


@pytest.fixture
def server(control: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(control)
        server.listen(1)
        server.settimeout(20)
        yield server


def test_both_commands_come_at_once_and_both_answers_are_awaited(
    server: socket.socket, controller: subprocess.Popen[bytes]
) -> None:
    daemon, _ = server.accept()
    with daemon:
        daemon.settimeout(20)
        text = daemon.recv(4096).decode()
        first, end = json.JSONDecoder().raw_decode(text)
        second = json.loads(text[end:])
        assert [one["method"] for one in (first, second)] == ["revalidator/pause", "revalidator/resume"]
        for request in (first, second):
            assert daemon.send(json.dumps({"id": request["id"], "result": "", "error": None}).encode())
        assert daemon.recv(1) == b""


def test_it_does_not_hang_up_between_the_two(server: socket.socket, controller: subprocess.Popen[bytes]) -> None:
    daemon, _ = server.accept()
    with daemon:
        daemon.settimeout(20)
        daemon.recv(4096)
        daemon.send(b'{"id":0,"result":"","error":null}')
        daemon.settimeout(0.2)
        with pytest.raises(TimeoutError):
            daemon.recv(1)


def test_a_daemon_that_answers_late_is_heard_out_and_nobody_waits_for_it_twice(
    server: socket.socket, control: str
) -> None:
    """One that was stopped would else find nobody between the two commands, and stay paused."""
    words = [sys.executable, "-c", LATE, control]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as late:
        daemon, _ = server.accept()
        assert late.stdin is not None
        assert late.stdout is not None
        with daemon:
            daemon.settimeout(20)
            told = daemon.recv(4096)
            assert late.stdout.readline() == b"went on\n"
            for number in (0, 1):
                daemon.send(b'{"id":%d,"result":"","error":null}' % number)
            assert (told.count(b"method"), daemon.recv(4096)) == (2, b"")
        late.stdin.close()
        again, _ = server.accept()  # and the next death is told as ever
        again.close()
        late.wait(20)


def test_where_nobody_answers_nothing_happens(control: str, controller: subprocess.Popen[bytes]) -> None:
    assert controller.stdout is not None
    assert controller.stdout.readline() == b"told\n"


def test_the_switch_is_told_of_ports_that_died_before_anything_else_is_done() -> None:
    """What follows from it may wait where no other switch waits for it, and this one leaves the port by itself."""
    done = subprocess.run([sys.executable, "-c", PORTS], capture_output=True, text=True, cwd=ROOT, timeout=60)
    alone, among_others, unknown = [part.splitlines() for part in done.stdout.split("\n\n")[:3]]
    assert alone == ["1 True", "switch.ctl", "1 died", "switch.ctl", "1 died"], done.stderr
    assert among_others == ["1 True", "switch.ctl", "1 False", "switch.ctl", "1 False"]
    assert unknown == ["1 True", "1 died", "1 died"]
