"""The SYNs of a flood: right in every byte, each from another end, the same for the same seed."""

import socket
import struct

from scenarios import flood


def test_a_syn_is_a_right_one():
    packet = flood.packets("10.0.0.1", 8080, 7)()
    ip, tcp = packet[:20], packet[20:]
    assert ip[0] == 0x45
    assert ip[9] == socket.IPPROTO_TCP
    assert socket.inet_ntoa(ip[16:20]) == "10.0.0.1"
    assert struct.unpack("!H", tcp[2:4]) == (8080,)
    assert (tcp[12] >> 4) * 4 == len(tcp) == 24
    assert tcp[13] == 0x02
    # A right checksum makes the whole add up to nothing.
    assert flood.checksum(ip[12:20] + struct.pack("!BBH", 0, 6, len(tcp)) + tcp) == 0


def test_each_from_another_end_and_never_a_clients():
    another = flood.packets("10.0.0.1", 8080, 7)
    ends = {(one[12:16], one[20:22]) for one in (another() for _ in range(500))}
    assert len(ends) > 490
    assert {end[0][:3] for end in ends} == {bytes([10, 0, 0])}
    assert all(end[0][3] > 210 for end in ends)
    assert flood.packets("10.0.0.1", 8080, 7)() == flood.packets("10.0.0.1", 8080, 7)()
