"""Scenario files as tests: what is collected, what is chosen, what a failure says. Nothing is started."""

import pytest

from scenarios import launcher, pytest_plugin
from topologies.capabilities import Capability

TEXT = """\
scenario: one
about: A download.
topic: failover
matrix: {network.nics: [1, 2]}
services: {files: {listen: 80}}
traffic: {download: {client: c1, service: files, receive: 1MB}}
expect: [download.intact, download.moves == 1]
"""
OTHER = TEXT.replace("scenario: one", "scenario: two").replace("failover", "basics").replace("matrix", "#")


@pytest.fixture
def machine(pytester, monkeypatch):
    """One that can do everything, with runs that say they passed; yields their jobs and what they shall say."""
    jobs, says = [], {}

    def run(job, environment, watcher, interruption):
        job.out.mkdir(parents=True)
        (job.out / "events.jsonl").touch()
        jobs.append(job)
        values = {"text": "download.moves == 1", "measured": {"download.moves": 7}, "verdict": "pass", "reason": ""}
        expectation = values | {"verdict": says.get("verdict", "pass")}
        measured = {"run": {"bring_up_ms": 1.0, "tear_down_ms": 1.0}}
        return {"verdict": "pass", "expectations": [expectation], "measurements": measured, "seed": 0} | says

    monkeypatch.setattr(pytest_plugin.capabilities, "probe", lambda: [Capability("root", True, True, "", "")])
    monkeypatch.setattr(pytest_plugin.launcher, "run", run)
    monkeypatch.delenv(launcher.STRICT, raising=False)
    pytester.makefile(".yaml", one=TEXT, two=OTHER, values="a: 1\nb: {scenario: no}")
    return pytester, jobs, says


def run(pytester, *words):
    return pytester.runpytest("-p", "scenarios.pytest_plugin", "-p", "no:cacheprovider", *words)


def test_each_case_is_an_item_and_other_files_are_left_alone(machine):
    pytester, jobs, _ = machine
    results = pytester.mkdir("results")
    (results / "scenario.yaml").write_text(TEXT)
    (results / "events.jsonl").touch()
    run(pytester, "--strict-markers", "-v").assert_outcomes(passed=3)
    assert [job.scenario.scenario for job in jobs] == ["one[nics=1]", "one[nics=2]", "two"]
    assert len({job.out for job in jobs}) == 3


def test_results_are_never_overwritten(machine):
    pytester, jobs, _ = machine
    run(pytester, "-k", "two", "--scenario-out", "out").assert_outcomes(passed=1)
    again = run(pytester, "-k", "two", "--scenario-out", "out")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*out/two exists; choose another --scenario-out"])
    assert len(jobs) == 1


def test_topics_are_marks_and_names_are_for_k(machine):
    pytester, jobs, _ = machine
    run(pytester, "-m", "failover").assert_outcomes(passed=2, deselected=1)
    run(pytester, "-k", "two").assert_outcomes(passed=1, deselected=2)
    run(pytester, "one.yaml::one[nics=2]").assert_outcomes(passed=1)
    assert jobs[-1].scenario.network.nics == 2


def test_a_failure_reads_like_the_console(machine):
    pytester, _, says = machine
    says |= {"verdict": "fail"}
    result = run(pytester, "two.yaml")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*two: A download.", "*download.moves == 1   (download.moves = 7)", "FAIL two"])
    result.stdout.fnmatch_lines(["FAILED two.yaml::two - download.moves == 1"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_run_that_broke_off_says_why(machine):
    pytester, _, says = machine
    says |= {"verdict": "error", "reason": "nic0 was ended by SIGKILL"}
    run(pytester, "two.yaml").stdout.fnmatch_lines(["FAILED two.yaml::two - nic0 was ended by SIGKILL"])


def test_a_skip_has_its_reason(machine):
    pytester, _, says = machine
    says |= {"verdict": "skip", "reason": "this machine lacks nginx"}
    result = run(pytester, "two.yaml", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*this machine lacks nginx"])


def test_a_wrong_file_is_told_by_its_lines(machine):
    pytester, jobs, _ = machine
    pytester.makefile(".yaml", wrong=OTHER.replace("receive", "recieve"))
    result = run(pytester, "wrong.yaml")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*wrong.yaml:6: traffic.download.recieve: unknown key; did you mean `receive`?"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert not jobs


def test_words_of_the_command_line(machine):
    pytester, jobs, _ = machine
    run(pytester, "two.yaml", "--scenario-set", "seed=7", "--scenario-out", "there", "--cli-on-error")
    (job,) = jobs
    assert (job.scenario.seed, job.keep) == (7, "cli")
    assert job.out == pytester.path / "there" / "two"


def test_a_shell_and_xdist_do_not_go_together(machine):
    pytester, jobs, _ = machine
    result = run(pytester, "-n", "2", "--pause-on-error")
    result.stderr.fnmatch_lines(["*need the terminal for themselves; leave out -n"])
    assert not jobs


@pytest.mark.parametrize(("strict", "outcome"), [("", {"skipped": 1}), ("1", {"failed": 1})])
def test_a_machine_that_can_run_nothing(machine, monkeypatch, strict, outcome):
    pytester, jobs, _ = machine
    monkeypatch.setenv(launcher.STRICT, strict)
    monkeypatch.setattr(
        pytest_plugin.capabilities, "probe", lambda: [Capability("root", True, False, "user id 1", "sudo")]
    )
    run(pytester, "two.yaml").assert_outcomes(**outcome)
    assert not jobs


def test_measurements_go_into_junit(machine):
    pytester, _, _ = machine
    run(pytester, "two.yaml", "--junitxml", "j.xml")
    assert '<property name="verdict" value="pass"' in (pytester.path / "j.xml").read_text()
