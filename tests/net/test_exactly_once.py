"""Broadcast and multicast arrive exactly once, at teams and clients, on every shape and after every fault."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.net.test_network import said_by
from topologies.sandbox import Sandbox

pytestmark = pytest.mark.net

SHAPES = {"figure_1": 3, "two_teams": 2, "two_switches": 4, "routed": 3}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_for_all_arrives_once(in_sandbox: Callable[..., Sandbox], shape: str) -> None:
    """Counted with real frames; nothing comes back to its sender."""
    code = "sys.path.insert(0, sys.argv[1]); import census; census.main(sys.argv[2], int(sys.argv[3]))"
    one = in_sandbox(code, str(Path(__file__).parent), shape, str(SHAPES[shape]))
    told = said_by(one, 150)
    faults = {item["fault"] for item in told}
    assert {
        "none",
        "link down",
        "link up",
        "black hole healed",
        "another hash",
        "all links down and up",
        "adapter gone",
        "adapter back",
        "controller restarted",
        "Open vSwitch restarted",
    } < faults
    assert {item["kind"] for item in told} == {"broadcast", "IPv6 multicast", "unknown multicast"}
    wrong = [item for item in told if set(item["arrived"].values()) != {1} or item["back"]]
    assert not wrong
