"""What a machine may lack: said, skipped, and under strictness failed."""

import pytest

from scenarios import catalogue, launcher
from scenarios.batch import Unseen
from scenarios.events import read
from scenarios.load import cases, load
from scenarios.needs import lacking, needs_of
from scenarios.schema import Need
from scenarios.verdict import judge
from topologies import capabilities

TEXT = """\
scenario: s
about: A page.
topic: applications
needs: [nginx, curl]
services: {web: {listen: 80, app: "localhost:8080", command: nginx}}
traffic: {page: {client: c1, service: web, command: curl}}
captures: [c1]
expect: [page.intact]
"""
SCENARIO = load(TEXT, "s.yaml")


def test_every_need_is_a_capability():
    assert set(Need.__args__) <= set(capabilities.OPTIONAL)


def test_needs_are_named_or_follow_from_the_file():
    assert needs_of(SCENARIO) == ["nginx", "curl", "tcpdump"]
    step = "timeline: [{at: 1s, do: impair, nic: nic0, delay: 10ms}]\n"
    assert needs_of(load(TEXT + step, "s.yaml"))[-1] == "netem"
    assert "netem" not in needs_of(load(TEXT + step.replace("delay: 10ms", "loss: 1%"), "s.yaml"))


def test_what_is_lacking_is_named():
    assert lacking(SCENARIO, ["netem", "iperf3"]) == ""
    assert lacking(SCENARIO, ["curl", "netem"]) == "this machine lacks curl; `teambed doctor` says how to get it"


@pytest.mark.parametrize(("strict", "verdict"), [("", "skip"), ("1", "fail")])
def test_a_scenario_without_its_programs_is_skipped(tmp_path, monkeypatch, strict, verdict):
    monkeypatch.setenv(launcher.STRICT, strict)
    monkeypatch.setattr(launcher.Run, "_launch", None)  # nothing is started
    (case,) = cases(TEXT, "s.yaml")
    job = launcher.Job(case, tmp_path / "out" / "s")
    result = launcher.run(job, {"capabilities": {"missing": ["nginx"]}}, Unseen(), launcher.Interruption())
    assert result["verdict"] == verdict
    assert result["reason"] == "this machine lacks nginx; `teambed doctor` says how to get it"
    assert [one["verdict"] for one in result["expectations"]] == ["skip"]
    assert judge(SCENARIO, read(job.out / "events.jsonl"), {})["verdict"] == verdict


def test_the_catalogue_is_by_topic():
    other = load(TEXT.replace("scenario: s", "scenario: t").replace("topic: applications", "topic: basics"), "t.yaml")
    lines = catalogue.lines([SCENARIO, other])
    assert [line.split(":")[0] for line in lines if line and line[0] != " "] == ["basics", "applications"]
    assert "  s  A page. (needs nginx, curl)" in lines
    assert set(catalogue.HEADS) == set(catalogue.TOPICS)
