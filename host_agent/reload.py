"""One move of a connection: hold, save, restore, repoint, release. Offload, upload and reload are all this.

Decides: the order of the steps, and where a context goes that its target refuses. Never touches: sockets, engines'
insides; what engines are to do is yielded, and their replies are sent in.

        old engine            agent                  new engine          frames of the connection
            |   hold: record HELD |                        |             -> hold queue
            |<------ save --------|                        |
            |-- context, channel >|                        |
            |                     |-- restore, context, -->|
            |                     |      channel           |
            |                     |<------ done -----------|
            |  repoint: record -> new NIC, epoch + 1       |
            |  release: queued frames --------------------->             -> hold queue, in order
            |           record SETTLED, joined             |             -> new engine
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace

from host_agent.connection import Connection
from host_agent.decision import Record, Stage
from host_agent.hold import Hold
from host_agent.records import Records, StaleRecord
from host_agent.verbs import Message

HOST = -1
"""The place of a connection that is not offloaded; NIC ids count from 0."""


@dataclass(frozen=True)
class Plan:
    """source, target: NIC id or HOST. cause: policy, link_down, stray or command. resend: what was in flight is lost.
    fallbacks: places to try, in order, when the target refuses."""

    connection: Connection
    source: int
    target: int
    cause: str
    resend: bool = False
    fallbacks: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        if self.source == HOST:
            return "offload"
        return "upload" if self.target == HOST else "reload"


@dataclass(frozen=True)
class Ask:
    """A message for one engine (NIC id or HOST); reply: whether the move waits for an answer."""

    engine: int
    message: Message
    reply: bool = True


@dataclass
class Outcome:
    """target: where the connection is now, None when it was lost. reason: why it is not where it was to go.
    parts: seconds of hold, save, restore, release. queued: bytes sent, unsent, received of the context."""

    plan: Plan
    target: int | None
    reason: str = ""
    epoch: int = 0
    parts: dict[str, float] = field(default_factory=dict)
    context_bytes: int = 0
    held_frames: int = 0
    retransmits: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


Steps = Generator[Ask, Message, Outcome]


def move(plan: Plan, records: Records, hold: Hold) -> Steps:
    """The steps of one move. Yields what engines are asked, is sent their replies, returns the outcome.

    A reply with `error` is a refusal. Raises nothing: a connection that ended meanwhile is an outcome too.
    """
    connection = plan.connection
    outcome = Outcome(plan, plan.source)
    clock = _Clock(outcome.parts)
    channel: int | None = None
    record = records.get(connection)
    if record is None or record.stage is not Stage.SETTLED:
        outcome.reason = "no record" if record is None else "a move is under way"
        return outcome
    try:
        _set(records, connection, record, stage=Stage.HELD)
        clock.lap("hold")
        fields = {"connection": connection, "next_hop": record.peer_mac.hex()}
        saved = yield Ask(plan.source, Message("save", fields))
        clock.lap("save")
        if "error" in saved.fields:
            outcome.reason = saved.fields["error"]
            _settle(records, connection, record, hold, outcome)
            return outcome
        outcome.context_bytes = len(saved.body)
        for name in ("retransmits", "bytes_in", "bytes_out"):
            setattr(outcome, name, saved.fields[name])
        channel = saved.channel
        outcome.target = None
        for place in (plan.target, *plan.fallbacks):
            # The host must be allowed to speak before it resumes; a NIC's own table sees to that.
            here = replace(record, nic=record.nic if place == HOST else place, offloaded=place != HOST)
            if place == HOST:
                _set(records, connection, here, stage=Stage.HELD)
            request = {"resend": plan.resend, "probe": plan.resend}
            passed_on, channel = channel, None
            answer = yield Ask(place, Message("restore", request, saved.body, passed_on))
            if "error" not in answer.fields:
                outcome.target = place
                break
            outcome.reason, channel = answer.fields["error"], answer.channel
        clock.lap("restore")
        if outcome.target is None:
            # The held frames go to the host's TCP, which knows no such connection and tells the peer.
            records.delete(connection)
            outcome.held_frames += hold.release(connection)
            return outcome
        _set(records, connection, here, stage=Stage.HELD, moved=True)
        _settle(records, connection, replace(here, epoch=record.epoch + 1), hold, outcome)
        outcome.epoch = record.epoch + 1
        if outcome.target != HOST:
            yield Ask(outcome.target, Message("release", {"connection": connection}), reply=False)
        clock.lap("release")
    except StaleRecord as stale:
        outcome.reason = str(stale)
        outcome.held_frames += hold.release(connection)
    finally:
        if channel is not None:
            os.close(channel)  # nobody took the connection: its application must not wait for ever
    return outcome


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
