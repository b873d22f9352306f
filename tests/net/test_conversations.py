"""Conversations between the agent and living engines are cut, again and again, under traffic and during moves."""

import json
import subprocess
from pathlib import Path

import pytest

TEAMBED = Path(__file__).resolve().parents[2] / "teambed"

# An engine serves one agent at a time: whoever connects cuts the conversation that there is.
CUTTER = """import socket, time
for turn in range({turns}):
    for name in ("nic0", "nic1", "nic2", "host"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(f"/run/teambed/{{name}}.sock")
        time.sleep({pause})
"""
SCENARIO = """
scenario: conversations
about: The conversations with all engines are cut while connections move.
network: {shape: figure_1, nics: 3, clients: 2, rate: 200mbit, hash: layer3+4, rebalance: modulo}
team: {offload: {after: 10B}, on_fault: reload, fail_back: rebalance}
services:
  echo: {listen: 8080, app: builtin}
  files: {listen: 8081, app: builtin}
traffic:
  crowd: {client: c1, service: echo, count: 100, rate: 1000/s, send: 40B, receive: 40B, idle: 100ms}
  download: {client: c2, service: files, receive: 40MB, pace: 80mbit}
timeline:
  - {at: 0s, do: wait, until: offloaded(crowd)}
  - {at: 0s, do: link_down, nic: nic0}
  - {at: 0s, do: run, node: server, command: "python CUTTER"}
  - {at: 0s, do: link_up, nic: nic0}
  - {at: 0s, do: run, node: server, command: "python CUTTER"}
  - {at: 500ms, do: check_records, limit: 5s}
  - {at: 500ms, do: link_down, nic: carrying(download)}
expect:
  - crowd.intact and download.intact
  - crowd.resets == 0 and download.resets == 0
  - crowd.lost == 0 and download.lost == 0
  - crowd.reloads >= 50
  - run.record_differences == 0
"""


@pytest.mark.net
def test_a_conversation_that_is_cut_costs_no_connection(tmp_path: Path) -> None:
    cutter, scenario = tmp_path / "cut.py", tmp_path / "cut.yaml"
    cutter.write_text(CUTTER.format(turns=10, pause=0.01))
    scenario.write_text(SCENARIO.replace("CUTTER", str(cutter)))
    done = subprocess.run(
        [TEAMBED, "run", scenario, "--out", tmp_path / "out"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = [json.loads(line) for line in (tmp_path / "out/conversations/events.jsonl").read_text().splitlines()]
    assert {one["engine"] for one in told if one["event"] == "reconnected"} == {"nic0", "nic1", "nic2", "host"}
    assert not [one for one in told if one["event"] == "engine_gone"]
