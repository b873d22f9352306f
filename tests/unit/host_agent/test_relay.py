"""The relay carries both directions to their ends, and knows to the byte what it holds.

application --- channel [ relay ] tcp --- peer          socket pairs; TCP over loopback where a reset matters
"""

import errno
import os
import random
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_agent.relay import Pipes, Relay, StreamBroken


class CountingPipes(Pipes):
    """Knows how many are lent."""

    lent = 0
    most = 0

    def borrow(self) -> tuple[int, int]:
        self.lent += 1
        self.most = max(self.most, self.lent)
        return super().borrow()

    def give_back(self, pipe: tuple[int, int]) -> None:
        with pytest.raises(BlockingIOError):
            os.read(pipe[0], 1)  # an empty one, or its bytes would go to somebody else
        self.lent -= 1
        super().give_back(pipe)


@dataclass
class Bench:
    application: socket.socket
    channel: socket.socket
    tcp: socket.socket
    peer: socket.socket
    pipes: CountingPipes = field(default_factory=CountingPipes)

    def __post_init__(self) -> None:
        for end in (self.application, self.channel, self.tcp, self.peer):
            end.setblocking(False)
        self.relay = Relay(self.tcp, self.channel, self.pipes)

    def close(self) -> None:
        for end in (self.application, self.channel, self.tcp, self.peer):
            end.close()
        self.relay.outward.drop()
        self.relay.inward.drop()
        assert self.pipes.lent == 0
        for pipe in self.pipes._free:
            for fd in pipe:
                os.close(fd)

    def settle(self) -> None:
        while self.relay.pump():
            pass

    def until(self, condition: Callable[[], bool]) -> None:
        """Carries what comes until the condition holds: a busy machine's loopback takes its time."""
        deadline = time.monotonic() + 5.0
        self.settle()
        while not condition():
            assert time.monotonic() < deadline
            self.settle()

    def carries(self, data: bytes, to: socket.socket) -> bool:
        """Whether this comes to one end, and nothing else."""
        got = bytearray()

        def all_there() -> bool:
            got.extend(read(to))
            return len(got) >= len(data)

        self.until(all_there)
        return got == data


def over_tcp() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        return listener.accept()[0], peer


@pytest.fixture(params=[socket.socketpair, over_tcp], ids=["unix", "tcp"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    one = Bench(*socket.socketpair(), *request.param())
    yield one
    one.close()


def read(s: socket.socket) -> bytes:
    """All there is now."""
    data = b""
    try:
        while part := s.recv(1 << 20):
            data += part
    except BlockingIOError:
        pass
    return data


def arrived(s: socket.socket) -> socket.socket:
    """The same, once it has something to be read: a busy machine's loopback takes its time."""
    return awaited(s, select.POLLIN)


def awaited(s: socket.socket, news: int) -> socket.socket:
    """The same, once poll(2) tells that of it."""
    poll = select.poll()
    poll.register(s, news)
    assert poll.poll(5000)
    return s


def ended(s: socket.socket) -> bool:
    try:
        return s.recv(1) == b""
    except BlockingIOError:
        return False


def fill(s: socket.socket, data: bytes) -> int:
    """Writes until the socket takes no more; the number of bytes."""
    taken = 0
    try:
        while taken < len(data):
            taken += s.send(data[taken : taken + 65536])
    except BlockingIOError:
        pass
    return taken


def test_both_ways(bench: Bench) -> None:
    bench.application.sendall(b"answer")
    bench.peer.sendall(b"question")
    assert bench.carries(b"answer", bench.peer)
    assert bench.carries(b"question", bench.application)
    assert (bench.relay.outward.total, bench.relay.inward.total) == (6, 8)
    assert not bench.relay.done


def test_a_pipe_is_lent_only_while_it_holds_bytes(bench: Bench) -> None:
    for _ in range(5):
        bench.peer.sendall(b"x")
        assert bench.carries(b"x", bench.application)
        assert bench.pipes.lent == 0
    assert bench.pipes.most == 1
    assert len(bench.pipes._free) == 1


ARRIVED = select.EPOLLIN | select.EPOLLOUT


def test_a_few_bytes_need_no_pipe_and_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(*over_tcp(), *over_tcp())
    monkeypatch.setattr("host_agent.relay.os.splice", None)  # whoever calls it fails
    try:
        bench.peer.sendall(b"question")
        arrived(bench.tcp)
        assert not bench.relay.tcp_ready(ARRIVED)
        assert read(arrived(bench.application)) == b"question"
        bench.application.sendall(b"answer")
        arrived(bench.channel)
        assert not bench.relay.channel_ready(ARRIVED)
        assert read(arrived(bench.peer)) == b"answer"
        assert bench.pipes.most == 0
    finally:
        monkeypatch.undo()
        bench.close()


def test_one_end_ready_is_no_news_of_the_other(bench: Bench) -> None:
    bench.application.sendall(b"waits for its own event")
    bench.peer.sendall(b"question")
    arrived(bench.tcp)
    bench.relay.tcp_ready(ARRIVED)
    assert (read(bench.peer), read(bench.application)) == (b"", b"question")
    bench.relay.channel_ready(select.EPOLLOUT)
    assert read(bench.peer) == b""
    bench.relay.channel_ready(ARRIVED)
    assert read(arrived(bench.peer)) == b"waits for its own event"


def test_an_end_of_stream_that_comes_with_the_last_bytes_is_seen(bench: Bench) -> None:
    bench.peer.sendall(b"last words")
    bench.peer.shutdown(socket.SHUT_WR)
    awaited(bench.tcp, select.POLLRDHUP)
    bench.relay.tcp_ready(ARRIVED | select.EPOLLRDHUP)
    assert (read(bench.application), ended(bench.application)) == (b"last words", True)
    assert bench.relay.inward.done


def test_a_few_bytes_for_a_full_sink_are_held_until_it_has_room(bench: Bench) -> None:
    sent = 0
    while part := fill(bench.channel, bytes(1 << 20)):  # as if the relay had given it that much
        sent += part
    bench.peer.sendall(b"question")
    arrived(bench.tcp)
    bench.relay.tcp_ready(ARRIVED)
    assert (bench.relay.inward.held, bench.relay.inward.total) == (8, 0)
    got = bytearray()
    while len(got) < sent:
        got += read(bench.application)
    assert not bench.relay.channel_ready(select.EPOLLOUT)
    assert (read(bench.application), bench.relay.inward.held, bench.relay.inward.total) == (b"question", 0, 8)


class Narrow:
    """A sink that takes three bytes at first."""

    def __init__(self, real: socket.socket):
        self.fileno, self._real = real.fileno, real

    def send(self, data: bytes) -> int:
        return self._real.send(data[:3])


def test_of_a_few_bytes_the_sink_may_take_some(bench: Bench) -> None:
    bench.relay.inward._sink = Narrow(bench.channel)  # type: ignore[assignment]
    bench.peer.sendall(b"question")
    arrived(bench.tcp)
    bench.relay.tcp_ready(ARRIVED)
    assert read(arrived(bench.application)) == b"question"
    assert bench.relay.inward.total == 8


@pytest.fixture
def urgent() -> Iterator[Bench]:
    """The peer's last byte is an urgent one, and has come."""
    one = Bench(*over_tcp(), *over_tcp())
    one.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    one.peer.sendall(b"before")
    one.peer.send(b"!", socket.MSG_OOB)
    awaited(one.tcp, select.POLLPRI)
    one.relay.inward.urgent = True
    yield one
    one.close()


def test_the_bytes_around_an_urgent_one_pass_at_one_event(urgent: Bench) -> None:
    urgent.peer.sendall(b"after")
    urgent.relay.tcp_ready(ARRIVED | select.EPOLLPRI)
    assert read(arrived(urgent.application)).startswith(b"before!")  # the rest may still be on its way


def test_an_urgent_byte_at_the_end_of_the_stream_is_not_the_end(urgent: Bench) -> None:
    """In front of an urgent byte splice(2) gives nothing, as at the end of the stream, once the FIN has come."""
    urgent.peer.shutdown(socket.SHUT_WR)
    awaited(urgent.tcp, select.POLLRDHUP)
    urgent.relay.tcp_ready(ARRIVED | select.EPOLLPRI | select.EPOLLRDHUP)
    assert urgent.relay.inward.done
    assert urgent.relay.inward.total == 7
    assert read(arrived(urgent.application)) == b"before!"


def test_more_than_a_few_bytes_pass_at_one_event(bench: Bench) -> None:
    data = random.Random(4).randbytes(50_000)
    bench.peer.sendall(data)
    # All of it has come: an end of stream that is behind it tells.
    bench.peer.shutdown(socket.SHUT_WR)
    awaited(bench.tcp, select.POLLRDHUP)
    while bench.relay.tcp_ready(ARRIVED):
        pass
    assert read(bench.application) == data


def test_much_through_little(bench: Bench) -> None:
    """Twenty megabytes through a slow sink: every byte once, in order."""
    data, sent, got = random.Random(1).randbytes(20_000_000), 0, bytearray()
    while len(got) < len(data):
        sent += fill(bench.application, data[sent : sent + 3_000_000])
        bench.relay.pump(100_000)
        try:
            got += bench.peer.recv(70_000)
        except BlockingIOError:
            bench.settle()
    assert got == data
    assert bench.relay.outward.total == len(data)


@pytest.mark.parametrize("first", ["application", "peer"])
def test_each_end_may_close_its_direction_first(bench: Bench, first: str) -> None:
    closing, other = (bench.application, bench.peer) if first == "application" else (bench.peer, bench.application)
    closing.sendall(b"last words")
    closing.shutdown(socket.SHUT_WR)
    assert bench.carries(b"last words", other)
    bench.until(lambda: ended(other))
    assert not bench.relay.done
    for n in range(3):  # the other direction goes on
        other.sendall(b"more%d" % n)
        assert bench.carries(b"more%d" % n, closing)
    other.shutdown(socket.SHUT_WR)
    bench.until(lambda: ended(closing))
    assert bench.relay.done
    assert bench.pipes.lent == 0


def test_an_end_waits_for_the_bytes_before_it(bench: Bench) -> None:
    sent = 0
    while part := fill(bench.application, bytes(1 << 20)):
        sent += part
        bench.settle()
    bench.application.shutdown(socket.SHUT_WR)
    bench.settle()
    assert not bench.relay.outward.done
    got = 0
    while not bench.relay.outward.done:
        got += len(read(bench.peer))
        bench.settle()
    while got < sent:
        got += len(read(arrived(bench.peer)))
    bench.until(lambda: ended(bench.peer))
    assert got == sent


@given(st.integers(0, 3_000_000), st.integers(0, 2_000_000))
@settings(max_examples=30)
def test_take_held_gives_what_is_neither_here_nor_there(size: int, taken: int) -> None:
    """Carried, held and not yet taken are together what was sent, whenever it is asked."""
    bench = Bench(*socket.socketpair(), *socket.socketpair())
    try:
        data = random.Random(size).randbytes(size)
        sent = fill(bench.application, data)
        bench.settle()
        arrived = bytearray()
        while len(arrived) < min(taken, sent):
            part = read(bench.peer)
            if not part:
                break
            arrived += part
            bench.settle()
        carried = bench.relay.outward.total
        held = bench.relay.outward.take_held()
        arrived += read(bench.peer)
        assert len(arrived) == carried
        assert bytes(arrived) + held + read(bench.channel) == data[:sent]
        assert bench.relay.outward.take_held() == b""
        assert bench.pipes.lent == 0
    finally:
        bench.close()


def test_held_bytes_are_there_when_the_sink_is_full(bench: Bench) -> None:
    """The case that the one above must not miss."""
    data, sent = random.Random(2).randbytes(30_000_000), 0
    while part := fill(bench.peer, data[sent:]):
        sent += part
        bench.settle()
    assert sent < len(data)
    assert not bench.relay.pump()
    carried = bench.relay.inward.total
    held = bench.relay.inward.take_held()
    assert held == data[carried : carried + len(held)]
    assert held


@pytest.mark.parametrize("writing", [False, True], ids=["read", "write"])
def test_a_reset_breaks_the_stream(writing: bool) -> None:
    bench = Bench(*socket.socketpair(), *over_tcp())
    try:
        if writing:  # something is held when the reset comes
            while fill(bench.application, bytes(1 << 20)):
                bench.settle()
        bench.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        bench.peer.close()
        awaited(bench.tcp, select.POLLHUP)
        with pytest.raises(StreamBroken, match=r"^peer: "):
            bench.settle()
    finally:
        bench.close()


def test_an_application_that_is_gone_breaks_the_stream(bench: Bench) -> None:
    bench.application.close()
    bench.peer.sendall(b"anybody there?")
    arrived(bench.tcp)
    with pytest.raises(StreamBroken, match=r"^application: Broken pipe$"):
        bench.settle()


def test_a_budget_is_kept_so_that_others_have_their_turn(bench: Bench) -> None:
    fill(bench.application, bytes(1 << 20))
    assert bench.relay.outward.pump(1)
    assert 0 < bench.relay.outward.total <= 256 * 1024


def test_what_was_taken_out_can_be_put_back(bench: Bench) -> None:
    """As when a move is called off: the stream goes on where it stood."""
    data, sent = random.Random(3).randbytes(30_000_000), 0
    while part := fill(bench.peer, data[sent:]):
        sent += part
        bench.settle()
    held = bench.relay.inward.take_held()
    assert held
    bench.relay.inward.put_back(held)
    got = bytearray()
    while len(got) < sent:
        got += read(bench.application)
        bench.settle()
    assert got == data[:sent]


def test_nothing_is_put_back_into_no_pipe(bench: Bench) -> None:
    bench.relay.outward.put_back(b"")
    assert bench.pipes.lent == 0


@pytest.mark.parametrize("told", ["before", "after"])
def test_an_urgent_byte_is_one_of_the_stream(told: str) -> None:
    bench = Bench(*socket.socketpair(), *over_tcp())
    bench.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    try:
        bench.peer.sendall(b"before")
        bench.peer.send(b"!", socket.MSG_OOB)
        bench.peer.sendall(b"after")
        bench.relay.inward.urgent = told == "before"
        got = bytearray()

        def all_there() -> bool:
            bench.relay.inward.urgent = True
            got.extend(read(bench.application))
            return len(got) >= len(b"before!after")

        bench.until(all_there)
        assert got == b"before!after"
        assert not bench.relay.done
    finally:
        bench.close()


def test_no_urgent_byte_is_awaited_that_was_only_announced(bench: Bench) -> None:
    bench.relay.inward.urgent = True
    if bench.tcp.family == socket.AF_UNIX:
        return
    bench.settle()
    assert bench.pipes.lent == 0
    bench.peer.sendall(b"plain")
    assert bench.carries(b"plain", bench.application)


def test_without_a_pipe_the_stream_breaks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of one connection, not the engine of all."""

    def none_left() -> tuple[int, int]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    bench.peer.send(b"x")
    arrived(bench.tcp)
    with monkeypatch.context() as full:
        full.setattr(bench.pipes, "borrow", none_left)
        with pytest.raises(StreamBroken, match="relay: Too many open files"):
            bench.relay.pump()


class ResetMeanwhile:
    """A socket that is reset between a look at its bytes and one at its urgent byte."""

    def __init__(self, real: socket.socket):
        self.fileno = real.fileno
        self._looks = iter([BlockingIOError(), ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))])

    def recv(self, _size: int) -> bytes:
        raise next(self._looks)


def test_a_reset_in_front_of_an_urgent_byte_breaks_the_stream(bench: Bench) -> None:
    bench.relay.inward.urgent = True
    bench.relay.inward._source = ResetMeanwhile(bench.tcp)  # type: ignore[assignment]
    with pytest.raises(StreamBroken, match="peer: Connection reset by peer"):
        bench.relay.pump()
