"""The agent's end of its conversation with one engine.

Decides: who waits for a reply, and for how long. Never touches: what messages mean.
"""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from host_agent.connection import Connection
from host_agent.replies import check, check_reply
from host_agent.verbs import VERSION, Link, Malformed, Message, OtherVersion, PeerGone

LIMIT = 5.0  # seconds; an engine that does not answer by then is not one

Heard = Callable[[Message], None]

_UCRED = struct.Struct("iII")  # process, user, group: of whoever called listen (unix(7))
_ids = itertools.count(1)


class Dead(PeerGone):
    """Nobody listens there any more."""


class Asked(NamedTuple):
    """Who waits for the reply to a message, and since when (seconds)."""

    message: Message
    heard: Heard
    since: float


class EnginePeer:
    """known: what it holds was compared with the records, since this conversation began. process: who listens there."""

    def __init__(self, path: str, before: Sequence[Asked] = ()):
        """before: who waits since an earlier conversation. Raises Dead when the engine is not there, and PeerGone when
        it does not take this one up."""
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:  # no descriptor is free
            raise PeerGone(f"engine at {path}: {error.strerror}") from None
        sock.setblocking(False)  # one that hangs does not take up what waits for it
        try:
            sock.connect(path)
            self._link = Link(sock)
        except OSError as error:
            sock.close()
            gone = Dead if isinstance(error, ConnectionRefusedError | FileNotFoundError) else PeerGone
            raise gone(f"engine at {path}: {error.strerror}") from None
        self.known = False
        self.process: int = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[0]
        self._before = before
        self.fd = sock.fileno()
        self._waiting: dict[int, Asked] = {}
        try:
            self.send(Message("hello", {"version": VERSION}))
        except PeerGone:
            self._link.close()
            raise

    def send(self, message: Message) -> None:
        self._link.send(message)

    def ask(self, message: Message, heard: Heard) -> None:
        """Sends a message; heard(reply) is called later. Raises PeerGone; no reply is waited for then."""
        number = next(_ids)
        message.fields["id"] = number
        self.send(message)
        self._waiting[number] = Asked(message, heard, time.monotonic())

    def answered(self, reply: Message) -> None:
        """To whoever waits for this reply, if anybody does. Raises Malformed; it is still waited for then."""
        asked = self._waiting.get(reply.fields["re"])
        if asked is None:
            reply.close()
            return
        try:
            check_reply(asked.message, reply)
        except Malformed:
            reply.close()
            raise
        del self._waiting[reply.fields["re"]]
        asked.heard(reply)

    def unanswered(self) -> list[Asked]:
        """Those who still wait for this engine."""
        return [*self._before, *self._waiting.values()]

    def taken_up(self, held: Mapping[Connection, str]) -> None:
        """It was asked what it holds, which answers what it was asked in an earlier conversation."""
        self.known = True
        before, self._before = self._before, ()
        for asked in before:
            asked.heard(what_became(asked.message, held))

    def overdue(self, now: float) -> bool:
        """Whether it owes an answer for too long."""
        oldest = next(iter(self._waiting.values()), None)
        return oldest is not None and now - oldest.since > LIMIT

    def flush(self) -> bool:
        """Sends what the socket did not take before; True when nothing is left."""
        return self._link.flush()

    def receive(self) -> Iterator[Message]:
        """What has come, in the form of docs/verbs.md. Raises PeerGone."""
        for message in self._link.receive():
            if message.bare:
                raise PeerGone("a packet came without its descriptors; too many are open")
            if message.verb == "ready" and message.fields.get("version") != VERSION:
                raise OtherVersion(f"it speaks version {message.fields.get('version')}, this agent {VERSION}")
            try:
                check(message)
            except Malformed:
                message.close()
                raise
            yield message

    def close(self) -> None:
        self._link.close()


def engine_gone() -> Message:
    """What an engine that is gone would have answered. A channel that was on its way to it went with it."""
    return Message("reply", {"error": "the engine is gone", "reason": "fault"})


def in_doubt(asked: Message) -> Message:
    """Instead of an answer of one that lives, but is not to be believed: what it was given, it has."""
    return Message("reply", {"refused": []}) if asked.verb in ("restore", "thaw") else engine_gone()


def what_became(asked: Message, held: Mapping[Connection, str]) -> Message:
    """Instead of an answer that was lost on its way: of what the engine was given, it has what lives there. What it
    was to save it has still, frozen or not; and what it was to thaw, which it is told again (rebuild.py)."""
    if asked.verb not in ("restore", "thaw"):
        return engine_gone()
    there = ("live", "frozen") if asked.verb == "thaw" else ("live",)
    return Message("held", {"live": {one for one, state in held.items() if state in there}})


def not_sent(asked: Message) -> Message:
    """Instead of an answer where there is no conversation just now. What was to be thawed is where it was: it is told
    when the next one begins, or is lost with its engine."""
    return Message("reply", {"refused": []}) if asked.verb == "thaw" else engine_gone()


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
