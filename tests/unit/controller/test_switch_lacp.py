"""LACP, probes and min_links in a switch, on the fake table: who carries frames, by whom frames come in, what a
controller that is started anew makes of it. Time is in seconds.
"""

from __future__ import annotations

import pytest

from controller.aggregator import Aggregator, Lacp
from controller.lag import Lag
from controller.rebalance import REBALANCE
from controller.switch import Switch, Timing
from tests.unit.controller.fake import CLIENT, CONNECTIONS, EVERYBODY, TEAM, FakeTable, arp, segment

PROBES = CONNECTIONS[::6]
MEMBERS = (1, 2, 3)
HOST = 4
ON = Lacp("active")


class Net:
    """A switch with a LAG on ports 1 to 3 and a client at 4; the team's end of each wire is an aggregator."""

    def __init__(
        self, lacp: Lacp = ON, timing: Timing | None = None, min_links: int = 1, rebalance: str = "modulo"
    ) -> None:
        self.first = Lag("team0", 1, MEMBERS, 0, rebalance, "layer3+4", min_links, lacp)
        self.switch = Switch("s1", [self.first], timing or Timing())
        self.team = Aggregator(MEMBERS, Lacp("passive" if lacp.mode != "off" else "off", system=TEAM))
        self.table, self.now, self.eaten = FakeTable(), 0.0, set[int]()
        for port in MEMBERS:
            self.team.link(port, True, 0.0)
        self.table.apply(self.switch.connected(dict.fromkeys((*MEMBERS, HOST), True), None, 0.0))
        self.talk()

    @property
    def lag(self) -> Lag:
        return self.switch.lags["team0"]

    def talk(self) -> None:
        """Frames of the slow protocols go to and fro at once, until nobody has more to say."""
        for _ in range(50):
            self.team.run(self.now)
            sent, answers = self.switch.to_send(), self.team.frames
            if not sent and not answers:
                return
            self.team.frames = []
            for port, frame in sent:
                if port not in self.eaten and port not in self.table.dead:
                    self.team.heard(port, frame, self.now)
            for port, frame in answers:
                if port not in self.eaten and port not in self.table.dead:
                    self.table.apply(self.switch.heard(port, frame, self.now))
        raise AssertionError("they never stop")

    def run(self, until: float) -> None:
        while (now := min(self.switch.due() or until + 1, self.team.due() or until + 1)) <= until:
            self.now = now
            self.table.apply(self.switch.tick(now))
            self.talk()
        self.now = until

    def link(self, port: int, up: bool) -> None:
        self.table.dead = self.table.dead - {port} if up else self.table.dead | {port}
        self.team.link(port, up, self.now)
        self.table.apply(self.switch.port_changed(port, up, self.now))
        self.talk()

    def learn(self) -> None:
        for port, mac in ((1, TEAM), (HOST, CLIENT)):
            self.table.apply(self.switch.learned(port, mac))

    def outs(self) -> set[int]:
        """The ports by which the team's connections leave; each by one, or none."""
        found = [self.table.forward(segment(conn, HOST)) for conn in PROBES]
        assert all(len(ports) <= 1 for ports in found)
        return {port for ports in found for port in ports}

    def lets_in(self, port: int) -> bool:
        return self.table.forward(segment(PROBES[0], port, TEAM, CLIENT)) == [HOST]


@pytest.mark.parametrize("rebalance", REBALANCE)
def test_only_members_that_collect_and_distribute_carry_frames(rebalance: str) -> None:
    net = Net(rebalance=rebalance)
    net.run(1)
    net.learn()
    assert net.outs() == set(MEMBERS)
    assert all(map(net.lets_in, MEMBERS))
    net.eaten = {2}
    net.run(3.9)
    assert net.outs() == set(MEMBERS)
    net.run(4.1)
    assert net.outs() == {1, 3}
    assert [net.lets_in(port) for port in MEMBERS] == [True, False, True]
    assert net.switch.why_not(2) == "lacp"
    assert net.table.rules == net.switch.rules()
    net.eaten = set()
    net.run(15)
    assert net.outs() == set(MEMBERS)
    assert all(map(net.lets_in, MEMBERS))


def test_before_anybody_has_spoken_nothing_goes_out_and_nothing_comes_in() -> None:
    net = Net()
    lonely = Switch("s1", [net.first])
    net.table = FakeTable()
    net.table.apply(lonely.connected(dict.fromkeys((*MEMBERS, HOST), True), None, 0.0))
    assert net.table.run(arp(1, TEAM)) == []
    assert net.table.forward(arp(HOST, CLIENT)) == []
    pdu = {"in_port": 1, "eth_src": TEAM, "eth_dst": "01:80:c2:00:00:02", "eth_type": 0x8809}
    assert net.table.run(pdu) == ["controller"]
    assert net.table.run({**pdu, "in_port": HOST}) == []
    assert net.table.run({**pdu, "eth_dst": "01:80:c2:00:00:00", "eth_type": 0x88CC}) == []


def test_an_answer_to_a_marker_needs_no_lacp() -> None:
    net = Net(Lacp(probe_s=0.1))
    net.run(1)
    assert net.lag.active == set(MEMBERS)
    net.eaten = {3}
    net.run(1.5)
    assert net.lag.active == {1, 2}
    assert net.switch.why_not(3) == "probe"


def test_a_wire_found_dead_is_left_without_waiting_for_the_down_delay() -> None:
    net = Net(timing=Timing(updelay_s=5, downdelay_s=60))
    net.run(1)
    net.eaten = {2}
    net.run(4.2)
    assert net.lag.active == {1, 3}
    net.eaten = set()
    net.run(8)
    assert (net.switch.held(), net.switch.why_not(2)) == ([2], "updelay")
    net.run(14)
    assert net.lag.active == set(MEMBERS)


def test_fewer_than_min_links_are_none() -> None:
    net = Net(min_links=2)
    net.run(1)
    net.learn()
    net.link(1, False)
    assert net.outs() == {2, 3}
    net.link(2, False)
    assert net.outs() == set()
    assert (net.switch.why_not(3), net.switch.why_not(2)) == ("min_links", "carrier")
    net.link(1, True)
    net.run(5)
    assert net.outs() == {1, 3}
    with pytest.raises(ValueError, match="one of the last 2 active members"):
        net.switch.drained("team0", 3, True, net.now)


@pytest.mark.parametrize("rebalance", REBALANCE)
def test_a_controller_started_anew_goes_on_and_changes_nothing(rebalance: str) -> None:
    net = Net(Lacp("active", probe_s=0.5), rebalance=rebalance)
    net.run(5)
    net.learn()
    net.table.apply(net.switch.drained("team0", 2, True, net.now))
    before, partner = dict(net.table.rules), net.team.ports[1].partner
    net.switch = Switch("s1", [net.first])
    changes = net.switch.connected(dict.fromkeys((*MEMBERS, HOST), True), dict(net.table.rules), net.now)
    assert changes == []
    assert net.lag.active == {1, 3}
    net.talk()
    net.run(30)
    assert net.table.rules == before
    assert net.team.ports[1].partner.name == partner.name
    net.table.apply(net.switch.drained("team0", 2, False, net.now))
    assert net.lag.active == set(MEMBERS)


def test_a_controller_started_anew_does_not_trust_a_wire_that_the_probe_had_found_dead() -> None:
    net = Net(Lacp("active", "slow", probe_s=0.1))
    net.run(1)
    net.eaten = {2}
    net.run(2)
    assert (net.lag.active, net.switch.why_not(2)) == ({1, 3}, "probe")
    net.switch = Switch("s1", [net.first])
    net.table.apply(net.switch.connected(dict.fromkeys((*MEMBERS, HOST), True), dict(net.table.rules), net.now))
    assert net.lag.active == {1, 3}
    net.eaten = set()
    net.talk()
    net.run(2.5)
    assert net.lag.active == set(MEMBERS)


def test_a_controller_started_anew_notices_who_has_gone_meanwhile() -> None:
    net = Net()
    net.run(5)
    net.switch = Switch("s1", [net.first])
    net.eaten = {3}
    net.table.apply(net.switch.connected(dict.fromkeys((*MEMBERS, HOST), True), dict(net.table.rules), net.now))
    net.run(7.9)
    assert net.lag.active == set(MEMBERS)
    net.run(8.1)
    assert net.lag.active == {1, 2}


def test_members_of_a_resilient_lag_that_come_one_after_the_other_share_at_once_but_latecomers_wait() -> None:
    net = Net(rebalance="resilient")
    net.run(1)
    assert len({net.lag.buckets.count(port) for port in MEMBERS}) == 1
    net.link(3, False)
    net.link(3, True)
    assert net.lag.active == set(MEMBERS)
    assert net.lag.buckets.count(3) == 0
    net.run(1.15)
    assert net.lag.buckets.count(3) == 1


def test_a_broadcast_reaches_the_team_once_whatever_lacp_says() -> None:
    net = Net()
    net.run(1)
    for eaten in (set[int](), {1}, {1, 2}):
        net.eaten = eaten
        net.run(net.now + 10)
        assert len(net.table.forward({**arp(HOST, CLIENT), "eth_dst": EVERYBODY})) == 1
