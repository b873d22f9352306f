"""What is not TCP crosses the team too: ARP, neighbour discovery, ICMP and UDP, by every NIC in turn."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.net

ROOT = Path(__file__).resolve().parents[2]

ECHO = """
import selectors, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
here = socket.socket(family, socket.SOCK_DGRAM)
if sys.argv[2:]:  # a service's command is awaited at its TCP port
    ready = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    here.bind((sys.argv[1], 9000))
    while True:
        here.sendto(*here.recvfrom(65536))
here.settimeout(3)
for size in (1, 1400, 4000):  # the last in fragments
    here.sendto(b"x" * size, (sys.argv[1], 9000))
    assert len(here.recv(65536)) == size
"""

SCENARIO = """\
scenario: frames
about: Frames that are not TCP cross the team by every NIC in turn.
network: {{nics: 3, clients: 2}}
services:
  files: {{listen: 8080, app: builtin}}
  echo4: {{listen: 9004, app: 127.0.0.1:9004, command: {python} {echo} 10.0.0.1 9004}}
  echo6: {{listen: 9006, app: 127.0.0.1:9006, command: {python} {echo} fd00::1 9006}}
traffic:
  download: {{client: c2, service: files, receive: 1MB}}
timeline:
{timeline}
expect: [download.intact]
"""

PING = "ping -q -c 3 -i 0.1 -w 4"


def steps(python: str, echo: Path) -> str:
    """All links but one down, everything asked afresh from both sides, all up again; for each NIC."""
    asked = (
        ("c1", "ip neigh flush dev eth0"),
        ("server", "ip neigh flush dev team0"),
        ("c1", f"{PING} 10.0.0.1"),  # after an ARP request of the client's
        ("c1", f"{PING} -6 fd00::1"),  # after a neighbour solicitation
        ("c1", "ip neigh flush dev eth0"),
        ("server", "ip neigh flush dev team0"),
        ("server", f"{PING} 10.0.0.12"),  # the same from the server
        ("server", f"{PING} -6 fd00::12"),
        ("c1", f"{PING} -s 8000 10.0.0.1"),
        ("c1", f"{python} {echo} 10.0.0.1"),
        ("c1", f"{python} {echo} fd00::1"),
    )
    lines = []
    for nic in range(3):
        at = 500 + 300 * nic
        others = [f"nic{other}" for other in range(3) if other != nic]
        lines += [f"  - {{at: {at}ms, do: link_down, nic: {other}}}" for other in others]
        lines += [
            f"  - {{at: {at + 100}ms, do: run, node: {node}, command: {json.dumps(command)}}}"
            for node, command in asked
        ]
        lines += [f"  - {{at: {at + 200}ms, do: link_up, nic: {other}}}" for other in others]
    return "\n".join(lines)


def test_every_protocol_by_every_nic(tmp_path: Path) -> None:
    """A command that fails breaks the run off, and its last words are in the reason."""
    echo = tmp_path / "echo.py"
    echo.write_text(ECHO)
    file = tmp_path / "frames.yaml"
    file.write_text(SCENARIO.format(python=sys.executable, echo=echo, timeline=steps(sys.executable, echo)))
    call = [ROOT / "teambed", "run", file, "--out", tmp_path / "out"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    events = (tmp_path / "out" / "frames" / "events.jsonl").read_text().splitlines()
    ran = [event for event in map(json.loads, events) if event["event"] == "step" and event["do"] == "run"]
    assert len(ran) == 33
