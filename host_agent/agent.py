"""The host agent: hears of strays, thresholds and faults, and moves connections.

Decides: nothing by itself; policy.py decides, reload.py orders the steps. Never touches: TCP sockets, frames other
than the held ones. It holds no connection's state, so it may die and be started again under live traffic.
"""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from host_agent import kernel, policy
from host_agent.api import Api, ApiError
from host_agent.config import AgentConfig, ConfigError
from host_agent.connection import Connection
from host_agent.decision import Record
from host_agent.emit import emit
from host_agent.hold import Hold
from host_agent.loop import EDGE, Loop
from host_agent.peer import EnginePeer
from host_agent.records import Records, Report, ReportKind
from host_agent.reload import HOST, Ask, Outcome, Plan, Steps, move
from host_agent.steering import HOLD
from host_agent.verbs import Message, PeerGone

WHO = "agent"


@dataclass
class Tracked:
    """What the agent remembers of a connection beside its record.

    base: the record's host_segments when the connection went to a NIC. on_host_while_offloaded: segments that the
    host's TCP got all the same, by earlier stays on NICs.
    """

    history: policy.History = field(default_factory=policy.History)
    service: str = ""
    last: Record | None = None
    base: int | None = None
    on_host_while_offloaded: int = 0
    moves: int = 0


class Agent:
    """One team's agent: what it hears, what it moves, what it is asked."""

    def __init__(self, config: AgentConfig):
        self._config = config
        self._names = [nic.name for nic in config.nics]
        self._records = Records.pinned(Path(config.pins))
        self._hold = Hold(kernel.open_tap(HOLD, keep=True))
        self._tracked: dict[Connection, Tracked] = {}
        self._moving: dict[Connection, Steps] = {}
        self._done: dict[Connection, Callable[[Outcome], None]] = {}
        self._retries: list[tuple[float, Connection]] = []
        self._removals: list[tuple[float, Connection]] = []
        self._live: set[int] = set()
        self._policy = policy.OffloadPolicy(config.offload.after_bytes)
        self.loop = Loop()
        self._peers: dict[int, EnginePeer] = {}
        for place, path in [(HOST, config.host.socket)] + [(i, n.socket) for i, n in enumerate(config.nics)]:
            peer = self._peers[place] = EnginePeer(path)
            self.loop.watch(peer.fd, partial(self._hear, place), EDGE)
        self._reports = self._records.reports(self._report)
        self.loop.watch(self._reports.fd, lambda _mask: self._reports.consume())
        self.loop.watch(self._hold.fd, lambda _mask: self._hold.sort())
        self._set_team()

    def run(self) -> None:
        self.loop.run(self._next_timer, self._timers)
        self._say_last_words()

    # -- what is heard -----------------------------------------------------------------------------------------------

    def _hear(self, place: int, _mask: int) -> None:
        try:
            self._peers[place].flush()
            for message in self._peers[place].receive():
                self._message(place, message)
        except PeerGone as gone:
            peer = self._peers.pop(place)
            self.loop.unwatch(peer.fd)
            peer.close()
            emit(WHO, "engine_gone", engine=self._name(place), reason=str(gone))
            for steps in peer.unanswered():
                self._step(steps, _gone(self._name(place)))
            if place != HOST:
                self._link(place, up=False)

    def _message(self, place: int, message: Message) -> None:
        match message.verb:
            case "reply":
                steps = self._peers[place].answered(message)
                if steps is not None:
                    self._step(steps, message)
            case "link":
                self._link(place, up=message.fields["up"])
            case "accepted":
                connection = Connection(*message.fields["connection"])
                self._track(connection).service = message.fields["service"]
                if self._policy.after_bytes == 0:
                    self._offload(connection)
            case "closed":
                self._closed(Connection(*message.fields["connection"]))
            case "ready":
                pass

    def _report(self, report: Report) -> None:
        record = self._records.get(report.connection)
        if record is None or report.connection in self._moving:
            return
        if report.kind is ReportKind.DUE:
            self._offload(report.connection)
            return
        history = self._track(report.connection).history
        now = time.monotonic()
        if policy.should_reload(record, report.nic, report.epoch, history, now):
            lost, fallbacks = history.in_flight_is_lost(now), (record.nic, HOST)
            plan = Plan(report.connection, record.nic, report.nic, "stray", resend=lost, fallbacks=fallbacks)
            self._start(plan)

    def _link(self, nic: int, *, up: bool) -> None:
        if up == (nic in self._live):
            return
        (self._live.add if up else self._live.discard)(nic)
        self._set_team()
        emit(WHO, "link", nic=self._name(nic), up=up)
        if not up:
            self._link_is_down(nic)

    def _link_is_down(self, nic: int) -> None:
        plan = policy.on_link_down(nic, self._live_nics(), self._records.all())
        for connection, target in plan.reload:
            rest = tuple(n for n in self._live_nics() if n != target)
            self._start(Plan(connection, nic, target, "link_down", resend=True, fallbacks=(*rest, HOST)))
        for connection in plan.remove:
            self._remember(connection)
            self._records.delete(connection)
        for connection in plan.stranded:
            emit(
                WHO,
                "stranded",
                **connection.fields(),
                nic=self._name(nic),
                reason="no NIC of the team has a link",
            )

    def _closed(self, connection: Connection) -> None:
        """The engine is done with it. Its record stays while late segments may come (RFC 9293, 3.6.1), for they must
        reach the stack that keeps its TIME-WAIT."""
        self._remember(connection)
        heapq.heappush(self._removals, (time.monotonic() + 60.0, connection))

    # -- moves -------------------------------------------------------------------------------------------------------

    def _offload(self, connection: Connection) -> None:
        record = self._records.get(connection)
        if record is None or record.offloaded or self._policy.after_bytes is None:
            return
        live = self._live_nics()
        if not live:
            self._retry(connection)
            return
        target = record.nic if record.nic in live else live[0]
        self._start(Plan(connection, HOST, target, "policy", fallbacks=(HOST,)))

    def _start(self, plan: Plan, done: Callable[[Outcome], None] | None = None) -> None:
        if plan.connection in self._moving:
            return
        if done:
            self._done[plan.connection] = done
        steps = self._moving[plan.connection] = move(plan, self._records, self._hold)
        self._step(steps, None)

    def _step(self, steps: Steps, reply: Message | None) -> None:
        """Carries a move on until it waits for an engine, or is over."""
        try:
            while True:
                ask: Ask = steps.send(reply) if reply is not None else next(steps)
                reply = None
                peer = self._peers.get(ask.engine)
                if peer is None:
                    reply = _gone(self._name(ask.engine), ask.message.channel)
                elif ask.reply:
                    peer.ask(ask.message, steps)
                    return
                else:
                    peer.send(ask.message)
        except StopIteration as stop:
            self._over(stop.value)

    def _over(self, outcome: Outcome) -> None:
        plan, connection = outcome.plan, outcome.plan.connection
        del self._moving[connection]
        track = self._track(connection)
        facts: dict[str, Any] = {**connection.fields(), "kind": plan.kind, "cause": plan.cause}
        facts |= {"from": self._name(plan.source), "to": self._name(plan.target)}
        if outcome.target is None:
            emit(WHO, "lost", **facts, reason=outcome.reason)
        elif outcome.target == plan.source:
            emit(WHO, "refused", **facts, reason=outcome.reason)
            if plan.cause == "policy":
                self._retry(connection)
        else:
            self._moved(outcome, track)
            parts = {name: round(1000 * seconds, 3) for name, seconds in outcome.parts.items()}
            parts["total"] = round(sum(parts.values()), 3)
            facts |= {"to": self._name(outcome.target), "epoch": outcome.epoch, "parts_ms": parts}
            facts |= {"context_bytes": outcome.context_bytes, "held_frames": outcome.held_frames}
            facts |= {"retransmits": outcome.retransmits, "host_tcp_segments": kernel.tcp_in_segments()}
            emit(WHO, "move", **facts)
        done = self._done.pop(connection, None)
        if done:
            done(outcome)
        here = outcome.target
        if here is not None and here != HOST and here not in self._live and self._live:
            target = policy.guess(self._live_nics(), {}, avoid=here)
            if target is not None:  # its link died while the context was on its way there
                self._start(Plan(connection, here, target, "link_down", resend=True, fallbacks=(HOST,)))

    def _moved(self, outcome: Outcome, track: Tracked) -> None:
        track.moves += 1
        now = time.monotonic()
        if outcome.plan.source != HOST:
            track.history.left[outcome.plan.source] = now
        if outcome.plan.cause == "link_down":
            track.history.fault = now
        record = self._records.get(outcome.plan.connection)
        if record is None:
            return
        if outcome.plan.source == HOST:
            track.base = record.host_segments
        elif outcome.target == HOST and track.base is not None:
            track.on_host_while_offloaded += record.host_segments - track.base - outcome.held_frames
            track.base = None

    # -- records and team --------------------------------------------------------------------------------------------

    def _track(self, connection: Connection) -> Tracked:
        return self._tracked.setdefault(connection, Tracked())

    def _remember(self, connection: Connection) -> None:
        record = self._records.get(connection)
        if record is not None:
            self._track(connection).last = record

    def _set_team(self) -> None:
        self._records.team = replace(self._records.team, live=self._live_nics(), offload_after=self._policy.threshold)

    def _live_nics(self) -> tuple[int, ...]:
        return tuple(sorted(self._live))

    def _name(self, place: int) -> str:
        return "host" if place == HOST else self._names[place]

    def _retry(self, connection: Connection) -> None:
        heapq.heappush(self._retries, (time.monotonic() + policy.RETRY, connection))

    def _next_timer(self) -> float:
        due = min((queue[0][0] for queue in (self._retries, self._removals) if queue), default=None)
        return -1 if due is None else max(0.0, due - time.monotonic())

    def _timers(self) -> None:
        for queue, act in ((self._retries, self._offload), (self._removals, self._records.delete)):
            while queue and queue[0][0] <= time.monotonic():
                act(heapq.heappop(queue)[1])

    # -- what is asked and told --------------------------------------------------------------------------------------

    def describe_records(self) -> list[dict[str, Any]]:
        return [
            {
                **c.fields(),
                "nic": self._names[r.nic],
                "offloaded": r.offloaded,
                "epoch": r.epoch,
                "strays": r.strays,
            }
            | {
                "packets": r.packets,
                "bytes": r.bytes,
                "host_segments": r.host_segments,
                "stage": r.stage.name,
            }
            for c, r in self._records.all()
        ]

    def describe_counters(self) -> dict[str, dict[str, int]]:
        return {name: self._records.counts(nic) for nic, name in enumerate(self._names)}

    def command(self, verb: str, connection: Connection, nic: str | None, done: Callable[[Outcome], None]) -> None:
        """offload, reload or upload of one connection. Raises ApiError when it cannot be begun."""
        record = self._records.get(connection)
        if record is None:
            raise ApiError(f"{connection}: there is no record of this connection")
        if connection in self._moving:
            raise ApiError(f"{connection}: a move is under way")
        if nic is not None and nic not in self._names:
            raise ApiError(f"nic: {nic!r} is not in the team ({', '.join(self._names)})")
        source = record.nic if record.offloaded else HOST
        if verb == "upload":
            target = HOST
        else:
            if nic is None:
                raise ApiError("nic: name the NIC to move to")
            target = self._names.index(nic)
        if target == source:
            raise ApiError(f"{connection}: it is on {self._name(target)} already")
        self._start(Plan(connection, source, target, "command", fallbacks=(source,)), done)

    def _say_last_words(self) -> None:
        for connection, _ in self._records.all():
            self._remember(connection)
            self._track(connection)
        for connection, track in self._tracked.items():
            r = track.last
            if r is None:
                continue
            leaked = track.on_host_while_offloaded + (r.host_segments - track.base if track.base is not None else 0)
            facts = {
                "nic": self._names[r.nic],
                "offloaded": r.offloaded,
                "epoch": r.epoch,
                "moves": track.moves,
            }
            facts |= {"packets": r.packets, "bytes": r.bytes, "bytes_out": r.bytes_out, "strays": r.strays}
            facts |= {"host_segments": r.host_segments, "host_segments_while_offloaded": leaked}
            emit(WHO, "record", **connection.fields(), **facts)
        emit(WHO, "counters", nics=self.describe_counters(), host_tcp_segments=kernel.tcp_in_segments())


def _gone(engine: str, channel: int | None = None) -> Message:
    """What an engine that is gone would have answered."""
    return Message("reply", {"error": f"the engine of {engine} is gone"}, channel=channel)


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] != "--config":
        print("usage: python -m host_agent.agent --config FILE", file=sys.stderr)
        return 2
    try:
        config = AgentConfig.load(Path(sys.argv[2]))
        agent = Agent(config)
        Api(config.control, agent)
    except (ConfigError, kernel.KernelError, PeerGone, OSError) as error:
        print(f"agent: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 3
    emit(WHO, "ready")
    agent.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
