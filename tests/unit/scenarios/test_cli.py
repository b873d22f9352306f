"""The command line without a network: what is wrong with a call is said before anything starts."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scenarios import cli
from scenarios.cli import FAILED, LIBRARY, WRONG, main
from scenarios.launcher import ROOT
from scenarios.load import cases
from tests.unit.scenarios.test_load import GOOD


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch, tmp_path):
    """A call that gets as far as a network has failed its test."""

    def started(*_, **__):
        raise AssertionError("a network would have been started")

    monkeypatch.setattr(cli.launcher, "run", started)
    monkeypatch.setattr(cli.capabilities, "probe", started)
    monkeypatch.chdir(tmp_path)


def wrong(capsys, *argv: str) -> str:
    """The one line that a wrong call leaves on stderr."""
    assert main(argv) == WRONG
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


def test_validate_tells_right_and_wrong(capsys):
    Path("good.yaml").write_text(GOOD)
    Path("bad.yaml").write_text(GOOD.replace("nics: 3", "nics: 0"))
    assert main(["validate", "good.yaml"]) == 0
    assert capsys.readouterr().out == "good.yaml: right\n"
    assert main(["validate", "good.yaml", "bad.yaml"]) == WRONG
    said = capsys.readouterr()
    assert said.out == "good.yaml: right\n"
    assert said.err == "bad.yaml:3: network.nics: a team has 1 to 16 NICs, not 0\n"


def test_list_names_the_library(capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for file in LIBRARY.glob("*.yaml"):
        assert file.stem in said


def test_every_file_is_checked_before_the_first_runs(capsys):
    Path("a.yaml").write_text(GOOD)
    Path("b.yaml").write_text(GOOD.replace("failover", "other").replace("1MB", "1"))
    assert wrong(capsys, "run", "a.yaml", "b.yaml").startswith("b.yaml:9: traffic.download.receive: `1` has no unit")


def test_two_scenarios_of_one_name(capsys):
    Path("a.yaml").write_text(GOOD)
    Path("b.yaml").write_text(GOOD)
    line = wrong(capsys, "run", ".")
    assert line == "teambed: a.yaml and b.yaml are both called `failover`; their results would mix"


def test_results_are_never_overwritten(capsys):
    Path("a.yaml").write_text(GOOD)
    Path("out/failover").mkdir(parents=True)
    line = wrong(capsys, "run", "a.yaml", "--out", "out")
    assert line == "teambed: out/failover exists; choose another --out, or --resume to run only what is missing there"


def test_only_what_is_missing_or_of_other_words_runs_again(capsys, monkeypatch):
    """A case that came to its end is left as it is; one that broke off, or has changed since, runs again."""
    ran: list[str] = []

    class Batch:
        def __init__(self, jobs, *_):
            assert not any(job.out.exists() for job in jobs)
            ran.extend(job.scenario.scenario for job in jobs)

        def run(self, _):
            return ["pass"] * len(ran)

    monkeypatch.setattr(cli, "_able", lambda: [True])
    monkeypatch.setattr(cli.environment, "describe", lambda _: {})
    monkeypatch.setattr(cli.batch, "Batch", Batch)
    monkeypatch.setattr("scenarios.report.archive.write_junit", lambda *_: None)
    for name, verdict in {"done": "pass", "failed": "fail", "broke_off": "error", "changed": "pass"}.items():
        text = GOOD.replace("failover", name)
        Path(f"{name}.yaml").write_text(text)
        there = Path("out", name)
        there.mkdir(parents=True)
        (there / "events.jsonl").touch()
        digest = cases(text, name)[0].digest
        (there / "scenario.yaml").write_text(text)
        whole = {"measurements": {"run": {"bring_up_ms": None, "tear_down_ms": None}}, "expectations": [], "seed": 0}
        (there / "result.json").write_text(json.dumps({"scenario": name, "verdict": verdict, "digest": digest} | whole))
    Path("out/broke_off").rename("elsewhere")
    Path("out/broke_off").symlink_to("../elsewhere")
    Path("changed.yaml").write_text(GOOD.replace("failover", "changed").replace("1MB", "2MB"))
    Path("missing.yaml").write_text(GOOD.replace("failover", "missing"))
    assert main(["run", ".", "--out", "out", "--resume"]) == FAILED  # as one of the kept has
    assert ran == ["broke_off", "changed", "missing"]
    assert capsys.readouterr().out == "2 of 5 have run already\n4 pass, 1 fail\n"
    assert Path("out/done/result.json").exists()
    assert Path("elsewhere/result.json").exists(), "what is behind a link is somebody else's"


def test_a_link_that_leads_nowhere_is_in_the_way(capsys):
    Path("a.yaml").write_text(GOOD)
    Path("out").mkdir()
    Path("out/failover").symlink_to("nowhere")
    assert wrong(capsys, "run", "a.yaml", "--out", "out").startswith("teambed: out/failover exists; choose another")


@pytest.mark.parametrize("mistake", [TimeoutError("timed out"), OSError(errno.EAGAIN, "Try again")])
def test_a_mistake_of_its_own_is_not_told_as_of_a_disk(monkeypatch, mistake):
    def mistaken(_):
        raise mistake

    monkeypatch.setattr(cli, "_list", mistaken)
    with pytest.raises(type(mistake), match=str(mistake.args[-1])):
        main(["list"])


def test_resumed_where_something_else_is(capsys):
    Path("a.yaml").write_text(GOOD)
    Path("out").mkdir()
    Path("out/failover").write_text("")
    line = wrong(capsys, "run", "a.yaml", "--out", "out", "--resume")
    assert line == "teambed: out/failover holds something else than results; choose another --out"


@pytest.mark.parametrize("command", ["run", "up", "demo"])
def test_out_that_cannot_be_made(capsys, monkeypatch, command):
    monkeypatch.setattr(cli, "_able", lambda: [True])
    Path("a.yaml").write_text(GOOD)
    line = wrong(capsys, command, "a.yaml", "--out", "/dev/null/out")
    assert line == "teambed: /dev/null/out: Not a directory; choose another --out"


def test_out_that_is_a_file(capsys):
    Path("a.yaml").write_text(GOOD)
    Path("out").write_text("")
    assert wrong(capsys, "run", "a.yaml", "--out", "out") == "teambed: out is a file; --out names a folder"


def test_an_empty_folder(capsys):
    Path("empty").mkdir()
    assert wrong(capsys, "run", "empty") == "teambed: empty holds no scenarios (*.yaml)"


def test_a_name_that_is_a_slip(capsys):
    Path("mine.yaml").write_text(GOOD)
    for slip, meant in (("mine.yml", "mine.yaml"), ("mien.yaml", "mine.yaml"), ("link_failovr", "link_failover")):
        said = f"teambed: {slip}: no such file, and not in `teambed list`; did you mean `{meant}`?"
        assert wrong(capsys, "run", slip) == said
    assert wrong(capsys, "run", "none.yaml").startswith("none.yaml: cannot be read: No such file"), "nothing is near"


def test_seed_is_a_set(capsys):
    Path("a.yaml").write_text(GOOD)
    assert wrong(capsys, "run", "a.yaml", "--seed", "-1") == "--set seed=-1: seed: -1 is out of range; use at least 0"


def test_a_wrong_override_is_told_once(capsys):
    Path("a.yaml").write_text(GOOD)
    Path("b.yaml").write_text(GOOD.replace("failover", "other"))
    assert wrong(capsys, "run", ".", "--set", "network.nics=0").startswith("--set network.nics=0: network.nics: ")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "teambed: the following arguments are required: COMMAND; see teambed --help"),
        (["fly"], None),
        (["run"], "teambed run: the following arguments are required: FILE|DIR|NAME; see teambed run --help"),
        (["run", "x", "--bogus"], "teambed: unrecognized arguments: --bogus; see teambed --help"),
        (["run", "x", "--jobs", "x"], "teambed run: argument --jobs: invalid int value: 'x'; see teambed run --help"),
        (["run", "x", "--out", ""], "teambed run: argument --out: an empty name is no folder; see teambed run --help"),
        (["bench", "--out", ""], "teambed bench: argument --out: an empty name is no folder; see teambed bench --help"),
        (["report", ""], "teambed report: argument DIR: an empty name is no folder; see teambed report --help"),
    ],
)
def test_words_that_are_no_call_are_one_line(argv, said, capsys, monkeypatch):
    monkeypatch.delattr(os, "execv")
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == WRONG
    (line,) = capsys.readouterr().err.splitlines()
    assert said in (None, line)


def test_names_that_lead_nowhere(capsys):
    Path("loop.yaml").symlink_to("loop.yaml")
    Path("gone.yaml").symlink_to("nowhere")
    assert wrong(capsys, "run", "loop.yaml") == "loop.yaml: cannot be read: Too many levels of symbolic links"
    assert wrong(capsys, "run", "gone.yaml").startswith("gone.yaml: cannot be read: No such file or directory")
    assert wrong(capsys, "run", "") == "teambed: an empty name is no file, no folder and no scenario"
    assert wrong(capsys, "clean", "none") == "teambed: none: No such file or directory"
    assert main(["clean"]) == 0
    Path("a.yaml").write_text(GOOD)
    assert wrong(capsys, "run", "a.yaml", "--out", "x" * 300).endswith("File name too long; choose another --out")
    here = Path.cwd()
    Path("here").mkdir()
    os.chdir("here")
    (here / "here").rmdir()
    said = wrong(capsys, "run", "link_failover")
    assert said == "teambed: the current folder: No such file or directory; choose another --out"


def test_a_run_that_cannot_be_removed_is_named(capsys, monkeypatch):
    """Python tells of the file in it, without its folder."""
    Path("results/killed").mkdir(parents=True)
    for name in ("events.jsonl", "scenario.yaml"):
        Path("results/killed", name).touch()

    def refused(_):
        raise PermissionError(errno.EACCES, "Permission denied", "events.jsonl")

    monkeypatch.setattr(shutil, "rmtree", refused)
    assert wrong(capsys, "clean") == "teambed: results/killed: Permission denied"


def test_an_override_of_what_is_not_in_the_file_is_named(capsys):
    Path("a.yaml").write_text(GOOD)
    assert wrong(capsys, "run", "a.yaml", "--set", "a.b.c=1").startswith("--set a.b.c=1: a: unknown key; ")
    said = wrong(capsys, "run", "a.yaml", "--set", "services.more.app=builtin")
    assert said == "--set services.more.app=builtin: services.more: `listen` is missing"


@pytest.mark.parametrize(
    ("words", "where", "status", "said"),
    [
        (["list"], ">/dev/full", 1, "teambed: writing: No space left on device\n"),
        (["list"], ">&-", 0, ""),
        (["list"], "| :", 1, ""),
        (["validate", "none"], ">&- 2>&-", 2, ""),
    ],
)
def test_where_it_cannot_print(tmp_path, words, where, status, said):
    (tmp_path / "yes.yaml").write_text(GOOD)
    script = f'set -o pipefail; "$0" -m scenarios {" ".join(words)} {where}'
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script, sys.executable], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", said)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("pydantic", ["scenarios", "list"]),
        ("yaml", ["scenarios", "list"]),
        ("markupsafe", ["benchmarks", "--page", "."]),
    ],
)
def test_ctrl_c_while_it_is_imported_ends_it_without_a_word(tmp_path, module, words):
    """Which takes some tenths of a second, at each call."""
    (tmp_path / f"{module}.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    assert _said(tmp_path, words) == (130, "", "")


def test_ctrl_c_while_it_ends_leaves_no_traceback(tmp_path):
    """The interpreter waits for threads, and more, when all is said."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
    )
    assert _said(tmp_path, ["scenarios", "validate", "none.yaml"])[2].count("\n") == 1


@pytest.mark.parametrize("words", [["benchmarks"], ["scenarios", "bench", "moves"]])
def test_ctrl_c_while_a_benchmark_runs_ends_it_without_a_traceback(tmp_path, words):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "os.geteuid = lambda: os.kill(os.getpid(), signal.SIGINT)\n"  # which is asked for first of all
    )
    assert _said(tmp_path, words) == (130, "", "")


def _said(before, words):
    done = subprocess.run(
        # A shell's background job ignores it, and hands that down.
        ["env", "--default-signal=INT", sys.executable, "-m", *words],
        env=os.environ | {"PYTHONPATH": f"{before}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_name_that_no_file_can_have_is_told_in_one_line(capsys):
    assert main(["validate", "a" * 300]) == WRONG
    assert "File name too long" in capsys.readouterr().err


def test_a_folder_that_cannot_be_read_is_told_in_one_line(tmp_path, capsys, monkeypatch):
    def refused(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refused)
    assert main(["validate", str(tmp_path)]) == WRONG
    assert capsys.readouterr().err == f"teambed: {tmp_path}: cannot be read: Permission denied\n"
