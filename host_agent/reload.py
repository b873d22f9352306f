"""One move of a connection: hold, save, restore, repoint, release. Offload, upload and reload are all this.

Decides: the order of the steps, and where a context goes that its target refuses. Never touches: sockets, engines'
insides; what engines are to do is yielded, and their replies are sent in.

        old engine            agent                  new engine          frames of the connection
            |   hold: record HELD |                        |             -> hold queue
            |<------ save --------|                        |
            |-- context, channel >|                        |
         (frozen)                 |-- restore, context, -->|
            |                     |      channel           |
            |                     |<------ done -----------|
            |  repoint: record -> new NIC, epoch + 1       |
            |  release: queued frames --------------------->             -> hold queue, in order
            |           record SETTLED, joined             |             -> new engine
            |<----- discard ------|                        |

The old engine keeps the frozen socket until it is told to discard it. So a target that refuses or dies in the middle
costs nothing: the old engine thaws.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

from host_agent.connection import Connection
from host_agent.decision import Record, Stage
from host_agent.hold import Hold
from host_agent.policy import HOST, Plan
from host_agent.records import Records, StaleRecord
from host_agent.verbs import Message


@dataclass(frozen=True)
class Ask:
    """A message for one engine (NIC id or HOST); reply: whether the move waits for an answer."""

    engine: int
    message: Message
    reply: bool = True


@dataclass
class Outcome:
    """target: where the connection is now, None when it was lost. reason: why it is not where it was to go, or why not
    at the first place tried; code: the same by its word (docs/verbs.md, `reason`). parts: seconds of hold, save,
    restore, release. saved: what the old engine told of the context."""

    plan: Plan
    target: int | None
    reason: str = ""
    code: str = ""
    epoch: int = 0
    parts: dict[str, float] = field(default_factory=dict)
    context_bytes: int = 0
    held_frames: int = 0
    saved: dict[str, Any] = field(default_factory=dict)

    @property
    def moved(self) -> bool:
        return self.target is not None and self.target != self.plan.source

    @property
    def kind(self) -> str:
        """What it became; where it was to go when it did not move."""
        if self.plan.source == HOST:
            return "offload"
        return "upload" if (self.target if self.moved else self.plan.target) == HOST else "reload"


Steps = Generator[Ask, Message, Outcome]


def move(plan: Plan, records: Records, hold: Hold) -> Steps:
    """The steps of one move. Yields what engines are asked, is sent their replies, returns the outcome.

    A reply with `error` is a refusal. Raises nothing: a connection that ended meanwhile is an outcome too.
    """
    outcome = Outcome(plan, plan.source)
    record = records.get(plan.connection)
    if record is None or record.stage is not Stage.SETTLED:
        outcome.reason = "no record" if record is None else "a move is under way"
        return outcome
    clock = _Clock(outcome.parts)
    try:
        _set(records, plan.connection, record, stage=Stage.HELD)
        clock.lap("hold")
        known = {"connection": plan.connection, "next_hop": record.peer_mac.hex()}
        saved = yield Ask(plan.source, Message("save", known))
        clock.lap("save")
        if "error" in saved.fields:
            outcome.reason, outcome.code = saved.fields["error"], saved.fields.get("reason", "")
            _settle(records, plan.connection, record, hold, outcome)
            return outcome
        outcome.context_bytes, outcome.saved = len(saved.body), saved.fields
        yield from _place(outcome, record, saved, records)
        clock.lap("restore")
        if outcome.target is None:
            # The held frames go to the host's TCP, which knows no such connection and tells the peer.
            records.delete(plan.connection)
            outcome.held_frames += hold.release(plan.connection)
            return outcome
        yield from _release(outcome, record, records, hold)
        clock.lap("release")
    except StaleRecord as stale:
        # It ended under our hands. Whoever holds a part of it forgets it, and the application hears of it.
        outcome.reason = str(stale)
        outcome.held_frames += hold.release(plan.connection)
        if outcome.saved:
            for place in {plan.source, outcome.target} - {None}:
                assert place is not None
                yield Ask(place, Message("invalidate", {"connection": plan.connection}), reply=False)
            outcome.target = None
    return outcome


def _place(outcome: Outcome, record: Record, saved: Message, records: Records) -> Generator[Ask, Message, None]:
    """Finds the context a home: the target, a fallback, or the old engine, which still has it. Sets outcome.target."""
    plan, channel = outcome.plan, saved.channel
    assert channel is not None  # a save that succeeds brings it
    outcome.target = None
    try:
        for place in (plan.target, *plan.fallbacks):
            if place == plan.source:
                continue
            if place == HOST:
                # The host must be allowed to speak before it resumes; a NIC's own table sees to that.
                _set(records, plan.connection, _at(record, HOST), stage=Stage.HELD)
            fields = {"resend": plan.resend, "probe": plan.resend}
            try:  # the target gets a duplicate: should it die with it, the next one still has a channel
                duplicate = os.dup(channel)
            except OSError as error:
                outcome.reason = outcome.reason or f"the agent: {error.strerror}"
                break
            answer = yield Ask(place, Message("restore", fields, saved.body, duplicate))
            if "error" not in answer.fields:
                outcome.target = place
                return
            if answer.channel is not None:
                os.close(answer.channel)
            outcome.code = outcome.code or answer.fields.get("reason", "")
            outcome.reason = outcome.reason or answer.fields["error"]
    finally:
        os.close(channel)
    _set(records, plan.connection, record, stage=Stage.HELD)
    answer = yield Ask(plan.source, Message("thaw", {"connection": plan.connection}))
    if "error" not in answer.fields:
        outcome.target = plan.source


def _release(outcome: Outcome, record: Record, records: Records, hold: Hold) -> Generator[Ask, Message, None]:
    """Repoints the record, lets the held frames go, and has the old engine forget."""
    connection, source = outcome.plan.connection, outcome.plan.source
    assert outcome.target is not None
    if not outcome.moved:
        _settle(records, connection, record, hold, outcome)
        return
    here = _at(record, outcome.target)
    _set(records, connection, here, stage=Stage.HELD, moved=True)
    outcome.epoch = record.epoch + 1
    _settle(records, connection, replace(here, epoch=outcome.epoch), hold, outcome)
    if outcome.target != HOST:
        yield Ask(outcome.target, Message("release", {"connection": connection}), reply=False)
    yield Ask(source, Message("discard", {"connection": connection}), reply=False)


def _at(record: Record, place: int) -> Record:
    """The record of a connection that lives there."""
    return replace(record, nic=record.nic if place == HOST else place, offloaded=place != HOST)


def _set(records: Records, connection: Connection, r: Record, *, stage: Stage, moved: bool = False) -> None:
    records.assign(connection, epoch=r.epoch, nic=r.nic, offloaded=r.offloaded, stage=stage, moved=moved)


def _settle(records: Records, connection: Connection, r: Record, hold: Hold, outcome: Outcome) -> None:
    """Lets the held frames go ahead of the newer ones: first while new ones still queue, then the last few."""
    outcome.held_frames += hold.release(connection)
    _set(records, connection, r, stage=Stage.SETTLED)
    outcome.held_frames += hold.release(connection)


class _Clock:
    """Names the time between laps."""

    def __init__(self, parts: dict[str, float]):
        self._parts, self._last = parts, time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self._parts[name] = now - self._last
        self._last = now
