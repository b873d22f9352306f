"""Child processes: a death is noticed and named, an end is waited for, nobody is left."""

import os
import signal
import subprocess
import time

import pytest

from scenarios.processes import Children, RunError
from tests.unit.scenarios.deaths import died


@pytest.fixture
def children(tmp_path):
    (tmp_path / "logs").mkdir()
    fd = os.open(tmp_path / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    made = Children(fd, tmp_path / "logs", os.environ)
    yield made
    made.stop(within_s=0)
    os.close(fd)


def shell(children, who, script, **keys):
    return children.start(who, ["sh", "-c", script], subprocess.Popen, **keys)


def test_output_is_events_and_errors_are_the_log(children, tmp_path):
    child = shell(children, "one", "echo event; echo error >&2", ends=True)
    child.process.wait(5)
    children.check()
    assert (tmp_path / "events.jsonl").read_text() == "event\n"
    assert (tmp_path / "logs" / "one.log").read_text() == "error\n"


@pytest.mark.parametrize(
    ("script", "ends", "said"),
    [
        ("exit 0", False, "one ended unexpectedly with exit status 0; it left nothing in its log"),
        ("echo first >&2; echo 'the map is full' >&2; echo >&2; exit 3", False,
         "one ended unexpectedly with exit status 3: the map is full"),
        ("exit 3", True, "one ended unexpectedly with exit status 3; it left nothing in its log"),
        ("kill -9 $$", True, "one was ended by SIGKILL; it left nothing in its log"),
    ],
)  # fmt: skip
def test_a_death_is_named_in_one_line(children, script, ends, said):
    shell(children, "one", script, ends=ends)
    assert died(children) == said


def test_a_program_that_is_not_there(children):
    with pytest.raises(RunError, match="one: /no/such cannot be started: No such file or directory"):
        children.start("one", ["/no/such"], subprocess.Popen)


def test_stop_lets_them_finish_and_kills_those_that_do_not(children, tmp_path):
    events = tmp_path / "events.jsonl"
    shell(children, "good", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done")
    shell(children, "bad", "trap '' TERM; echo up; while :; do sleep 0.01; done")
    while events.read_text().count("up") < 2:
        time.sleep(0.005)
    began = time.monotonic()
    assert children.stop(within_s=0.5) == ["bad"]
    assert 0.4 < time.monotonic() - began < 5
    assert "bye" in events.read_text()
    children.check()
    assert not children.running("good")


def test_stop_of_nobody_stops_nobody(children):
    shell(children, "one", "sleep 60")
    assert children.stop([]) == []
    assert children.running("one")
    children.send("one", signal.SIGKILL)
    assert "SIGKILL" in died(children)


def test_a_death_that_is_part_of_the_scenario_breaks_nothing_off(children, tmp_path):
    events = tmp_path / "events.jsonl"
    shell(children, "one", "echo up; exec sleep 60")
    shell(children, "other", "sleep 60")
    while events.read_text().count("up") < 1:
        time.sleep(0.005)
    children.kill("one")
    assert children.killed("one")
    assert not children.running("one")
    children.check()
    children.restart("one")
    assert children.running("one")
    assert not children.killed("one")
    while events.read_text().count("up") < 2:
        time.sleep(0.005)
    # From now on it is to live again.
    children.send("one", signal.SIGKILL)
    assert died(children).startswith("one was ended by SIGKILL")


def test_only_what_runs_is_killed_and_only_what_was_killed_is_restarted(children):
    with pytest.raises(RunError, match="nobody does not run: it was killed"):
        children.send("nobody", signal.SIGSTOP)
    with pytest.raises(RunError, match="nobody does not run and cannot be killed"):
        children.kill("nobody")
    shell(children, "one", "sleep 60")
    with pytest.raises(RunError, match="one was not killed and cannot be started again"):
        children.restart("one")
    dead = shell(children, "two", "exit 3")
    dead.process.wait(5)
    with pytest.raises(RunError, match="two ended unexpectedly with exit status 3 before it was to be killed"):
        children.kill("two")
