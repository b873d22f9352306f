"""Carries bytes between a TCP socket and the application's channel: few through memory, many in the kernel (splice(2)).

Decides: when to move bytes, and when an end of stream passes on. Never touches: TCP state, other connections.

    application --channel--> pipe --> socket --> peer        `outward`
    application <--channel-- pipe <-- socket <-- peer        `inward`

A pipe is borrowed only while it holds bytes, so an idle connection costs two descriptors. A few bytes, such as a
request, are passed on by one recv and one send, which is half of what a pipe costs; only what the sink refuses is held.

Urgent data becomes a byte of the stream like any other (RFC 6093, 6): splice(2) stops in front of it, recv(2) behind
the byte before. The socket must have SO_OOBINLINE set.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket

_FEW, _CHUNK = 16 * 1024, 256 * 1024  # bytes
_BUDGET = 1 << 20  # bytes of one direction until others have their turn
_CHANNEL = socket.SOCK_STREAM | socket.SOCK_NONBLOCK  # what is known of one need not be asked
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_PIPE_SIZE = 1031  # F_SETPIPE_SZ
_ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_OUT = select.EPOLLOUT
_NEWS = select.EPOLLIN | select.EPOLLPRI | _ENDED


class Pipes:
    """Empty pipes for everybody of one engine."""

    def __init__(self) -> None:
        self._free: list[tuple[int, int]] = []

    def borrow(self) -> tuple[int, int]:
        if self._free:
            return self._free.pop()
        pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(pipe[1], _PIPE_SIZE, _CHUNK)
        return pipe

    def give_back(self, pipe: tuple[int, int]) -> None:
        self._free.append(pipe)

    def close(self) -> None:
        """Closes those that nobody has borrowed."""
        while self._free:
            for end in self._free.pop():
                os.close(end)


class StreamBroken(Exception):
    """One side is gone for good; the text names side and reason."""


class Flow:
    """One direction. total: bytes carried so far. held: those taken from the source that the sink has yet to take.
    done: the end of the stream was passed on. urgent: the source may be in front of an urgent byte."""

    __slots__ = (
        "_ended",
        "_many",
        "_names",
        "_pipe",
        "_pipes",
        "_sink",
        "_source",
        "_unix",
        "done",
        "held",
        "total",
        "urgent",
    )

    def __init__(self, source: socket.socket, sink: socket.socket, names: tuple[str, str], pipes: Pipes):
        self._source, self._sink, self._names, self._pipes = source, sink, names, pipes
        self._pipe: tuple[int, int] | None = None
        self._ended = False
        self._many = False  # the last time it was more than a few bytes
        self._unix: bool | None = None
        self.held = 0
        self.total = 0
        self.done = False
        self.urgent = False

    def pump(self, budget: int = _BUDGET, *, ending: bool = True) -> bool:
        """Carries up to about `budget` bytes. True when more could be done at once. Raises StreamBroken.

        ending: the source may have come to its end already, behind the bytes that it still has."""
        if not (self._many or self.held or self._ended):
            taken = self._carry_few()
            budget -= taken
            self._many = taken == _FEW
            if not (self._many or self.held or self.urgent or ending) and self._short_is_all:
                return False
        while budget > 0 and not self.done:
            if not self.held and not self._ended and not self._take():
                return False
            if self.held:
                moved = self._give()
                if not moved:
                    return False
                budget -= moved
            elif self._ended:
                self._shut()
        return not self.done

    def first(self) -> None:
        """Carries some bytes; whoever is watched from then on tells of the rest. Raises StreamBroken."""
        self._many = self._carry_few() == _FEW

    @property
    def _short_is_all(self) -> bool:
        """A TCP that gave less than it was asked for has no more, and tells of the next byte (epoll(7)). A Unix socket
        also stops in front of a descriptor that somebody passes."""
        if self._unix is None:
            self._unix = self._source.family == socket.AF_UNIX  # which takes longer than to make all of us
        return not self._unix

    def _carry_few(self) -> int:
        """Passes some bytes on; how many were taken."""
        try:
            some = self._source.recv(_FEW)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise StreamBroken(f"{self._names[0]}: {error.strerror}") from None
        if not some:
            self._ended = True
            return 0
        try:
            given = self._sink.send(some)
        except BlockingIOError:
            given = 0
        except OSError as error:
            raise StreamBroken(f"{self._names[1]}: {error.strerror}") from None
        self.total += given
        if given < len(some):
            self._pipe = self._lent()
            self.held = os.write(self._pipe[1], some[given:])
        return len(some)

    def _take(self) -> bool:
        pipe = self._pipe = self._lent()
        try:
            self.held = os.splice(self._source.fileno(), pipe[1], _CHUNK, flags=_FLAGS)
            self._many = self.held >= _FEW
        except BlockingIOError:
            self._return_pipe()
            if not self.urgent:
                return False
            self.urgent = False  # its next one is told anew
            return self._carry_few() > 0 or self._ended
        except OSError as error:
            self._return_pipe()
            raise StreamBroken(f"{self._names[0]}: {error.strerror}") from None
        if self.held:
            return True
        self._return_pipe()  # the end of the stream, or an urgent byte with the end somewhere behind it
        return self._carry_few() > 0 or self._ended

    def _lent(self) -> tuple[int, int]:
        try:
            return self._pipes.borrow()
        except OSError as error:  # one connection less, not all
            raise StreamBroken(f"relay: {error.strerror}") from None

    def _give(self) -> int:
        assert self._pipe is not None
        try:
            moved = os.splice(self._pipe[0], self._sink.fileno(), self.held, flags=_FLAGS)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise StreamBroken(f"{self._names[1]}: {error.strerror}") from None
        self.held -= moved
        self.total += moved
        if not self.held:
            self._return_pipe()
        return moved

    def _shut(self) -> None:
        self.done = True
        try:
            self._sink.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise StreamBroken(f"{self._names[1]}: {error.strerror}") from None

    def _return_pipe(self) -> None:
        if self._pipe is not None:
            self._pipes.give_back(self._pipe)
            self._pipe = None

    def take_held(self) -> bytes:
        """What was taken from the source and not yet given to the sink, out of the pipe."""
        if self._pipe is None:
            return b""
        held = b""
        while self.held:
            part = os.read(self._pipe[0], self.held)
            held += part
            self.held -= len(part)
        self._return_pipe()
        return held

    def put_back(self, held: bytes) -> None:
        """What take_held() gave, in front of all that the source still has. Raises OSError."""
        if held:
            self._pipe = self._pipes.borrow()
            self.held = os.write(self._pipe[1], held)

    def drop(self) -> None:
        """Throws away what is held."""
        self.take_held()


class Relay:
    """Both directions of one connection."""

    __slots__ = ("inward", "outward")

    def __init__(self, tcp: socket.socket, channel: socket.socket, pipes: Pipes):
        self.outward = Flow(channel, tcp, ("application", "peer"), pipes)
        self.inward = Flow(tcp, channel, ("peer", "application"), pipes)

    def pump(self, budget: int = _BUDGET) -> bool:
        """Both directions once. True when more could be done at once; done when both ends of stream have passed."""
        more = self.inward.pump(budget)
        return self.outward.pump(budget) or more

    def tcp_ready(self, mask: int) -> bool:
        """What epoll said of the TCP socket is put to use; the same answer."""
        return _ready(mask, self.inward, self.outward)

    def channel_ready(self, mask: int) -> bool:
        return _ready(mask, self.outward, self.inward)

    @property
    def done(self) -> bool:
        return self.inward.done and self.outward.done


def _ready(mask: int, source_of: Flow, sink_of: Flow) -> bool:
    """A socket can be written to almost always, so that alone is no news to a flow that has nothing to give."""
    ended, more = mask & _ENDED != 0, False
    if mask & _NEWS:
        more = source_of.pump(ending=ended)
    if ended or (mask & _OUT and sink_of.held):
        more = sink_of.pump() or more
    return more


def stream_of(fd: int) -> socket.socket | None:
    """A channel of its descriptor; None if that is no socket, and stays the caller's."""
    try:
        return socket.socket(-1, _CHANNEL, 0, fd)
    except OSError:
        return None
