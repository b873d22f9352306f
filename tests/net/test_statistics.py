"""What the agent's API says of a run under way: statistics per NIC, per connection and of the team, and floods."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.net

TEAMBED = Path(__file__).resolve().parents[2] / "teambed"
ASK = """import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("/run/teambed/agent.sock")
s.sendall(b'{"do": "%s"}\\n' % sys.argv[1].encode())
print(s.makefile().readline())
"""
SCENARIO = """\
scenario: asked
about: Two connections, of which one is offloaded, and a flood.
network: {nics: 2, clients: 2}
services: {files: {listen: 8080}, plain: {listen: 8081, offload: never}}
traffic:
  offloaded: {client: c1, service: files, receive: 10MB, pace: 20mbit}
  host: {client: c1, service: plain, receive: 10MB, pace: 20mbit}
timeline:
  - {at: 0s, do: syn_flood, client: c2, service: plain, rate: 400/s, time: 3s}
  - {at: 0s, do: wait, until: offloaded(offloaded)}
  - {at: 2500ms, do: run, node: server, command: python3 ask.py statistics}
  - {at: 2500ms, do: run, node: server, command: python3 ask.py floods}
expect: [offloaded.intact, host.intact, run.floods == 1]
"""


def test_what_the_agent_says_when_it_is_asked(tmp_path: Path) -> None:
    (tmp_path / "ask.py").write_text(ASK)
    (tmp_path / "asked.yaml").write_text(SCENARIO.replace("ask.py", str(tmp_path / "ask.py")))
    done = subprocess.run(
        [TEAMBED, "run", "asked.yaml", "--out", "out"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr

    def said(step: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((tmp_path / f"out/asked/logs/step-{step}.log").read_text())
        return found

    found = said(3)
    offloaded, host = sorted(found["connections"], key=lambda one: int(one["dport"]))
    nic = found["nics"][offloaded["place"]]
    assert host["place"] == "host"
    assert offloaded["bytes_out"] > 1_000_000
    assert offloaded["frames_out"] > 100
    assert host["bytes_out"] > 1_000_000
    assert (nic["connections"], nic["bytes_out"]) == (1, offloaded["bytes_out"])
    assert nic["frames"]["own_out"] >= offloaded["frames_out"]
    assert found["host"]["connections"] == 1
    team = found["team"]
    assert (team["connections"], team["offloaded"]) == (2, 1)
    assert team["bytes_out"] == offloaded["bytes_out"] + host["bytes_out"]
    assert team["figure_4"]["402_404"] >= 500  # the flood's
    (flood,) = said(4)["floods"]
    assert (flood["port"], flood["per_s"] > 100, flood["sources"] > 10) == (8081, True, True)
