"""Frames, requests and moves in random sequences, through the world and the model; after every step both must agree.

The rules say what happens; each asks the model what the method's text leads to, and compares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from host_agent.connection import Connection
from host_agent.decision import Stage
from host_agent.policy import HOLD_DOWN, HOST, OnFault, Plan
from host_agent.records import ReportKind
from tests.method.facts import facts_in, facts_of, threshold
from tests.method.model import Entry, Method, Segment
from tests.method.world import Doors, World, length

NICS = 3
KINDS = st.sampled_from([*["A"] * 10, *["late"] * 3, *["blind"] * 2, "FA", "R", "S"])
SECOND = 10**9
LATE = 1000  # bytes that an old segment is behind

ONE = Connection("10.0.0.11", 40000, "10.0.0.1", 8080)
SIX = Connection("fd00::11", 40000, "fd00::1", 8080)
PEOPLE = [ONE, SIX, ONE._replace(sport=40001), ONE._replace(dport=443), SIX._replace(dport=22)]
WHO, NIC = st.sampled_from(PEOPLE), st.integers(0, NICS - 1)
WAYS = {"up": "up", "owner": "forward", "queue": "hold"}


class Traffic(RuleBasedStateMachine):
    """`doors` is what a test gives it."""

    def doors(self, capacity: int) -> Doors:
        raise NotImplementedError

    @initialize(
        capacity=st.integers(3, 8),
        strays=st.sampled_from([1, 1, 1, 2, 3, 1000]),
        after=st.sampled_from([None, None, 3]),
        size=st.sampled_from([None, 0, 1000]),
        old=st.sampled_from([None, None, 5]),
        ssh=st.sampled_from([None, (None, None), (0, None), (None, 3)]),
        on_fault=st.sampled_from([OnFault.RELOAD, OnFault.RELOAD, OnFault.UPLOAD]),
    )
    def begin(self, capacity, strays, after, size, old, ssh, on_fault) -> None:
        self.world = World(self.doors(capacity), NICS)
        self.world.on_fault = on_fault
        self.world.on_enter, self.world.on_leave, self.world.on_closed = self._entered, self._left, self._closed
        self.world.on_lost = lambda who: self.model.table.pop(
            who, None
        )  # its held frames meet a host that knows nothing
        self.model = Method(capacity)
        self.passed = 0
        self.expected: list[str] = []
        self.left: dict[Connection, dict[int, float]] = {}
        self.moved_at: dict[Connection, float] = {}
        self._set_rules(strays, after, size, old)
        if ssh is not None:
            self.model.services[22] = tuple(None if one is None else one * SECOND for one in ssh)
            self.world.doors.records.set_service(22, threshold(*self.model.services[22]))

    def _set_rules(self, strays: int, after: int | None, size: int | None, old: int | None) -> None:
        m = self.model
        m.enough_strays, m.by_bytes = strays, size
        m.enough_time, m.by_age = (None if one is None else one * SECOND for one in (after, old))
        limit = threshold(m.by_bytes, m.by_age)
        records = self.world.doors.records
        records.team = replace(
            records.team,
            report_every=0,
            stray_frames=strays,
            stray_after=m.enough_time or 0,
            offload_after=limit.after_bytes,
            offload_after_ns=limit.after_ns,
        )
        self._set_live()

    def _set_live(self) -> None:
        records = self.world.doors.records
        records.team = replace(records.team, live=self.world.up)

    # -- frames ------------------------------------------------------------------------------------------------------

    def _some(self, holds: Callable[[Connection, Entry | None], bool]) -> list[Connection]:
        """For preconditions and draws: the connections for which something holds, by what is on record."""
        return [who for who in PEOPLE if holds(who, self.model.table.get(who))]

    @precondition(lambda self: self._some(lambda who, _: not self.world.holders(who)))
    @rule(data=st.data(), nic=NIC)
    def a_connection_opens(self, data: st.DataObject, nic: int) -> None:
        who = data.draw(st.sampled_from(self._some(lambda who, _: not self.world.holders(who))))
        for kind in ("S", "A"):
            self._comes(who, nic, kind, 0)

    @precondition(lambda self: self._lives())
    @rule(
        data=st.data(), nic=st.integers(-2, NICS - 1), kind=KINDS, payload=st.integers(0, 700), times=st.integers(1, 3)
    )
    def frames_come(self, data: st.DataObject, nic: int, kind: str, payload: int, times: int) -> None:
        """Of a connection that some stack holds, by any NIC, most often by the one on record."""
        who = data.draw(st.sampled_from(self._lives()))
        e = self.model.table.get(who)
        for _ in range(times if kind in ("A", "late") else 1):
            self._comes(who, nic if nic >= 0 else e.nic if e else 0, kind, payload)

    def _lives(self) -> list[Connection]:
        return self._some(lambda who, _: bool(self.world.holders(who)))

    @precondition(lambda self: self._offloaded())
    @rule(data=st.data(), further=st.integers(1, NICS - 1), kind=KINDS, times=st.integers(1, 3))
    def the_switch_chooses_another_nic(self, data: st.DataObject, further: int, kind: str, times: int) -> None:
        who = data.draw(st.sampled_from(self._offloaded()))
        for _ in range(times):
            e = self.model.table.get(who)
            if e:
                self._comes(who, (e.nic + further) % NICS, kind, 10)

    @precondition(lambda self: self._just_left())
    @rule(data=st.data(), times=st.integers(1, 3))
    def late_frames_come_by_the_nic_that_it_left(self, data: st.DataObject, times: int) -> None:
        """They are forwarded, and prove nothing, whatever their numbers."""
        who, nic = data.draw(st.sampled_from(self._just_left()))
        for _ in range(times):
            self._comes(who, nic, "A", 10)

    def _just_left(self) -> list[tuple[Connection, int]]:
        return [
            (who, nic)
            for who in self._offloaded()
            for nic, since in sorted(self.left.get(who, {}).items())
            if since == self.world.seconds() and nic != self.model.table[who].nic
        ]

    @rule(who=WHO, nic=NIC, kind=KINDS)
    def a_frame_of_anybody_comes(self, who: Connection, nic: int, kind: str) -> None:
        self._comes(who, nic, kind, 100)

    def _comes(self, who: Connection, nic: int, kind: str, payload: int) -> None:
        """By the wire; `blind`: it passed the NIC before the NIC had the connection."""
        w = self.world
        seq, ack = w.peer_next[who], w.host_next[who]
        if kind == "late":
            s = Segment("A", (seq - LATE) % 2**32, (ack - LATE) % 2**32, 100, length(who, 100))
        else:
            bits = {"blind": "A"}.get(kind, kind)
            payload = payload if bits == "A" else 0
            s = Segment(bits, seq, ack, payload, length(who, payload))
            w.peer_next[who] = (seq + payload + ("F" in bits)) % 2**32
        if kind != "blind" and w.takes(nic, who, s):
            w.nic_gets(nic, who, s)
            return
        self._arrives(who, nic, s)
        self._act()

    def _arrives(self, who: Connection, nic: int, s: Segment) -> None:
        w, now = self.world, self.world.doors.now()
        fate = self.model.arrival(who, nic, s, now)
        told = self._told(fate.told)
        block, action = w.doors.arrive(who, nic, s)
        assert (block.split("_")[1], action) == (str(fate.block), WAYS[fate.way]), (block, action, fate)
        self.expected += told
        if fate.way == "up":
            w.host_gets(who, s, released=False)
        elif fate.way == "queue":
            w.queue(who, s)
        else:
            w.nic_gets(self.model.table[who].nic, who, s)
        self.last = (who, nic, s)

    def _told(self, told: tuple[str, ...]) -> list[str]:
        return [one.upper() for one in told]

    def _entered(self, who: Connection, s: Segment, released: bool, entered: bool) -> None:
        assert self.model.enters(who, s, released=released) == entered

    def _closed(self, who: Connection) -> None:
        self.model.table[who].done = True

    def _left(self, who: Connection, s: Segment, sent: bool) -> None:
        expected, told = self.model.leaves(who, s, self.world.doors.now(), set(self.world.up))
        assert sent == expected
        self.expected += self._told(told)

    @precondition(lambda self: self._at_host())
    @rule(data=st.data(), bits=st.sampled_from([*["A"] * 12, "FA", "FA", "R"]), payload=st.integers(0, 700))
    def the_host_sends(self, data: st.DataObject, bits: str, payload: int) -> None:
        self.world.host_sends(data.draw(st.sampled_from(self._at_host())), bits, payload)
        self._act()

    def _at_host(self) -> list[Connection]:
        return self._some(lambda who, _: self.world.engines[HOST].get(who) == "live")

    @precondition(lambda self: self._offloaded())
    @rule(data=st.data())
    def the_host_speaks_out_of_turn(self, data: st.DataObject) -> None:
        """Of a connection that a NIC holds: it is not the host's to say."""
        self.world.host_sends(data.draw(st.sampled_from(self._offloaded())), "A", 0)
        self._act()

    def _offloaded(self) -> list[Connection]:
        return self._some(lambda _, e: bool(e and e.offloaded and not e.moving))

    # -- what the agent is told leads to moves -----------------------------------------------------------------------

    def _act(self) -> None:
        """The agent hears what the model says it hears, and begins the moves that the text asks for."""
        w = self.world
        wanted: list[tuple[Connection, int]] = []
        before = {who: (e.nic, e.moving, e.offloaded) for who, e in self.model.table.items()}
        w.listen()
        assert [r.kind.name for r in w.told] == self.expected, (w.told, self.expected)
        for r in w.told:
            nic, moving, offloaded = before.get(r.connection, (None, "", False))
            if nic is None or moving:
                continue
            if r.kind is ReportKind.DUE and not offloaded and w.up:
                # A record exists: to its NIC. Its link is down: to an arbitrary one of the team.
                any_of = {p.connection: p.target for p in w.begun}
                wanted.append((r.connection, nic if nic in w.up else any_of.get(r.connection, -9)))
            if r.kind is ReportKind.STRAY and offloaded and self._is_evidence(r.connection, r.nic):
                wanted.append((r.connection, r.nic))
        self.expected = []
        self._began(wanted)

    def _is_evidence(self, who: Connection, nic: int) -> bool:
        """Late frames after a move prove nothing: by the NIC it has just left, or old by their numbers."""
        now, (_, _, s) = self.world.seconds(), self.last
        if nic not in self.world.up or now - self.left.get(who, {}).get(nic, -1e9) < HOLD_DOWN:
            return False
        # Numbers tell old from new for a second.
        new = (self.world.peer_next[who] - s.seq) % 2**32 < LATE
        return new or now - self.moved_at.get(who, -1e9) >= 1.0

    def _began(self, wanted: list[tuple[Connection, int]]) -> None:
        begun = [(p.connection, p.target) for p in self.world.begun]
        assert sorted(begun) == sorted(wanted), (begun, wanted)
        assert all(target == HOST or target in self.world.up for _, target in begun)
        for who, _ in begun:
            if who in self.world.moves:
                self.model.table[who].moving = "held"
        self.world.begun.clear()
        self._over()

    def _over(self) -> None:
        """Moves that have ended: the record names who has the context now."""
        w = self.world
        for outcome in w.ended:
            who, source = outcome.plan.connection, outcome.plan.source
            e = self.model.table.get(who)
            if outcome.target is None:
                assert {*w.holders(who)} <= {HOST}  # a SYN among its held frames may have opened another
                assert source != HOST, "lost at the host"
                assert source not in w.alive, "lost without a fault"
                self.model.table.pop(who, None)
            elif e and outcome.moved:
                self.model.moved(who, nic=None if outcome.target == HOST else outcome.target)
                self.moved_at[who] = w.seconds()
                if source != HOST:
                    self.left.setdefault(who, {})[source] = w.seconds()
            elif e:
                e.moving = ""
                e.offloaded, e.nic = source != HOST, e.nic if source == HOST else source
        w.ended.clear()

    @precondition(lambda self: self._settled())
    @rule(data=st.data())
    def a_command(self, data: st.DataObject) -> None:
        """offload, upload, reload of one connection, to the host or to a NIC of the team."""
        who = data.draw(st.sampled_from(self._settled()))
        e = self.model.table[who]
        source = e.nic if e.offloaded else HOST
        nic = data.draw(st.sampled_from([HOST, *self.world.up]))
        if nic == source:
            return
        self.world.start(Plan(who, source, nic, "command", fallbacks=(source,)))
        self._began([(who, nic)])

    def _settled(self) -> list[Connection]:
        return self._some(lambda _, e: bool(e and not e.moving))

    @precondition(lambda self: self.world.moves)
    @rule(data=st.data(), refuse=st.sampled_from([False, False, False, True]))
    def an_engine_answers(self, data: st.DataObject, refuse: bool) -> None:
        who = data.draw(st.sampled_from(sorted(self.world.moves)))
        self.world.answer(who, refuse=refuse)
        self._settle(who)
        self._act()

    @precondition(lambda self: self.world.moves)
    @rule()
    def all_engines_answer(self) -> None:
        while self.world.moves:
            who = next(iter(self.world.moves))
            self.world.answer(who, refuse=False)
            self._settle(who)
            self._act()

    def _settle(self, who: Connection) -> None:
        """Where a held record points is reload.py's affair until the move is over; then it is the model's."""
        e, r = self.model.table.get(who), self.world.doors.records.get(who)
        if e and r and who in self.world.moves:
            assert r.stage is not Stage.SETTLED
            e.moving = "silent" if r.stage is Stage.SILENT else "held"
            e.nic, e.offloaded = r.nic, r.offloaded
        self._over()

    # -- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def no_stack_gets_what_another_holds(self) -> None:
        assert not self.world.wrong, self.world.wrong

    @invariant()
    def each_connection_lives_once(self) -> None:
        for who in PEOPLE:
            states = [held[who] for held in self.world.engines.values() if who in held]
            assert states.count("live") <= 1
            assert len(states) <= 1 or who in self.world.moves

    @invariant()
    def an_owner_is_on_record(self) -> None:
        """Every stray finds its owner: who holds an offloaded connection is who the record names."""
        for nic in self.world.nics:
            for who, state in self.world.engines[nic].items():
                e = self.model.table.get(who)
                assert e is not None, f"{who} lives at nic {nic} and has no record"
                assert e.moving or (e.offloaded and e.nic == nic and state == "live")

    @invariant()
    def the_records_are_the_models(self) -> None:
        found = dict(self.world.doors.records.all())
        assert found.keys() == self.model.table.keys()
        for who, r in found.items():
            assert facts_of(r) == facts_in(self.model.table[who]), (who, r, self.model.table[who])
