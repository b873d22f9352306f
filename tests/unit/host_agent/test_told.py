"""What a save has told of a connection is in the event of its move."""

import json
import os
from typing import Any

import pytest

from host_agent.connection import Connection
from host_agent.policy import Plan
from host_agent.reload import Outcome
from host_agent.team import TeamState
from host_agent.telling import tell
from host_agent.told import Told

PLAIN = Told(189, "ESTABLISHED", 1, 2, 3, 1000, 2000, 10, 20, 120, 200_000)
ALWAYS = {"cwnd": 10, "ssthresh": 20, "srtt_us": 120, "rto_us": 200_000}


@pytest.mark.parametrize(
    ("told", "not_carried"),
    [
        (PLAIN, ALWAYS),
        (PLAIN._replace(ecn=1), ALWAYS | {"ecn": 1}),
        (
            PLAIN._replace(out_of_order_segments=2, out_of_order_memory=4096),
            ALWAYS | {"out_of_order_segments": 2, "out_of_order_memory": 4096},
        ),
    ],
)
@pytest.mark.parametrize("src", ["10.0.0.11", 'fe80::1%"}'])
def test_a_move_is_told(told: Told, not_carried: dict[str, int], src: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[bytes]()
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(data))
    connections = [Connection(src, port, "10.0.0.1", 8080) for port in (40000, 40001)]
    outcomes = [
        Outcome(Plan(one, 0, 1, "link_down"), 1, epoch=8, parts={"save": 0.001}, held_frames=5, saved=told)
        for one in connections
    ]
    tell("agent", outcomes, TeamState(("nic0", "nic1"), 1))
    found: list[dict[str, Any]] = [json.loads(line) for line in b"".join(written).splitlines()]
    way = {"who": "agent", "event": "move", "kind": "reload", "cause": "link_down", "from": "nic0", "to": "nic1"}
    for one, event in zip(connections, found, strict=True):
        del event["t"]
        assert event == {
            **one.fields(),
            **way,
            "parts_ms": {"save": 1.0, "total": 1.0},
            **{"epoch": 8, "context_bytes": 189, "held_frames": 5, "retransmits": 3, "not_carried": not_carried},
        }
