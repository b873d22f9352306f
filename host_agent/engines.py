"""The agent's conversations with all engines: each is begun, ends, and is begun anew.

Decides: whether an engine whose conversation has ended is gone. Never touches: what engines hold, what they say.

    met, and says what it holds --> known --ended, and it still listens--> met again at once; nothing is lost
                                      |-----ended, and nobody listens,
                                      |     or another process does -----> gone with all it held
                                      '-----says what cannot be, or does
                                            not answer for LIMIT --------> gone as well, whatever becomes of it

One that lives may end the next conversations, too; LIMIT behind the last good one it is gone. Who is gone is looked
for until it is back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from host_agent.connection import Connection
from host_agent.loop import EDGE, Loop
from host_agent.peer import LIMIT, Asked, Dead, EnginePeer, engine_gone, in_doubt
from host_agent.verbs import Malformed, Message, OtherVersion, PeerGone

RECONNECT = 0.05  # seconds between attempts to reach an engine that is not there
AGAIN = 0.002
"""Seconds between attempts to meet one again that may live. One that is killed may listen a little longer than it
speaks, and the next one may be there soon: it must not end its connections before they are told to be lost."""
LOOK_EVERY = 1.0  # seconds between looks at who owes an answer


class Listener(Protocol):
    """Who hears of engines, each by its place. `holds` may raise PeerGone."""

    def said(self, place: int, message: Message) -> None: ...
    def holds(self, place: int, held: Mapping[Connection, str]) -> None: ...
    def gone(self, place: int, reason: str) -> Callable[[], None]:
        """What is still to be done behind the end of all that this engine was asked."""

    def back(self, place: int) -> None: ...
    def reconnected(self, place: int, reason: str) -> None: ...


class Engines:
    """peers: those that there is a conversation with, by place. absent: why with others there was none at the start."""

    def __init__(self, loop: Loop, sockets: Mapping[int, str], listener: Listener):
        """sockets: the engines' by place. One that is not there is gone, and looked for, as one that dies later; one
        that is there and cannot be met holds what it holds, and is waited for until LIMIT."""
        self._loop, self._sockets, self._listener = loop, sockets, listener
        self.peers: dict[int, EnginePeer] = {}
        self._gone: set[int] = set()
        self._looked = time.monotonic()
        self._until: dict[int, float] = {}  # by when those whose last conversation has ended must be known again
        self.absent: dict[int, str] = {}
        began = time.monotonic()
        for place in sockets:
            try:
                self._meet(place)
            except PeerGone as gone:
                self.start_without(place, gone, began)
        loop.after(LOOK_EVERY, self._look_for_silent)

    def start_without(self, place: int, why: PeerGone, began: float) -> None:
        """While nothing is known of it yet: it is met again, and is absent when that cannot be by LIMIT. Raises
        OtherVersion: whoever takes it for gone ends what it holds."""
        if isinstance(why, OtherVersion):
            raise why
        if place in self.peers:
            self._leave(place, self.peers[place])
        while not isinstance(why, Dead | Malformed) and time.monotonic() < began + LIMIT:
            time.sleep(AGAIN)
            try:
                self._meet(place)
                return
            except PeerGone as gone:
                why = gone
        self.absent[place] = str(why)
        self._gone.add(place)
        self._loop.after(RECONNECT, partial(self._meet_again, place))

    def _meet(self, place: int, before: Sequence[Asked] = ()) -> EnginePeer:
        """Raises PeerGone."""
        peer = self.peers[place] = EnginePeer(self._sockets[place], before)
        self._loop.watch(peer.fd, partial(self._hear, place, peer), EDGE, urgent=True)
        return peer

    def _meet_again(self, place: int) -> None:
        try:
            peer = self._meet(place)
        except PeerGone:
            self._loop.after(RECONNECT, partial(self._meet_again, place))
        else:
            self._take_up(place, peer)

    def _leave(self, place: int, peer: EnginePeer) -> None:
        del self.peers[place]
        self._loop.unwatch(peer.fd)
        peer.close()

    def _hear(self, place: int, peer: EnginePeer, _mask: int) -> None:
        try:
            peer.flush()
            for message in peer.receive():
                if message.verb == "reply":
                    peer.answered(message)
                else:
                    self._listener.said(place, message)
        except PeerGone as gone:
            self._ended(place, peer, gone)

    def _look_for_silent(self) -> None:
        now = time.monotonic()
        # Who was stopped, or had no CPU, has not listened: what they owe may lie here.
        listened, self._looked = now - self._looked < 2 * LOOK_EVERY, now
        for place, peer in list(self.peers.items()):
            if listened and peer.overdue(now):
                self._ended(place, peer, Malformed("it does not answer"))
        self._loop.after(LOOK_EVERY, self._look_for_silent)

    def _ended(self, place: int, peer: EnginePeer, why: PeerGone) -> None:
        self._leave(place, peer)
        asked = peer.unanswered()
        if isinstance(why, Malformed) or place in self._gone:
            self._lose(place, asked, str(why), lives=True)
        elif peer.known:
            self._until[place] = time.monotonic() + LIMIT
            self._begin_anew(place, peer.process, asked, str(why))
        else:  # at once again, this would be all the agent does
            self._loop.after(AGAIN, partial(self._begin_anew, place, peer.process, asked, str(why)))

    def _begin_anew(self, place: int, process: int, asked: Sequence[Asked], reason: str) -> None:
        """process: whom the last conversation was with."""
        in_time = time.monotonic() < self._until[place]
        try:
            peer = self._meet(place, asked) if in_time else None
        except Dead:
            self._lose(place, asked, reason, lives=False)
            return
        except PeerGone:
            self._loop.after(AGAIN, partial(self._begin_anew, place, process, asked, reason))
            return
        if peer and peer.process == process:
            self._take_up(place, peer, reason)
        elif peer:  # the next one is there already
            self._leave(place, peer)
            self._lose(place, asked, reason, lives=False)
        else:
            self._lose(place, asked, reason, lives=True)

    def _take_up(self, place: int, peer: EnginePeer, reason: str = "") -> None:
        """reason: why the last conversation has ended, if the engine has been there all the time."""

        def heard(answer: Message) -> None:
            if "error" in answer.fields:  # this one has ended, too
                return
            held = {Connection(*one["connection"]): one["state"] for one in answer.fields["connections"]}
            peer.taken_up(held)
            self._listener.holds(place, held)
            if place in self._gone:
                self._gone.discard(place)
                self._listener.back(place)
            else:
                self._listener.reconnected(place, reason)

        try:
            peer.ask(Message("query", {}), heard)
        except PeerGone as gone:
            self._ended(place, peer, gone)

    def _lose(self, place: int, asked: Sequence[Asked], reason: str, *, lives: bool) -> None:
        """lives: what it has not answered, it may have done all the same."""
        known_to_be = place in self._gone
        self._gone.add(place)
        behind = None if known_to_be else self._listener.gone(place, reason)
        for one in asked:
            one.heard(in_doubt(one.message) if lives else engine_gone())
        if behind:
            behind()
        self._loop.after(RECONNECT, partial(self._meet_again, place))
