"""The switch's LACP against an independent implementation: an Open vSwitch bond in place of the host's side.

client ── p4 ─ s1 (the controller's) ─ p1 … p3 ═══ peer1 … peer3 ─ host: an OVS bridge, bond0 lacp=active ── team
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.net.switchbench import CLIENT, TEAM, Bench, eventually

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("ovs-vswitchd") is None, reason="needs Open vSwitch (ovs-vswitchd)"),
]
MEMBERS = (1, 2, 3)


class Bond:
    """The bench with OVS's bond on the other side of the LAG, and a machine at each end."""

    def __init__(self, run: Path, mode: str) -> None:
        self.bench = Bench(run, len(MEMBERS), lag={"lacp": mode, "lacp_rate": "fast"})

    def up(self) -> None:
        self.bench.start_controller()
        eventually(lambda: self.bench.events("listening"), "controller")
        self.bench.start_switch()
        eventually(lambda: self.bench.state()["ready"], "switch ready")
        self.client = self._machine(f"peer{self.bench.client}", CLIENT, "10.0.0.11/24")
        self.bench.call("ip", "link", "add", "team", "type", "veth", "peer", "name", "teamp")
        self.team = self._machine("team", TEAM, "10.0.0.1/24")
        self.bench.call("ip", "link", "set", "teamp", "up")
        members = [f"peer{port}" for port in MEMBERS]
        self.vsctl(
            *("--", "add-br", "host", "--", "set", "bridge", "host", "datapath_type=netdev", "fail_mode=standalone"),
            *("--", "add-port", "host", "teamp"),
            *("--", "add-bond", "host", "bond0", *members, "lacp=active", "bond_mode=balance-tcp"),
            *("other_config:lacp-time=fast",),
        )

    def vsctl(self, *words: str) -> None:
        self.bench.call("ovs-vsctl", f"--db=unix:{self.bench.run}/db.sock", *words)

    def _machine(self, device: str, mac: str, address: str) -> int:
        """A network namespace with this device; the process that holds it ends with the bench."""
        holder = self.bench.start("unshare", "-n", "sleep", "infinity")
        eventually(lambda: Path(f"/proc/{holder.pid}/comm").read_text().strip() == "sleep", "a machine's namespace")
        self.bench.call("ip", "link", "set", device, "address", mac, "netns", str(holder.pid))
        for words in (
            ("ethtool", "-K", device, "tx", "off"),
            ("ip", "address", "add", address, "dev", device),
            ("ip", "link", "set", device, "up"),
        ):
            subprocess.run(["nsenter", "-t", str(holder.pid), "-n", *words], check=True, capture_output=True)
        return holder.pid

    def lacp(self) -> dict[int, dict[str, Any]]:
        """The controller's view, by port."""
        reply = self.bench.ask(do="lacp", switch="s1")
        assert reply["ok"], reply
        return {int(port): state for port, state in reply["lags"]["team0"]["ports"].items()}

    def theirs(self) -> dict[int, str]:
        """By member, what OVS's bond says of its own state and what it may do."""
        shown = self.bench.switch("lacp/show", "bond0")
        states = re.findall(r"(?:member|slave): peer(\d+): .*?actor state: ([a-z ]*)\n", shown, re.DOTALL)
        return {int(port): said.strip() for port, said in states}

    def enabled(self) -> set[int]:
        shown = self.bench.switch("bond/show", "bond0")
        return {int(port) for port in re.findall(r"(?:member|slave) peer(\d+): enabled", shown)}

    def both_use(self, ports: set[int]) -> bool:
        return {port for port, state in self.lacp().items() if state["usable"]} == ports == self.enabled()

    def pings(self, count: int = 20) -> bool:
        words = ["ping", "-n", "-q", "-i", "0.02", "-W", "1", "-c", str(count), "10.0.0.1"]
        done = subprocess.run(["nsenter", "-t", str(self.client), "-n", *words], capture_output=True, check=False)
        return done.returncode == 0

    def eat(self, device: str, eats: bool) -> None:
        """From now on the frames that this end sends are lost, though the carrier stays up."""
        how = ("replace", "dev", device, "root", "pfifo", "limit", "0") if eats else ("del", "dev", device, "root")
        self.bench.call("tc", "qdisc", *how)


@pytest.fixture
def bond(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bond]:
    made = Bond(tmp_path, getattr(request, "param", "active"))
    try:
        made.up()
        yield made
    finally:
        made.bench.close()


@pytest.mark.parametrize("bond", ["active", "passive"], indirect=True)
def test_all_members_collect_and_distribute_and_carry_traffic(bond: Bond) -> None:
    eventually(lambda: bond.both_use(set(MEMBERS)), "all members up at both ends")
    for said in bond.theirs().values():
        assert said == "activity timeout aggregation synchronized collecting distributing"
    for state in bond.lacp().values():
        assert state["partner"]["says"] == "activity timeout aggregation synchronization collecting distributing"
        assert state["mux"] == "COLLECTING_DISTRIBUTING"
    eventually(bond.pings, "a ping through the LAG")
    assert bond.bench.state()["macs"][TEAM] == "team0"
    text = bond.bench.ask(do="lacp", switch="s1")["text"]
    assert "Number of ports: 3" in text
    assert not bond.bench.events("miswired")


@pytest.mark.parametrize("end", ["p2", "peer2"])
def test_a_wire_that_eats_frames_one_way_is_left_by_both_ends_and_comes_back(bond: Bond, end: str) -> None:
    eventually(lambda: bond.both_use(set(MEMBERS)), "all members up at both ends")
    eventually(bond.pings, "a ping through the LAG")
    bond.eat(end, True)
    began = time.monotonic()
    eventually(lambda: not bond.lacp()[2]["usable"], "the switch leaves the wire", 8)
    ours = time.monotonic() - began
    eventually(lambda: bond.both_use({1, 3}), "both leave the wire", 10)
    print(f"{end} eats: the switch has left after {ours:.1f} s, both after {time.monotonic() - began:.1f} s")
    assert bond.lacp()[2]["why"] == "lacp"
    assert bond.pings()
    event = next(event for event in bond.bench.events("member") if not event["usable"] and event["port"] == 2)
    assert event["why"] == "lacp"
    moved = [event for event in bond.bench.events("members") if event["active"] == [1, 3]]
    assert moved[-1]["had_to_move"] == pytest.approx(1 / 3, abs=0.01)
    bond.eat(end, False)
    eventually(lambda: bond.both_use(set(MEMBERS)), "all members again", 10)
    assert bond.pings()


def test_the_controller_killed_and_started_again_is_not_noticed_by_the_partner(bond: Bond) -> None:
    eventually(lambda: bond.both_use(set(MEMBERS)), "all members up at both ends")
    eventually(bond.pings, "a ping through the LAG")
    time.sleep(1.1)  # a whole period, so that both ends know each other's last state
    bond.bench.controller.kill()
    bond.bench.controller.wait()
    bond.bench.start_controller()
    eventually(lambda: len(bond.bench.events("switch_ready")) == 2, "ready again")
    assert bond.bench.events("switch_ready")[1]["changed"] == 0
    end = time.monotonic() + 4
    while time.monotonic() < end:
        assert bond.both_use(set(MEMBERS))
        time.sleep(0.05)
    assert [event["active"] for event in bond.bench.events("members")][-1] == list(MEMBERS)
    assert bond.pings()


def test_a_member_that_leads_to_another_system_is_left_out(bond: Bond) -> None:
    eventually(lambda: bond.both_use(set(MEMBERS)), "all members up at both ends")
    bond.vsctl(
        *("--", "del-port", "host", "bond0"),
        *("--", "add-bond", "host", "bond0", "peer1", "peer2", "lacp=active", "other_config:lacp-time=fast"),
        *("--", "add-br", "other", "--", "set", "bridge", "other", "datapath_type=netdev", "fail_mode=standalone"),
        *("--", "set", "bridge", "other", "other-config:hwaddr=02:00:00:00:77:01"),
        *("--", "add-port", "other", "peer3", "--", "set", "port", "peer3", "lacp=active"),
        *("other_config:lacp-time=fast", "other_config:lacp-system-id=02:00:00:00:77:01"),
    )
    eventually(lambda: {p for p, s in bond.lacp().items() if s["usable"]} == {1, 2}, "the right ones only", 15)
    eventually(lambda: bond.bench.events("miswired"), "told")
    told = bond.bench.events("miswired")[-1]
    assert told["ports"] == [3]
    assert told["partners"]["02:00:00:00:77:01 key 1"] == [3] or len(told["partners"]) == 2
