"""One connection's bytes in both directions, the same at the client and at the application.

Moves bytes over a connected socket until both streams are complete; makes no connection and emits nothing
itself. It never blocks: whoever drives it waits for what `mask` says, until `wakes_at`, and calls `turn`; `run` does
that for a single one. Unless the order says otherwise neither end closes early: the client shuts down once it has
sent and received everything, the application answers with its own FIN, so a FIN at the client means that the
application had all of it.
"""

import errno
import hashlib
import selectors
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from scenarios.counts import dropped
from scenarios.stream import CHUNK, Check, Stream

PROGRESS_S = 0.02
"""Between two reports while bytes arrive."""
STALLED_S = 0.2
"""Between two reports while none do."""
PIECE_S = 0.1
"""A paced sender sends what its pace allows in this time, at once; of a fast one, MOST_AT_ONCE at most."""
MIN_PIECE, MOST_AT_ONCE = 1448, 16 * 1024
_BUFFER = 4 * CHUNK

STALL_S = 0.005
"""The shortest time without a byte that is told by itself."""

Stall = tuple[float, float]
"""When it ended, by the transfer's clock, and how long it was (s)."""
Report = Callable[[int, float, Sequence[Stall]], None]
"""Called with the bytes received so far, the longest time without one since the last report (s), and the stalls that
have ended since."""


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
    index: int | None = None
    """Which connection of its traffic it is, where there are many."""
    pace: float = 0.0
    """Bytes per second that this end sends at most; 0: as fast as they go."""
    every: float = 0.0
    """Seconds between two bytes of an idle connection; 0: it is not idle."""
    half: str = ""
    """Which end shuts down as soon as it has sent all it has to: `out` (this one), `in` (the other), neither."""
    rounds: int = 0
    """Requests, each answered before the next; the bytes are shared out evenly. 0: everything goes at once."""
    think: float = 0.0
    """Seconds between an answer and the next request."""


@dataclass(eq=False)
class Transfer:
    """A transfer under way. The fields tell how it goes and how it went."""

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
        """Prepares both streams; the clock of stalls and paces starts here."""
        order = self.order
        self._out = Stream(order.seed, order.out_name, order.index)
        self._hash = hashlib.sha256()
        self.check = Check(Stream(order.seed, order.in_name, order.index), order.in_bytes)
        self._shut = self._ended = False
        self._dropped: int | None = None
        # Many small connections need no large buffer each.
        self._buffer = memoryview(bytearray(min(_BUFFER, max(order.in_bytes, 4096))))
        # A stall is a time without a *new* byte from the peer; it begins when the bytes are wanted.
        self._began = self._delivered = self._reported = self._active = self.clock()
        self._gap, self._told = 0.0, 0
        self._asked = self._answered = self._began
        self.responses: list[float] = []
        """From each request's first byte to its answer's last (s), of the end that asks."""
        self._stalls: list[Stall] = []
        self.longest: Stall = (self._began, 0.0)
        """The longest stall so far; one that still goes on ends now."""

    @property
    def sent_sha256(self) -> str:
        """Of the bytes given to the kernel."""
        return str(self._hash.hexdigest())

    @property
    def dropped(self) -> int | None:
        """Segments that this end's TCP threw away, up to the peer's FIN; None when it does not say."""
        return self._dropped if self._ended else dropped(self.sock)

    @property
    def whole(self) -> bool:
        """At this end everything asked for went and came, unchanged."""
        counts = (self.sent, self.check.bytes) == (self.order.out_bytes, self.order.in_bytes)
        return counts and self.error is None and self.check.first_difference is None

    @property
    def over(self) -> bool:
        """Nothing is left to do, or it has failed."""
        return self.error is not None or (self._shut and self._ended)

    def mask(self, now: float) -> int:
        """What to wait for at the socket."""
        mask = 0 if self._ended else selectors.EVENT_READ
        return mask | (selectors.EVENT_WRITE if self._allowed(now) > 0 else 0)

    def wakes_at(self, now: float) -> float | None:
        """When its pace allows it to send again; None when it waits for no time."""
        left = self.order.out_bytes - self.sent
        if left <= 0 or self._allowed(now) > 0:
            return None
        if self.order.rounds:
            next_at = self._answered + self.order.think
            return next_at if self.order.closes_first and next_at > now else None
        if self.order.every:
            return self._began + self.sent * self.order.every
        return self._began + (self.sent + min(left, self._piece()) - MIN_PIECE) / self.order.pace

    def _piece(self) -> int:
        return max(MIN_PIECE, min(int(self.order.pace * PIECE_S), MOST_AT_ONCE))

    def _allowed(self, now: float) -> int:
        """How many bytes may be sent now."""
        left = self.order.out_bytes - self.sent
        # Half a millisecond is nothing to a person and saves a timer that comes a trifle early.
        passed = now - self._began + 0.0005
        if self.order.rounds:
            return min(left, self._next_round(now) - self.sent)
        if self.order.every:
            return min(left, int(passed / self.order.every) + 1 - self.sent)
        if self.order.pace:
            due = int(passed * self.order.pace) + MIN_PIECE - self.sent
            return min(left, due) if due >= min(left, self._piece()) else 0
        return left

    def _next_round(self, now: float) -> int:
        """Up to where this end may send: the client one request more than were answered, the server what was asked."""
        order = self.order
        come = self.check.bytes // (order.in_bytes // order.rounds)
        if order.closes_first and (not come or now >= self._answered + order.think):
            come += 1
        return come * (order.out_bytes // order.rounds)

    def _wants(self, received: int) -> bool:
        """Whether the peer owes something, once that much has come."""
        order = self.order
        if not order.rounds or received >= order.in_bytes:
            return received < order.in_bytes
        whole, part = divmod(received, order.in_bytes // order.rounds)
        return self.sent > whole * (order.out_bytes // order.rounds) if order.closes_first else part > 0

    def run(self) -> None:
        """Move everything. Never raises for what the network does: `error` says it."""
        self.sock.setblocking(False)
        with selectors.DefaultSelector() as selector:
            known = 0
            while not self.over:
                now = self.clock()
                wakes = self.wakes_at(now)
                known = watch(selector, self.sock, known, self.mask(now))
                wait = PROGRESS_S if wakes is None else min(PROGRESS_S, max(0.0, wakes - now))
                ready = selector.select(wait)
                self.turn(ready[0][1] if ready else 0)

    def turn(self, ready: int) -> None:
        """Do what can be done now. `ready`: what the socket is ready for, 0 when a time has come. Never raises."""
        try:
            self._turn(ready)
        except OSError as error:
            self.error = errno_name(error)

    def _turn(self, ready: int) -> None:
        order = self.order
        waited = self._wants(self.check.bytes)
        if ready & selectors.EVENT_WRITE and self._send():
            self._active = self.clock()
            if order.rounds and order.closes_first and not waited:
                self._asked = self._delivered = self._active  # now the answer is wanted
        got = self._receive() if ready & selectors.EVENT_READ and not self._ended else 0
        now = self.clock()
        wanting = self._wants(self.check.bytes - got)
        if got and order.rounds and order.closes_first and self.check.bytes % (order.in_bytes // order.rounds) == 0:
            self.responses.append(now - self._asked)
            self._answered = now
        if wanting:
            gap = now - self._delivered
            self._gap = max(self._gap, gap)
            if gap > self.longest[1]:
                self.longest = (now, gap)
            if got and gap >= STALL_S:
                self._stalls.append((now, gap))
        if got:
            self._delivered = self._active = now
        whole = self.check.bytes >= order.in_bytes
        due = now - self._reported >= (PROGRESS_S if self.check.bytes > self._told else STALLED_S)
        if (wanting or got) and (due or whole):
            self.report(self.check.bytes, self._gap, self._stalls)
            self._gap, self._told, self._reported, self._stalls = 0.0, self.check.bytes, now, []
        done = self.sent >= order.out_bytes
        closes = order.half == "out" or (whole if order.closes_first else self._ended)
        if not self._shut and done and closes:
            self.sock.shutdown(socket.SHUT_WR)
            self._shut = True
        if self._ended and not (whole and (done or order.half == "in")):
            got, wanted = self.check.bytes, order.in_bytes
            self.error = f"ended early: {got} of {wanted} bytes received, {self.sent} sent"
        elif now > self.deadline:
            self.error = "took too long"
        elif now - self._active > self.idle_s:
            self.error = f"idle for {self.idle_s:g} s"

    def _send(self) -> int:
        allowed = self._allowed(self.clock())
        if allowed <= 0:
            return 0
        piece = self._out.at(self.sent, allowed)
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
            self._ended, self._dropped = True, dropped(self.sock)
        self.check.update(self._buffer[:count])
        return count


def watch(selector: selectors.BaseSelector, sock: socket.socket, known: int, mask: int, data: object = None) -> int:
    """Make a selector wait for `mask` at a socket where it waited for `known` (0: not at all). Returns `mask`."""
    if mask == known:
        return mask
    if not known:
        selector.register(sock, mask, data)
    elif mask:
        selector.modify(sock, mask, data)
    else:
        selector.unregister(sock)
    return mask


def errno_name(error: OSError) -> str:
    """`ECONNRESET: Connection reset by peer`."""
    name = errno.errorcode.get(error.errno or 0, "")
    return f"{name}: {error.strerror}" if name else str(error)
