"""What the agent does about decisions and refusals: walks leave out what has ended, refusals are tried again or not."""

from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import pytest

from host_agent import custody as custody_module
from host_agent import tracked
from host_agent.ageing import Aged
from host_agent.agent import Agent
from host_agent.config import AgentConfig
from host_agent.connection import Connection
from host_agent.custody import Custody
from host_agent.decision import Record
from host_agent.paths import Hops
from host_agent.plain_records import PlainRecords
from host_agent.policy import HOST, RETRY, Plan
from host_agent.reload import Outcome
from host_agent.team import TeamState
from host_agent.verbs import Message

ONE, TWO = (Connection("10.0.0.11", port, "10.0.0.1", 8080) for port in (1, 2))
MAC = bytes.fromhex("020000000101")


class Later:
    """A loop whose time does not pass."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.timers.append((seconds, act))


class NoPaths:
    hops = Hops()


class Case:
    """begun: the moves that were begun; none of them ends by itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capacity: int = 100) -> None:
        monkeypatch.setattr(custody_module, "emit", lambda *_, **__: None)
        monkeypatch.setattr(custody_module.rtnetlink, "mac_towards", lambda *_: MAC)
        config = {"control": "", "pins": "", "host": {"socket": ""}, "offload": {"after_bytes": 0}}
        config |= {"nics": [{"name": f"nic{n}", "bus": "", "socket": ""} for n in range(2)]}
        self.team = TeamState(("nic0", "nic1"))
        self.team.links |= {0, 1}
        self.team.engines |= {0, 1}
        self.loop, self.records, self.begun = Later(), PlainRecords(capacity), list[Plan]()
        parts: Any = (self.loop, self.records, self.team, None, {}, NoPaths())
        self.custody = Custody(AgentConfig.of(config), *parts)
        monkeypatch.setattr(self.custody.moves, "start", lambda plan, done=None: self.begun.append(plan))

    def refuse(self, plan: Plan, code: str) -> None:
        self.custody._over([Outcome(plan, plan.source, reason="for a person", code=code)])


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(monkeypatch)


def test_an_offloaded_connection_that_has_ended_is_left_out_of_a_walk(case: Case) -> None:
    """What is left of it is a TIME-WAIT, which cannot move; its record leads late segments there."""
    for connection in (ONE, TWO):
        case.records.put(connection, Record(0, offloaded=True))
    case.custody.closed(ONE)
    case.team.links.discard(0)
    case.custody.links_down(0)
    assert [(plan.connection, plan.target) for plan in case.begun] == [(TWO, 1)]
    assert case.records.get(ONE) == Record(0, offloaded=True, closing=True)


def test_few_records_are_gone_through_once_and_counted_by_the_way(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.team.names += ("nic2",)
    for there in (case.team.members, case.team.links, case.team.engines):
        there.add(2)
    for connection, nic in ((ONE, 0), (TWO, 1)):
        case.records.put(connection, Record(nic, offloaded=True))
    for another in ("slices", "tally"):
        monkeypatch.delattr(PlainRecords, another)
    case.team.links.discard(0)
    case.custody.links_down(0)
    assert [(plan.connection, plan.target) for plan in case.begun] == [(ONE, 2)]
    assert case.custody.look_on(), "there is nothing more to look through"


def test_nothing_leaves_a_nic_whose_link_returned_while_its_records_were_looked_through(case: Case) -> None:
    case.records.put(ONE, Record(0, offloaded=True))
    case.custody.links_down(0)  # and it is up
    assert case.begun == []
    assert case.records.get(ONE) == Record(0, offloaded=True)


def test_a_connection_without_a_record_is_offloaded_to_any_nic(case: Case) -> None:
    case.custody.accepted(ONE)
    ((connection, target),) = [(plan.connection, plan.target) for plan in case.begun]
    record = case.records.get(connection)
    assert record is not None
    assert (connection, record.nic, record.peer_mac, record.offloaded) == (ONE, target, MAC, False)


def test_one_that_has_ended_is_not(case: Case) -> None:
    case.custody.closed(ONE)
    case.custody.offload(ONE, anew=True)
    assert (case.begun, list(case.records.all())) == ([], [])


def test_what_the_hosts_engine_held_is_lost_with_it_and_nothing_else(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is what has ended, nor what was never accepted; and nobody tries to offload what is lost."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(custody_module, "emit", lambda _who, event, **facts: told.append({"event": event} | facts))
    three, four = (Connection("10.0.0.12", port, "10.0.0.1", 8080) for port in (3, 4))
    case.records.put(ONE, Record(0, packets=5))
    case.records.put(TWO, Record(1, packets=5, offloaded=True))
    case.records.put(three, Record(0, packets=5, closing=True))
    case.records.put(four, Record(0, packets=1))
    case.custody.host_failed()
    assert [(one["event"], one["src"], one["sport"], one["nic"]) for one in told] == [
        ("lost", ONE.src, ONE.sport, "host")
    ]
    assert [connection for connection, _ in case.records.all()] == [TWO]
    case.custody.offload(ONE, anew=True)
    assert case.begun == []
    case.custody.accepted(ONE)
    assert [plan.connection for plan in case.begun] == [ONE], "a new one of that name"


@pytest.mark.parametrize("late", [False, True])
def test_a_new_one_of_the_same_name_is_another(case: Case, late: bool) -> None:
    """The old one's record may be long gone, so that no frame could tell; or (late) its end is heard only now."""
    if late:
        case.records.put(ONE, Record(0, packets=3, epoch=1))
    case.custody.closed(ONE)
    case.records.put(ONE, case.records.get(ONE) or Record(0, packets=3))
    case.custody.accepted(ONE)
    assert [(plan.connection, plan.target) for plan in case.begun] == [(ONE, 0)]
    case.records.put(ONE, Record(0, offloaded=True, packets=3))
    case.team.links.discard(0)
    case.custody.links_down(0)
    assert [(plan.connection, plan.target) for plan in case.begun[1:]] == [(ONE, 1)]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Port and packets of all that `record` events told of."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(tracked, "emit", lambda _who, _event, **facts: found.append((facts["sport"], facts["packets"])))
    return found


def test_last_words_are_said_when_a_record_goes(case: Case, said: list[tuple[int, int]]) -> None:
    """But not of what never was more than a SYN: a flood would fill the disk; of the rest once, at the end."""
    three = TWO._replace(sport=3)
    for connection, packets in ((ONE, 1), (TWO, 2)):
        case.records.put(connection, Record(0, packets=packets))
    case.custody.make_room()
    assert said == [(TWO.sport, 2)]
    case.records.put(three, Record(0, packets=1))
    case.custody.tracker.say_last_words(case.records)  # type: ignore[arg-type]
    assert said == [(TWO.sport, 2), (3, 1)]


ENDS: dict[str, Callable[[Case, Connection], None]] = {
    "finished, and its record ages": lambda case, one: (
        case.custody.closed(one),
        case.custody.aged(Aged((one,), ())),
    )[0],
    "its record ages": lambda case, one: case.custody.aged(Aged((one,), ())),
    "the peer resets it": lambda case, one: (
        case.records.delete(one),
        case.custody.was_reset(one),
        case.custody.closed(one),
    )[1],
    "its engine tells that first": lambda case, one: (
        case.custody.closed(one),
        case.records.delete(one),
        case.custody.was_reset(one),
    )[0],
    "it is lost": lambda case, one: case.custody.lose(one, Record(0), "its NIC died"),
    "it ends while it moves": lambda case, one: (
        case.records.delete(one),
        case.custody._over([Outcome(Plan(one, 0, 1, "stray"), None, record=Record(0))]),
    )[1],
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_what_is_remembered_of_a_connection_goes_with_its_record(
    case: Case, said: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, end: Callable[[Case, Connection], None]
) -> None:
    """Of many short ones, one after the other, no more stays than some names; each has its last words."""
    monkeypatch.setattr(tracked, "NAMES", 50)
    monkeypatch.setattr(case.custody, "_have_reset", lambda *_: None)
    for port in range(1000):
        one = ONE._replace(sport=port)
        case.records.put(one, Record(0, packets=9))
        case.custody.tracker.of(one).moves = 2
        end(case, one)
        assert len(case.custody.tracker) <= 50
    assert len(said) in (0, 1000)  # nobody knows the record any more when a reset was the first to be heard


def test_names_of_the_ended_are_kept_in_their_order(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracked, "NAMES", 2)
    many = [ONE._replace(sport=port) for port in (1, 2, 3)]
    for one in many:
        case.custody.closed(one)
    assert [case.custody.tracker.ended(one) for one in many] == [False, True, True]


@pytest.mark.parametrize(("links", "looks"), [(set(), 0), ({1}, 0), ({0, 1}, 1)])
def test_the_records_are_gone_through_only_where_their_number_decides(
    case: Case, monkeypatch: pytest.MonkeyPatch, links: set[int], looks: int
) -> None:
    """With no NIC left every connection asks again and again."""
    seen: list[None] = []
    every = case.records.tally
    monkeypatch.setattr(case.records, "tally", lambda: (seen.append(None), every())[1])
    case.team.links.clear()
    case.team.links |= links
    case.records.put(TWO, Record(0, offloaded=True))
    assert case.custody.choose(ONE) == (1 if links else None)
    assert len(seen) == looks


def test_a_refused_offload_is_tried_again_later(case: Case) -> None:
    case.records.put(ONE, Record(1, packets=1))
    case.custody.accepted(ONE)
    for _ in range(3):
        case.refuse(case.begun[-1], "feature:ipv6")
        ((seconds, again),) = case.loop.timers
        assert seconds == RETRY
        case.loop.timers.clear()
        again()
    assert [(plan.connection, plan.target) for plan in case.begun] == [(ONE, 1)] * 4


def test_but_not_when_there_is_no_such_connection(case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    """And a record that was made for it goes, if no frame has come since. Who asked by command is told; the policy may
    only have been ahead of the application."""
    case.custody.accepted(ONE)
    case.refuse(case.begun[-1], "absent")
    assert (case.loop.timers, case.records.get(ONE)) == ([], None)
    case.records.put(TWO, Record(1, packets=1))
    case.refuse(Plan(TWO, HOST, 1, "command"), "absent")
    assert (case.loop.timers, case.records.get(TWO)) == ([], Record(1, packets=1))
    assert [line.count('"cause": "command"') for line in capfd.readouterr().out.splitlines()] == [1]


@pytest.mark.parametrize("reason", ["urgent_data", "low_memory"])
def test_an_upload_that_a_nic_asks_for_is_tried_until_it_can_let_go(case: Case, reason: str) -> None:
    case.records.put(ONE, Record(1, offloaded=True, packets=1))
    case.custody.requested(ONE, 1, reason)
    case.refuse(case.begun[-1], "state")
    case.refuse(case.begun[-1], "state")  # it has asked once more meanwhile
    ((seconds, again),) = case.loop.timers
    again()
    assert (seconds, case.begun) == (RETRY, [Plan(ONE, 1, HOST, reason)] * 2)
    case.records.put(ONE, Record(0, offloaded=True, packets=1))  # it has moved meanwhile: no matter of that NIC's
    again()
    assert len(case.begun) == 2


@pytest.mark.parametrize("cause", ["rebalance", "command", "drain", "stray", "link_down", "link_up"])
@pytest.mark.parametrize("dead", [False, True])
def test_one_that_could_not_leave_a_nic_is_brought_away_if_its_link_died_meanwhile(
    case: Case, cause: str, dead: bool
) -> None:
    """The walk over the dead link's connections has left it out, for it was on the move."""
    case.records.put(ONE, Record(0, offloaded=True, packets=1))
    if dead:
        case.team.links.discard(0)
    case.refuse(Plan(ONE, 0, 1, cause), "full")
    ((seconds, act),) = case.loop.timers
    assert (seconds, case.begun) == (RETRY, [])
    act()
    assert [(plan.target, plan.cause, plan.resend) for plan in case.begun] == [(1, "link_down", True)] * dead


def test_a_record_is_made_where_others_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch, capacity=2)
    case.records.put(TWO, Record(0, offloaded=True))
    case.records.put(TWO._replace(sport=3), Record(0, packets=9))
    case.custody.accepted(ONE)
    assert {connection for connection, _ in case.records.all()} == {ONE, TWO}


def test_where_none_can_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch, capacity=1)
    case.records.put(TWO, Record(0, offloaded=True))
    case.custody.accepted(ONE)
    assert (case.begun, [seconds for seconds, _ in case.loop.timers]) == ([], [RETRY])
    assert case.records.get(TWO) is not None


def test_the_peer_of_one_that_no_engine_takes_back_is_reset(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for its own timeouts; but a connection that has its name by now is another."""
    asked: list[Connection] = []
    monkeypatch.setattr(case.custody._farewell, "send", lambda connection, _hop: asked.append(connection))
    lost = [Outcome(Plan(one, 0, 1, "stray"), None, reason="full", record=Record(0)) for one in (ONE, TWO)]
    case.records.put(TWO, Record(0, packets=1))
    case.custody._over(lost)
    assert asked == [ONE]


def test_a_frozen_connection_that_cannot_thaw_is_ended(case: Case) -> None:
    """Nobody would ever let it go on; its application hears of it, and the peer."""
    told: list[tuple[str, dict[str, Any]]] = []
    heard: list[Callable[[Message], None]] = []
    lost: list[tuple[Connection, str]] = []

    class Engine:
        def ask(self, message: Message, answer: Callable[[Message], None]) -> None:
            told.append((message.verb, message.fields))
            heard.append(answer)

        def send(self, message: Message) -> None:
            told.append((message.verb, message.fields))

    agent: Any = object.__new__(Agent)
    agent.peers, agent.team, agent.records, agent.custody = {0: Engine()}, case.team, case.records, case.custody
    case.custody.lose = lambda connection, _record, why: lost.append((connection, why))  # type: ignore[method-assign]
    case.records.put(TWO, Record(0, offloaded=True))
    agent._thaw(0, [ONE, TWO])
    heard[0](Message("reply", {"refused": [{"at": 1, "error": "no pipe is free", "reason": "kernel"}]}))
    assert lost == [(TWO, "nic0: no pipe is free")]
    assert told == [("thaw", {"connections": [ONE, TWO]}), ("invalidate", {"connection": TWO})]


def test_behind_each_turn_what_was_found_is_on_its_way_before_more_is_looked_for(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the loop does not wait while there is more to look through."""
    agent: Any = object.__new__(Agent)
    agent.custody, agent._hold, on_their_way = case.custody, MagicMock(), list[list[Connection]]()
    slices = [[(one, Record(0, offloaded=True))] for one in (ONE, TWO)]
    monkeypatch.setattr(case.records, "few", lambda: None)
    monkeypatch.setattr(case.records, "slices", lambda: iter(slices))
    monkeypatch.setattr(
        case.custody.moves, "begin", lambda: on_their_way.append([one.connection for one in case.begun])
    )
    case.team.links.discard(0)
    case.custody.links_down(0)
    assert [agent._behind_a_turn() for _ in range(2)] == [False, True]
    assert on_their_way == [[ONE], [ONE, TWO], [ONE, TWO], [ONE, TWO]]
