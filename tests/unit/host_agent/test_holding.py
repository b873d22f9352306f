"""Bytes that a sink has not taken go on as soon as it does. Moves and ends are for real connections (tests/kernel).

Over the loopback: what holding.py asks of a TCP socket here, any may answer.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any
from unittest.mock import MagicMock

import pytest

from host_agent import repair
from host_agent.connection import Connection
from host_agent.holding import Holding
from host_agent.limits import Limits
from tests.turned import TurnedLoop

ONE = Connection("10.0.0.11", 40000, "10.0.0.1", 8080)
LIMIT = 10.0
BYTES = bytes(range(256)) * 40_000  # more than all buffers on the way hold


class Bench:
    """One connection: peer -- tcp, channel -- application. widened: how often the loop was told to tell more."""

    def __init__(self, stack: ExitStack, *, waits: bool = False) -> None:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.peer = stack.enter_context(socket.create_connection(listener.getsockname()))
        tcp, _ = listener.accept()
        self.application, channel = socket.socketpair()
        stack.enter_context(self.application)
        self.loop, self.widened, steering = TurnedLoop(), 0, MagicMock()
        steering.leaving.side_effect = lambda connections: [None] * len(connections)
        stack.callback(self.loop.epoll.close)
        parts: Any = (self.loop, steering, Limits(), lambda *_: None)
        self.holding = Holding(*parts)
        stack.callback(self.holding._pipes.close)
        widen = self.loop.widen

        def counted(fd: int, mask: int) -> None:
            self.widened += 1
            widen(fd, mask)

        self.loop.widen = counted  # type: ignore[method-assign]
        for one in (tcp, channel, self.peer, self.application):
            one.setblocking(False)
            stack.callback(one.close)
        self.holding.take(ONE, tcp, channel, waits=waits)

    def turn(self) -> None:
        self.loop.turn()
        self.holding.idle()

    def carry(self, source: socket.socket, sink: socket.socket, rest: bytes) -> bytes:
        """All that can be sent and carried while nobody reads is; then the sink is read, and nothing more is sent.
        What arrived."""
        deadline, sent = time.monotonic() + LIMIT, 0
        quiet = 0
        while quiet < 50:
            try:
                sent, quiet = sent + source.send(rest[sent : sent + 65536]), 0
            except BlockingIOError:
                quiet += 1
            self.turn()
            assert time.monotonic() < deadline
        arrived = bytearray()
        while len(arrived) < sent:
            try:
                arrived += sink.recv(65536)
            except BlockingIOError:
                assert time.monotonic() < deadline, f"{len(arrived)} of {sent} bytes have arrived"
            self.turn()
        assert sent < len(rest), "the way was full"
        return bytes(arrived)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack)


@pytest.mark.parametrize("way", ["to the application", "to the peer"])
def test_what_a_full_sink_has_not_taken_goes_on_when_it_is_read(bench: Bench, way: str) -> None:
    """From then on the loop tells when either can be written to: once is enough."""
    ends = (bench.peer, bench.application) if way == "to the application" else (bench.application, bench.peer)
    for _ in range(2):
        arrived = bench.carry(*ends, BYTES)
        assert arrived == BYTES[: len(arrived)]
    assert bench.widened == 2


def test_nobody_asks_whether_a_sink_that_takes_all_can_be_written_to(bench: Bench) -> None:
    assert bench.loop.epoll.poll(0) == [], "it would be an event of each"
    bench.peer.send(b"question")
    while not bench.holding._connections[ONE].relay.inward.total:
        bench.turn()
    assert (bench.application.recv(100), bench.widened) == (b"question", 0)
    assert not bench.holding._connections[ONE].fills


@pytest.fixture
def waiting() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack, waits=True)


def test_one_that_waits_for_its_release_carries_nothing_before(waiting: Bench) -> None:
    waiting.application.send(b"answer")
    waiting.turn()
    assert not waiting.holding._connections[ONE].relay.outward.total
    waiting.holding.joined([ONE])
    assert waiting.holding._connections[ONE].relay.outward.total == len(b"answer")


def test_one_that_waits_and_may_not_leave_waits_no_longer(waiting: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its release was lost with a conversation; a save before the next one is refused."""
    waiting.application.send(b"answer")
    refusal = repair.CannotMove("urgent data pending")
    monkeypatch.setattr(repair, "freeze", lambda some: dict.fromkeys(some, refusal))
    assert list(waiting.holding.save({ONE: None})) == [refusal]
    assert waiting.holding._connections[ONE].relay.outward.total == len(b"answer")


def test_the_rest_and_the_end_come_behind_the_first_bytes_of_one_that_has_waited(waiting: Bench) -> None:
    sent = waiting.application.send(BYTES)
    waiting.application.shutdown(socket.SHUT_WR)
    waiting.holding.joined([ONE])
    deadline, arrived = time.monotonic() + LIMIT, bytearray()
    while True:
        try:
            some = waiting.peer.recv(65536)
        except BlockingIOError:
            assert time.monotonic() < deadline, f"{len(arrived)} of {sent} bytes have arrived"
        else:
            arrived += some
            if not some:
                break
        waiting.turn()
    assert arrived == BYTES[:sent]


def test_bytes_stay_in_order_when_the_link_comes_back_before_the_release(waiting: Bench) -> None:
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += waiting.application.send(BYTES[sent : sent + 65536])
            waiting.holding.recovered()
    waiting.holding.joined([ONE])
    deadline, arrived = time.monotonic() + LIMIT, bytearray()
    while len(arrived) < sent:
        with suppress(BlockingIOError):
            arrived += waiting.peer.recv(65536)
        assert time.monotonic() < deadline, f"{len(arrived)} of {sent} bytes have arrived"
        waiting.turn()
    assert arrived == BYTES[:sent]


@pytest.mark.parametrize(("fault", "laden"), [(False, False), (True, False), (True, True)])
def test_one_that_lives_elsewhere_is_closed_but_not_at_once_where_the_link_is_dead(
    bench: Bench, fault: bool, laden: bool
) -> None:
    """With what it has in its queues it is: the memory for that is the machine's."""
    held = bench.holding._connections[ONE]
    bench.holding._unwatch(held)
    held.frozen, held.laden, bench.holding.fault = (b"", b""), laden, fault
    bench.holding.discard([ONE])
    assert (list(bench.holding.upkeep.describe()), held.tcp.fileno() < 0) == ([], laden or not fault)
    assert held.channel.fileno() < 0, "or the application would not hear when its next owner closes it"
    bench.holding.recovered()
    assert held.tcp.fileno() < 0
