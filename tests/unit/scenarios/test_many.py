"""Many connections in one process at each end: sums that agree, little to say, pace, idleness, half-closing."""

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from scenarios.stream import Stream
from scenarios.tally import Ends
from scenarios.transfer import Order, Transfer
from tests.unit.scenarios.ends import client

ROOT = Path(__file__).resolve().parents[3]


def served(record: Path) -> list[dict]:
    return [event for event in map(json.loads, record.read_text().splitlines()) if event["event"] == "served"]


def test_three_hundred_connections(app):
    to, record = app
    events = client(to, "--count", "300", "--send", "2000", "--receive", "30000")
    done = next(event for event in events if event["event"] == "done")
    assert (done["connections"], done["broken"], done["error"]) == (300, 0, None)
    assert (done["sent_bytes"], done["received_bytes"]) == (600_000, 9_000_000)
    (other,) = served(record)
    assert done["wrong"] == other["wrong"] == []
    assert sorted(n for event in events if event["event"] == "ended" for n in event["index"]) == [*range(300)]
    assert (done["sent_sha256"], done["received_sha256"]) == (other["received_sha256"], other["sent_sha256"])
    ports = [port for event in events if event["event"] == "connected" for port in event["sports"]]
    assert len(set(ports)) == 300
    assert len(events) < 60


def test_connections_arrive_at_their_rate(app):
    began = time.monotonic()
    client(app[0], "--count", "20", "--arrivals", "40", "--send", "1")
    assert 0.45 < time.monotonic() - began < 5


def test_nobody_listens_to_any_of_them():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (done,) = client(f"127.0.0.1:{port}", "--count", "5", "--receive", "10")
    assert (done["connections"], done["broken"]) == (0, 5)


def test_connections_of_one_traffic_have_bytes_of_their_own():
    """Else bytes that are delivered to the wrong connection would look right."""
    starts = {Stream(5, "send", index).bytes(0, 4) for index in (None, *range(50))}
    assert len(starts) == 51


def pair(out: dict, back: dict, sent: int, received: int) -> tuple[Transfer, Transfer]:
    """Both ends of a connection over a socket pair, moved to their end; the far one in a thread."""
    a, b = socket.socketpair()
    report, limit = (lambda *_: None), time.monotonic() + 10
    near = Transfer(a, Order(3, "send", sent, "receive", received, True, **out), report, time.monotonic, limit, 5)
    far = Transfer(b, Order(3, "receive", received, "send", sent, False, **back), report, time.monotonic, limit, 5)
    thread = threading.Thread(target=far.run)
    thread.start()
    near.run()
    near.sock.close()
    thread.join(10)
    return near, far


def test_one_whose_bytes_are_another_s_is_named():
    """It broke no connection, and the count is right."""
    ends = Ends()
    for index in (7, 8):
        one, _ = pair({"index": index}, {"index": 8}, 1000, 1000)
        assert one.error is None
        ends.add(one)
    assert ends.facts()["wrong"] == [7]


def test_pace():
    began = time.monotonic()
    near, far = pair({"pace": 400_000}, {"pace": 400_000}, 100_000, 200_000)
    assert (near.error, far.error) == (None, None)
    assert 0.4 < time.monotonic() - began < 2


def test_idle_connections_send_a_byte_now_and_then():
    began = time.monotonic()
    near, far = pair({"every": 0.05}, {"every": 0.05}, 10, 10)
    assert (near.error, far.error, near.check.bytes, far.check.bytes) == (None, None, 10, 10)
    assert 0.4 < time.monotonic() - began < 2


@pytest.mark.parametrize(("client", "server"), [("out", "in"), ("in", "out")])
def test_one_end_closes_before_the_other_is_done(client, server):
    sizes = (1000, 3_000_000) if client == "out" else (3_000_000, 1000)
    slow = {"pace": 10_000_000}
    near, far = pair({"half": client} | slow, {"half": server} | slow, *sizes)
    assert (near.error, far.error) == (None, None)
    assert near.check.first_difference is far.check.first_difference is None


def test_an_end_that_closes_early_unasked_is_an_error():
    near, _ = pair({}, {"half": "out"}, 3_000_000, 1000)
    assert near.error is not None
