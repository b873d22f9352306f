"""Which connections move together, how many at a time, and what becomes of those that wait."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from host_agent import verbs
from host_agent.connection import Connection
from host_agent.decision import Record, Stage
from host_agent.moves import AT_ONCE, BATCH, FEW, Moves
from host_agent.peer import engine_gone
from host_agent.plain_records import PlainRecords
from host_agent.policy import Plan
from host_agent.reload import Outcome
from host_agent.told import Told
from host_agent.verbs import Message, PeerGone

MANY = [Connection("10.0.0.11", port, "10.0.0.1", 8080) for port in range(40000, 41000)]


class Engine:
    """asked: what it has not answered yet. gone: it takes no message any more."""

    def __init__(self) -> None:
        self.asked: list[tuple[Message, Callable[[Message], None]]] = []
        self.told: list[Message] = []
        self.gone = False

    def send(self, message: Message) -> None:
        if self.gone:
            raise PeerGone("gone")
        self.told.append(message)

    def ask(self, message: Message, heard: Callable[[Message], None]) -> None:
        if self.gone:
            raise PeerGone("gone")
        self.asked.append((message, heard))

    def answer(self, lost: tuple[Connection, ...] = ()) -> list[Connection]:
        """Does what it was asked first, but for those that it knows nothing of; the connections of a save."""
        message, heard = self.asked.pop(0)
        if message.verb != "save":
            heard(Message("reply", {"refused": []}))
            return []
        names: list[Connection] = message.fields["connections"]
        saved = [Told(1, "ESTABLISHED", *[0] * 9) for one in names if one not in lost]
        refused = [{"at": n, "error": "x", "reason": "absent"} for n, one in enumerate(names) if one in lost]
        channels, contexts = [os.open("/dev/null", os.O_RDONLY) for _ in saved], verbs.memory(b"x" * len(saved))
        heard(Message("reply", {"saved": saved, "refused": refused}, channels, contexts))
        return names


class Case:
    def __init__(self) -> None:
        self.records, self.engines, self.over = PlainRecords(), {n: Engine() for n in range(4)}, list[Outcome]()
        for connection in MANY:
            self.records.put(connection, Record(0, offloaded=True))
        parts: Any = (self.records, self, self.engines)
        self.moves = Moves(*parts, self.over.extend)

    def waiting(self, connections: object) -> set[Connection]:  # as Hold
        return set()

    def release(self, connections: object) -> dict[Connection, int]:
        return {}

    def start(self, target: int, connections: list[Connection], source: int = 0, done: Any = None) -> None:
        for connection in connections:
            self.moves.start(Plan(connection, source, target, "link_down"), done)

    def run(self) -> None:
        while any(engine.asked for engine in self.engines.values()):
            for engine in self.engines.values():
                while engine.asked:
                    engine.answer()
            self.moves.begin()


@pytest.fixture
def case() -> Case:
    return Case()


def test_what_is_asked_for_in_one_turn_goes_together(case: Case) -> None:
    case.start(1, MANY[:10])
    case.start(1, MANY[:10])
    assert not case.engines[0].asked
    assert case.records.get(MANY[0]) == Record(0, offloaded=True)
    case.moves.begin()
    ((message, _),) = case.engines[0].asked
    assert message.fields["connections"] == MANY[:10]
    case.run()
    assert [(o.plan.connection, o.target) for o in case.over] == [(one, 1) for one in MANY[:10]]


def test_batches_of_many_grow_to_a_largest_size_and_few_are_under_way(case: Case) -> None:
    """The new engine has something to do early; the old one is asked for the next as soon as one is over; all wait in
    their order."""
    case.start(1, MANY)
    case.moves.begin()
    sizes = [len(message.fields["connections"]) for message, _ in case.engines[0].asked]
    assert sizes == [FEW << n for n in range(AT_ONCE)]
    begun = sum(sizes)
    held = [case.records.get(one) for one in MANY]
    assert [r.stage is Stage.HELD for r in held if r] == [n < begun for n in range(len(MANY))]
    assert all(one in case.moves for one in MANY)
    assert case.moves.begun == set(MANY[:begun])
    first = case.engines[0].answer()
    case.moves.begin()
    assert len(case.engines[0].asked) == AT_ONCE - 1
    case.engines[1].answer()
    case.moves.begin()
    assert (len(case.engines[0].asked), [o.plan.connection for o in case.over]) == (AT_ONCE, first)
    assert len(case.engines[0].asked[-1][0].fields["connections"]) == BATCH
    case.run()
    assert [o.plan.connection for o in case.over] == MANY
    assert not case.moves.begun
    case.start(1, MANY[:100])
    case.moves.begin()
    assert len(case.engines[0].asked[0][0].fields["connections"]) == FEW, "anew"


@pytest.mark.parametrize(("many", "sizes"), [(1, [1]), (40, [32, 8]), (100, [32, 34, 32]), (300, [32, 64, 102])])
def test_few_are_shared_out_so_that_both_engines_have_work(case: Case, many: int, sizes: list[int]) -> None:
    case.start(1, MANY[:many])
    case.moves.begin()
    assert [len(message.fields["connections"]) for message, _ in case.engines[0].asked] == sizes


def test_nothing_is_left_of_those_that_are_over(case: Case) -> None:
    case.start(1, MANY[:100])
    case.moves.begin()
    case.run()
    assert not any(one in case.moves for one in MANY)


def test_ways_take_turns_and_engines_do_not_wait_for_each_other(case: Case) -> None:
    for n, connection in enumerate(MANY):
        case.start(1 + n % 3, [connection])
    case.moves.begin()
    assert [message.fields["connections"][0] for message, _ in case.engines[0].asked] == MANY[:3]
    other = MANY[0]._replace(sport=1)
    case.records.put(other, Record(1, offloaded=True))
    case.start(2, [other], source=1)
    case.moves.begin()
    assert [message.fields["connections"] for message, _ in case.engines[1].asked] == [[other]]
    case.run()
    assert sorted(o.plan.connection for o in case.over) == sorted([other, *MANY])


def test_a_link_that_dies_overtakes_what_was_planned_only(case: Case) -> None:
    """What they had in flight is lost, so it is to be sent again; each moves once."""
    for connection in MANY:
        case.moves.start(Plan(connection, 0, 2, "rebalance"))
    case.moves.begin()
    begun = len(case.moves.begun)
    assert begun < len(MANY)
    for cause in ("link_down", "stray"):
        for connection in MANY:
            case.moves.start(Plan(connection, 0, 1, cause, resend=cause == "link_down"))
    case.run()
    causes = {o.plan.connection: (o.plan.cause, o.target) for o in case.over}
    assert [causes[one] for one in MANY] == [("rebalance", 2)] * begun + [("link_down", 1)] * (len(MANY) - begun)
    assert len(case.over) == len(MANY)
    assert not any(one in case.moves for one in MANY)


def test_who_is_not_there_may_be_asked_for_again_at_once(case: Case) -> None:
    """Its engine's `accepted` may follow its refusal, while the rest of the batch is still on its way."""
    case.start(1, MANY[:3])
    case.moves.begin()
    case.engines[0].answer(lost=(MANY[1],))
    assert [(o.plan.connection, o.code) for o in case.over] == [(MANY[1], "absent")]
    assert [one in case.moves for one in MANY[:3]] == [True, False, True]
    case.start(1, [MANY[1]])
    case.moves.begin()
    assert [message.fields["connections"] for message, _ in case.engines[0].asked] == [[MANY[1]]]
    case.run()
    assert sorted(o.plan.connection for o in case.over if o.moved) == MANY[:3]


@pytest.mark.parametrize("when", ["before", "at save", "at restore"])
def test_an_old_engine_that_dies(case: Case, when: str) -> None:
    """Whoever has been saved goes on; who waits for it is told, all of them."""
    engine = case.engines[0]
    case.start(1, MANY[:100])
    if when == "before":
        del case.engines[0]
        case.moves.begin()
    else:
        case.moves.begin()
        if when == "at restore":
            engine.answer()
        engine.gone = True
        for _, heard in engine.asked:
            heard(engine_gone())
        engine.asked.clear()
        case.moves.begin()
        case.run()
    assert sorted(o.plan.connection for o in case.over) == MANY[:100]
    assert sum(o.moved for o in case.over) == (FEW if when == "at restore" else 0)
    assert {o.code for o in case.over if not o.moved} == {"fault"}


@pytest.mark.parametrize("there", [True, False], ids=["cut", "being met again"])
def test_no_conversation_at_the_thaw_is_no_loss(case: Case, there: bool) -> None:
    """The old engine lives, and has them all: it is told to thaw them when the next one begins."""
    engine = case.engines[0]
    case.start(1, MANY[:2])
    case.moves.begin()
    engine.answer()
    engine.gone = True
    if not there:
        del case.engines[0]
    (_, heard), *_ = case.engines[1].asked
    heard(engine_gone())
    assert [(o.target, o.moved) for o in case.over] == [(0, False)] * 2
    assert [case.records.get(one) for one in MANY[:2]] == [Record(0, offloaded=True)] * 2


def test_whoever_asked_is_told(case: Case) -> None:
    told: list[Outcome] = []
    case.start(1, MANY[:2], done=told.append)
    case.moves.begin()
    case.run()
    assert [o.plan.connection for o in told] == MANY[:2]
