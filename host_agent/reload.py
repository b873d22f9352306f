"""One move of connections that go the same way: hold, save, restore, repoint, release. Offload, upload and reload are
all this, and one connection is a batch of one.

Decides: the order of the steps, and where a context goes that its target refuses. Never touches: sockets, engines'
insides; what engines are to do is yielded, and their replies are sent in.

        old engine            agent                  new engine          frames of the connections
            |   hold: records HELD|                        |             -> hold queue
            |<------ save --------|                        |
            |- contexts, channels>|                        |
         (frozen)                 |-- restore, contexts, ->|
            |                     |      channels          |
            |                     |<------ done -----------|
            |  repoint: records -> new NIC, epoch + 1      |
            |  release: queued frames --------------------->             -> hold queue, in order
            |           records SETTLED, joined            |             -> new engine
            |<----- discard ------|                        |

The old engine keeps the frozen sockets until it is told to discard them. So a target that refuses or dies in the middle
costs nothing: the old engine thaws. Each connection has its own fate: those that are refused go on to the next place
together, and those that ended meanwhile drop out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from host_agent.connection import Connection
from host_agent.decision import NO_FINS, Fins, Record, Stage
from host_agent.hold import Hold
from host_agent.policy import HOST, Plan
from host_agent.records import Assignment, RecordKeeper
from host_agent.told import Told
from host_agent.verbs import Message, close

_BOTH = Fins.PEER | Fins.PEER_ACKED | Fins.HOST | Fins.HOST_ACKED
_ENDS = {
    "CLOSE_WAIT": Fins.PEER | Fins.PEER_ACKED,
    "FIN_WAIT2": Fins.HOST | Fins.HOST_ACKED,
    "LAST_ACK": _BOTH,
    "CLOSING": _BOTH,
}
"""The ends of stream that a NIC has seen to, by the state in which a connection comes to the host, whose frame path has
not seen them. Where only the last acknowledgement is missing it counts as come: its socket may be gone with it before
anybody knows, and no RST is to be sent any more (as by a NIC: steering.py, `ending`)."""


@dataclass
class Ask:
    """A message for one engine (NIC id or HOST); reply: whether the move waits for an answer."""

    engine: int
    message: Message
    reply: bool = True


@dataclass(slots=True)
class Outcome:
    """What became of one connection. target: where it is now, None when it was lost. reason: why it is not where it was
    to go, or why not at the first place tried; code: the same by its word (docs/verbs.md, `reason`). record: as it was
    when the move began. parts: seconds of hold, save, restore, release. saved: what the old engine told of the
    context."""

    plan: Plan
    target: int | None
    reason: str = ""
    code: str = ""
    record: Record | None = None
    epoch: int = 0
    parts: dict[str, float] = field(default_factory=dict)
    held_frames: int = 0
    saved: Told | None = None

    @property
    def moved(self) -> bool:
        return self.target is not None and self.target != self.plan.source

    @property
    def kind(self) -> str:
        """What it became; where it was to go when it did not move."""
        if self.plan.source == HOST:
            return "offload"
        return "upload" if (self.target if self.moved else self.plan.target) == HOST else "reload"


@dataclass(slots=True, eq=False)
class _Leg:
    """One connection on its way. nic, offloaded, epoch: of its record. channel: the application's, while we have it.
    place: of its context among those of the batch, offset and size."""

    connection: Connection
    outcome: Outcome
    nic: int
    offloaded: bool
    epoch: int
    channel: int = -1
    place: tuple[int, int] = (0, 0)

    def refused(self, answer: dict[str, Any]) -> None:
        """The first refusal is the reason that is told."""
        if not self.outcome.reason:
            self.outcome.reason, self.outcome.code = answer["error"], answer.get("reason", "")


Legs = list[_Leg]
Over = list[Outcome]
Steps = Generator[Ask | Over, Message | None, None]
Some = Generator[Ask | Over, Message | None, Legs]


def move(plans: Sequence[Plan], records: RecordKeeper, hold: Hold) -> Steps:
    """The steps of one move of connections whose plans differ in nothing else, but for what is on record. Yields what
    engines are asked, and is sent the replies that it waits for; and yields outcomes, as soon as they are known: who
    does not move waits for no other.

    A reply with `error` is a refusal. Raises nothing: a connection that ended meanwhile is an outcome too.
    """
    return _Batch(plans, records, hold).run()


class _Batch:
    def __init__(self, plans: Sequence[Plan], records: RecordKeeper, hold: Hold):
        self._way, self._records, self._hold = plans[0], records, hold
        self._parts: dict[str, float] = {}
        self._contexts: int | None = None
        self._outcomes = [Outcome(plan, plan.source, parts=self._parts) for plan in plans]

    def run(self) -> Steps:
        clock = _Clock(self._parts)
        legs = yield from self._begin()
        clock.lap("hold")
        if not legs:
            return
        with self._descriptors(legs):
            legs = yield from self._save(legs)
            clock.lap("save")
            legs = yield from self._place(legs)
        clock.lap("restore")
        legs = yield from self._release(legs)
        clock.lap("release")
        yield [leg.outcome for leg in legs]

    def _begin(self) -> Some:
        """Those that can move; their frames are held from now on."""
        legs: Legs = []
        for outcome in self._outcomes:
            connection = outcome.plan.connection
            record = outcome.record = outcome.plan.record or self._records.get(connection)
            if record is None or record.stage is not Stage.SETTLED:
                outcome.reason = "no record" if record is None else "a move is under way"
            else:
                legs.append(_Leg(connection, outcome, record.nic, record.offloaded, record.epoch))
        yield [outcome for outcome in self._outcomes if outcome.reason]
        return (yield from self._set(legs, Stage.HELD))

    def _save(self, legs: Legs) -> Some:
        """Those whose context the old engine has given; the others go on there."""
        macs = [_hexadecimal(leg.outcome.record.peer_mac) for leg in legs if leg.outcome.record]
        known = {"connections": [leg.connection for leg in legs], "next_hops": macs}
        answer = yield from self._ask(self._way.source, Message("save", known))
        self._contexts = answer.contexts
        refused = _refused(answer, legs)
        saved = [leg for leg in legs if leg not in refused]
        offset = 0
        for leg, row, channel in zip(saved, answer.fields.get("saved", ()), answer.channels, strict=True):
            told = leg.outcome.saved = Told._make(row)
            leg.channel, leg.place = channel, (offset, told.size)
            offset += told.size
        for leg, why in refused.items():
            leg.refused(why)
        settled = yield from self._settle(list(refused))
        yield [leg.outcome for leg in settled]
        return saved

    def _place(self, legs: Legs) -> Some:
        """Finds each context a home: the target, a fallback, or the old engine, which still has it. Sets the outcome's
        target, None where there is no home."""
        way, rest, homed = self._way, legs, list[_Leg]()
        for leg in legs:
            leg.outcome.target = None
        for place in (way.target, *way.fallbacks):
            if place == way.source:
                continue
            if place == HOST:
                # The host must be allowed to speak before it resumes; a NIC's own table sees to that.
                rest = yield from self._set(rest, Stage.HELD, HOST)
            if not rest:
                break
            # They stay ours until all is over: should the target die with them, the next one gets them too.
            what = {"resend": way.resend, "probe": way.resend, "places": [leg.place for leg in rest]}
            # What the peers answer before the release must be held; but a lone one loses no time.
            what["wait"] = place != HOST and len(rest) > 1
            given = Message("restore", what, [leg.channel for leg in rest], self._contexts)
            answer = yield from self._ask(place, given)
            rest = self._home(rest, place, answer, homed)
        if rest:
            rest = yield from self._set(rest, Stage.HELD, way.source)
        if rest:
            frozen = {"connections": [leg.connection for leg in rest]}
            answer = yield from self._ask(way.source, Message("thaw", frozen))
            for leg, why in _refused(answer, rest).items():
                leg.outcome.reason += f"; and it cannot stay where it was: {why['error']}"
            rest = self._home(rest, way.source, answer, homed)
        return homed + rest

    def _home(self, legs: Legs, place: int, answer: Message, homed: Legs) -> Legs:
        """Those that the place refuses; the others are at home there."""
        refused = _refused(answer, legs)
        for leg in legs:
            if leg in refused:
                leg.refused(refused[leg])
            else:
                leg.outcome.target = place
                homed.append(leg)
        return list(refused)

    def _release(self, legs: Legs) -> Some:
        """Repoints the records, lets the held frames go, and has the old engine forget."""
        lost = [leg for leg in legs if leg.outcome.target is None]
        for leg in lost:
            # The held frames go to the host's TCP, which knows no such connection and tells the peer. The old engine
            # would keep it frozen for ever.
            self._records.delete(leg.connection)
            yield Ask(self._way.source, Message("invalidate", {"connection": leg.connection}), reply=False)
        self._let_out(lost)
        home = yield from self._settle([leg for leg in legs if leg.outcome.target == self._way.source])
        moved = yield from self._repoint([leg for leg in legs if leg.outcome.moved])
        for place in dict.fromkeys(leg.outcome.target for leg in moved):
            assert place is not None
            if place != HOST:
                there = [leg.connection for leg in moved if leg.outcome.target == place]
                yield Ask(place, Message("release", {"connections": there}), reply=False)
        if moved:
            known = {"connections": [leg.connection for leg in moved]}
            yield Ask(self._way.source, Message("discard", known), reply=False)
        return [*lost, *home, *moved]

    def _ask(self, place: int, message: Message) -> Generator[Ask | Over, Message | None, Message]:
        answer = yield Ask(place, message)
        assert answer is not None
        return answer

    # -- records and frames ------------------------------------------------------------------------------------------

    def _settle(self, legs: Legs) -> Some:
        """Lets the held frames go ahead of the newer ones: first while new ones still queue, then the last few."""
        self._let_out(legs)
        settled = yield from self._set(legs, Stage.SETTLED)
        self._let_out(settled)
        return settled

    def _repoint(self, legs: Legs) -> Some:
        """Their records name the new place. Held frames go there ahead of newer ones; of many, those that have none are
        settled by the same change. A lone one may be in full stream, and frames come at any moment."""
        names = [leg.connection for leg in legs]
        waiting = self._hold.waiting(names) if len(legs) > 1 else names
        behind = yield from self._set([leg for leg in legs if leg.connection in waiting], Stage.HELD, moved=True)
        direct = yield from self._set([leg for leg in legs if leg.connection not in waiting], Stage.SETTLED, moved=True)
        for leg in (*behind, *direct):
            leg.epoch = leg.outcome.epoch = leg.epoch + 1
        self._let_out(direct)  # that came meanwhile
        return direct + (yield from self._settle(behind))

    def _let_out(self, legs: Legs) -> None:
        let_out = self._hold.release([leg.connection for leg in legs])
        for leg in legs if let_out else ():
            leg.outcome.held_frames += let_out.get(leg.connection, 0)

    def _set(self, legs: Legs, stage: Stage, place: int | None = None, *, moved: bool = False) -> Some:
        """Their records name the place, or the outcome's. Those whose record is still theirs; the others have ended
        under our hands."""
        wanted = []
        due = True if self._way.cause == "policy" else None  # what the policy has offloaded once is not due again
        for leg in legs:
            here = leg.outcome.target if place is None else place
            assert here is not None
            at_nic = leg.offloaded if here == self._way.source else here != HOST
            nic = here if at_nic and here != self._way.source else leg.nic
            ends = NO_FINS
            if moved and here == HOST and leg.outcome.saved:
                ends = _ENDS.get(leg.outcome.saved.state, NO_FINS)
            closing = True if ends == _BOTH else None
            wanted.append(Assignment(leg.connection, leg.epoch, nic, at_nic, stage, moved, due, closing, ends))
        done = self._records.assign(wanted)
        if all(done):
            return legs
        for leg, was_done in zip(legs, done, strict=True):
            if not was_done:
                yield from self._ended(leg)
        return [leg for leg, was_done in zip(legs, done, strict=True) if was_done]

    def _ended(self, leg: _Leg) -> Steps:
        """Whoever holds a part of it forgets it, and the application hears of it."""
        outcome, connection = leg.outcome, leg.connection
        outcome.reason = f"{connection}: its record is gone, or has moved on"
        self._let_out([leg])
        if outcome.saved:
            for place in {outcome.plan.source, outcome.target} - {None}:
                assert place is not None
                yield Ask(place, Message("invalidate", {"connection": connection}), reply=False)
            outcome.target = None
        yield [outcome]

    @contextmanager
    def _descriptors(self, legs: Iterable[_Leg]) -> Iterator[None]:
        """Channels and contexts are ours until no place needs them any more."""
        try:
            yield
        finally:
            close([leg.channel for leg in legs if leg.channel >= 0])
            if self._contexts is not None:
                os.close(self._contexts)


_hexadecimal = lru_cache(256)(bytes.hex)


def _refused(answer: Message, legs: Legs) -> dict[_Leg, dict[str, Any]]:
    """Whom an engine refuses, and why."""
    if "error" in answer.fields:
        return dict.fromkeys(legs, answer.fields)
    if answer.verb == "held":
        why = {"error": "it was not there when the conversation was begun anew", "reason": "fault"}
        return {leg: why for leg in legs if leg.connection not in answer.fields["live"]}
    return {legs[one["at"]]: one for one in answer.fields["refused"]}


class _Clock:
    """Names the time between laps."""

    def __init__(self, parts: dict[str, float]):
        self._parts, self._last = parts, time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self._parts[name] = now - self._last
        self._last = now
