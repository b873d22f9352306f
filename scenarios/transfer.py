"""One connection's bytes in both directions, the same at the client and at the application.

Moves bytes over a connected socket until both streams are complete; makes no connection and emits nothing
itself. Neither end closes early: the client shuts down once it has sent and received everything, the
application answers with its own FIN, so a FIN at the client means that the application had all of it.
"""

import errno
import hashlib
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scenarios.stream import CHUNK, Check, Stream

PROGRESS_S = 0.02
"""Between two reports while bytes arrive."""
STALLED_S = 0.2
"""Between two reports while none do."""
_BUFFER = 4 * CHUNK

Report = Callable[[int, float], None]
"""Called with the bytes received so far and the longest time without one since the last report (s)."""


@dataclass
class Order:
    """What to move: the traffic's seed and the bytes in each direction, from this end's point of view."""

    seed: int
    out_name: str
    out_bytes: int
    in_name: str
    in_bytes: int
    closes_first: bool
    """The client's part: to shut down first, when everything is done."""


@dataclass
class Transfer:
    """A transfer under way. `run` returns when it is over; the fields tell how it went."""

    sock: socket.socket
    order: Order
    report: Report
    clock: Callable[[], float]
    deadline: float
    """In the clock's seconds: the transfer is given up then."""
    idle_s: float
    """The transfer is given up after this long without a byte either way."""
    error: str | None = None
    sent: int = 0
    check: Check = field(init=False)
    _out: Stream = field(init=False)
    _hash: Any = field(init=False)

    def __post_init__(self) -> None:
        """Prepares both streams."""
        self._out = Stream(self.order.seed, self.order.out_name)
        self._hash = hashlib.sha256()
        self.check = Check(Stream(self.order.seed, self.order.in_name), self.order.in_bytes)
        self._shut = self._ended = False
        self._buffer = memoryview(bytearray(_BUFFER))

    @property
    def sent_sha256(self) -> str:
        """Of the bytes given to the kernel."""
        return str(self._hash.hexdigest())

    def run(self) -> None:
        """Move everything. Never raises for what the network does: `error` says it."""
        self.sock.setblocking(False)
        selector = selectors.DefaultSelector()
        selector.register(self.sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        try:
            self._loop(selector)
        except OSError as error:
            self.error = errno_name(error)
        finally:
            selector.close()

    def _loop(self, selector: selectors.BaseSelector) -> None:
        # A stall is a time without a *new* byte from the peer; it begins when the bytes are wanted.
        delivered = reported = active = self.clock()
        gap, told = 0.0, 0
        while not (self._shut and self._ended):
            sending = self.sent < self.order.out_bytes
            selector.modify(self.sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if sending else 0))
            ready = selector.select(PROGRESS_S)
            mask = ready[0][1] if ready else 0
            if mask & selectors.EVENT_WRITE and self._send():
                active = self.clock()
            got = self._receive() if mask & selectors.EVENT_READ else 0
            now = self.clock()
            wanting = self.check.bytes - got < self.order.in_bytes
            if wanting:
                gap = max(gap, now - delivered)
            if got:
                delivered = active = now
            whole = self.check.bytes >= self.order.in_bytes
            due = now - reported >= (PROGRESS_S if self.check.bytes > told else STALLED_S)
            if wanting and (due or whole):
                self.report(self.check.bytes, gap)
                gap, told, reported = 0.0, self.check.bytes, now
            if not self._shut and not sending and (whole if self.order.closes_first else self._ended):
                self.sock.shutdown(socket.SHUT_WR)
                self._shut = True
            if self._ended and not (whole and self.sent == self.order.out_bytes):
                got, wanted = self.check.bytes, self.order.in_bytes
                self.error = f"ended early: {got} of {wanted} bytes received, {self.sent} sent"
            elif now > self.deadline:
                self.error = "took too long"
            elif now - active > self.idle_s:
                self.error = f"idle for {self.idle_s:g} s"
            if self.error:
                return

    def _send(self) -> int:
        piece = self._out.at(self.sent, self.order.out_bytes - self.sent)
        try:
            count = self.sock.send(piece)
        except BlockingIOError:
            return 0
        self._hash.update(piece[:count])
        self.sent += count
        return count

    def _receive(self) -> int:
        try:
            count = self.sock.recv_into(self._buffer)
        except BlockingIOError:
            return 0
        if count == 0:
            self._ended = True
        self.check.update(self._buffer[:count])
        return count


def errno_name(error: OSError) -> str:
    """`ECONNRESET: Connection reset by peer`."""
    name = errno.errorcode.get(error.errno or 0, "")
    return f"{name}: {error.strerror}" if name else str(error)
