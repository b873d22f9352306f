"""Every hash policy on a live Open vSwitch: the switch sends a frame where `policies` predicts, whatever it is.

p1 … p5 (LAG team0)     s1: OVS, userspace datapath      p6 p7 (hosts)
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from controller.hashing import IPV4, IPV6, SCTP, TCP, UDP, Frame
from controller.policies import POLICIES, frame_hash
from tests.net.switchbench import TEAM, Bench

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("ovs-vswitchd") is None, reason="needs Open vSwitch (ovs-vswitchd)"),
]
MEMBERS = 5
NAMES = {TCP: "tcp", UDP: "udp", SCTP: "sctp", 1: "icmp", 58: "icmp"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("switch"), MEMBERS)
    try:
        bench.up()
        yield bench
    finally:
        bench.close()


def random_frame(rng: random.Random) -> tuple[Frame, str]:
    """A frame to the team, and the words by which ofproto/trace knows it."""
    mac = f"02:00:00:{rng.randrange(256):02x}:{rng.randrange(256):02x}:{rng.randrange(256):02x}"
    macs = [bytes.fromhex(one.replace(":", "")) for one in (mac, TEAM)]
    words = f"dl_src={mac},dl_dst={TEAM}"
    kind = rng.choice((0x0806, 0x88B5, IPV4, IPV4, IPV4, IPV6, IPV6, IPV6))
    if kind not in (IPV4, IPV6):
        return Frame(macs[0], macs[1], kind), f"{words},dl_type={kind:#x}"
    if kind == IPV4:
        src, dst = f"10.{rng.randrange(256)}.0.{rng.randrange(1, 255)}", f"10.0.{rng.randrange(9)}.1"
        words += f",dl_type=0x800,nw_src={src},nw_dst={dst}"
    else:
        src, dst = str(ip_address(rng.getrandbits(128) | 1 << 127)), f"fd00::{rng.randrange(1, 9)}"
        words += f",dl_type=0x86dd,ipv6_src={src},ipv6_dst={dst}"
    protocol = rng.choice((TCP, TCP, UDP, SCTP, 1 if kind == IPV4 else 58))
    words += f",nw_proto={protocol}"
    ports: tuple[int, int] | None = (rng.randrange(1, 65536), rng.randrange(1, 65536))
    if rng.random() < 0.25:
        words, ports = f"{words},nw_frag={rng.choice(('first', 'later'))}", None
    elif NAMES[protocol] == "icmp":
        ports = None
    else:
        words += f",{NAMES[protocol]}_src={ports[0]},{NAMES[protocol]}_dst={ports[1]}" if ports else ""
    return Frame(*macs, kind, ip_address(src).packed, ip_address(dst).packed, protocol, ports), words


@pytest.mark.parametrize("policy", POLICIES)
def test_every_kind_of_frame_leaves_by_the_predicted_member(bench: Bench, policy: str) -> None:
    rng = random.Random(policy)
    for seed in (0, 7, 65535):
        bench.command("set", hash=policy, seed=seed)
        for _ in range(60):
            frame, words = random_frame(rng)
            predicted = bench.members[frame_hash(policy, frame, seed) % MEMBERS]
            assert bench.trace(f"in_port={bench.client},{words}") == [predicted], (policy, seed, words)
            if frame.ports and frame.protocol == TCP:
                src, dst, mac = ip_address(frame.src), ip_address(frame.dst), frame.eth_src.hex(":")
                conn = {"src": str(src), "sport": frame.ports[0], "dst": str(dst), "dport": frame.ports[1]}
                assert bench.command("port_of", **conn, src_mac=mac)["port"] == predicted
    assert "refuses" not in (bench.run / "errors.log").read_text()


@pytest.mark.parametrize("policy", POLICIES)
def test_the_number_of_flows_depends_on_the_policy_only_and_frames_leave_as_they_came(
    bench: Bench, policy: str
) -> None:
    bench.command("set", hash=policy, seed=1)
    flows = len(bench.command("flows")["flows"])
    rng = random.Random(1)
    for _ in range(20):
        _, words = random_frame(rng)
        shown = bench.switch("ofproto/trace", "s1", f"in_port={bench.client},{words}")
        actions = shown.splitlines()[-1]
        assert "set(" not in actions, shown
        bench.trace(f"in_port={bench.client},{words}")
    assert len(bench.command("flows")["flows"]) == flows
