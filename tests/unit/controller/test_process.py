"""The controller as a process, with no switch: events on stdout, the local API, SIGTERM, addresses in use."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def start(directory: Path, port: int, **changes: Any) -> subprocess.Popen[str]:
    config = {
        "listen": f"127.0.0.1:{port}",
        "socket": str(directory / "c.sock"),
        "switches": [{"dpid": 1, "name": "s1", "lags": [{"name": "team0", "ports": [1, 2]}]}],
        **changes,
    }
    (directory / "c.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "controller", "--config", str(directory / "c.json")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def first_event(child: subprocess.Popen[str]) -> dict[str, Any]:
    assert child.stdout is not None
    event: dict[str, Any] = json.loads(child.stdout.readline())
    return event


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def controller(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    child = start(tmp_path, port)
    try:
        assert first_event(child).items() >= {"who": "controller", "event": "listening"}.items()
        yield child
    finally:
        child.kill()
        child.wait()


def ask(directory: Path, *lines: bytes) -> list[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX) as api:
        api.settimeout(10)
        api.connect(str(directory / "c.sock"))
        answers = api.makefile()
        replies = []
        for line in lines:
            api.sendall(line + b"\n")
            replies.append(json.loads(answers.readline()))
        return replies


def test_the_api_answers_every_line(controller: subprocess.Popen[str], tmp_path: Path) -> None:
    conn = {"src": "10.0.0.11", "sport": 40000, "dst": "10.0.0.1", "dport": 8080}
    named = {"switch": "s1", "lag": "team0", **conn}
    wrong = [
        (b"not JSON", "Expecting value"),
        (b"[]", "one JSON object"),
        (b'{"do": "dance"}', "do: 'dance' is not known"),
        (json.dumps({"do": "port_of", **named, "switch": "s9"}).encode(), "switch: 's9' is not known"),
        (json.dumps({"do": "port_of", **named, "lag": []}).encode(), "no LAG []"),
        (json.dumps({"do": "port_of", **named, "sport": -1}).encode(), "sport: -1 is not"),
        (json.dumps({"do": "port_of", **named}).encode(), "no member is active"),
        (json.dumps({"do": "move", **named, "port": 1}).encode(), "not connected"),
    ]
    replies = ask(tmp_path, *(line for line, _ in wrong), b'{"do": "state"}')
    for reply, (_, says) in zip(replies, wrong, strict=False):
        assert reply["ok"] is False
        assert says in reply["error"]
        assert "\n" not in reply["error"]
    lag = {"members": [1, 2], "active": [], "drained": [], "buckets": []}
    lag |= {"hash": "layer3+4", "seed": 0, "rebalance": "modulo"}
    switch = {"ready": False, "macs": {}, "lags": {"team0": lag}, "moved": {}, "held": []}
    assert replies[-1] == {"ok": True, "switches": {"s1": switch}}


def test_sigterm_ends_it_quickly_and_cleanly(controller: subprocess.Popen[str], tmp_path: Path) -> None:
    began = time.monotonic()
    controller.terminate()
    stdout, stderr = controller.communicate(timeout=5)
    assert (controller.returncode, stdout, stderr) == (0, "", "")
    assert time.monotonic() - began < 1
    assert not (tmp_path / "c.sock").exists()


def test_addresses_that_cannot_be_used_are_one_line_and_exit_2(
    controller: subprocess.Popen[str], tmp_path: Path, port: int
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for changes, says in (
        ({}, f"127.0.0.1:{port}"),
        ({"listen": f"127.0.0.1:{free_port()}", "socket": "/nowhere/c"}, "/nowhere/c"),
    ):
        child = start(other, port, **changes)
        stdout, stderr = child.communicate(timeout=20)
        assert (child.returncode, stdout) == (2, "")
        assert stderr.startswith(f"controller: cannot listen on {says}: ")
        assert stderr.count("\n") == 1


def test_a_socket_file_left_by_a_killed_controller_is_replaced(tmp_path: Path, port: int) -> None:
    for _ in range(2):
        child = start(tmp_path, port)
        assert first_event(child)["event"] == "listening"
        assert ask(tmp_path, b'{"do": "state"}')[0]["ok"]
        child.kill()
        child.communicate()
