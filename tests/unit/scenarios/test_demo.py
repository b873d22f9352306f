"""The narrated run explains each thing once; cleaning removes what no run will finish, and nothing else."""

import io

from scenarios import launcher
from scenarios.batch import Unseen
from scenarios.claim import claim
from scenarios.clean import clean
from scenarios.cli import LIBRARY, main
from scenarios.demo import WORDS, Narrator, keys
from scenarios.load import cases_of_file, load_file

WHO = {"src": "10.0.0.11", "sport": 40000, "dst": "10.0.0.1", "dport": 80}
MOVE = {"t": 2.0, "who": "agent", "event": "move", "kind": "reload", "from": "nic0", "to": "nic1", **WHO}


def test_the_narrator_explains_each_thing_once():
    out = io.StringIO()
    file = LIBRARY / "link_failover.yaml"
    narrator = Narrator(load_file(file), out)
    narrator.begin(file)
    assert "the link that carries the download goes down" in out.getvalue()
    narrator.see([MOVE | {"cause": "link_down"}, MOVE | {"cause": "link_down"}, MOVE | {"cause": "stray"}])
    said = " ".join(out.getvalue().split())
    assert said.count(WORDS["reload"]) == said.count(WORDS["stray"]) == 1
    assert said.count("reload nic0 → nic1") == 3


def test_a_step_that_changes_nothing_is_not_called_a_fault():
    step = {"t": 1.0, "who": "runner", "event": "step", "index": 0, "at": 0.0}
    assert keys({**step, "do": "wait", "until": "done(download)"}) == []
    assert keys({**step, "do": "link_down", "nic": "nic0"}) == ["step", "link_down"]


def run(folder, *files):
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).touch()


def test_only_unfinished_runs_are_removed(tmp_path, capsys, monkeypatch):
    results = tmp_path / "results"
    run(results / "one" / "done", "events.jsonl", "scenario.yaml", "result.json")
    run(results / "two" / "killed", "events.jsonl", "scenario.yaml")
    run(results / "three" / "running", "events.jsonl", "scenario.yaml")
    run(results / "four" / "of_something_else", "events.jsonl")
    run(results / "mine", "notes.txt")
    monkeypatch.chdir(tmp_path)
    with claim(results / "three" / "running"):
        assert main(["clean"]) == 0
        assert capsys.readouterr().out == "removed results/two/killed\n"
        assert sorted(path.name for path in results.iterdir()) == ["four", "mine", "one", "three"]
        assert clean(results) == []
    assert clean(results) == [results / "three" / "running"]


def test_a_run_that_is_being_judged_stays(tmp_path, capsys, monkeypatch):
    """Its sandbox is gone, no process names it, and its result is not written yet."""
    monkeypatch.delenv(launcher.STRICT, raising=False)
    file = tmp_path / "s.yaml"
    file.write_text("scenario: s\nabout: One.\nservices: {a: {listen: 80}}\nneeds: [curl]\n"
                    "traffic: {t: {client: c1, service: a, receive: 1KB}}\nexpect: [t.intact]\n")  # fmt: skip
    (case,) = cases_of_file(file)
    job = launcher.Job(case, tmp_path / "results" / "s")
    running = launcher.Run(job, {"capabilities": {"missing": ["curl"]}}, Unseen(), launcher.Interruption())
    assert not running.go_on()
    assert clean(tmp_path) == []
    assert main(["run", str(file), "--out", str(job.out.parent), "--resume"]) == 2
    assert capsys.readouterr().err.endswith("/s: another call runs this there; wait for it, or choose another --out\n")
    assert main(["report", str(job.out)]) == 2
    assert capsys.readouterr().err == f"teambed: {job.out}: the run is under way; wait for its end\n"
    assert running.result()["verdict"] == "skip"
    assert clean(tmp_path) == []
    assert main(["report", str(job.out)]) == 0
