"""The host agent: hears of strays, thresholds and faults, and moves connections.

Decides: nothing by itself; policy.py decides, reload.py orders the steps. Never touches: TCP sockets, frames other
than the held ones. It holds no connection's state, so it may die and be started again under live traffic.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from host_agent import kernel, policy
from host_agent.api import Api
from host_agent.config import AgentConfig, ConfigError, OffloadRule
from host_agent.connection import Connection
from host_agent.custody import Custody
from host_agent.decision import By
from host_agent.emit import emit, now
from host_agent.engines import Engines
from host_agent.flood_watch import FloodWatch
from host_agent.headcount import Headcount
from host_agent.hold import Hold
from host_agent.lacp_watch import Watch
from host_agent.link_loss import LinkLoss
from host_agent.loop import Loop
from host_agent.path_watch import PathWatch
from host_agent.policy import HOST
from host_agent.rebuild import compare
from host_agent.records import Records, Report, ReportKind, Threshold
from host_agent.restart import ask_engines
from host_agent.steering import hold_of
from host_agent.sweep import Sweep
from host_agent.tap import open_tap
from host_agent.team import TeamState
from host_agent.verbs import Message, PeerGone

LATER = 0.005
"""Seconds until a link's loss is told: what was on it is on its way meanwhile, and who saves and restores it wants the
CPU that words take."""


class Agent:
    """One team's agent: what it hears, and what it does about it. desk.py answers what it is asked."""

    def __init__(self, config: AgentConfig):
        """Raises KernelError when the records are not there, and PeerGone when an engine speaks another version."""
        self.config = config
        self.loop = Loop()
        self.records = Records.pinned(Path(config.pins))
        self._news: list[tuple[str, dict[str, Any]]] = []
        self.team = TeamState(tuple(nic.name for nic in config.nics), config.min_links)
        self._settings = self.records.team  # which nobody else changes now
        self._active = frozenset(self._settings.live)  # as an earlier agent left it
        self.watch = Watch(config, self.loop, self._active, self._reconsider)
        self._hold = Hold(open_tap(hold_of(config.team), keep=True))
        self._loss = LinkLoss(self.loop, lambda nic: self._link(nic, up=False))
        sockets = {HOST: config.host.socket, **{nic: one.socket for nic, one in enumerate(config.nics)}}
        engines = Engines(self.loop, sockets, self)
        self.peers = engines.peers
        self.paths = PathWatch(config.name, config.team, self.loop, self.peers, self._place_of)
        self.custody = Custody(config, self.loop, self.records, self.team, self._hold, self.peers, self.paths)
        self._rebuild(engines)
        self._reports = self.records.reports(self._report)
        self.loop.watch(self._reports.fd, lambda _mask: self._reports.consume())
        self.loop.watch(self._hold.fd, lambda _mask: self._hold.take(self.custody.moves.begun))
        self.floods = FloodWatch(config.name, self.loop, self.records, len(config.nics), config.flood_per_s).floods
        Headcount(config.name, self.loop, self.records, self.team.names)
        Sweep(self.loop, self.records, self.peers, config.age_s, self.custody.aged)
        for port, rule in config.offload.services.items():
            self.records.set_service(port, _threshold(rule))

    def run(self) -> None:
        self.custody.moves.begin()  # what was to be done at the start
        self.loop.run(self._behind_a_turn)
        self._tell()
        self.custody.tracker.say_last_words(self.records)
        emit(self.config.name, "counters", nics=self.counters(), host_tcp_segments=kernel.tcp_in_segments())

    def _behind_a_turn(self) -> bool:
        self.custody.moves.begin()
        done = self.custody.look_on()
        self.custody.moves.begin()
        self._hold.let_on(self.custody.moves.begun)
        return done

    def counters(self) -> dict[str, dict[str, int]]:
        return {name: self.records.counts(nic) for nic, name in enumerate(self.team.names)}

    # -- engines -----------------------------------------------------------------------------------------

    def said(self, place: int, message: Message) -> None:
        """As engines.Listener, and so are the next four."""
        match message.verb:
            case "link":
                self._loss.watch(place, message.fields.get("wire"))
                self._link(place, up=message.fields["up"])
            case "accepted":
                self.custody.accepted(Connection(*message.fields["connection"]))
            case "closed":
                self.custody.closed(Connection(*message.fields["connection"]))
            case "neighbour":
                self.paths.heard(message.fields["connection"][0], bytes.fromhex(message.fields["next_hop"]))
            case "path":
                self.paths.path_is(message.fields["connection"][0], message.fields["mtu"])
            case "upload_requested":
                connection = Connection(*message.fields["connection"])
                self.custody.requested(connection, place, message.fields["reason"])

    def gone(self, place: int, reason: str) -> Callable[[], None]:
        emit(self.config.name, "engine_gone", engine=self.team.name(place), reason=reason)
        if place == HOST:
            return self.custody.host_failed
        self.team.engines.discard(place)
        self.team.links.discard(place)
        self.watch.carrier(place, False)
        self._reconsider(seen_to=place)

        def failed() -> None:
            emit(self.config.name, "fault", nic=self.team.name(place), kind="adapter")
            self.custody.adapter_failed(place)

        return failed

    def back(self, place: int) -> None:
        emit(self.config.name, "engine_back", engine=self.team.name(place))
        if place != HOST:
            self.team.engines.add(place)
            self._reconsider()

    def reconnected(self, place: int, reason: str) -> None:
        emit(self.config.name, "reconnected", engine=self.team.name(place), reason=reason)

    def holds(self, place: int, held: Mapping[Connection, str]) -> None:
        """Raises PeerGone."""
        told = compare(place, held, self.records.all(), self.custody.moves.begun)
        for verb, connections in (("release", told.release), ("discard", told.discard)):
            if connections:
                self.peers[place].send(Message(verb, {"connections": connections}))
        for connection in told.invalidate:
            self._invalidate(place, connection)
        self._thaw(place, told.thaw)
        for connection in told.closing:
            self.custody.closed(connection)
        for connection in told.accepted:
            self.custody.accepted(connection)
        for connection, record in told.lost:
            self.custody.lose(connection, record, f"{self.team.name(place)} does not hold it")

    def _thaw(self, place: int, connections: Sequence[Connection]) -> None:
        """Frozen connections go on; one that cannot is ended, for it would stay as it is for ever. Raises PeerGone."""

        def heard(answer: Message) -> None:
            for one in answer.fields.get("refused", ()):
                connection = connections[one["at"]]
                record = self.records.get(connection)
                if record is not None:
                    self.custody.lose(connection, record, f"{self.team.name(place)}: {one['error']}")
                self._invalidate(place, connection)

        if connections:
            self.peers[place].ask(Message("thaw", {"connections": connections}), heard)

    def _rebuild(self, engines: Engines) -> None:
        """Takes up what an earlier agent left, from the engines, before anything else is heard."""
        began = time.monotonic()
        closed: list[Connection] = []

        def note(place: int, message: Message) -> None:
            # Nothing is moved before all links are known: a NIC not heard of yet is not one without a link.
            if message.verb == "link":
                self._loss.watch(place, message.fields.get("wire"))
                (self.team.links.add if message.fields["up"] else self.team.links.discard)(place)
            elif message.verb == "closed":
                closed.append(Connection(*message.fields["connection"]))

        found = ask_engines(engines, self.records, note, self._thaw)
        for place, reason in engines.absent.items():  # gone, with all they held
            emit(self.config.name, "engine_gone", engine=self.team.name(place), reason=reason)
            self.team.links.discard(place)
        self.team.engines |= self.peers.keys() - {HOST}
        for nic, name in enumerate(self.team.names):
            emit(self.config.name, "link", nic=name, up=nic in self.team.links)
            self.watch.carrier(nic, nic in self.team.links)
        if HOST in engines.absent:
            self.custody.host_failed()
        for connection in found.over:
            self.records.delete(connection)
        for connection, record in found.lost:  # before anybody tries to move it
            self.custody.lose(connection, record, "no engine holds it")
        self._reconsider()
        self.custody.links_down(*sorted(set(range(len(self.team.names))) - set(self.team.active)))
        for connection in closed:
            self.custody.closed(connection)
        for connection in found.closing:
            self.custody.closed(connection)
        if found.records:
            took = round(1000 * (time.monotonic() - began), 3)
            emit(self.config.name, "rebuilt", records=len(found.records), lost=len(found.lost), took_ms=took)

    # -- what is heard -----------------------------------------------------------------------------------------------

    def _report(self, report: Report) -> None:
        match report.kind:
            case ReportKind.TRACE:
                self._trace(report)
            case ReportKind.NEW_HOP:
                record = self.records.get(report.connection)
                if record is not None:
                    self.paths.heard(report.connection.src, record.peer_mac)
            case ReportKind.FULL:
                self.custody.make_room()
            case ReportKind.CLOSED if report.by is By.REUSE:
                self.custody.tracker.forget(report.connection)
                self._invalidate(report.nic, report.connection)
            case ReportKind.CLOSED:
                self.custody.was_reset(report.connection)
            case ReportKind.DUE if report.connection not in self.custody.moves:
                self.custody.offload(report.connection)
            case ReportKind.STRAY if report.connection not in self.custody.moves:
                record = self.records.get(report.connection)
                if record is not None:
                    self.custody.stray(report, record)

    def _invalidate(self, nic: int, connection: Connection) -> None:
        """A new connection has its identifier: what lingers there of the old one would take the new one's frames."""
        peer = self.peers.get(nic)
        if peer is not None:
            with suppress(PeerGone):  # then nothing lingers there
                peer.send(Message("invalidate", {"connection": connection}))

    def _place_of(self, connection: Connection) -> int:
        record = self.records.get(connection)
        return record.nic if record is not None and record.offloaded else HOST

    def _trace(self, report: Report) -> None:
        assert report.block is not None
        assert report.action is not None
        way = {"nic": self.team.name(report.nic), "block": report.block.label, "action": report.action.value}
        segment = {"seq": report.seq, "ack": report.ack, "payload": report.payload, "flags": report.flags}
        emit(self.config.name, "frame", **report.connection.fields(), **way, epoch=report.epoch, **segment)

    def _link(self, nic: int, *, up: bool) -> None:
        if up == (nic in self.team.links):
            return
        (self.team.links.add if up else self.team.links.discard)(nic)
        self._note("link", nic, up=up)
        if not up:
            self._note("fault", nic, kind="link")
        self.watch.carrier(nic, up)
        self._settle()
        if not up and nic not in self.team.members:
            self.custody.links_down(nic)  # what had not left it yet
        self.custody.moves.begin()
        self.loop.after(LATER, self._tell)

    def _note(self, event: str, nic: int, **facts: Any) -> None:
        self._news.append((event, {"nic": self.team.name(nic), **facts, "t": now()}))

    def _tell(self) -> None:
        for event, facts in self._news:
            emit(self.config.name, event, **facts)
        self._news.clear()

    def remove_nic(self, nic: int) -> None:
        """Takes a NIC out of the team: what it holds moves away, and nothing new comes to it."""
        self.team.members.discard(nic)
        self._reconsider(seen_to=nic)
        self.custody.removed(nic)

    def add_nic(self, nic: int) -> None:
        self.team.members.add(nic)
        self._reconsider()

    def _reconsider(self, seen_to: int | None = None) -> None:
        """Which members are active now, and what follows for those that are no longer, or are again; but for one of
        them, which the caller sees to."""
        self._settle(seen_to)
        self._tell()

    def _settle(self, seen_to: int | None = None) -> None:
        """The same, and nothing is told yet."""
        self.team.unfit = self.watch.unfit
        before, self._active = self._active, frozenset(self.team.active)
        self._set_team()
        for nic in sorted(before ^ self._active):
            why = self.team.why(nic)
            self._note("member", nic, usable=why is None, why=why)
            if why in ("lacp", "probe"):
                self._note("fault", nic, kind=why)
        self.custody.links_down(*sorted(before - self._active - {seen_to}))
        for nic in sorted(self._active - before):
            self.custody.link_up(nic)

    def _set_team(self) -> None:
        threshold, evidence = _threshold(self.config.offload), self.config.reload_after
        self.records.team = self._settings = replace(
            self._settings,
            live=self.team.active,
            offload_after=threshold.after_bytes,
            offload_after_ns=threshold.after_ns,
            stray_frames=evidence.frames,
            stray_after=int(evidence.seconds * 1e9),
            trace=self.config.trace,
        )


def _threshold(rule: OffloadRule) -> Threshold:
    """As the frame path compares it. A time of 0 is 'at once' here and 'never' there, so it is 1 ns."""
    after_ns = 0 if rule.after_s is None else max(1, int(rule.after_s * 1e9))
    return Threshold(policy.threshold(rule.after_bytes), after_ns)


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
    emit(config.name, "ready")
    agent.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
