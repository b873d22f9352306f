"""The agent's end of its conversation with one engine.

Decides: who waits for a reply. Never touches: what messages mean.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from host_agent.verbs import VERSION, Link, Message, PeerGone

Heard = Callable[[Message], None]

_ids = itertools.count(1)


class EnginePeer:
    """Raises PeerGone when the engine is not there."""

    def __init__(self, path: str):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(path)
            self._link = Link(sock)
        except OSError as error:
            raise PeerGone(f"engine at {path}: {error.strerror}") from None
        self.fd = sock.fileno()
        self._waiting: dict[int, Heard] = {}
        self.send(Message("hello", {"version": VERSION}))

    def send(self, message: Message) -> None:
        self._link.send(message)

    def ask(self, message: Message, heard: Heard) -> None:
        """Sends a message; heard(reply) is called later. Raises PeerGone; no reply is waited for then."""
        number = next(_ids)
        message.fields["id"] = number
        self.send(message)
        self._waiting[number] = heard

    def answered(self, reply: Message) -> None:
        """To whoever waits for this reply, if anybody does."""
        heard = self._waiting.pop(reply.fields["re"], None)
        if heard:
            heard(reply)
        else:
            reply.close()

    def unanswered(self) -> list[Heard]:
        """Those who still wait for this engine."""
        return list(self._waiting.values())

    def flush(self) -> bool:
        """Sends what the socket did not take before; True when nothing is left."""
        return self._link.flush()

    def receive(self) -> Iterator[Message]:
        for message in self._link.receive():
            if message.bare:
                raise PeerGone("a packet came without its descriptors; too many are open")
            if message.verb == "ready" and message.fields.get("version") != VERSION:
                raise PeerGone(f"it speaks version {message.fields.get('version')}, this agent {VERSION}")
            yield message

    def close(self) -> None:
        self._link.close()


def engine_gone() -> Message:
    """What an engine that is gone would have answered. A channel that was on its way to it went with it."""
    return Message("reply", {"error": "the engine is gone", "reason": "fault"})


def ask_all(peers: Mapping[int, EnginePeer], verb: str, done: Callable[[dict[int, dict[str, Any]]], None]) -> None:
    """Asks several engines the same. done(answers): their fields by place, once all have answered or are gone."""
    awaited, answers = set(peers), dict[int, dict[str, Any]]()

    def heard(place: int, reply: Message) -> None:
        awaited.discard(place)
        if "error" not in reply.fields:
            answers[place] = reply.fields
        if not awaited:
            done(answers)

    if not awaited:
        done(answers)
    for place, peer in list(peers.items()):
        try:
            peer.ask(Message(verb), partial(heard, place))
        except PeerGone:  # whether it is gone for good, its own descriptor tells
            heard(place, engine_gone())
