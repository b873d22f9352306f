"""Traffic made by a program of its own: its connections are told, its exit status and its last words."""

import json
import sys

import pytest

pytestmark = pytest.mark.kernel

SERVER = """
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
import socket
listener = socket.create_server(("127.0.0.1", 8080))
command = [sys.executable, "-m", "scenarios.command", "--name", "c", "--traffic", "t", "--now"]
command += ["--to", "127.0.0.1:8080"]
done = subprocess.run([*command, "--command", sys.argv[1], "--limit", sys.argv[2]], capture_output=True, text=True)
print(json.dumps([done.returncode, done.stdout, done.stderr]))
"""


def run(in_sandbox, command: str, limit: str = "10") -> tuple[dict[str, dict], str]:
    out, _ = in_sandbox(SERVER, command, limit).communicate(timeout=60)
    status, events, log = json.loads(out)
    assert status == 0, log
    return {event["event"]: event for event in map(json.loads, events.splitlines())}, log


def test_its_connections_are_told_and_its_output_logged(in_sandbox):
    script = "import socket; s = socket.create_connection(('127.0.0.1', 8080)); print('port', s.getsockname()[1])"
    events, log = run(in_sandbox, f'{sys.executable} -c "{script}"')
    connected, done = events["connected"], events["done"]
    assert (connected["src"], connected["dst"], connected["dport"]) == ("127.0.0.1", "127.0.0.1", 8080)
    assert log == f"port {connected['sport']}\n"
    assert (done["exit_status"], done["error"], done["connections"]) == (0, None, 1)
    assert done["took_ms"] > 0
    assert events["resets"]["resets"] == 0


def test_a_failure_has_its_last_words(in_sandbox):
    events, _ = run(in_sandbox, "echo first; echo no such page >&2; exit 22")
    assert events["done"]["error"] == "the command ended with exit status 22: no such page"
    assert (events["done"]["exit_status"], events["done"]["connections"]) == (22, 0)
    assert "connected" not in events


def test_one_that_takes_too_long_is_killed_with_all_it_started(in_sandbox):
    events, _ = run(in_sandbox, "sleep 60 & sleep 60", "0.2")
    assert (events["done"]["error"], events["done"]["exit_status"]) == ("took too long", 137)
