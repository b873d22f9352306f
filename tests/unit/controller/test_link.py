"""A port that died: it is told at once, what follows waits a moment, and nothing overtakes it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TRIES = """
import sys
from controller import link
from controller.lag import Lag
from controller.link import Link
from controller.switch import Switch

said = []
link.emit = lambda event, **keys: said.append(event)
link.openflow.encode = lambda datapath, changes, cookie: bytearray()
link.openflow.encode_frames = lambda datapath, frames: bytearray()
link.openflow.encode_barrier = lambda datapath: (bytearray(), 1)
switch = Switch("s1", [Lag("team", 1, (1, 2, 3))])
switch.connected({1: True, 2: True, 3: True})
one = Link(switch, 1)
one.datapath, one._met = object(), True


def state():
    print([port for port, up in switch.ports.items() if up], said)
    said.clear()


def wait():
    link.eventlet.sleep(2 * link.REST_S)


"""
"""Not in this process, where eventlet would warn of every fork."""


def tried(what: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", TRIES + what], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_port_that_died_is_told_at_once_and_what_follows_comes_a_moment_later() -> None:
    assert tried("one.port_died(2); one.port_died(2); state(); wait(); state(); wait(); state()") == [
        "[1, 2, 3] ['port']",
        "[1, 3] []",
        "[1, 3] []",
    ]


@pytest.mark.parametrize("what", ["one.port_changed(2, True)", "one.port_died(1)", "one.led(1, True)"])
def test_whatever_else_happens_to_the_switch_comes_behind_it(what: str) -> None:
    """A port that is back at once was away all the same, and is told of twice."""
    port = "['port']" if "port" in what else "[]"
    left = {"one.port_changed(2, True)": [1, 2, 3], "one.port_died(1)": [3]}.get(what, [1, 3])
    assert tried(f"one.port_died(2); said.clear(); {what}; state(); wait(); state()") == [
        f"{left} {port}",
        f"{left} []",
    ]


def test_with_the_connection_to_the_switch_it_is_forgotten() -> None:
    """The next one begins with what the switch says of its ports."""
    assert json.loads(
        tried("one.port_died(2); one.lost(); wait(); print([*switch.ports.values()] == [True] * 3 and 1)")[0]
    )
