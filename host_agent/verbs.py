"""What host and NIC say to each other: one message is one packet of a Unix SOCK_SEQPACKET socket.

Decides: the form of a message, and that both ends speak the same version. Never touches: what a verb means (engine.py).

    packet = JSON object, NUL, body          with up to two descriptors: the application's channel, and a large body

docs/verbs.md names all verbs and their fields, for whoever writes another NIC.

A body above INLINE bytes travels in a memfd, so that a packet never exceeds what a socket buffer takes; so do fields,
in front of it.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

VERSION = 3
INLINE = 32 * 1024
_PACKET = 64 * 1024


class PeerGone(Exception):
    """The other end has closed, or broke the protocol; the text says which."""


@dataclass
class Message:
    """verb and its fields; body: a context's bytes. channel: a descriptor that now belongs to the receiver."""

    verb: str
    fields: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""
    channel: int | None = None


class Link:
    """One end of the conversation. Sending never blocks: what the socket does not take is kept for flush()."""

    def __init__(self, sock: socket.socket):
        self._socket = sock
        self._socket.setblocking(False)
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self.fd = sock.fileno()

    def send(self, message: Message) -> None:
        """The message's channel is closed here once it has gone out: it belongs to the other end."""
        fds = [] if message.channel is None else [message.channel]
        header: dict[str, Any] = {"verb": message.verb, "channel": message.channel is not None}
        fields, body = json.dumps(message.fields).encode(), message.body
        if len(fields) > INLINE:
            header["fields"], body, fields = len(fields), fields + body, b"{}"
        if len(body) > INLINE:
            try:
                memory = _written(body)
            except OSError as error:
                for fd in fds:
                    os.close(fd)
                raise PeerGone(f"sending: {error.strerror}") from None
            fds.append(memory)
            header["size"], body = len(body), b""
        # One object of both, and nothing is written as JSON twice: it is half the cost of a message.
        head = json.dumps(header).encode()[:-1] + (b", " + fields[1:] if len(fields) > 2 else b"}")
        self._waiting.append((head + b"\0" + body, fds))
        self.flush()

    def flush(self) -> bool:
        """Sends what waits; True when nothing is left."""
        while self._waiting:
            packet, fds = self._waiting[0]
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                self._socket.sendmsg([packet], ancillary, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return False
            except OSError as error:
                raise PeerGone(f"sending: {error.strerror}") from None
            self._waiting.popleft()
            for fd in fds:
                os.close(fd)
        return True

    def receive(self) -> Iterator[Message]:
        """What has come, until the socket is empty. Raises PeerGone."""
        while True:
            try:
                fds = array.array("i")
                packet, ancillary, flags, _ = self._socket.recvmsg(
                    _PACKET, socket.CMSG_SPACE(2 * fds.itemsize), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError as error:
                raise PeerGone(f"receiving: {error.strerror}") from None
            if not packet:
                raise PeerGone("closed")
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                for fd in fds:
                    os.close(fd)
                raise PeerGone("a packet was cut short; too many open descriptors?")
            yield _parse(packet, list(fds))

    def close(self) -> None:
        for _, fds in self._waiting:
            for fd in fds:
                os.close(fd)
        self._waiting.clear()
        self._socket.close()


def _written(body: bytes) -> int:
    memory = os.memfd_create("context", os.MFD_CLOEXEC)
    rest = memoryview(body)
    while rest:
        rest = rest[os.write(memory, rest) :]
    return memory


def _parse(packet: bytes, fds: list[int]) -> Message:
    """Takes over the packet's descriptors: the channel goes into the message, all others are closed."""
    head, _, body = packet.partition(b"\0")
    announced = iter(fds)
    channel = None
    try:
        fields = json.loads(head)
        verb, has_channel = fields.pop("verb"), fields.pop("channel")
        size, long = fields.pop("size", None), fields.pop("fields", None)
        expected = next(announced) if has_channel else None
        if size is not None:
            with open(next(announced), "rb", closefd=False) as file:
                file.seek(0)
                body = file.read()
            if len(body) != size:
                raise ValueError(f"body of {len(body)} bytes, {size} announced")
        if long is not None:
            fields, body = json.loads(body[:long]), body[long:]
        channel = expected
        return Message(verb, fields, body, channel)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise PeerGone(f"not a message of this protocol: {error!r}") from None
    finally:
        for fd in fds:
            if fd != channel:
                os.close(fd)
