"""Random sequences of what can happen to a team: traffic.py's rules, and faults, returns, ends, age and lack of room.

test_method.py runs it over plain Python, test_method_bpf.py over the BPF programs.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from host_agent import ageing
from host_agent.connection import Connection
from host_agent.policy import HOST, OnFault
from tests.method.facts import load_of, shared, threshold
from tests.method.model import Entry
from tests.method.traffic import NICS, SECOND, Traffic

AGE, LINGER = 7.0, 3.0  # seconds; time passes in twos, so that a clock that runs by itself decides nothing


class MethodMachine(Traffic):
    """`doors` is what a test gives it."""

    @precondition(lambda self: self.world.up)
    @rule(data=st.data(), adapter=st.sampled_from([False, False, False, True]))
    def a_nic_fails(self, data: st.DataObject, adapter: bool) -> None:
        nic = data.draw(st.sampled_from(self.world.up))
        if adapter:
            self._adapter_fails(nic)
        else:
            self._link_dies(nic)

    def _link_dies(self, nic: int) -> None:
        """For each record of that NIC: not offloaded, removed, unless a stream ends, which it must know; offloaded,
        reloaded onto another, or to the host."""
        w, m = self.world, self.model
        mine = {who: e for who, e in m.table.items() if e.nic == nic and not e.moving}
        gone = {who for who, e in mine.items() if not (e.offloaded or e.ends)}
        away = {who for who, e in mine.items() if e.offloaded}
        load = load_of(m.table)
        w.links.discard(nic)
        self._set_live()
        walk = w.link_down(nic)
        assert set(walk.remove) == gone
        for who in gone:
            del m.table[who]
        if w.on_fault is OnFault.UPLOAD:
            assert {(p.connection, p.target) for p in walk.moves} == {(who, HOST) for who in away}
        elif w.up:
            assert {p.connection for p in walk.moves} == away
            assert not walk.stranded
            shared(walk.moves, load, w.up)
        else:
            assert set(walk.stranded) == away
            assert not walk.moves
        assert all(p.resend for p in walk.moves)  # what was in flight is sent again at once
        self._began([(p.connection, p.target) for p in walk.moves])

    @precondition(lambda self: len(self.world.up) < NICS)
    @rule(data=st.data(), rebalance=st.booleans())
    def a_nic_returns(self, data: st.DataObject, rebalance: bool) -> None:
        nic = data.draw(st.sampled_from(sorted({*self.world.nics} - {*self.world.up})))
        self.world.alive.add(nic)
        self._link_returns(nic, rebalance)

    def _link_returns(self, nic: int, rebalance: bool) -> None:
        """What was stranded goes where there is a link; nothing else moves unless the fail-back is to rebalance."""
        w, m = self.world, self.model
        stranded = {who for who, e in m.table.items() if e.offloaded and not e.moving and e.nic not in {*w.up, nic}}
        w.links.add(nic)
        self._set_live()
        walk = w.link_up(nic, rebalance=rebalance)
        moved = {p.connection for p in walk.moves}
        assert stranded <= moved
        assert rebalance or moved == stranded
        assert all(p.target == nic for p in walk.moves if p.connection not in stranded)
        self._began([(p.connection, p.target) for p in walk.moves])

    def _adapter_fails(self, nic: int) -> None:
        """Its contexts are lost, each by name, and their records deleted; connections not offloaded go on."""
        w, m = self.world, self.model
        at_host = set(w.engines[HOST])
        waiting = [who for who, (_, ask) in w.moves.items() if ask.engine == nic]
        w.links.discard(nic)
        w.alive.discard(nic)
        self._set_live()
        walk = w.adapter_dies(nic)
        for who in waiting:
            self._settle(who)
        for who in [*walk.lost, *walk.remove]:
            m.table.pop(who, None)
        assert at_host <= set(w.engines[HOST]) | {who for n in w.nics for who in w.engines[n]}, "the host lost one"
        named = [e for e in m.table.values() if e.nic == nic and not e.moving]
        assert all(e.ends and not e.offloaded for e in named), "it is named by a record"
        self._act()

    @rule(data=st.data(), what=st.sampled_from(["a NIC is done", "age", "age", "room", "another keeper"]))
    def something_goes(self, data: st.DataObject, what: str) -> None:
        if what == "age":
            self._the_old_ones_go()
        elif what == "room":
            self._some_give_way(data.draw(st.integers(1, 3)))
        elif what == "another keeper":
            self._the_records_are_kept_by_another(data.draw(st.integers(2, 6)))
        elif self._offloaded():
            self._a_nic_is_done(data.draw(st.sampled_from(self._offloaded())))

    def _a_nic_is_done(self, who: Connection) -> None:
        """Both streams have ended in a NIC: late segments still go to it, and a SYN begins another connection."""
        self.world.finish(self.model.table[who].nic, who)

    @precondition(lambda self: self.passed < 60)
    @rule(twos=st.integers(1, 3))
    def time_passes(self, twos: int) -> None:
        self.passed += 2 * twos
        self.world.doors.wait(2 * twos * SECOND)

    def _the_old_ones_go(self) -> None:
        w, m = self.world, self.model
        active = {who: w.active_at[who] for n in w.nics for who, state in w.engines[n].items() if state == "live"}
        go, up = m.too_old(active, w.doors.now(), AGE * SECOND, LINGER * SECOND)
        aged = w.age(AGE, LINGER)
        assert (set(aged.remove), set(aged.upload)) == (go, up)
        for who in go:
            del m.table[who]
        self._began([(who, HOST) for who in up])

    def _some_give_way(self, room: int) -> None:
        """Room is made by closed connections first, then by those that never went on, then by the quietest; by
        offloaded or moving ones never."""
        w, m = self.world, self.model
        able = {who: e for who, e in m.table.items() if not e.offloaded and not e.moving}
        chosen = ageing.give_way(w.doors.records.all(), room)

        def worth(e: Entry) -> tuple:
            return not e.done, e.packets > 1, e.seen

        assert len(chosen) == min(room, len(able))
        assert set(chosen) <= set(able)
        rest = [able[who] for who in set(able) - set(chosen)]
        for who in chosen:
            assert all(worth(able[who]) <= worth(e) for e in rest)
            w.doors.records.delete(who)
            del m.table[who]

    def _the_records_are_kept_by_another(self, capacity: int) -> None:
        """With more or less room; nobody notices but those who find no room."""
        w, m = self.world, self.model
        if w.moves or sum(e.offloaded for e in m.table.values()) > capacity:
            return
        for who in ageing.give_way(w.doors.records.all(), len(m.table) - capacity) if len(m.table) > capacity else ():
            w.doors.records.delete(who)
            del m.table[who]
        known, team, now = list(w.doors.records.all()), w.doors.records.team, w.doors.now()
        w.doors, m.room = self.doors(capacity), capacity
        w.doors.wait(now - w.doors.now())
        for who, record in known:
            w.doors.records.put(who, record)
        w.doors.records.team = team
        for port, limit in m.services.items():
            w.doors.records.set_service(port, threshold(*limit))
        assert w.doors.records.capacity == capacity
