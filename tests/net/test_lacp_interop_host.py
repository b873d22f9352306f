"""The host's LACP against an independent implementation: Open vSwitch's own bond in place of the switch's side."""

import re
from pathlib import Path
from typing import Any

import pytest

from scenarios.events import read
from scenarios.measure import measure
from tests.net.test_network import Start, said_by

pytestmark = pytest.mark.net
BENCH = Path(__file__).with_name("bondbench.py")

SCENARIO = """
scenario: interop
about: Open vSwitch's bond at the other end.
network: {nics: 3, clients: 2, rate: 100mbit, lacp: active}
team: {offload: {after: 64KiB}, lacp: %s}
services: {files: {listen: 8080}}
traffic:
  download: {client: c1, service: files, receive: 25MB}
  many: {client: c2, service: files, receive: 500KB, count: 12, pace: 1mbit}
timeline:
  - {at: 0s, do: wait, until: offloaded(download)}
  - {at: 0s, do: wait, until: offloaded(many)}
%s
expect: [download.intact]
"""
BLACK_HOLE = "  - {at: 100ms, do: black_hole, nic: carrying(download), direction: %s}"
UP = "activity timeout aggregation synchronized collecting distributing"


def interop(in_sandbox: Start, tmp_path: Path, mode: str, lacp: str, step: str) -> dict[str, Any]:
    file = tmp_path / "interop.yaml"
    file.write_text(SCENARIO % (lacp, step))
    (tmp_path / "logs").mkdir()
    one = in_sandbox(
        f"import runpy\nrunpy.run_path({str(BENCH)!r}, run_name='__main__')", str(file), str(tmp_path), mode
    )
    return said_by(one, 90)


def theirs(shown: str) -> dict[str, tuple[str, str]]:
    """NIC -> what OVS says of its own state, and of ours."""
    blocks = re.split(r"\n(?:member|slave): s1-", shown)[1:]
    said = {}
    for block in blocks:
        states = [re.search(rf"{end} state: ([a-z ]*)", block) for end in ("actor", "partner")]
        assert all(states), block
        said[re.split(r"[: ]", block, maxsplit=1)[0]] = tuple(one.group(1).strip() for one in states if one)
    return said  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("mode", "lacp", "direction"),
    [("balance-tcp", "active", "both"), ("balance-tcp", "passive", "to_nic"), ("balance-slb", "active", "from_nic")],
)
def test_ovs_and_the_host_agree_and_leave_a_black_hole(
    in_sandbox: Start, tmp_path: Path, mode: str, lacp: str, direction: str
) -> None:
    """All members collect and distribute at both ends; then a wire eats frames, both ends leave it, and the offloaded
    connections that it carried are reloaded, intact."""
    answer = interop(in_sandbox, tmp_path, mode, lacp, BLACK_HOLE % direction)
    names = {"nic0", "nic1", "nic2"}
    first, last = answer["first"], answer["last"]
    ours = UP if lacp == "active" else UP.removeprefix("activity ")
    assert theirs(first["theirs"]) == dict.fromkeys(names, (UP, ours))
    assert set(first["enabled"]) == names
    for member in first["ours"]["members"]:
        assert (member["mux"], member["receive"]) == ("collecting_distributing", "current")
        assert member["active"]
        assert member["partner"]["state"] == 0x3F

    events = read(tmp_path / "events.jsonl")
    (hole,) = {event["nic"] for event in events if event["event"] == "step" and event["do"] == "black_hole"}
    (fault,) = [event for event in events if event["event"] == "fault"]
    assert (fault["nic"], fault["kind"]) == (hole, "lacp")
    assert {member["nic"] for member in last["ours"]["members"] if member["active"]} == names - {hole}
    assert set(last["enabled"]) == names - {hole}
    found = measure(events)
    for traffic in ("download", "many"):
        assert found[traffic]["intact"], found[traffic]
        assert found[traffic]["lost"] == 0
    assert found["download"]["causes"]["link_down"] == 1
    assert found["run"]["longest_detection_ms"] <= 8000
