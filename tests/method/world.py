"""A team in small: stacks that hold connections, an agent that follows policy.py and reload.py, and doors of records.

    peer --> NIC (takes what is its own) --> arrive --+--> enter --> the host's TCP --> leave
                                                      +--> the owner NIC
                                                      +--> queue

What is real here: policy.py, reload.py, ageing.py, and behind the doors decision.py with plain_records.py, or the BPF
programs. What is not: engines, which answer when they are told to, and time.
A stack that gets a segment of a connection which another one holds is a fault of the method: it would answer with RST.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Protocol

from host_agent import ageing, policy
from host_agent.connection import Connection
from host_agent.decision import ACK, FIN, RST, SYN, Frame, Record, Stage
from host_agent.plain_records import PlainRecords
from host_agent.policy import HOST, Chooser, Evidence, History, OnFault, Plan, Seen
from host_agent.records import Assignment, RecordKeeper, Report, ReportKind
from host_agent.reload import Ask, Outcome, Steps, move
from host_agent.told import Told
from host_agent.verbs import Message
from tests.method.model import Segment

BITS = {"S": SYN, "A": ACK, "F": FIN, "R": RST}
MAC = bytes.fromhex("020000000101")
GONE = {"error": "the engine is gone", "reason": "fault"}


def frame(nic: int, s: Segment) -> Frame:
    return Frame(nic, s.length, sum(BITS[b] for b in s.bits), MAC, s.seq, s.ack, s.payload)


class Doors(Protocol):
    """Where frames pass: Figure 4, the host's door both ways; the records behind them, and their clock in ns."""

    records: RecordKeeper
    ahead: int  # ns that now() is ahead of the clock of the records' own times

    def arrive(self, who: Connection, nic: int, s: Segment) -> tuple[str, str]: ...  # block's label, action
    def enter(self, who: Connection, s: Segment, *, released: bool) -> bool: ...
    def leave(self, who: Connection, s: Segment) -> bool: ...
    def reports(self) -> list[Report]: ...
    def now(self) -> int: ...
    def wait(self, ns: int) -> None: ...


class PlainDoors:
    """decision.py and plain_records.py."""

    def __init__(self, capacity: int):
        self._told: list[Report] = []
        self._now = 10**15
        self.ahead = 0
        self.records: PlainRecords = PlainRecords(capacity, self._told.append)

    def arrive(self, who: Connection, nic: int, s: Segment) -> tuple[str, str]:
        verdict = self.records.arrive(who, frame(nic, s), self._now)
        return verdict.block.label, verdict.action.value

    def enter(self, who: Connection, s: Segment, *, released: bool) -> bool:
        return self.records.enter(who, frame(0, s), released=released).value == "up"

    def leave(self, who: Connection, s: Segment) -> bool:
        return self.records.leave(who, frame(0, s), self._now).sent

    def reports(self) -> list[Report]:
        told, self._told[:] = list(self._told), []
        return told

    def now(self) -> int:
        return self._now

    def wait(self, ns: int) -> None:
        self._now += ns


class World:
    """engines[place]: connection -> live or frozen. begun: the moves begun since the last look. wrong: what must never
    happen, in words."""

    def __init__(self, doors: Doors, nics: int):
        self.doors, self.nics = doors, range(nics)
        self.engines: dict[int, dict[Connection, str]] = {place: {} for place in (HOST, *self.nics)}
        self.links = set(self.nics)
        self.alive = {HOST, *self.nics}
        self.active_at: dict[Connection, int] = {}
        self.moves: dict[Connection, tuple[Steps, Ask]] = {}
        self.begun: list[Plan] = []
        self.ended: list[Outcome] = []
        self.wrong: list[str] = []
        self.told: list[Report] = []
        self.peer_next: defaultdict[Connection, int] = defaultdict(lambda: 2**32 - 500)
        self.host_next: defaultdict[Connection, int] = defaultdict(lambda: 2**32 - 900)
        self.on_fault = OnFault.RELOAD
        self._history: defaultdict[Connection, History] = defaultdict(History)
        self._queue: defaultdict[Connection, list[Segment]] = defaultdict(list)
        self._chooser = Chooser(policy.Choice.LEAST_LOADED)
        self.on_enter = self.on_leave = self.on_closed = self.on_lost = lambda *_: None  # the model looks on

    # -- frames ------------------------------------------------------------------------------------------------------

    @property
    def up(self) -> tuple[int, ...]:
        return tuple(sorted(self.links & self.alive))

    def holders(self, who: Connection) -> list[int]:
        return [place for place, held in self.engines.items() if who in held]

    def takes(self, nic: int, who: Connection, s: Segment) -> bool:
        """Whether a NIC takes a frame from its wire."""
        return self.engines[nic].get(who) == "live" and not s.opens and who not in self.moves

    def nic_gets(self, nic: int, who: Connection, s: Segment) -> None:
        if self.engines[nic].get(who) != "live":
            if any(held.get(who) == "live" for held in self.engines.values()):
                self.wrong.append(f"a segment of {who} was lost at nic {nic}, which does not hold it")
            return
        self.active_at[who] = self.doors.now()
        if "R" in s.bits:
            self.finish(nic, who)

    def host_gets(self, who: Connection, s: Segment, *, released: bool) -> None:
        entered = self.doors.enter(who, s, released=released)
        self.on_enter(who, s, released, entered)
        if not entered:
            record = self.doors.records.get(who)
            assert record is not None
            if record.offloaded:
                self.nic_gets(record.nic, who, s)
            else:
                self._queue[who].append(s)
            return
        state = self.engines[HOST].get(who)
        if state is None and self.holders(who):
            self.wrong.append(f"the host got a segment of {who}, which {self.holders(who)} holds: it answers with RST")
        elif state is None and s.opens:
            self.engines[HOST][who] = "live"
        elif state is None and "R" not in s.bits:
            self.host_sends(who, "R")
        elif state and "R" in s.bits:
            for held in self.engines.values():  # what is still frozen elsewhere has moved here, and is not it any more
                held.pop(who, None)
        self._done_at_host(who)

    def host_sends(self, who: Connection, bits: str, payload: int = 0) -> None:
        s = Segment(bits, self.host_next[who], self.peer_next[who], payload, length(who, payload))
        sent = self.doors.leave(who, s)
        self.on_leave(who, s, sent)
        self.host_next[who] = (s.seq + payload + ("F" in bits)) % 2**32
        if "R" in bits:
            self.engines[HOST].pop(who, None)
        self._done_at_host(who)

    def _done_at_host(self, who: Connection) -> None:
        record = self.doors.records.get(who)
        if record and record.closing and not record.offloaded and record.stage is Stage.SETTLED:
            self.engines[HOST].pop(who, None)

    def queue(self, who: Connection, s: Segment) -> None:
        self._queue[who].append(s)

    def waiting(self, connections: list[Connection]) -> set[Connection]:
        """As Hold, and so is the next."""
        return self._queue.keys() & set(connections)

    def release(self, connections: list[Connection]) -> dict[Connection, int]:
        queued = {who: self._queue.pop(who) for who in connections if who in self._queue}
        for who, segments in queued.items():
            if self.doors.records.get(who) is None:
                self.on_lost(who)
            for s in segments:
                record = self.doors.records.get(who)
                if record and record.offloaded:
                    self.nic_gets(record.nic, who, s)
                else:
                    self.host_gets(who, s, released=True)
        return {who: len(segments) for who, segments in queued.items()}

    # -- the agent ---------------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Acts on what the frame path has reported, as agent.py does."""
        self.told = self.doors.reports()
        for report in self.told:
            who, record = report.connection, self.doors.records.get(report.connection)
            if report.kind is ReportKind.CLOSED and report.by == 3 and who in self.engines[report.nic]:
                del self.engines[report.nic][who]
            if record is None or who in self.moves:
                continue
            if report.kind is ReportKind.DUE:
                target = record.nic if record.nic in self.up else self._chooser.pick(self.up, {}, who)
                if target is not None:
                    self.start(Plan(who, HOST, target, "policy"))
            elif report.kind is ReportKind.STRAY:
                found = Evidence(report.nic, report.epoch, report.seq, report.ack, report.payload)
                if policy.should_reload(record, found, self._history[who], self.up, self.seconds()):
                    self.start(Plan(who, record.nic, report.nic, "stray", fallbacks=(record.nic, HOST)))

    def seconds(self) -> float:
        return self.doors.now() / 1e9

    def start(self, plan: Plan) -> None:
        if plan.connection in self.moves:
            return
        self.begun.append(plan)
        self._go_on(plan.connection, move([plan], self.doors.records, self), None)  # type: ignore[arg-type]

    def answer(self, who: Connection, *, refuse: bool) -> None:
        """The engine that a move waits for answers."""
        steps, ask = self.moves.pop(who)
        self._go_on(who, steps, self._engine(who, ask, refuse=refuse))

    def _go_on(self, who: Connection, steps: Steps, reply: Message | None) -> None:
        try:
            while True:
                ask = steps.send(reply)
                reply = None
                if not isinstance(ask, Ask):
                    for outcome in ask:
                        self._over(outcome)
                elif ask.reply:
                    self.moves[who] = (steps, ask)
                    return
                else:
                    self._engine(who, ask, refuse=False)
        except StopIteration:
            pass

    def _engine(self, who: Connection, ask: Ask, *, refuse: bool) -> Message:
        held = self.engines[ask.engine]
        verb = ask.message.verb
        if ask.engine not in self.alive:
            return Message("reply", dict(GONE))
        if verb == "save" and (refuse or held.get(who) != "live"):
            return Message(
                "reply", {"saved": [], "refused": [{"at": 0, "error": "it cannot move now", "reason": "state"}]}
            )
        if verb == "save":
            held[who] = "frozen"
            if ask.engine == HOST:
                self._silence(who)
            told = Told(7, "ESTABLISHED", self.host_next[who], self.peer_next[who], *[0] * 7)
            channel, contexts = (os.open("/dev/null", os.O_RDONLY) for _ in range(2))
            return Message("reply", {"saved": [told], "refused": []}, [channel], contexts)
        if verb == "restore" and refuse:
            return Message("reply", {"refused": [{"at": 0, "error": "full", "reason": "full"}]})
        if verb in ("restore", "thaw"):
            held[who] = "live"
            self.active_at[who] = self.doors.now()
        elif verb in ("discard", "invalidate"):
            held.pop(who, None)
        return Message("reply", {"refused": []})

    def _silence(self, who: Connection) -> None:
        r = self.doors.records.get(who)
        if r is not None:
            self.doors.records.assign([Assignment(who, r.epoch, r.nic, r.offloaded, Stage.SILENT)])

    def _over(self, outcome: Outcome) -> None:
        who, source = outcome.plan.connection, outcome.plan.source
        self.ended.append(outcome)
        if outcome.moved:
            history, now = self._history[who], self.seconds()
            if source != HOST:
                history.left[source] = now
            assert outcome.saved is not None
            history.seen = Seen(outcome.saved.snd_una, outcome.saved.rcv_nxt, now)

    # -- what happens to NICs and records ----------------------------------------------------------------------------

    def all(self) -> list[tuple[Connection, Record]]:
        return list(self.doors.records.all())

    def link_down(self, nic: int) -> policy.Walk:
        self.links.discard(nic)
        return self._carry_out(policy.on_link_down(nic, self.up, self.all(), self.on_fault, self._chooser))

    def link_up(self, nic: int, *, rebalance: bool) -> policy.Walk:
        self.links.add(nic)
        walk = policy.on_link_up(nic, self.up, self.all(), rebalance=rebalance, chooser=self._chooser)
        return self._carry_out(walk)

    def adapter_dies(self, nic: int) -> policy.Walk:
        """Bus, wire and engine are gone, with every context."""
        self.links.discard(nic)
        self.alive.discard(nic)
        self.engines[nic].clear()
        for who, (_, ask) in list(self.moves.items()):
            if ask.engine == nic:
                self.answer(who, refuse=True)
        walk = self._carry_out(policy.on_adapter_failure(nic, self.all()))
        for who in walk.lost:
            self.doors.records.delete(who)
        return walk

    def _carry_out(self, walk: policy.Walk) -> policy.Walk:
        for plan in walk.moves:
            self.start(plan)
        for who in walk.remove:
            self.doors.records.delete(who)
        return walk

    def finish(self, place: int, who: Connection) -> None:
        """An engine's `closed`: the record leads late segments to the TIME-WAIT it leaves behind."""
        self.engines[place].pop(who, None)
        r = self.doors.records.get(who)
        if r is not None and r.offloaded and r.nic == place:
            self.doors.records.assign([Assignment(who, r.epoch, r.nic, True, r.stage, closing=True)])
            self.on_closed(who)

    def age(self, age: float, linger: float) -> ageing.Aged:
        ahead = self.doors.ahead
        active = {
            w: self.active_at[w] - ahead for nic in self.nics for w, s in self.engines[nic].items() if s == "live"
        }
        aged = ageing.too_old(self.all(), active, self.doors.now() - ahead, age=age, linger=linger)
        for who in aged.remove:
            self.doors.records.delete(who)
        for who in aged.upload:
            record = self.doors.records.get(who)
            assert record is not None
            self.start(Plan(who, record.nic, HOST, "idle"))
        return aged


def length(who: Connection, payload: int) -> int:
    """Bytes on the wire of a segment without options."""
    return (74 if who.ipv6 else 54) + payload
