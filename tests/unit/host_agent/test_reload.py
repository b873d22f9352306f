"""One move, step by step: what is asked of whom in which order, and where a context goes that is refused."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from host_agent import verbs
from host_agent.connection import Connection
from host_agent.decision import NO_FINS, Fins, Record, Stage
from host_agent.plain_records import PlainRecords
from host_agent.policy import HOST, Plan
from host_agent.records import Assignment
from host_agent.reload import Ask, Outcome, move
from host_agent.told import Told
from host_agent.verbs import Message

ONE = Connection("10.0.0.11", 40000, "10.0.0.1", 8080)
OTHERS = tuple(ONE._replace(sport=port) for port in range(40001, 40006))
MAC = bytes.fromhex("020000000101")
SAVED = Told(0, "ESTABLISHED", 1, 2, 3, 1000, 2000, 10, 20, 120, 200_000)


def context_of(connection: Connection) -> bytes:
    return b"context" * (connection.sport % 7 + 1)


class Bench(PlainRecords):
    """Records, hold queue and engines in one, with a log of all they were told. refusing: engines that refuse to
    restore, or some connections by engine; dead: that die when asked to; saves, thaws: whether the old one gives its
    connections, and takes them back, but for those in `odd`; state: in which they are. disturb: what else happens, by
    the name of the step that it comes before."""

    def __init__(self, record: Record | None, others: Sequence[Connection] = (), **how: Any):
        super().__init__()
        self.names = (ONE, *others)
        for name in self.names if record else ():
            self.put(name, record)
        self.refusing: dict[int, Sequence[Connection]] = dict.fromkeys(how.pop("refusing", ()), self.names)
        self.dead: Sequence[int] = how.pop("dead", ())
        self.saves, self.thaws = how.pop("saves", True), how.pop("thaws", True)
        self.odd: Sequence[Connection] = how.pop("odd", ())
        self.state: str = how.pop("state", SAVED.state)
        self.held = dict.fromkeys(self.names, 5)
        self.disturb: dict[str, Callable[[Bench], None]] = how.pop("disturb", {})
        assert not how
        self.log: list[str] = []
        self.channels: list[int] = []
        self.asked: list[Ask] = []
        self.told: dict[str, list[Connection]] = {}  # by step, of whom

    def _step(self, name: str) -> None:
        if name in self.disturb:
            self.disturb.pop(name)(self)
        self.log.append(name)

    @property
    def record(self) -> Record | None:
        return self.get(ONE)

    # as Records
    def assign(self, assignments: Sequence[Assignment]) -> list[bool]:
        for name in dict.fromkeys(
            f"{a.stage.name} {'nic' if a.offloaded else 'host'}{' moved' if a.moved else ''}" for a in assignments
        ):
            self._step(name)
        return super().assign(assignments)

    def delete(self, connection: Connection) -> bool:
        self._step("delete")
        return super().delete(connection)

    # as Hold
    def waiting(self, connections: Sequence[Connection]) -> set[Connection]:
        return self.held.keys() & set(connections)

    def release(self, connections: Sequence[Connection]) -> dict[Connection, int]:
        if connections:
            self._step("let out")
        held = {one: self.held.pop(one) for one in connections if one in self.held}
        return held

    # as engines
    def answer(self, ask: Ask, channels: dict[Connection, int]) -> Message:
        self.asked.append(ask)
        verb, fields = ask.message.verb, ask.message.fields
        self._step(f"{verb} {ask.engine}")
        if ask.engine in self.dead:
            return Message("reply", {"error": "gone", "reason": "fault"})
        if verb == "save":
            able = [c for c in fields["connections"] if self.saves and c not in self.odd]
            assert all(r is None or r.stage is Stage.HELD for r in map(self.get, able))
            saved = [list(SAVED._replace(size=len(context_of(c)), state=self.state)) for c in able]
            contexts = verbs.memory(b"".join(map(context_of, able)))
            refused = self._refused(fields["connections"], able, "state FIN-WAIT-1")
            return Message("reply", {"saved": saved, "refused": refused}, [channels.pop(c) for c in able], contexts)
        if verb == "thaw":
            able = [c for c in fields["connections"] if self.thaws and c not in self.odd]
            return Message("reply", {"refused": self._refused(fields["connections"], able, "gone")})
        assert ask.message.contexts is not None
        found = [os.pread(ask.message.contexts, size, offset) for offset, size in fields["places"]]
        who = [self.by_channel[os.fstat(channel).st_ino] for channel in ask.message.channels]
        assert found == [context_of(c) for c in who]
        self.channels += [os.fstat(channel).st_ino for channel in ask.message.channels]
        able = [c for c in who if c not in self.refusing.get(ask.engine, ())]
        self.told[f"restore {ask.engine}"] = able
        return Message("reply", {"refused": self._refused(who, able, f"{ask.engine} is full")})

    def _refused(self, who: Sequence[Connection], able: Sequence[Connection], why: str) -> list[dict[str, Any]]:
        return [{"at": n, "error": why, "reason": "full"} for n, c in enumerate(who) if c not in able]

    def run(self, plan: Plan) -> Outcome:
        return self.run_all(plan)[0]

    def run_all(self, plan: Plan) -> list[Outcome]:
        """The whole move of all, as in this plan; whatever becomes of them, the agent keeps no descriptor."""
        before = len(os.listdir("/proc/self/fd"))
        pipes = [os.pipe() for _ in self.names]
        channels = {name: writer for name, (_, writer) in zip(self.names, pipes, strict=True)}
        self.by_channel = {os.fstat(fd).st_ino: name for name, fd in channels.items()}
        outcomes = self._run([plan._replace(connection=name) for name in self.names], channels)
        for fd in (*channels.values(), *(reader for reader, _ in pipes)):  # those that were not saved are still there
            os.close(fd)
        assert len(os.listdir("/proc/self/fd")) == before
        return outcomes

    def _run(self, plans: list[Plan], channels: dict[Connection, int]) -> list[Outcome]:
        steps = move(plans, self, self)  # type: ignore[arg-type]
        reply, over = None, dict[Connection, Outcome]()
        while True:
            try:
                ask = steps.send(reply)
            except StopIteration:
                assert over.keys() == set(self.names)
                return [over[name] for name in self.names]
            reply = None
            if not isinstance(ask, Ask):
                assert not over.keys() & {outcome.plan.connection for outcome in ask}
                over |= {outcome.plan.connection: outcome for outcome in ask}
                self.log += [f"over {len(ask)}"] * bool(ask)
                continue
            reply = self.answer(ask, channels) if ask.reply else None
            if not ask.reply:
                self.asked.append(ask)
                self._step(f"{ask.message.verb} {ask.engine}")
                some = ask.message.fields.get("connections") or [ask.message.fields["connection"]]
                self.told.setdefault(f"{ask.message.verb} {ask.engine}", []).extend(some)


def in_order(log: list[str], *steps: str) -> bool:
    rest = iter(log)
    return all(step in rest for step in steps)


def plan(source: int, target: int, *fallbacks: int, resend: bool = False) -> Plan:
    return Plan(ONE, source, target, "command", resend, fallbacks)


def on(place: int) -> Record:
    return Record(0 if place == HOST else place, offloaded=place != HOST, epoch=7, peer_mac=MAC, packets=99)


@pytest.mark.parametrize(("cause", "due"), [("policy", True), ("command", False)])
def test_what_the_policy_has_offloaded_is_not_due_again(cause: str, due: bool) -> None:
    """A connection that is offloaded as soon as it is accepted was never told due by a frame. Back in the host, for its
    NIC is short of memory, it would be by the next, and so on for ever."""
    bench = Bench(on(HOST))
    bench.run(plan(HOST, 2)._replace(cause=cause))
    assert bench.record is not None
    assert bench.record.due == due


MOVES = {"offload": (HOST, 2), "reload": (1, 2), "upload": (1, HOST)}


@pytest.mark.parametrize(("kind", "source", "target"), [(k, *v) for k, v in MOVES.items()], ids=MOVES)
def test_the_order_of_the_steps(kind: str, source: int, target: int) -> None:
    bench = Bench(on(source))
    outcome = bench.run(plan(source, target))
    was, here = ("host" if place == HOST else "nic" for place in (source, target))
    assert in_order(
        bench.log,
        f"HELD {was}",
        f"save {source}",
        f"restore {target}",
        f"HELD {here} moved",
        "let out",
        f"SETTLED {here}",
        "let out",
        f"discard {source}",
    )
    assert bench.log.count(f"save {source}") == bench.log.count(f"restore {target}") == 1
    assert (f"release {target}" in bench.log) == (target != HOST)
    expected = replace(on(source), offloaded=target != HOST, epoch=8)
    assert bench.record == (expected if target == HOST else replace(expected, nic=target))
    assert (outcome.kind, outcome.target, outcome.epoch, outcome.reason) == (kind, target, 8, "")
    assert outcome.held_frames == 5
    assert outcome.saved == SAVED._replace(size=len(context_of(ONE)))


def test_an_upload_lets_the_host_speak_before_it_restores() -> None:
    bench = Bench(on(1))
    bench.run(plan(1, HOST))
    assert in_order(bench.log, "save 1", "HELD host", f"restore {HOST}")


PEER, OURS = Fins.PEER | Fins.PEER_ACKED, Fins.HOST | Fins.HOST_ACKED
ENDS = {
    "ESTABLISHED": (NO_FINS, False),
    "FIN_WAIT1": (NO_FINS, False),
    "FIN_WAIT2": (OURS, False),
    "CLOSE_WAIT": (PEER, False),
    "LAST_ACK": (PEER | OURS, True),
    "CLOSING": (PEER | OURS, True),
}


@pytest.mark.parametrize(("state", "fins", "closing"), [(state, *ends) for state, ends in ENDS.items()], ids=ENDS)
def test_the_host_learns_which_streams_have_ended_at_a_nic(state: str, fins: Fins, closing: bool) -> None:
    """Its frame path has not seen them, and once both have it is to let no RST out. A NIC has its own doors."""
    bench = Bench(on(1), state=state)
    bench.run(plan(1, HOST))
    assert bench.record == replace(on(1), offloaded=False, epoch=8, fins=fins, closing=closing)
    for stays in (Bench(on(1), state=state, refusing=[HOST]), Bench(on(1), state=state)):
        bench = stays
        bench.run(plan(1, HOST if bench.refusing else 2))
        assert bench.record is not None
        assert (bench.record.fins, bench.record.closing) == (NO_FINS, False)


@pytest.mark.parametrize("resend", [False, True])
def test_what_the_engines_are_asked(resend: bool) -> None:
    bench = Bench(on(1))
    bench.run(plan(1, 2, resend=resend))
    save, restore, release, discard = (ask.message for ask in bench.asked)
    assert save.fields == {"connections": [ONE], "next_hops": [MAC.hex()]}
    size = len(context_of(ONE))
    assert restore.fields == {"resend": resend, "probe": resend, "wait": False, "places": [(0, size)]}
    assert release.fields == discard.fields == {"connections": [ONE]}
    assert [ask.reply for ask in bench.asked] == [True, True, False, False]


def test_without_held_frames_the_record_is_changed_once_and_what_comes_meanwhile_goes_on() -> None:
    def come(bench: Bench) -> None:
        bench.held[ONE] = 2

    bench = Bench(on(1), OTHERS, disturb={"SETTLED nic moved": come})
    bench.held.clear()
    outcomes = bench.run_all(plan(1, 2))
    assert [step for step in bench.log if "nic" in step] == ["HELD nic", "SETTLED nic moved"]
    assert {bench.get(name) for name in bench.names} == {replace(on(1), nic=2, epoch=8)}
    assert ([outcome.held_frames for outcome in outcomes], bench.held) == ([2, 0, 0, 0, 0, 0], {})


def test_parts_are_named_and_timed() -> None:
    outcome = Bench(on(1)).run(plan(1, 2))
    assert list(outcome.parts) == ["hold", "save", "restore", "release"]
    assert all(seconds >= 0 for seconds in outcome.parts.values())


@pytest.mark.parametrize("source", [HOST, 1])
def test_a_save_that_is_refused_leaves_everything_as_it_was(source: int) -> None:
    bench = Bench(on(source), saves=False)
    outcome = bench.run(plan(source, 2, HOST))
    assert bench.record == on(source)
    assert (outcome.target, outcome.reason, outcome.epoch) == (source, "state FIN-WAIT-1", 0)
    assert not [step for step in bench.log if step.startswith(("restore", "release", "delete"))]
    assert bench.log[-2:] == ["let out", "over 1"]
    assert outcome.held_frames == 5


@pytest.mark.parametrize("fate", ["refusing", "dead"])
def test_a_context_goes_to_the_fallbacks_in_order_with_its_channel(fate: str) -> None:
    """Also when a target dies with the channel that it was given: it is still ours."""
    bench = Bench(on(1), **{fate: (2, 3)})
    outcome = bench.run(plan(1, 2, 3, HOST, 4))
    assert [ask.engine for ask in bench.asked[:4]] == [1, 2, 3, HOST]
    assert len(bench.channels) == (3 if fate == "refusing" else 1)
    assert len(set(bench.channels)) == 1
    assert (outcome.target, outcome.epoch) == (HOST, 8)
    assert outcome.reason == ("2 is full" if fate == "refusing" else "gone")
    assert bench.record is not None
    assert (bench.record.offloaded, bench.record.stage, bench.record.epoch) == (False, Stage.SETTLED, 8)
    assert bench.log[-2:] == ["discard 1", "over 1"]


@pytest.mark.parametrize("source", [HOST, 1])
@pytest.mark.parametrize("fallbacks", [(), (3,)])
def test_refused_by_all_the_old_engine_thaws(source: int, fallbacks: tuple[int, ...]) -> None:
    """Nothing has moved: same place, same epoch, and no word to discard what it has kept."""
    bench = Bench(on(source), refusing=(2, 3))
    outcome = bench.run(plan(source, 2, *fallbacks))
    assert (outcome.target, outcome.moved, outcome.reason) == (source, False, "2 is full")
    assert bench.record == on(source)
    assert in_order(bench.log, "restore 2", f"thaw {source}", "let out")
    assert not [step for step in bench.log if step.startswith(("discard", "release"))]


def test_an_old_engine_among_the_fallbacks_is_not_asked_to_restore_what_it_has() -> None:
    bench = Bench(on(1), refusing=(2,))
    bench.run(plan(1, 2, 1, 3))
    assert "restore 1" not in bench.log
    assert "restore 3" in bench.log


def test_a_nic_after_the_host_refused() -> None:
    bench = Bench(on(1), refusing=(HOST,))
    bench.run(plan(1, HOST, 3))
    assert bench.record == replace(on(1), nic=3, epoch=8)


@pytest.mark.parametrize("fallbacks", [(), (3, HOST)])
def test_without_the_old_engine_either_it_is_lost(fallbacks: tuple[int, ...]) -> None:
    """Held frames are let out: they reach the host's TCP, which tells the peer; kept, they would meet the next of
    that name."""
    bench = Bench(on(1), refusing=(2, 3, HOST), thaws=False)
    outcome = bench.run(plan(1, 2, *fallbacks))
    assert (outcome.target, bench.record) == (None, None)
    assert outcome.reason == "2 is full; and it cannot stay where it was: gone"
    assert not [step for step in bench.log if step.startswith(("SETTLED", "release"))]
    assert in_order(bench.log, "delete", "let out")
    assert bench.told["invalidate 1"] == [ONE]  # or the old one would keep it frozen for ever


@pytest.mark.parametrize("verb", ["restore", "thaw"])
def test_an_answer_that_was_lost_is_what_the_engine_holds(verb: str) -> None:
    """Who lives there is at home; the others go on to the next place, or are lost."""
    bench = Bench(on(1), OTHERS[:1], refusing=() if verb == "restore" else (2, 3))
    answered = bench.answer

    def answer(ask: Ask, channels: dict[Connection, int]) -> Message:
        reply = answered(ask, channels)
        lost = ask.message.verb == verb and ask.engine in (1, 2)
        return Message("held", {"live": {ONE}}) if lost else reply

    bench.answer = answer  # type: ignore[method-assign]
    assert places(bench.run_all(plan(1, 2, 3))) == ([2, 3] if verb == "restore" else [1, None])


@pytest.mark.parametrize("stage", [Stage.HELD, Stage.SILENT])
def test_one_move_at_a_time(stage: Stage) -> None:
    moving = replace(on(1), stage=stage)
    bench = Bench(moving)
    outcome = bench.run(plan(1, 2))
    assert (outcome.target, outcome.reason) == (1, "a move is under way")
    assert (bench.log, bench.record) == (["over 1"], moving)


def test_no_record() -> None:
    bench = Bench(None)
    assert bench.run(plan(1, 2)).reason == "no record"
    assert bench.log == ["over 1"]


def gone(bench: Bench) -> None:
    bench._records.pop(ONE)


def moved_on(bench: Bench) -> None:
    assert bench.record is not None
    bench.put(ONE, replace(bench.record, epoch=bench.record.epoch + 1))


@pytest.mark.parametrize("change", [gone, moved_on])
@pytest.mark.parametrize(
    ("step", "source", "target"),
    [
        ("HELD nic", 1, 2),
        ("save 1", 1, 2),
        ("restore 2", 1, 2),
        ("HELD nic moved", 1, 2),
        ("SETTLED nic", 1, 2),
        ("save -1", HOST, 2),
        ("HELD host", 1, HOST),
        ("SETTLED host", 1, HOST),
    ],
)
def test_a_record_that_changed_meanwhile_ends_the_move(change, step: str, source: int, target: int) -> None:
    """It is an outcome with a reason, not an error; nothing of the newer record is overwritten."""
    newer: list[Record | None] = []

    def disturb(bench: Bench) -> None:
        change(bench)
        newer.append(bench.record)

    bench = Bench(on(source), disturb={step: disturb})
    outcome = bench.run(plan(source, target))
    assert newer
    assert bench.record == newer[0]
    assert "its record is gone, or has moved on" in outcome.reason
    assert not [one for one in bench.log if one.startswith("release")]
    if f"save {source}" in bench.log and step != f"save {source}":  # the application must hear of it
        assert f"invalidate {source}" in bench.log


def test_a_save_refused_after_the_record_changed() -> None:
    bench = Bench(on(1), saves=False, disturb={"save 1": moved_on})
    outcome = bench.run(plan(1, 2))
    assert outcome.reason
    assert outcome.target == 1


# -- several that go the same way ------------------------------------------------------------------------------------


def places(outcomes: list[Outcome]) -> list[int | None]:
    return [outcome.target for outcome in outcomes]


def test_a_batch_is_one_message_of_each_kind() -> None:
    bench = Bench(on(1), OTHERS)
    outcomes = bench.run_all(plan(1, 2, resend=True))
    assert [(ask.message.verb, ask.engine) for ask in bench.asked] == [
        *(("save", 1), ("restore", 2), ("release", 2), ("discard", 1))
    ]
    assert (places(outcomes), {o.held_frames for o in outcomes}) == ([2] * 6, {5})
    assert [outcome.saved and outcome.saved.size for outcome in outcomes] == [
        len(context_of(name)) for name in bench.names
    ]
    assert {bench.get(name) for name in bench.names} == {replace(on(1), nic=2, epoch=8)}
    assert bench.told["release 2"] == bench.told["discard 1"] == list(bench.names)


def test_those_of_a_batch_wait_for_their_release_but_not_at_the_host() -> None:
    """Nobody tells the host's engine of a release."""
    for target, waits in ((2, True), (HOST, False)):
        bench = Bench(on(1), OTHERS)
        bench.run_all(plan(1, target))
        assert [ask.message.fields["wait"] for ask in bench.asked if ask.message.verb == "restore"] == [waits]


def test_each_of_a_batch_has_its_own_fate() -> None:
    """Not saved; at the target, which has room for some; at a fallback; back at home; lost, and ended meanwhile."""
    unsaved, second, third, back, lost = OTHERS

    def end(bench: Bench) -> None:
        bench.odd = (lost,)  # the old one does not take it back either

    bench = Bench(on(1), OTHERS, odd=(unsaved,), disturb={"thaw 1": end})
    bench.refusing = {2: (second, third, back, lost), 3: (third, back, lost), HOST: (back, lost)}
    outcomes = bench.run_all(plan(1, 2, 3, HOST))
    assert places(outcomes) == [2, 1, 3, HOST, 1, None]
    assert [outcome.reason for outcome in outcomes[:-1]] == ["", "state FIN-WAIT-1", *["2 is full"] * 3]
    assert outcomes[-1].reason == "2 is full; and it cannot stay where it was: gone"
    assert bench.told["invalidate 1"] == [lost]
    assert [outcome.epoch for outcome in outcomes] == [8, 0, 8, 8, 0, 0]
    moved = replace(on(1), epoch=8)
    assert [bench.get(name) for name in bench.names] == [
        *(replace(moved, nic=2), on(1), replace(moved, nic=3), replace(moved, offloaded=False), on(1), None)
    ]
    assert (bench.told["release 2"], bench.told["release 3"]) == ([ONE], [second])
    assert sorted(bench.told["discard 1"]) == [ONE, second, third]
    assert {outcome.held_frames for outcome in outcomes} == {5}


def test_who_does_not_move_waits_for_no_other() -> None:
    """Its engine may say the next moment that it has it, or its next frame may be the evidence for another move."""
    bench = Bench(on(1), OTHERS, odd=OTHERS[:2])
    bench.put(OTHERS[2], replace(on(1), stage=Stage.HELD))
    bench.run_all(plan(1, 2))
    assert in_order(bench.log, "over 1", "save 1", "SETTLED nic", "over 2", "restore 2", "over 3")


@pytest.mark.parametrize("change", [gone, moved_on])
@pytest.mark.parametrize("step", ["HELD nic", "save 1", "restore 2", "HELD nic moved", "SETTLED nic"])
def test_one_that_ends_meanwhile_costs_the_others_nothing(change, step: str) -> None:
    newer: list[Record | None] = []
    bench = Bench(on(1), OTHERS, disturb={step: lambda bench: (change(bench), newer.append(bench.record))})
    first, *others = bench.run_all(plan(1, 2))
    assert "its record is gone, or has moved on" in first.reason
    assert [bench.record] == newer
    assert (places(others), {bench.get(name) for name in OTHERS}) == ([2] * 5, {replace(on(1), nic=2, epoch=8)})
    if step != "HELD nic":
        assert bench.told["invalidate 1"] == bench.told["invalidate 2"] == [ONE]
    assert sorted(bench.told["discard 1"]) == sorted(bench.told["release 2"]) == list(OTHERS)


@pytest.mark.parametrize("thaws", [True, False])
def test_a_target_that_dies_with_a_batch(thaws: bool) -> None:
    bench = Bench(on(1), OTHERS, dead=(2,), thaws=thaws)
    assert set(places(bench.run_all(plan(1, 2)))) == {1 if thaws else None}
    assert {bench.get(name) for name in bench.names} == {on(1) if thaws else None}
    bench = Bench(on(1), OTHERS, dead=(1,))  # so does the old one, before it was asked
    assert set(places(bench.run_all(plan(1, 2)))) == {1}
