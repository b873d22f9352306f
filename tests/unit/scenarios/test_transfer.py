"""Two ends of a connection over a socket pair or loopback: whole, damaged, stalled, broken; no root."""

import contextlib
import json
import selectors
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from scenarios import counts
from scenarios.stream import Stream
from scenarios.transfer import Order, Transfer
from tests.unit.scenarios.ends import client

ROOT = Path(__file__).resolve().parents[3]


def transfer(sock, order: Order, *, deadline_s=10.0, idle_s=5.0):
    """A transfer, and the list of what it will report: (bytes, seconds without one)."""
    reports: list[tuple[int, float]] = []
    report = lambda received, gap, _stalls: reports.append((received, gap))  # noqa: E731
    return Transfer(sock, order, report, time.monotonic, time.monotonic() + deadline_s, idle_s), reports


def near(sent: int, received: int, seed: int = 3) -> Order:
    return Order(seed, "send", sent, "receive", received, closes_first=True)


def far(sent: int, received: int, seed: int = 3) -> Order:
    """The other end of `near(sent, received)`."""
    return Order(seed, "receive", received, "send", sent, closes_first=False)


def both(one: Transfer, other: Transfer) -> None:
    thread = threading.Thread(target=other.run)
    thread.start()
    one.run()
    one.sock.close()
    thread.join(10)
    assert not thread.is_alive()
    other.sock.close()


@pytest.mark.parametrize(
    ("sent", "received"),
    [(0, 1), (1, 0), (3_000_000, 0), (0, 3_000_000), (2_000_000, 1_500_000), (65536, 65536)],
)
def test_everything_arrives(sent, received):
    a, b = socket.socketpair()
    (client, down), (app, up) = transfer(a, near(sent, received)), transfer(b, far(sent, received))
    both(client, app)
    assert (client.error, app.error) == (None, None)
    assert (client.sent, app.check.bytes, client.sent_sha256) == (sent, sent, app.check.sha256)
    assert (app.sent, client.check.bytes, app.sent_sha256) == (received, received, client.check.sha256)
    assert (client.check.first_difference, app.check.first_difference) == (None, None)
    assert [count for count, _ in down][-1:] == ([received] if received else [])
    assert [count for count, _ in up][-1:] == ([sent] if sent else [])


def test_another_seed_at_the_other_end_is_noticed():
    a, b = socket.socketpair()
    (client, _), (app, _) = transfer(a, near(0, 1000)), transfer(b, far(0, 1000, seed=4))
    both(client, app)
    assert client.check.first_difference == 0
    assert client.check.sha256 == app.sent_sha256


def test_a_stall_is_reported_with_its_length():
    a, b = socket.socketpair()
    data = Stream(3, "receive").bytes(0, 2000)

    def stutter() -> None:
        b.sendall(data[:1000])
        time.sleep(0.3)
        b.sendall(data[1000:])
        b.recv(1)  # the client's end
        b.close()

    thread = threading.Thread(target=stutter)
    thread.start()
    client, reports = transfer(a, near(0, 2000))
    client.run()
    thread.join()
    assert client.error is None
    assert 0.28 < max(gap for _, gap in reports) < 2
    # While it lasts it is told too, so that a stall that never ends is measured.
    assert any(gap > 0.15 and count == 1000 for count, gap in reports)


@pytest.mark.parametrize(
    ("limits", "error"), [({"idle_s": 0.2}, "idle for 0.2 s"), ({"deadline_s": 0.2}, "took too long")]
)
def test_it_never_hangs(limits, error):
    a, b = socket.socketpair()
    client, reports = transfer(a, near(0, 1000), **limits)
    client.run()
    b.close()
    assert client.error == error
    assert reports


def test_acknowledgements_behind_the_peers_end_are_no_duplicates():
    """Linux counts them as segments that it threw away."""
    listener = socket.create_server(("127.0.0.1", 0))
    a = socket.create_connection(listener.getsockname())
    b, _ = listener.accept()
    listener.close()
    order = near(3_000_000, 10)
    order.half = "in"
    client, _ = transfer(a, order)
    b.sendall(Stream(3, "receive").bytes(0, 10))
    b.shutdown(socket.SHUT_WR)
    for _ in range(2):  # the bytes, and the end
        client.turn(selectors.EVENT_READ)
    reader = threading.Thread(target=lambda: b.recv(3_000_000, socket.MSG_WAITALL))
    reader.start()
    client.run()
    thrown = counts.dropped(a)
    reader.join()
    assert (client.error, client.sent, client.dropped) == (None, 3_000_000, 0)
    assert thrown > 0, "there was nothing to be told apart"
    a.close()
    b.close()


def test_an_early_end_is_an_error():
    a, b = socket.socketpair()
    b.sendall(Stream(3, "receive").bytes(0, 400))
    b.close()
    client, _ = transfer(a, near(0, 1000))
    client.run()
    assert client.error == "ended early: 400 of 1000 bytes received, 0 sent"


def test_a_reset_is_an_error():
    listener = socket.create_server(("127.0.0.1", 0))
    a = socket.create_connection(listener.getsockname())
    b, _ = listener.accept()
    b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    b.close()
    client, _ = transfer(a, near(0, 1000))
    client.run()
    assert client.error == "ECONNRESET: Connection reset by peer"


def test_more_than_was_asked_for_is_noticed():
    a, b = socket.socketpair()
    b.sendall(Stream(3, "receive").bytes(0, 1001))
    client, _ = transfer(a, near(0, 1000))
    thread = threading.Thread(target=client.run)
    thread.start()
    b.recv(1)
    b.close()
    thread.join(10)
    assert client.check.first_difference == 1000


def test_client_and_application(app):
    to, record = app
    events = client(to, "--send", "300000", "--receive", "20000000")
    names = [event["event"] for event in events]
    assert names[0] == "connected"
    assert names[-2:] == ["done", "resets"]
    done = events[-2]
    told = {event["event"]: event for event in map(json.loads, record.read_text().splitlines())}
    served, closed = told["served"], told["closed"]
    # Both ends have closed by then, so the kernel has no address of the peer's any more.
    assert [closed[key] for key in ("src", "sport")] == [events[0][key] for key in ("src", "sport")]
    assert closed["retransmits"] is not None
    assert (done["sent_bytes"], done["received_bytes"], done["error"]) == (300000, 20000000, None)
    assert (done["sent_sha256"], done["received_sha256"]) == (
        served["received_sha256"],
        served["sent_sha256"],
    )
    assert 0 <= done["retransmits"] < 20  # a busy machine probes for a tail that was only late
    assert events[-1]["resets"] in (0, None)  # None without the right to watch


def test_a_request_that_is_none_is_told(app):
    to, record = app
    host, _, port = to.rpartition(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):  # it left part of the request unread
            assert sock.recv(1) == b""
    assert '"bad request: ' in record.read_text()


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (done,) = client(f"127.0.0.1:{port}", "--receive", "10")
    assert done["error"] == "cannot connect: ECONNREFUSED: Connection refused"


def test_stalls_are_told_one_by_one():
    now = 0.0
    a, b = socket.socketpair()
    told: list[tuple[int, float, list]] = []
    client = Transfer(a, near(0, 30), lambda *words: told.append(words), lambda: now, 99.0, 99.0)
    for until, count in ((0.004, 10), (0.104, 10), (0.110, 10)):
        now = until - 0.001
        client.turn(0)
        now = until
        b.send(Stream(3, "receive").bytes(client.check.bytes, count))
        client.turn(selectors.EVENT_READ)
    stalls = [(round(at, 6), round(lasted, 6)) for _, _, some in told for at, lasted in some]
    assert stalls == [(0.104, 0.1), (0.11, 0.006)]
    assert [round(one, 6) for one in client.longest] == [0.104, 0.1]
    a.close()
    b.close()


@pytest.mark.parametrize("think", [0.0, 0.03])
def test_requests_are_answered_by_turns(think):
    """Twenty requests of 100 bytes, each answered by 70 kB before the next; stalls are of answers, not of thinking."""
    a, b = socket.socketpair()
    ask, answer = near(20 * 100, 20 * 70_000), far(20 * 100, 20 * 70_000)
    ask.rounds = answer.rounds = 20
    ask.think = think
    (client, down), (app, up) = transfer(a, ask), transfer(b, answer)
    began = time.monotonic()
    both(client, app)
    assert (client.error, app.error) == (None, None)
    assert client.check.bytes == 20 * 70_000
    assert app.check.sha256 == client.sent_sha256
    assert len(client.responses) == 20
    assert all(one > 0 for one in client.responses)
    assert time.monotonic() - began >= 19 * think
    assert down[-1][0] == 20 * 70_000
    assert up[-1][0] == 20 * 100
    assert max(gap for _, gap in up) < 1


def test_no_request_goes_before_the_answer_to_the_one_before():
    a, b = socket.socketpair()
    ask = near(300, 300)
    ask.rounds = 3
    client, _ = transfer(a, ask)
    b.setblocking(False)
    client.sock.setblocking(False)
    client.turn(selectors.EVENT_WRITE)
    client.turn(selectors.EVENT_WRITE)
    assert client.sent == len(b.recv(1000)) == 100
    b.send(Stream(3, "receive").bytes(0, 99))
    client.turn(selectors.EVENT_READ)
    client.turn(selectors.EVENT_WRITE)
    assert client.sent == 100
    b.send(Stream(3, "receive").bytes(99, 1))
    client.turn(selectors.EVENT_READ)
    client.turn(selectors.EVENT_WRITE)
    assert client.sent == 200
