"""The client's count of RST segments: its own connection's, both ways, both families, nobody else's."""

import json
from collections.abc import Callable

import pytest

from topologies.sandbox import Sandbox

pytestmark = pytest.mark.kernel

CODE = """
import socket, struct
from scenarios import resets

host = sys.argv[1]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
counter = resets.ResetCounter()
listener = socket.create_server((host, 0), family=family)

def pair():
    near = socket.create_connection(listener.getsockname()[:2])
    far, _ = listener.accept()
    return near, far, near.getsockname()[:2], near.getpeername()[:2]

def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()

def count(ends, seconds=0.1, gone=frozenset()):
    found = counter.count_for(seconds, {resets.pair(*ends)}, gone)
    assert found.keys() <= {resets.pair(*ends)}
    return found.total()

near, far, *ends = pair()
near.sendall(b"x" * 100000)
far.recv(1000)
counts = {"calm": count(ends, 0)}
other, other_far, *_ = pair()
reset(other)
counts["another"] = count(ends)
reset(far)
counts["from the far end"] = count(ends)
near, far, *ends = pair()
reset(near)
counts["from the near end"] = count(ends)
near, far, *ends = pair()
near.close(); far.close()
counts["closed well"] = count(ends)

def checked(head):
    # An empty segment with its checksum, over the pseudo-header as well (RFC 9293, 3.1).
    address = resets.end(host, 0)[0]
    words = struct.unpack("!10H", head) + 2 * struct.unpack(f"!{len(address) // 2}H", address)
    total = sum(words) + socket.IPPROTO_TCP + len(head)
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return head[:16] + struct.pack("!H", total ^ 0xffff) + head[18:]

def closed_by_the_far_end_first():
    # Near has gone with the last acknowledgement; what far says once more nobody knows.
    near, far, *ends = pair()
    far.close()
    near.recv(1)
    near.close()
    raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
    again = struct.pack("!HHIIBBHHH", ends[1][1], ends[0][1], 7, 9, 5 << 4, resets.ACK, 1000, 0, 0)
    raw.sendto(checked(again), (host, 0))
    return ends

ends = closed_by_the_far_end_first()
counts["answered when gone"] = count(ends, gone={resets.end(*ends[0])})
ends = closed_by_the_far_end_first()
counts["answered, and was to be there"] = count(ends, gone={resets.end(*ends[1])})
near, far, *ends = pair()
reset(near)
counts["reset by who was to be gone"] = count(ends, gone={resets.end(*ends[0])})
print(json.dumps(counts))
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_counts(in_sandbox: Callable[..., Sandbox], host: str) -> None:
    """One RST is one, whoever sends it."""
    out, err = in_sandbox(CODE, host).communicate(timeout=30)
    assert err == b""
    assert json.loads(out) == {
        "calm": 0,
        "another": 0,
        "from the far end": 1,
        "from the near end": 1,
        "closed well": 0,
        "answered when gone": 0,
        "answered, and was to be there": 1,
        "reset by who was to be gone": 1,
    }
