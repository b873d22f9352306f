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


def test_where_nobody_answers_nothing_happens(control: str, controller: subprocess.Popen[bytes]) -> None:
    assert controller.stdout is not None
    assert controller.stdout.readline() == b"told\n"
