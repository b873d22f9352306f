"""Open vSwitch is told to look at its flows at once, by both commands or by none, and nobody waits for it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from controller import revalidate
from controller.green import eventlet


def test_both_commands_come_at_once_and_both_answers_are_awaited(tmp_path: Path) -> None:
    path = str(tmp_path / "switch.ctl")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(1)
        revalidate.now(path)
        daemon, _ = server.accept()
    with daemon:
        text = daemon.recv(4096).decode()
        first, end = json.JSONDecoder().raw_decode(text)
        second = json.loads(text[end:])
        assert [one["method"] for one in (first, second)] == ["revalidator/pause", "revalidator/resume"]
        assert first["id"] != second["id"]
        daemon.setblocking(False)
        for request in (first, second):
            eventlet.sleep(0)
            assert not gone(daemon)
            daemon.send(json.dumps({"id": request["id"], "result": "", "error": None}).encode())
        with eventlet.Timeout(10):
            while not gone(daemon):
                eventlet.sleep(0.001)


def test_where_nobody_answers_nothing_happens(tmp_path: Path) -> None:
    path = str(tmp_path / "switch.ctl")
    revalidate.now(path)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(path)
    revalidate.now(path)


def gone(peer: Any) -> bool:
    try:
        return bool(peer.recv(1) == b"")
    except BlockingIOError:
        return False
