"""What the API tells of LACP: for programs, and in the words of /proc/net/bonding."""

from __future__ import annotations

import json

from controller.aggregator import Lacp
from controller.lacp_text import state_of, text_of
from tests.unit.controller.fake import TEAM
from tests.unit.controller.test_switch_lacp import MEMBERS, Net


def text(net: Net) -> list[str]:
    return text_of(net.lag, net.switch.ends["team0"], net.switch.why_not).splitlines()


def member(net: Net, port: int) -> list[str]:
    """The part of the text that is about one member."""
    lines = text(net)
    start = lines.index(f"Slave Interface: port {port}")
    return lines[start : lines.index("", start) if "" in lines[start:] else len(lines)]


def test_members_partner_and_why_one_carries_nothing() -> None:
    net = Net(min_links=2)
    net.run(1)
    net.eaten = {2}
    net.run(4.1)
    net.link(3, False)
    lines = text(net)
    assert lines[1] == "Bonding Mode: IEEE 802.3ad Dynamic link aggregation"
    assert {"Min links: 2", "LACP active: on", "LACP rate: fast", "Probe: off", "\tNumber of ports: 1"} <= set(lines)
    assert f"\tPartner Mac Address: {TEAM}" in lines
    assert member(net, 1)[1:3] == ["MII Status: up", "Carries frames: no (min_links)"]
    assert member(net, 2)[1:5] == [
        *("MII Status: up", "Carries frames: no (lacp)"),
        *("Receive state: EXPIRED", "Mux state: ATTACHED"),
    ]
    assert "    port state: 143 (activity timeout aggregation synchronization expired)" in member(net, 2)
    assert member(net, 3)[1:3] == ["MII Status: down", "Carries frames: no (carrier)"]


def test_a_static_lag_has_no_machines() -> None:
    net = Net(Lacp(probe_s=0.1))
    net.run(1)
    assert {"Bonding Mode: static", "LACP active: off", "Probe: markers every 0.1 s"} <= set(text(net))
    assert not any("state" in line for line in text(net))


def test_the_same_for_programs() -> None:
    net = Net()
    net.run(1)
    net.eaten = {2}
    net.run(4.1)
    told = json.loads(json.dumps(state_of(net.lag, net.switch.ends["team0"], net.switch.why_not)))
    assert [(told["ports"][str(port)]["usable"], told["ports"][str(port)]["why"]) for port in MEMBERS] == [
        *((True, None), (False, "lacp"), (True, None)),
    ]
    one = told["ports"]["1"]
    assert (one["state"], one["mux"], one["receive"]) == (
        "collecting_distributing",
        "COLLECTING_DISTRIBUTING",
        "CURRENT",
    )
    assert one["partner"]["system"] == TEAM
    assert one["counters"]["lacpdu_rx"] > 0
    assert told["miswired"] == []
