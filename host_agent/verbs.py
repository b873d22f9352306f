"""What host and NIC say to each other: one message is one packet of a Unix SOCK_SEQPACKET socket.

Decides: the form of a message, and that both ends speak the same version. Never touches: what a verb means (engine.py).

    packet = JSON object        with descriptors: the applications' channels, then the contexts, then long fields

docs/verbs.md names all verbs and their fields, for whoever writes another NIC.

Contexts travel in a memfd, all of one message in one, and whoever passes them on need not read them. So do fields above
INLINE bytes, for a packet must never exceed what a socket buffer takes.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

VERSION = 5
INLINE = 32 * 1024
CHANNELS = 250
"""A packet carries at most 253 descriptors (SCM_MAX_FD)."""
_PACKET = 64 * 1024
_ROOM = socket.CMSG_SPACE(253 * array.array("i").itemsize)


class PeerGone(Exception):
    """The other end has closed, or broke the protocol; the text says which."""


class Malformed(PeerGone):
    """It broke the protocol: what it said cannot be believed."""


class OtherVersion(Malformed):
    """It speaks another version: what it holds goes on, and is for an agent of that one."""


@dataclass
class Message:
    """verb and its fields. channels: descriptors of applications' channels. contexts: of the memory that has contexts.

    The descriptors of a message that is sent stay the sender's; those of one that was received are the receiver's.
    bare: it came without the descriptors that it was sent with, for the receiver had no room for them."""

    verb: str
    fields: dict[str, Any] = field(default_factory=dict)
    channels: Sequence[int] = ()
    contexts: int | None = None
    bare: bool = False

    def close(self) -> None:
        """For a receiver that does not want them."""
        close(self.channels)
        if self.contexts is not None:
            os.close(self.contexts)


class Link:
    """One end of the conversation. Sending never blocks: what the socket does not take is kept for flush().

    It keeps a descriptor for long fields: who has none left must still be able to say so, and to answer."""

    def __init__(self, sock: socket.socket):
        """Raises OSError."""
        self._spare: int | None = memory()
        self._socket = sock
        self._socket.setblocking(False)
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self.fd = sock.fileno()

    def send(self, message: Message) -> None:
        """Raises PeerGone."""
        header: dict[str, Any] = {"verb": message.verb}
        fds, fields, long = list(message.channels), json.dumps(message.fields).encode(), None
        if fds:
            header["channels"] = len(fds)
        if message.contexts is not None:
            header["contexts"] = True
            fds.append(message.contexts)
        try:
            if len(fields) > INLINE:
                header["fields"], long = len(fields), self._memory(fields)
                fds.append(long)
                fields = b"{}"
            # One object of both, and nothing is written as JSON twice.
            packet = json.dumps(header).encode()[:-1] + (b", " + fields[1:] if len(fields) > 2 else b"}")
            if self._waiting or not self._sent(packet, fds):
                self._waiting.append((packet, duplicates(fds)))  # by then the sender may have closed its own
        except OSError as error:
            raise PeerGone(f"sending: {error.strerror}") from None
        finally:
            if long is not None:
                os.close(long)
            if self._spare is None:
                with suppress(OSError):
                    self._spare = memory()

    def _memory(self, data: bytes) -> int:
        """Raises OSError."""
        try:
            return memory(data)
        except OSError:
            if self._spare is None:
                raise
            os.close(self._spare)
            self._spare = None
            return memory(data)

    def flush(self) -> bool:
        """Sends what waits; True when nothing is left. Raises PeerGone."""
        try:
            while self._waiting:
                packet, fds = self._waiting[0]
                if not self._sent(packet, fds):
                    return False
                self._waiting.popleft()
                close(fds)
        except OSError as error:
            raise PeerGone(f"sending: {error.strerror}") from None
        return True

    def _sent(self, packet: bytes, fds: list[int]) -> bool:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg([packet], ancillary, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        return True

    def receive(self) -> Iterator[Message]:
        """What has come, until the socket is empty. Raises PeerGone."""
        while True:
            try:
                fds = array.array("i")
                packet, ancillary, flags, _ = self._socket.recvmsg(_PACKET, _ROOM, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError as error:
                raise PeerGone(f"receiving: {error.strerror}") from None
            if not packet:
                raise PeerGone("closed")
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            bare = flags & socket.MSG_CTRUNC != 0
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                close(fds)
            if flags & socket.MSG_TRUNC:
                raise Malformed("a packet was cut short")
            yield _parse(packet, [] if bare else list(fds), bare=bare)

    def close(self) -> None:
        for _, fds in self._waiting:
            close(fds)
        self._waiting.clear()
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        self._socket.close()


def memory(data: bytes = b"") -> int:
    """The descriptor of memory that holds this. Raises OSError."""
    fd = os.memfd_create("contexts", os.MFD_CLOEXEC)
    try:
        write(fd, data, 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def write(fd: int, data: bytes, at: int) -> None:
    """Raises OSError."""
    rest = memoryview(data)
    while rest:
        done = os.pwrite(fd, rest, at)
        rest, at = rest[done:], at + done


def close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def duplicates(fds: Sequence[int]) -> list[int]:
    """Raises OSError; none is left then."""
    made: list[int] = []
    try:
        for fd in fds:
            made.append(os.dup(fd))
    except OSError:
        close(made)
        raise
    return made


def _parse(packet: bytes, fds: list[int], *, bare: bool = False) -> Message:
    """Takes over the packet's descriptors; none is left when it is no message. bare: they did not come."""
    try:
        fields = json.loads(packet)
        verb, count, has_contexts = fields.pop("verb"), fields.pop("channels", 0), fields.pop("contexts", False)
        size = fields.pop("fields", None)
        if bare and size is None:
            return Message(verb, fields, bare=True)
        if len(fds) != count + has_contexts + (size is not None):
            raise ValueError(f"{len(fds)} descriptors, others announced{'; too many are open' * bare}")
        if size is not None:
            if os.fstat(fds[-1]).st_size != size:
                raise ValueError(f"fields of another size than {size}")
            fields = json.loads(os.pread(fds[-1], size, 0))
            if not isinstance(fields, dict):
                raise ValueError("fields that are none")
            os.close(fds.pop())
        contexts = fds.pop() if has_contexts else None
        return Message(verb, fields, fds, contexts)
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError) as error:
        close(fds)
        raise Malformed(f"not a message of this protocol: {error!r}") from None
