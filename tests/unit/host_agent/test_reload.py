"""One move, step by step: what is asked of whom in which order, and where a context goes that is refused."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest

from host_agent.connection import Connection
from host_agent.decision import Record, Stage
from host_agent.policy import HOST, Plan
from host_agent.records import StaleRecord
from host_agent.reload import Ask, Outcome, move
from host_agent.verbs import Message

ONE = Connection("10.0.0.11", 40000, "10.0.0.1", 8080)
MAC = bytes.fromhex("020000000101")
CONTEXT = b"the context"
SAVED = {"retransmits": 3, "bytes_in": 1000, "bytes_out": 2000}


@dataclass
class Bench:
    """Records, hold queue and engines in one, with a log of all they were told. refusing: engines that refuse to
    restore; dead: that die when asked to; thaws: whether the old one takes its connection back. disturb: what else
    happens, by the name of the step that it comes before."""

    record: Record | None
    refusing: tuple[int, ...] = ()
    dead: tuple[int, ...] = ()
    saves: bool = True
    thaws: bool = True
    held: int = 5
    disturb: dict[str, Callable[["Bench"], None]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    asked: list[Ask] = field(default_factory=list)

    def _step(self, name: str) -> None:
        if name in self.disturb:
            self.disturb.pop(name)(self)
        self.log.append(name)

    # as Records
    def get(self, connection: Connection) -> Record | None:
        assert connection == ONE
        return self.record

    def assign(self, connection, *, epoch: int, nic: int, offloaded: bool, stage: Stage, moved: bool = False) -> None:
        self._step(f"{stage.name} {'nic' if offloaded else 'host'}{' moved' if moved else ''}")
        if self.record is None or self.record.epoch != epoch:
            raise StaleRecord(f"{connection}: stale")
        self.record = replace(self.record, nic=nic, offloaded=offloaded, stage=stage, epoch=epoch + moved)

    def delete(self, connection: Connection) -> bool:
        self._step("delete")
        self.record = None
        return True

    # as Hold
    def release(self, connection: Connection) -> int:
        self._step("let out")
        held, self.held = self.held, 0
        return held

    # as engines
    def answer(self, ask: Ask, channel: int | None) -> Message:
        self.asked.append(ask)
        self._step(f"{ask.message.verb} {ask.engine}")
        if ask.message.verb == "save":
            assert self.record is None or self.record.stage is Stage.HELD
            if not self.saves:
                return Message("reply", {"error": "state FIN-WAIT-1"})
            return Message("reply", dict(SAVED), CONTEXT, channel)
        if ask.message.verb == "thaw":
            return Message("reply", {} if self.thaws else {"error": "gone"})
        channel = ask.message.channel
        assert channel is not None
        self.channels.append(os.stat(channel).st_ino)
        if ask.engine in self.refusing:
            return Message("reply", {"error": f"{ask.engine} is full"}, channel=channel)
        os.close(channel)
        return Message("reply", {"error": "gone"} if ask.engine in self.dead else {})

    def run(self, plan: Plan) -> Outcome:
        """The whole move; whatever becomes of it, the agent keeps no descriptor of the application's channel."""
        reader, writer = os.pipe()
        before = len(os.listdir("/proc/self/fd"))
        outcome = self._run(plan, writer)
        with suppress(OSError):
            os.close(writer)  # it is still there when no context was saved
        assert len(os.listdir("/proc/self/fd")) == before - 1
        os.close(reader)
        return outcome

    def _run(self, plan: Plan, channel: int) -> Outcome:
        steps = move(plan, self, self)  # type: ignore[arg-type]
        reply = None
        while True:
            try:
                ask = next(steps) if reply is None else steps.send(reply)
            except StopIteration as stop:
                return stop.value
            reply = self.answer(ask, channel) if ask.reply else None
            if not ask.reply:
                self.asked.append(ask)
                self._step(f"{ask.message.verb} {ask.engine}")


def in_order(log: list[str], *steps: str) -> bool:
    rest = iter(log)
    return all(step in rest for step in steps)


def plan(source: int, target: int, *fallbacks: int, resend: bool = False) -> Plan:
    return Plan(ONE, source, target, "command", resend, fallbacks)


def on(place: int) -> Record:
    return Record(0 if place == HOST else place, offloaded=place != HOST, epoch=7, peer_mac=MAC, packets=99)


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
    assert (outcome.context_bytes, outcome.held_frames) == (len(CONTEXT), 5)
    assert outcome.saved == SAVED


def test_an_upload_lets_the_host_speak_before_it_restores() -> None:
    bench = Bench(on(1))
    bench.run(plan(1, HOST))
    assert in_order(bench.log, "save 1", "HELD host", f"restore {HOST}")


@pytest.mark.parametrize("resend", [False, True])
def test_what_the_engines_are_asked(resend: bool) -> None:
    bench = Bench(on(1))
    bench.run(plan(1, 2, resend=resend))
    save, restore, release, discard = (ask.message for ask in bench.asked)
    assert save.fields == {"connection": ONE, "next_hop": MAC.hex()}
    assert restore.fields["resend"] is resend
    assert restore.body == CONTEXT
    assert release.fields == discard.fields == {"connection": ONE}
    assert [ask.reply for ask in bench.asked] == [True, True, False, False]


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
    assert bench.log[-1] == "let out"
    assert outcome.held_frames == 5


@pytest.mark.parametrize("fate", ["refusing", "dead"])
def test_a_context_goes_to_the_fallbacks_in_order_with_its_channel(fate: str) -> None:
    """Also when a target dies with the channel that it was given: it was a duplicate."""
    bench = Bench(on(1), **{fate: (2, 3)})
    outcome = bench.run(plan(1, 2, 3, HOST, 4))
    assert [ask.engine for ask in bench.asked[:4]] == [1, 2, 3, HOST]
    assert len(bench.channels) == 3
    assert len(set(bench.channels)) == 1
    assert all(ask.message.body == CONTEXT for ask in bench.asked[1:4])
    assert (outcome.target, outcome.epoch) == (HOST, 8)
    assert outcome.reason == ("2 is full" if fate == "refusing" else "gone")
    assert bench.record is not None
    assert (bench.record.offloaded, bench.record.stage, bench.record.epoch) == (False, Stage.SETTLED, 8)
    assert bench.log[-1] == "discard 1"


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
    assert outcome.reason == "2 is full"
    assert not [step for step in bench.log if step.startswith(("SETTLED", "release"))]
    assert in_order(bench.log, "delete", "let out")


@pytest.mark.parametrize("stage", [Stage.HELD, Stage.SILENT])
def test_one_move_at_a_time(stage: Stage) -> None:
    moving = replace(on(1), stage=stage)
    bench = Bench(moving)
    outcome = bench.run(plan(1, 2))
    assert (outcome.target, outcome.reason) == (1, "a move is under way")
    assert (bench.log, bench.record) == ([], moving)


def test_no_record() -> None:
    bench = Bench(None)
    assert bench.run(plan(1, 2)).reason == "no record"
    assert bench.log == []


def gone(bench: Bench) -> None:
    bench.record = None


def moved_on(bench: Bench) -> None:
    assert bench.record is not None
    bench.record = replace(bench.record, epoch=bench.record.epoch + 1)


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
    assert "stale" in outcome.reason
    assert not [one for one in bench.log if one.startswith("release")]
    if f"save {source}" in bench.log and step != f"save {source}":  # the application must hear of it
        assert f"invalidate {source}" in bench.log


def test_a_save_refused_after_the_record_changed() -> None:
    bench = Bench(on(1), saves=False, disturb={"save 1": moved_on})
    outcome = bench.run(plan(1, 2))
    assert outcome.reason
    assert outcome.target == 1
