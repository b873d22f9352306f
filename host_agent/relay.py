"""Carries bytes between a TCP socket and the application's channel, in the kernel (splice(2)).

Decides: when to move bytes, and when an end of stream passes on. Never touches: TCP state, other connections.

    application --channel--> pipe --> socket --> peer        `outward`
    application <--channel-- pipe <-- socket <-- peer        `inward`

A pipe is borrowed only while it holds bytes, so an idle connection costs two descriptors.

Urgent data becomes a byte of the stream like any other (RFC 6093, 6): splice(2) stops in front of it, so that one byte
is read by hand. The socket must have SO_OOBINLINE set.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

SIOCATMARK = 0x8905  # asm-generic/sockios.h
_CHUNK = 256 * 1024
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_PIPE_SIZE = 1031  # F_SETPIPE_SZ


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
    """One direction. total: bytes carried so far. done: the end of the stream was passed on. urgent: the source may be
    in front of an urgent byte."""

    def __init__(self, source: socket.socket, sink: socket.socket, names: tuple[str, str], pipes: Pipes):
        self._source, self._sink, self._names, self._pipes = source, sink, names, pipes
        self._pipe: tuple[int, int] | None = None
        self._held = 0
        self._ended = False
        self.total = 0
        self.done = False
        self.urgent = False

    def pump(self, budget: int) -> bool:
        """Carries up to about `budget` bytes. True when more could be done at once. Raises StreamBroken."""
        while budget > 0 and not self.done:
            if not self._held and not self._ended and not self._take():
                return False
            if self._held:
                moved = self._give()
                if not moved:
                    return False
                budget -= moved
            elif self._ended:
                self._shut()
        return not self.done

    def _take(self) -> bool:
        if self._pipe is None:
            try:
                self._pipe = self._pipes.borrow()
            except OSError as error:  # one connection less, not all
                raise StreamBroken(f"relay: {error.strerror}") from None
        try:
            self._held = os.splice(self._source.fileno(), self._pipe[1], _CHUNK, flags=_FLAGS)
            self._ended = self._held == 0
        except BlockingIOError:
            if self.urgent and self._take_urgent():
                return True
            self._return_pipe()
            return False
        except OSError as error:
            self._return_pipe()
            raise StreamBroken(f"{self._names[0]}: {error.strerror}") from None
        if self._ended:
            self._return_pipe()
        return True

    def _take_urgent(self) -> bool:
        """The byte at the mark, if the stream has come to it."""
        at_mark = struct.unpack("i", fcntl.ioctl(self._source.fileno(), SIOCATMARK, bytes(4)))[0]
        if not at_mark or self._pipe is None:
            return False
        try:
            byte = self._source.recv(1)
        except BlockingIOError:  # announced, but not here yet
            return False
        except OSError as error:  # a reset just now: the socket tells it once
            self._return_pipe()
            raise StreamBroken(f"{self._names[0]}: {error.strerror}") from None
        self.urgent = False
        self._held = os.write(self._pipe[1], byte)
        return self._held > 0

    def _give(self) -> int:
        assert self._pipe is not None
        try:
            moved = os.splice(self._pipe[0], self._sink.fileno(), self._held, flags=_FLAGS)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise StreamBroken(f"{self._names[1]}: {error.strerror}") from None
        self._held -= moved
        self.total += moved
        if not self._held:
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
        held = b""
        while self._held and self._pipe is not None:
            part = os.read(self._pipe[0], self._held)
            held += part
            self._held -= len(part)
        self._return_pipe()
        return held

    def put_back(self, held: bytes) -> None:
        """What take_held() gave, in front of all that the source still has."""
        if held:
            self._pipe = self._pipes.borrow()
            self._held = os.write(self._pipe[1], held)

    def drop(self) -> None:
        """Throws away what is held."""
        self.take_held()


class Relay:
    """Both directions of one connection."""

    def __init__(self, tcp: socket.socket, channel: socket.socket, pipes: Pipes):
        self.outward = Flow(channel, tcp, ("application", "peer"), pipes)
        self.inward = Flow(tcp, channel, ("peer", "application"), pipes)

    def pump(self, budget: int = 1 << 20) -> bool:
        """Both directions once. True when more could be done at once; done when both ends of stream have passed."""
        more = self.inward.pump(budget)
        return self.outward.pump(budget) or more

    @property
    def done(self) -> bool:
        return self.inward.done and self.outward.done
