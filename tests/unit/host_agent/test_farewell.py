"""The frame that makes a peer say what it expects: a valid bare ACK, as an independent implementation reads it."""

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from host_agent.connection import Connection
from host_agent.farewell import probe

OURS, THEIRS = bytes.fromhex("020000000001"), bytes.fromhex("020000000101")


@pytest.mark.parametrize(
    ("connection", "kind"),
    [
        (Connection("10.0.0.11", 40000, "10.0.0.1", 8080), IP),
        (Connection("fd00::11", 40000, "fd00::1", 8080), IPv6),
    ],
    ids=["ipv4", "ipv6"],
)
def test_probe(connection: Connection, kind: type) -> None:
    raw = probe(connection, OURS, THEIRS, 0x89ABCDEF)
    frame = Ether(raw)
    assert (frame.src, frame.dst) == ("02:00:00:00:00:01", "02:00:00:00:01:01")
    ip, tcp = frame[kind], frame[TCP]
    assert (ip.src, ip.dst) == ("10.0.0.1", "10.0.0.11") if kind is IP else ("fd00::1", "fd00::11")
    assert (tcp.sport, tcp.dport, tcp.seq, tcp.flags) == (8080, 40000, 0x89ABCDEF, "A")
    sums = (getattr(ip, "chksum", None), tcp.chksum)
    tcp.chksum = None
    if kind is IP:
        ip.chksum = None
    again = Ether(bytes(frame))
    assert sums == (getattr(again[kind], "chksum", None), again[TCP].chksum)
