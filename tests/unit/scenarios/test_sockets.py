"""Records held against the kernel's own listing of sockets."""

import os
import socket
from pathlib import Path

import pytest

from scenarios.sockets import connections, differences, listening

ONE = ("10.0.0.11", 40000, "10.0.0.1", 8080)
SIX = ("fd00::11", 40001, "fd00::1", 8080)


def line(connection, state=1, server=True) -> str:
    """As the kernel of a little-endian machine shows it."""

    def end(address, port):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        raw = socket.inet_pton(family, address)
        return "".join(raw[i : i + 4][::-1].hex().upper() for i in range(0, len(raw), 4)) + f":{port:04X}"

    src, sport, dst, dport = connection
    near, far = end(src, sport), end(dst, dport)
    if server:
        near, far = far, near
    return f"   0: {near} {far} {state:02X} 00000000:00000000 00:00000000 00000000     0        0 1\n"


def record(connection, nic="nic0", offloaded=True):
    keys = ("src", "sport", "dst", "dport")
    return dict(zip(keys, connection, strict=True)) | {"nic": nic, "offloaded": offloaded}


def test_who_listens():
    text = "  sl  local_address rem_address st\n" + line(ONE, 10) + line(SIX, 10) + line(("10.0.0.1", 1, "10.0.0.1", 2))
    assert listening(text) == {8080}


def test_both_families_are_read_from_either_end():
    for server in (True, False):
        text = "  sl  local_address rem_address st\n" + line(ONE, 1, server) + line(SIX, 8, server)
        assert connections(text, mine_first=not server) == {ONE: 1, SIX: 8}


def test_what_is_not_live_does_not_count():
    text = "".join(line((*ONE[:1], 40000 + state, *ONE[2:]), state) for state in range(1, 13))
    assert sorted(connections(text, mine_first=False).values()) == [1, 4, 5, 8]


def test_what_nobody_holds_does_not_count():
    """The socket of a process that was killed."""
    assert connections(line(ONE, 4).replace(" 0 1\n", " 0 0\n"), mine_first=False) == {}


def test_this_kernels_own_listing():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as near:
        found = connections(Path(f"/proc/{os.getpid()}/net/tcp").read_text(), mine_first=True)
        assert found[(*near.getsockname(), *near.getpeername())] == 1


def test_agreement():
    places = {"host": line(SIX), "nic0": line(ONE), "nic1": ""}
    assert differences([ONE, SIX], places, [record(ONE), record(SIX, "nic1", offloaded=False)]) == []


@pytest.mark.parametrize(
    ("places", "records", "said"),
    [
        ({"host": "", "nic0": ""}, [record(ONE)], "no socket"),
        ({"host": line(ONE), "nic0": line(ONE)}, [record(ONE)], "sockets in host, nic0"),
        ({"host": "", "nic0": line(ONE)}, [], "no record, its socket is in nic0"),
        ({"nic0": line(ONE)}, [record(ONE, "nic1")], "the record says nic1, its socket is in nic0"),
        ({"nic0": line(ONE)}, [record(ONE, offloaded=False)], "the record says host, its socket is in nic0"),
        ({"host": line(ONE)}, [record(ONE)], "the record says nic0, its socket is in host"),
    ],
)
def test_a_difference_is_told(places, records, said):
    assert differences([ONE], places, records) == [f"10.0.0.11:40000 → 10.0.0.1:8080: {said}"]
