"""What each step does to the network, the processes and the agent, with a bench that only takes notes."""

from types import SimpleNamespace

import pytest

from scenarios import deeds, play
from scenarios.known import Known
from scenarios.load import load
from scenarios.local import LocalError
from scenarios.play import Play
from scenarios.processes import RunError
from scenarios.references import topology_of
from topologies.shapes import SHAPES

TEXT = """\
scenario: s
about: A.
services: {files: {listen: 8080}}
traffic: {t: {client: c1, service: files, receive: 1MB}}
timeline: [STEPS]
expect: [t.intact]
"""
RECORD = {"src": "10.0.0.11", "sport": 4, "dst": "10.0.0.1", "dport": 8080, "nic": "nic1", "offloaded": True}


class Notes:
    """Stands for the network and the child processes: every call is a note."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    def __getattr__(self, name: str):
        return lambda *words: self._notes.append(" ".join([name, *(str(getattr(w, "name", w)) for w in words)]))


class Bench:
    """A bench whose only traffic is connected and offloaded to nic1, and is done when all steps are."""

    def __init__(self, steps: str) -> None:
        self.scenario = load(TEXT.replace("STEPS", steps), "s.yaml")
        self.topology = topology_of(self.scenario)
        self.notes: list[str] = []
        self.network = self.children = self.cast = Notes(self.notes)
        one = ("10.0.0.11", 4, "10.0.0.1", 8080)
        self.known = Known({"t": [one]}, {one})
        self.asked = self.looked = 0
        self.answers: list[list[str]] = [[]]

    def records(self):
        self.asked += 1
        return {"t": [RECORD | {"offloaded": self.asked < 20}]}

    def differences(self) -> tuple[int, list[str]]:
        return 1, self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def seen(self, who: str, event: str) -> bool:
        self.looked += 1
        return self.looked > 3

    def look(self) -> None:
        if self.play.timeline.finished:
            self.known.done.add("t")

    def switches_ready(self) -> bool:
        return self.seen("controller", "switch_ready")

    def forget_switches(self) -> None:
        self.looked = 0

    def emit(self, event: str, **keys: object) -> None:
        if event == "records_checked":
            self.notes.append(f"checked {keys['differences']}")

    def __getattr__(self, name: str):
        return getattr(Notes(self.notes), name)

    def run(self) -> list[str]:
        self.play = Play(self)  # type: ignore[arg-type]
        self.play.run()
        return self.notes[1:]  # without start_traffic


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Nothing here takes time."""
    for name in ("RECORDS_S", "POLL_S"):
        monkeypatch.setattr(play, name, 0.001)
    monkeypatch.setattr(deeds, "CHECK_S", 0.001)


def step(text: str) -> list[str]:
    return Bench("{at: 0s, do: " + text + "}").run()


def test_links():
    assert step("link_down, nic: carrying(t)") == ["link_down nic1"]
    assert step("all_links_down") == ["all_links_down"]
    assert step("link_flap, nic: nic2, times: 2, down: 1ms, up: 1ms") == [
        *("link_down nic2", "link_up nic2", "link_down nic2", "link_up nic2"),
    ]


def test_only_living_connections_are_carried() -> None:
    bench = Bench("{at: 0s, do: link_down, nic: carrying(t)}")
    ended, alive = ("10.0.0.11", 4, "10.0.0.1", 8080), ("10.0.0.11", 5, "10.0.0.1", 8080)
    bench.known = Known({"t": [ended, alive]}, {ended, alive}, {ended})
    other = RECORD | {"sport": 5, "nic": "nic2"}
    bench.records = lambda: {"t": [RECORD | {"bytes": 10**6}, other]}
    assert bench.run() == ["link_down nic2"]
    bench = Bench("{at: 0s, do: link_down, nic: carrying(t)}")
    bench.known.closed.add(ended)  # between two connections: where the last one was
    assert bench.run() == ["link_down nic1"]


def test_an_adapter_dies_with_its_engine_and_comes_back_behind_it():
    bench = Bench("{at: 0s, do: adapter_failure, nic: nic1}, {at: 0s, do: adapter_return, nic: last}")
    assert bench.run() == [
        *("send nic1 SIGSTOP", "adapter_failure nic1", "kill nic1"),
        *("adapter_replace nic1", "restart nic1", "adapter_return nic1"),
    ]


def test_the_agent_is_back_before_the_next_step():
    bench = Bench("{at: 0s, do: kill, process: agent}, {at: 0s, do: link_down, nic: nic0}")
    assert bench.run() == ["kill agent", "restart agent", "link_down nic0"]
    assert bench.looked > 3


def test_with_a_time_the_timeline_goes_on_without_the_agent():
    bench = Bench("{at: 0s, do: kill, process: agent, after: 5ms}, {at: 0s, do: link_down, nic: nic0}")
    assert bench.run() == ["kill agent", "link_down nic0", "restart agent"]


def test_a_nic_is_drained_before_it_is_unplugged():
    bench = Bench("{at: 0s, do: remove_nic, nic: nic1}")
    assert bench.run() == ["membership remove_nic nic1", "link_down nic1"]
    assert bench.asked >= 20


def test_commands():
    assert step("upload, connection: t") == ["command upload t None"]
    assert step("reload, connection: t, nic: nic2") == ["command reload t nic2"]
    assert step("rehash, connection: t, to: nic0") == ["rehash t nic0"]


def test_impairments():
    assert step("black_hole, nic: nic1, direction: to_nic") == ["black_hole nic1 to_nic"]
    assert step("impair, client: c2, loss: 1%, delay: 10ms") == ["impair c2 0.01 0.0 0.01 0.0"]
    assert step("heal, nic: carrying(t)") == ["heal nic1"]
    assert step("set_rate, nic: nic0, rate: 10mbit") == ["set_rate nic0 10000000"]


def test_no_step_chooses_a_nic_that_another_put_out_of_service():
    dead = "{at: 0s, do: black_hole, nic: nic0}, {at: 0s, do: black_hole, nic: nic2}, "
    assert Bench(dead + "{at: 0s, do: link_down, nic: any}").run()[2:] == ["link_down nic1"]
    assert Bench("{at: 0s, do: switch_down, switch: s1}, {at: 0s, do: switch_up, switch: s1}").run() == [
        *("switch_down s1", "switch_up s1"),
    ]


def test_the_switch():
    assert step("set_switch, hash: layer2, seed: 3") == ["set_switch {'hash': 'layer2', 'seed': 3}"]
    assert step("take_out, nic: nic2") == ["use_member nic2 False"]
    assert step("take_back, nic: nic2") == ["use_member nic2 True"]


def test_a_killed_switch_or_controller_is_back_before_the_next_step():
    for process, calls in (
        ("controller", "kill controller, restart controller"),
        ("switch", "kill_switch, restart_switch"),
    ):
        bench = Bench("{at: 0s, do: kill, process: " + process + "}, {at: 0s, do: link_down, nic: nic0}")
        assert bench.run() == [*calls.split(", "), "link_down nic0"]
        assert bench.looked > 3


def test_an_engine_is_killed_by_the_name_of_its_nic():
    assert step("kill, process: carrying(t)") == [
        *("black_hole nic1 both", "kill nic1", "restart nic1", "heal nic1"),
    ]


def test_an_engine_that_stays_dead_for_a_while_speaks_when_it_is_ready():
    bench = Bench("{at: 0s, do: kill, process: nic0, after: 5ms}, {at: 0s, do: link_down, nic: any}")
    assert bench.run()[:3] == ["black_hole nic0 both", "kill nic0", "link_down nic2"]
    assert bench.notes[4:] == ["restart nic0", "heal nic0"]


def test_a_flood():
    assert step("syn_flood, client: c2, service: files, rate: 500/s, time: 2s") == [
        "start_flood step-1 c2 files 500.0 2.0"
    ]


def test_records_are_compared_until_they_agree():
    bench = Bench("{at: 0s, do: check_records}")
    bench.answers = [["on its way"], ["on its way"], []]
    assert bench.run() == ["checked 0"]
    bench = Bench("{at: 0s, do: check_records, limit: 10ms}")
    bench.answers = [["wrong"]]
    assert bench.run() == ["checked 1"]


def test_a_process_that_never_gets_ready_is_named(monkeypatch):
    monkeypatch.setattr(deeds, "READY_S", 0.01)
    bench = Bench("{at: 0s, do: kill, process: agent}")
    bench.looked = -1_000_000
    with pytest.raises(RunError, match=r"agent was not ready again within 0.01 s"):
        bench.run()


def test_an_agent_of_any_team_may_be_gone():
    """What was known last serves, as long as it was the scenario that killed it."""

    def gone():
        raise LocalError("nobody answers")

    bench = Bench("{at: 0s, do: link_down, nic: any}")
    bench.topology = SHAPES["two_teams"](nics=1, clients=1)
    bench.records, bench.seen = gone, lambda *_: True
    play = Play(bench)
    bench.children = SimpleNamespace(killed=lambda who: who == "agent-team1")
    assert play._look_up() == {}
    bench.children = SimpleNamespace(killed=lambda who: False)
    with pytest.raises(LocalError):
        play._look_up()
