"""Custody of the connections: carries out what policy.py decides, and sees every move to its end.

Decides: nothing by itself. Never touches: engines, links, the frame path's settings (agent.py).
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from host_agent import policy, rtnetlink
from host_agent.ageing import Aged, give_way
from host_agent.config import AgentConfig
from host_agent.connection import Connection
from host_agent.decision import Record
from host_agent.emit import emit
from host_agent.farewell import Farewell
from host_agent.flood import is_half_open
from host_agent.hold import Hold
from host_agent.loop import Loop
from host_agent.moves import Moves
from host_agent.path_watch import PathWatch
from host_agent.peer import EnginePeer
from host_agent.policy import HOST, Choice, Chooser, Evidence, OnFault, Plan, Seen, Walk
from host_agent.records import Assignment, Records, RecordsFull, Report
from host_agent.reload import Outcome
from host_agent.team import TeamState
from host_agent.telling import tell
from host_agent.tracked import Tracked, Tracker

MANY = 64
"""How many records give way at once when the records are full, or a sixteenth of them; one by one would be a sweep a
frame."""

ROOM_SHARE = 10
"""Making room takes one part in so many of the agent's time at most; frames without a record are served as well."""

REQUESTS = ("urgent_data", "low_memory")
"""Why a NIC asks for an upload."""

RESET_EVERY, RESET_TRIES = 0.6, 10
"""Seconds between attempts to have a peer reset, and how many; only those with a link to reach it by count."""


class Custody:
    """peers: engines by place, as they come and go."""

    def __init__(
        self,
        config: AgentConfig,
        loop: Loop,
        records: Records,
        team: TeamState,
        hold: Hold,
        peers: dict[int, EnginePeer],
        paths: PathWatch,
    ):
        self._config, self._loop, self._records, self._team = config, loop, records, team
        self.moves = Moves(records, hold, peers, self._over)
        self.tracker = Tracker(config.name, team)
        self._paths = paths
        self._chooser = Chooser(config.choice)
        self._farewell = Farewell(config.team)
        self._room_after = 0.0
        self._looks = deque[tuple[tuple[int, ...], Iterator[policy.Records], dict[int, int]]]()
        self._unreset: set[Connection] = set()
        self._requested: set[Connection] = set()

    # -- faults, returns, membership ---------------------------------------------------------------------------------

    def _living(self, some: Iterable[tuple[Connection, Record]]) -> policy.Records:
        """All but those of offloaded connections that have ended: what is left, a TIME-WAIT, cannot move."""
        return [(c, r) for c, r in some if not (r.offloaded and self.tracker.ended(c))]

    def links_down(self, *nics: int) -> None:
        """Looks through the records for what these NICs hold; through the first slice now, and through the others with
        look_on(): with thousands on a NIC, the first are on their way meanwhile."""
        few = self._records.few() if nics else []
        if few is None:
            self._looks.append((nics, self._records.slices(), self._load()))
            self.look_on()
        else:  # and they are counted as well: to go through an almost empty map takes 0.1 ms each time
            self._leave(nics, few, policy.load_of(few))

    def look_on(self) -> bool:
        """Through another slice of the records; True when that was all there was to look through."""
        if self._looks:
            nics, slices, load = self._looks[0]
            some = next(slices, None)
            if some is None:
                self._looks.popleft()
            else:
                self._leave(nics, some, load)
        return not self._looks

    def _leave(self, nics: Iterable[int], some: policy.Records, load: dict[int, int]) -> None:
        living = self._living(some)
        for nic in nics:
            self._carry_out(self._on_link_down(nic, living, load), nic)

    def link_up(self, nic: int) -> None:
        rebalance = self._config.fail_back == "rebalance"
        records, active = self._living(self._records.all()), self._team.active
        self._carry_out(policy.on_link_up(nic, active, records, rebalance=rebalance, chooser=self._chooser), nic)

    def adapter_failed(self, nic: int) -> None:
        for connection, record in list(self._records.all()):
            if record.nic == nic and self.tracker.ended(connection):
                self._remove(connection)
        self._carry_out(policy.on_adapter_failure(nic, self._living(self._records.all())), nic)

    def host_failed(self) -> None:
        """The host's engine is gone with what it held; its kernel resets those connections. Those on NICs stay."""
        reason = f"{self._team.name(HOST)} failed with its context"
        for connection, record in list(self._records.all()):
            if record.offloaded or connection in self.moves.begun:
                continue
            if not (record.closing or self.tracker.ended(connection) or is_half_open(record)):
                emit(self._config.name, "lost", **connection.fields(), nic=self._team.name(HOST), reason=reason)
                self.tracker.of(connection).ended = True
            self._remove(connection)

    def removed(self, nic: int) -> None:
        walk = policy.on_remove(nic, self._team.active, self._living(self._records.all()), self._chooser)
        self._carry_out(walk, nic)

    def _on_link_down(self, nic: int, records: policy.Records, load: dict[int, int]) -> Walk:
        active = self._team.active
        if nic in active:  # its link has returned meanwhile
            return Walk()
        return policy.on_link_down(nic, active, records, self._config.on_fault, self._chooser, load)

    def _load(self) -> dict[int, int]:
        """Offloaded connections by NIC, as far as a choice depends on it. A pass of its own: the first connection is
        placed before the last record is read, and counting takes a seventh of the time of reading. But with no NIC left
        every connection asks again and again."""
        if len(self._team.active) < 2 or self._config.choice is not Choice.LEAST_LOADED:
            return {}
        counted = sum(self._records.tally(), Counter[tuple[int, bool]]())
        return {nic: count for (nic, offloaded), count in counted.items() if offloaded}

    # -- strays, thresholds, ends ------------------------------------------------------------------------------------

    def stray(self, report: Report, record: Record) -> None:
        history, now = self.tracker.of(report.connection).history, time.monotonic()
        found = Evidence(report.nic, report.epoch, report.seq, report.ack, report.payload)
        if policy.should_reload(record, found, history, self._team.active, now):
            lost = history.in_flight_is_lost(now)
            rest = tuple(nic for nic in self._team.active if nic not in (report.nic, record.nic))
            plan = Plan(report.connection, record.nic, report.nic, "stray", lost, (record.nic, *rest, HOST))
            self.moves.start(plan)

    def make_room(self) -> None:
        """The records are full: those that can be made anew give way."""
        began = time.monotonic()
        if began < self._room_after:
            return
        for connection in give_way(self._records.all(), max(MANY, self._records.capacity // 16)):
            self._remove(connection)
        now = time.monotonic()
        self._room_after = now + (ROOM_SHARE - 1) * (now - began)

    def closed(self, connection: Connection) -> None:
        """Its engine is done with it. The record stays while late segments may come (RFC 9293, 3.6.1), for they must
        reach the stack that keeps its TIME-WAIT."""
        record = self._records.get(connection)
        self.tracker.end(connection, record)
        if record is not None:
            self._mark(connection, record, closing=True)

    def aged(self, aged: Aged) -> None:
        for connection in aged.remove:
            self._remove(connection)
        for connection in aged.upload:
            record = self._records.get(connection)
            if record is not None and record.offloaded:
                self.moves.start(Plan(connection, record.nic, HOST, "idle"))
        if aged.remove or aged.upload:
            emit(self._config.name, "aged", removed=len(aged.remove), uploaded=len(aged.upload))

    # -- what is done ------------------------------------------------------------------------------------------------

    def _carry_out(self, walk: Walk, nic: int) -> None:
        for plan in walk.moves:
            self.moves.start(plan)
        for connection in walk.remove:
            self._remove(connection)
        for connection in walk.lost:
            record = self._records.get(connection)
            if record is not None:
                self.lose(connection, record, f"{self._team.name(nic)} failed with its context")
        for connection in walk.stranded:
            reason = "no NIC of the team is active"
            emit(self._config.name, "stranded", **connection.fields(), nic=self._team.name(nic), reason=reason)

    def _remove(self, connection: Connection) -> None:
        self.tracker.gone(connection, self._records.get(connection))
        self._records.delete(connection)

    def lose(self, connection: Connection, record: Record, reason: str) -> None:
        self._remove(connection)
        emit(self._config.name, "lost", **connection.fields(), nic=self._team.name(record.nic), reason=reason)
        self._have_reset(connection, record.peer_mac)

    def _have_reset(self, connection: Connection, known: bytes) -> None:
        self._unreset.add(connection)
        self._reset_peer(connection, self._paths.hops.changed(connection.src, known) or known)

    def _reset_peer(self, connection: Connection, next_hop: bytes, tries: int = RESET_TRIES) -> None:
        """So that the peer need not wait for timeouts. Repeated until the host's TCP was seen to reset it, for the
        switch may just be re-hashing, and the peer answers unacceptable segments only twice a second."""
        if connection not in self._unreset or not tries:
            self._unreset.discard(connection)
            return
        if self._team.active:
            try:
                self._farewell.send(connection, next_hop)
            except OSError as error:
                emit(self._config.name, "refused", **connection.fields(), reason="reset", error=error.strerror)
            tries -= 1
        self._loop.after(RESET_EVERY, partial(self._reset_peer, connection, next_hop, tries))

    def was_reset(self, connection: Connection) -> None:
        """By an RST of the peer's or of the host's TCP, which answers for lost ones too; its record has gone, unless it
        is on the move."""
        self._unreset.discard(connection)
        if connection not in self.moves.begun:
            self.tracker.gone(connection)

    def record_anew(self, connection: Connection, nic: int) -> None:
        """For a connection of the host's that has none: it gave way to others, or has aged. Raises RecordsFull."""
        now, mac = time.monotonic_ns(), rtnetlink.mac_towards(self._config.team, connection.src)
        record = Record(nic, created=now, last_seen=now, peer_mac=mac or bytes(6))
        try:
            self._records.put(connection, record)
        except RecordsFull:
            self.make_room()
            self._records.put(connection, record)
        emit(self._config.name, "recorded", **connection.fields(), nic=self._team.name(nic))

    def accepted(self, connection: Connection) -> None:
        """The host's engine has it. It may have been due before that, by its first bytes."""
        record = self._records.get(connection)
        if self.tracker.ended(connection):  # an earlier one of that name has, whose record may be long gone
            self.tracker.forget(connection)
            if record is not None and record.closing and not record.offloaded:
                self._mark(connection, record, closing=False)
                record = self._records.get(connection)
        if self._config.offload.of(connection.dport).after_bytes == 0 or (record is not None and record.due):
            self.offload(connection, anew=True)

    def offload(self, connection: Connection, *, anew: bool = False) -> None:
        """To the NIC of its record; its next frame corrects a wrong one. anew: to any NIC when it has no record."""
        if self._config.offload.of(connection.dport).never:
            return
        record = self._records.get(connection)
        if record is None:
            if anew and not self.tracker.ended(connection):
                self._offload_anywhere(connection)
            return
        if record.offloaded or record.closing:
            return
        active = self._team.active
        if record.nic in active:
            target: int | None = record.nic
        elif record.epoch and self._config.on_fault is OnFault.ON_FIRST_PACKET:
            self._rest(connection, record)  # it was the host's own segment that made it due
            return
        else:
            target = self.choose(connection)
        if target is None:
            self._retry(connection)
        else:
            self.moves.start(Plan(connection, HOST, target, "policy"))

    def _offload_anywhere(self, connection: Connection) -> None:
        target = self.choose(connection)
        if target is None:
            self._retry(connection)
            return
        try:
            self.record_anew(connection, target)
        except RecordsFull:
            self._retry(connection)
        else:
            self.moves.start(Plan(connection, HOST, target, "policy"))

    def requested(self, connection: Connection, nic: int, reason: str) -> None:
        """A NIC would rather not keep a connection. It may have to wait, for a NIC may ask before it can let go."""
        record = self._records.get(connection)
        if record is None or not record.offloaded or record.nic != nic or self.tracker.ended(connection):
            return
        if connection in self.moves:
            self._request_again(connection, nic, reason)
        else:
            self.moves.start(Plan(connection, nic, HOST, reason))

    def _request_again(self, connection: Connection, nic: int, reason: str) -> None:
        """A little later, and once: a NIC that is short of memory asks every second by itself."""
        if connection in self._requested:
            return

        def again() -> None:
            self._requested.discard(connection)
            self.requested(connection, nic, reason)

        self._requested.add(connection)
        self._loop.after(policy.RETRY, again)

    def choose(self, connection: Connection) -> int | None:
        """A NIC for a connection that goes to any. None when no NIC is active."""
        return self._chooser.pick(self._team.active, self._load(), connection)

    def _retry(self, connection: Connection) -> None:
        self._loop.after(policy.RETRY, partial(self.offload, connection, anew=True))

    def _over(self, outcomes: Sequence[Outcome]) -> None:
        """Of connections that went, or were to go, one way; each has its own fate."""
        came = [outcome for outcome in outcomes if outcome.moved]
        now = time.monotonic()
        for outcome in came:
            self._moved(outcome, self.tracker.of(outcome.plan.connection), now)
        tell(self._config.name, outcomes, self._team)
        for outcome in outcomes if len(came) < len(outcomes) else ():
            connection, was = outcome.plan.connection, outcome.record
            ended = not outcome.moved and self._records.get(connection) is None
            if ended:
                self.tracker.gone(connection, was)
            if outcome.target == outcome.plan.source:
                self._refused(outcome)
            elif ended and was is not None:
                self._have_reset(connection, was.peer_mac)
        active = self._team.active
        for outcome in outcomes:
            if outcome.target not in (None, HOST, *active):
                self._came_too_late(outcome)

    def _came_too_late(self, outcome: Outcome) -> None:
        """Its NIC's link died, or its engine, while the context was on its way there."""
        here, connection = outcome.target, outcome.plan.connection
        record = self._records.get(connection)
        if here is not None and record is not None and here not in self._team.engines:
            self.lose(connection, record, f"{self._team.name(here)} failed with its context")
        elif outcome.moved:
            self._rescue(connection)

    def _refused(self, outcome: Outcome) -> None:
        """What is worth another try gets it a little later."""
        plan, connection = outcome.plan, outcome.plan.connection
        if outcome.code == "absent":
            record = self._records.get(connection)
            if record is not None and not record.packets:  # made for a connection that there is not
                self._remove(connection)
        elif plan.cause == "policy":
            self._retry(connection)
        elif plan.cause in REQUESTS:
            self._request_again(connection, plan.source, plan.cause)
        elif plan.source != HOST:  # whatever it was for: its NIC may have lost its link meanwhile
            self._loop.after(policy.RETRY, partial(self._rescue, connection))

    def _rescue(self, connection: Connection) -> None:
        """Tries again to bring a connection away from a NIC without a link."""
        record = self._records.get(connection)
        if record is not None and record.offloaded and record.nic not in self._team.active:
            self._carry_out(self._on_link_down(record.nic, [(connection, record)], self._load()), record.nic)

    def _moved(self, outcome: Outcome, track: Tracked, now: float) -> None:
        plan, known, told, history = outcome.plan, outcome.record, outcome.saved, track.history
        if plan.source != HOST:
            history.left[plan.source] = now
        if plan.resend:
            history.fault = now
        history.seen = Seen(told.snd_una, told.rcv_nxt, now) if told else None
        by_host = HOST in (plan.source, outcome.target)  # who else counts nothing meanwhile that is asked for
        record = self._records.get(plan.connection) if by_host else known
        if record is None:
            self.tracker.gone(plan.connection, known)
            return
        track.moved(outcome, record)
        if outcome.target is not None and outcome.target != HOST:
            self._paths.arrived(plan.connection, outcome.target, record.peer_mac)
        first_packet = plan.cause == "link_down" and self._config.on_fault is OnFault.ON_FIRST_PACKET
        if outcome.target == HOST and (first_packet or plan.target != HOST or plan.cause == "idle"):
            self._rest(plan.connection, record)

    def _rest(self, connection: Connection, record: Record) -> None:
        """It only rests in the host: due again, its next frame tells the NIC that it is to go to."""
        self._mark(connection, record, due=False)

    def _mark(self, connection: Connection, r: Record, *, due: bool | None = None, closing: bool | None = None) -> None:
        """Unless the record is another's by now."""
        self._records.assign([Assignment(connection, r.epoch, r.nic, r.offloaded, r.stage, due=due, closing=closing)])
