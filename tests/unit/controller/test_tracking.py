"""Three switches as one: a core with clients, and two that have the LAG's members. On fake switches, wired together.

clients 3, 4 ── core ─ 1 ── 5 ─ s1 ── members 1, 3
                     └ 2 ── 5 ─ s2 ── members 2, 4
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from controller import tracking
from controller.checks import Mistake
from controller.config import parse
from controller.rebalance import REBALANCE
from tests.unit.controller.fake import CLIENT, CONNECTIONS, EVERYBODY, STRANGER, TEAM, FakeTable, Frame, arp, segment

UPLINK = 5
MEMBERS = [("s1", 1), ("s2", 2), ("s1", 3), ("s2", 4)]
CORE = {"name": "team0", "ports": [1, 2], "beyond": ["s1", "s2"]}
CABLES = {("core", 1): ("s1", UPLINK), ("core", 2): ("s2", UPLINK)}
CABLES |= {there: here for here, there in CABLES.items()}


def document(core: dict[str, Any], rebalance: str = "modulo", **settings: Any) -> dict[str, Any]:
    lags = {
        "core": [core],
        **{name: [{"name": "team0", "ports": [p for s, p in MEMBERS if s == name]}] for name in ("s1", "s2")},
    }
    switches = [
        {"dpid": n, "name": name, "seed": int(name != "core"), "rebalance": rebalance, "lags": lags[name], **settings}
        for n, name in enumerate(lags, 1)
    ]
    return {"listen": "127.0.0.1:6653", "socket": "/run/c.sock", "switches": switches}


class Fabric:
    """The switches, their tables and the cables between them; the controller answers every event at once."""

    def __init__(self, rebalance: str = "modulo", **settings: Any) -> None:
        config = parse(document(CORE, rebalance, **settings))
        self.ways = config.ways
        self.switches = {switch.name: switch for switch in config.switches.values()}
        self.tables = {name: FakeTable() for name in self.switches}
        ports = {"core": (1, 2, 3, 4), "s1": (1, 3, UPLINK), "s2": (2, 4, UPLINK)}
        for name, numbers in ports.items():
            self.apply(name, self.switches[name].connected(dict.fromkeys(numbers, True)))

    def apply(self, name: str, changes: Any) -> None:
        self.tables[name].apply(changes)
        for way, somewhere in list(tracking.due(self.switches, self.ways)):
            self.apply(way.switch, self.switches[way.switch].led(way.port, somewhere))

    def port(self, name: str, port: int, up: bool) -> None:
        table = self.tables[name]
        table.dead = table.dead - {port} if up else table.dead | {port}
        self.apply(name, self.switches[name].port_changed(port, up))

    def switch(self, name: str, up: bool) -> None:
        """A switch dies or returns: its ports, then the other ends of its cables."""
        for port in list(self.switches[name].ports):
            self.port(name, port, up)
            if (name, port) in CABLES:
                self.port(*CABLES[name, port], up)

    def learn(self) -> None:
        for place, mac in ((("core", 3), CLIENT), (("s1", 1), TEAM), (("s2", 2), TEAM)):
            self.send(*place, arp(0, mac))

    def send(self, name: str, port: int, frame: Frame) -> list[tuple[str, int]]:
        """Where a frame comes out at last, after everything is learned from it on its way."""
        arrived = []
        frame = {**frame, "in_port": port}
        outs = self.tables[name].forward(frame)
        self.apply(name, self.switches[name].learned(port, frame["eth_src"]))
        for out in outs:
            if out == port:
                continue
            arrived += self.send(*CABLES[name, out], frame) if (name, out) in CABLES else [(name, out)]
        return arrived

    def members_of(self, frames: list[Frame]) -> list[tuple[str, int]]:
        found = []
        for frame in frames:
            (member,) = self.send("core", 3, frame)
            found.append(member)
        return found


STREAMS = [segment(conn, 3) for conn in CONNECTIONS]


def test_every_connection_has_one_member_and_all_members_have_connections() -> None:
    fabric = Fabric()
    fabric.learn()
    first = fabric.members_of(STREAMS)
    assert fabric.members_of(STREAMS) == first
    shares = Counter(first)
    assert set(shares) == set(MEMBERS)
    assert min(shares.values()) > len(STREAMS) / 10  # with one seed for all, two members would have nothing


@pytest.mark.parametrize("rebalance", REBALANCE)
@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ([("s1", 1)], {("s2", 2), ("s1", 3), ("s2", 4)}),
        ([("s1", 1), ("s1", 3)], {("s2", 2), ("s2", 4)}),
        ([("s2", 2), ("s2", 4), ("s1", 3)], {("s1", 1)}),
    ],
)
def test_with_the_last_member_behind_it_an_uplink_goes_and_comes(
    gone: list[tuple[str, int]], left: set[tuple[str, int]], rebalance: str
) -> None:
    fabric = Fabric(rebalance)
    fabric.learn()
    before = fabric.members_of(STREAMS)
    for member in gone:
        fabric.port(*member, False)
    assert set(fabric.members_of(STREAMS)) == left
    for member in reversed(gone):
        fabric.port(*member, True)
    if rebalance != "resilient":  # that one fills up slowly
        assert fabric.members_of(STREAMS) == before
    assert fabric.switches["core"].nowhere == set()


def test_no_down_delay_keeps_a_switch_in_use_whose_members_have_all_lost_their_carrier() -> None:
    fabric = Fabric(downdelay_s=60)
    fabric.learn()
    before = fabric.members_of(STREAMS)
    for port in (1, 3):
        fabric.port("s1", port, False)
    assert set(fabric.members_of(STREAMS)) == {("s2", 2), ("s2", 4)}
    fabric.port("s1", 3, True)
    assert set(fabric.members_of(STREAMS)) == {("s1", 3), ("s2", 2), ("s2", 4)}
    fabric.port("s1", 1, True)
    assert fabric.members_of(STREAMS) == before


def test_either_switch_may_die_and_the_others_connections_stay() -> None:
    fabric = Fabric()
    fabric.learn()
    before = fabric.members_of(STREAMS)
    for dead, alive in (("s1", "s2"), ("s2", "s1")):
        fabric.switch(dead, False)
        now = fabric.members_of(STREAMS)
        assert {name for name, _ in now} == {alive}
        assert all(was == member for was, member in zip(before, now, strict=True) if was[0] == alive)
        fabric.switch(dead, True)
        assert fabric.members_of(STREAMS) == before


@pytest.mark.parametrize("event", ["none", "member", "both members", "switch", "switch back"])
def test_what_is_for_all_arrives_once(event: str) -> None:
    """From a client, at one member and every other client; from a member, at every client and at no member."""
    fabric = Fabric()
    if event in ("member", "both members"):
        fabric.port("s1", 1, False)
    if event == "both members":
        fabric.port("s1", 3, False)
    if event.startswith("switch"):
        fabric.switch("s1", False)
    if event == "switch back":
        fabric.switch("s1", True)
    for dst in (EVERYBODY, "33:33:00:00:00:01", "01:00:5e:01:02:03", STRANGER):
        for _ in range(2):  # with nothing learned, then with the source learned
            arrived = fabric.send("core", 3, arp(3, CLIENT, dst))
            assert len([one for one in arrived if one in MEMBERS]) == 1
            assert [one for one in arrived if one not in MEMBERS] == [("core", 4)]
            assert sorted(fabric.send("s2", 2, arp(2, TEAM, dst))) == [("core", 3), ("core", 4)]


def test_a_switch_that_was_not_met_yet_is_taken_for_good() -> None:
    """A controller that is started anew meets the core first: what it forwards by goes on."""
    config = parse(document(CORE))
    switches = {switch.name: switch for switch in config.switches.values()}
    switches["core"].connected({1: True, 2: True, 3: True})
    assert list(tracking.due(switches, config.ways)) == []
    switches["s1"].connected({1: False, 3: False, UPLINK: True})
    assert [(way.port, somewhere) for way, somewhere in tracking.due(switches, config.ways)] == [(1, False)]


@pytest.mark.parametrize(
    ("beyond", "said"),
    [
        (["s1"], r"switches\[0\].lags\[0\].beyond: expected 2 switches, one for each port"),
        (["s1", "s9"], "'s9' is no other switch with a LAG 'team0'"),
        (["s1", "core"], "'core' is no other switch"),
        ("s1", "expected a list"),
        (["s1", ["s2"]], "beyond: expected a text"),
    ],
)
def test_what_leads_nowhere_is_refused(beyond: object, said: str) -> None:
    with pytest.raises(Mistake, match=said):
        parse(document({**CORE, "beyond": beyond}))
