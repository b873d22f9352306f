"""Whatever an archive has gone through, `teambed report` makes a page of it or says in one line why it cannot."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scenarios.cli import main
from scenarios.launcher import ROOT
from scenarios.report import archive
from tests.unit.scenarios.test_measure_moves import WHO, ev
from tests.unit.scenarios.test_report import archived

NOISE: tuple[Any, ...] = (None, True, -1, 1e300, "x", [], [["x"]], {}, {"x": "x"}, 10**18, "\ud800", "a\nb")
REMEDY = "delete the line, or run the scenario again"
ENDS = {"error": None, "connections": 2, "broken": 0, "first_difference": None}
BYTES = {"sent_bytes": 0, "sent_sha256": "a", "received_bytes": 20, "received_sha256": "b"}
ONE = {**WHO, "sport": 20000}
PARTNER = {"system": "02:00:00:00:05:01", "key": 1, "nics": ["nic0"], "selected": False}
MORE = [
    ev(0.3, "network", "runner", nodes=1.0),
    ev(0.4, "ready", "nic0"),
    ev(0.5, "switch_ready", "controller", switch="s1", kept=0, changed=34),
    ev(0.5, "members", "controller", switch="s1", lag="team0", active=[1, 2], moved=0.0, had_to_move=0.0),
    ev(1.0, "accepted", "host", **ONE, service="files"),
    ev(1.1, "headcount", "agent", nics={"nic0": [1, 1], "nic1": [1, 0]}),
    ev(1.2, "progress", "client-c", traffic="crowd_of_many", dir="receive", bytes=10, gap_ms=6.0, stalls=[[1.0, 6.0]]),
    ev(1.2, "progress", "app-f", traffic="crowd_of_many", dir="send", bytes=10, gap_ms=6.0),
    ev(1.3, "responses", "client-c", traffic="crowd_of_many", ms=[1.0, 2.0]),
    ev(1.4, "refused", "agent", **ONE, kind="offload", reason="feature:ipv6", error="no"),
    ev(1.5, "stranded", "agent", **ONE, nic="nic0", reason="link"),
    ev(1.6, "lost", "agent", **ONE, nic="nic0", reason="gone"),
    ev(1.7, "frame", "agent", **ONE, nic="nic0", block="402_404", action="up", epoch=0),
    ev(1.8, "miswired", "agent", partners=[PARTNER]),
    ev(1.9, "flood", "agent", port=8080, records=166, per_s=166.0, sources=31),
    ev(1.9, "neighbour", "agent", src="10.0.0.11", mac="02:00:00:00:00:01"),
    ev(1.9, "aged", "agent", removed=1, uploaded=0),
    ev(2.0, "restarted", "runner", process="agent"),
    ev(2.1, "rebuilt", "agent", records=2, lost=0, took_ms=1.0),
    ev(2.2, "answered", "runner", do="offload", ok=False, error="no"),
    ev(2.3, "step", "runner", index=4, do="adapter_failure", nic="nic1", at=2.3),
    ev(3.0, "records_checked", "runner", connections=2, differences=1, examples=["one"]),
    ev(3.1, "killed", "runner", process="agent", reason="too slow"),
    ev(4.0, "closed", "nic1", **ONE, reason="finished", retransmits=0, bytes_in=0, bytes_out=10),
    ev(4.1, "ended", "client-c", traffic="crowd_of_many", **{key: WHO[key] for key in ("src", "dst", "dport")})
    | {"sports": [20000], "ended_ms_ago": [1], "stall_ended_ms_ago": [2], "bytes": [10], "longest_stall_ms": [6.0]}
    | {"retransmits": [0], "out_of_order": [0], "duplicates": [0]},
    ev(4.2, "done", "client-c", traffic="crowd_of_many", **ENDS, **BYTES, retransmits=0, out_of_order=0, duplicates=0),
    ev(4.3, "served", "app-f", traffic="crowd_of_many", **ENDS, **BYTES),
    ev(5.1, "record", "agent", **ONE, nic="nic1", offloaded=True, strays=1, host_segments_while_offloaded=0),
    ev(5.1, "counters", "agent", nics={"nic0": {"402_404": 1, "held": 0}}, host_tcp_segments=70),
    ev(5.1, "counters", "nic0", own_in=1, own_out=2, silenced=0),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An archived run with events of every kind."""
    folder = archived(tmp_path / "run", 2, steps=1)
    with (folder / "events.jsonl").open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in MORE)
    return folder


def said(capsys: pytest.CaptureFixture[str], run: Path, events: bytes) -> str:
    """What `teambed report` complains about; nothing when there is a page. A page of before is never left half-new."""
    (run / "events.jsonl").write_bytes(events)
    for name in ("report.html", "result.json"):
        (run / name).unlink(missing_ok=True)
    status = main(["report", str(run)])
    out, err = capsys.readouterr()
    assert (run / "report.html").exists() == (run / "result.json").exists() == (err == "") == (out != "")
    assert (status == 2) is bool(err)
    assert err.count("\n") == bool(err), err
    assert "Traceback" not in err
    return err


def altered(event: dict[str, Any], index: int) -> list[tuple[str, dict[str, Any]]]:
    """Each key taken away, and every other one given a value of another kind, which differs from key to key."""
    found = []
    for place, key in enumerate(event):
        found.append((f"without {key}", {name: value for name, value in event.items() if name != key}))
        if (index + place) % 2:
            value = NOISE[(index + place) % len(NOISE)]
            found.append((f"{key}: {value!r}", event | {key: value}))
    return found


def test_keys_that_are_gone_or_odd(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (run / "events.jsonl").read_bytes().splitlines()
    assert said(capsys, run, b"\n".join(lines)) == ""
    complaints, kinds = 0, set[str]()
    for index, line in enumerate(lines):
        event = json.loads(line)
        if event["event"] in kinds and event["event"] not in ("progress", "counters"):
            continue
        kinds.add(event["event"])
        for what, odd in altered(event, index):
            changed = [*lines[:index], json.dumps(odd).encode(), *lines[index + 1 :]]
            try:
                complaints += bool(said(capsys, run, b"\n".join(changed)))
            except Exception as error:
                raise AssertionError(f"line {index + 1}, {event['event']} {what}: {error!r}") from error
    assert complaints > 30


@pytest.mark.parametrize("value", NOISE)
def test_an_odd_date(run: Path, capsys: pytest.CaptureFixture[str], value: object) -> None:
    """It is asked for last of all, behind the judgement: for junit.xml."""
    first, *others = (run / "events.jsonl").read_bytes().splitlines()
    said(capsys, run, b"\n".join([json.dumps(json.loads(first) | {"started": value}).encode(), *others]))


def test_the_line_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (run / "events.jsonl").read_bytes().splitlines()
    place = next(n for n, line in enumerate(lines) if json.loads(line)["event"] == "move")
    lines[place] = json.dumps({key: one for key, one in json.loads(lines[place]).items() if key != "cause"}).encode()
    complaint = f"{run}/events.jsonl:{place + 1}: the event `move` lacks `cause`; {REMEDY}"
    assert said(capsys, run, b"\n".join(lines)) == f"teambed: {complaint}\n"


def test_lines_that_are_gone_cut_or_no_events(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (run / "events.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    for index, line in enumerate(lines):
        others = lines[:index], lines[index + 1 :]
        said(capsys, run, b"".join([*others[0], *others[1]]))
        for odd in (line[: len(line) // 2] + b"\n", b"\xff\x00\n", b"[" * 100_000 + b"\n", b"7\n"):
            if index % 9 == 0:
                assert said(capsys, run, b"".join([*others[0], odd, *others[1]])) in ("", said(capsys, run, whole))
    for odd in (b"", b"\n\n", whole[: len(whole) // 2], b"".join(reversed(lines)), whole + whole):
        said(capsys, run, odd)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"verdict": "pass"}'])
def test_a_result_of_any_kind_is_made_anew(run: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (run / "result.json").write_text(text)
    assert main(["report", str(run)]) in (0, 1)
    assert capsys.readouterr().err == ""


def test_what_cannot_be_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (run / "events.jsonl").read_bytes().splitlines()
    place = next(n for n, line in enumerate(lines) if json.loads(line)["event"] == "move")
    whole, long, deep = lines[place], "x" * 1000, json.loads("[" * 800 + "]" * 800)
    for key, value, shown in (
        ("parts_ms", ["x"], '["x"]'),
        ("sport", "a\nb", '"a\\nb"'),
        ("retransmits", long, f'"{long[:59]}…'),
        ("cause", deep, "[" * 60 + "…"),
    ):
        lines[place] = json.dumps(json.loads(whole) | {key: value}).encode()
        complaint = f"{run}/events.jsonl:{place + 1}: `{key}` of the event `move` cannot be {shown}; {REMEDY}"
        assert said(capsys, run, b"\n".join(lines)) == f"teambed: {complaint}\n"


def test_a_long_search_is_told(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LONG", 10)
    lines = (run / "events.jsonl").read_bytes().splitlines()
    place = next(n for n, line in enumerate(lines) if json.loads(line)["event"] == "move")
    lines[place] = json.dumps(json.loads(lines[place]) | {"sport": "x"}).encode()
    (run / "events.jsonl").write_bytes(b"\n".join(lines))
    assert main(["report", str(run)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert f"looking for it among {len(lines)} events" in first
    assert f":{place + 1}: `sport` of the event `move`" in second


def test_of_two_that_do_not_go_together_the_damaged_one_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What an event of another kind tells by the same word is no measure, unless most tell it so."""
    lines = (run / "events.jsonl").read_bytes().splitlines()
    place = next(n for n, line in enumerate(lines) if json.loads(line)["event"] == "served")
    lines[place] = json.dumps(json.loads(lines[place]) | {"received_bytes": {}}).encode()
    complaint = f"{run}/events.jsonl:{place + 1}: the event `served` makes no sense behind those before it; {REMEDY}"
    assert said(capsys, run, b"\n".join(lines)) == f"teambed: {complaint}\n"


def test_files_with_some_bytes_flipped_or_cut_off(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(5)
    (run / "captures").mkdir()
    capture = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000") + bytes(range(1, 200))
    kept = {name: (run / name).read_bytes() for name in ("events.jsonl", "scenario.yaml")} | {
        "captures/a.pcap": capture
    }
    for name in kept:
        for _ in range(20):
            for other, data in kept.items():
                (run / other).parent.mkdir(exist_ok=True)
                (run / other).write_bytes(data)
            damaged = bytearray(kept[name][: chance.choice([-1, 10**9, chance.randrange(len(kept[name]))])])
            for _ in range(min(len(damaged), chance.choice([1, 5, 50]))):
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            (run / name).write_bytes(damaged)
            if b"*" in damaged and name == "scenario.yaml":
                continue
            status, told = main(["report", str(run)]), capsys.readouterr()
            assert (status == 2) == bool(told.err), told
            assert "Traceback" not in told.err
            assert name == "scenario.yaml" or told.err.count("\n") <= 1, told.err


def test_what_is_no_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder or a pipe in a file's place: it is named, and nothing waits for it."""
    for name in ("events.jsonl", "scenario.yaml", "captures/a.pcap", "result.json", "report.html"):
        for make in (os.mkdir, os.mkfifo):
            before = run / name if (run / name).is_file() else None
            if before:
                before = before.rename(run / "before")
            (run / name).parent.mkdir(exist_ok=True)
            make(run / name)
            status, told = main(["report", str(run)]), capsys.readouterr()
            if make is os.mkdir:
                os.rmdir(run / name)
            else:
                (run / name).unlink(missing_ok=True)
            if before:
                before.rename(run / name)
            if make is os.mkdir or name in ("events.jsonl", "scenario.yaml"):
                assert status == 2
                assert told.err.count("\n") == 1
                assert name in told.err
            else:
                assert told.err == "", f"{name} is made anew, or nothing was captured"
            assert not list(run.glob("*.new"))


def test_no_folder_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for name, why in (("none", "No such file or directory"), ("file", "Not a directory")):
        assert main(["report", str(tmp_path / name)]) == 2
        assert capsys.readouterr().err == f"teambed: {tmp_path / name}: {why}\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_where_it_cannot_print(run: Path, unbuffered: str) -> None:
    """Neither the results nor their folder are to blame."""
    (run.parent / "two").mkdir()
    (run.parent / "two" / "events.jsonl").touch()
    words = [sys.executable, "-m", "scenarios", "report", str(run.parent)]
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, cwd=ROOT, env=env, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    *wrong, writing = done.stderr.splitlines()
    assert (done.returncode, writing) == (1, "teambed: writing: No space left on device")
    assert [line.startswith(f"teambed: {run.parent}/two has no") for line in wrong] == ([] if unbuffered else [True])


@pytest.mark.parametrize("name", [".", "run", "run/events.jsonl", "run/scenario.yaml", "run/captures", "run/logs"])
def test_what_nobody_may_read(open_folder: Path, as_nobody: list[str], name: str) -> None:
    run = archived(open_folder / "run", 2)
    (run / "captures").mkdir()
    (run / "logs").mkdir()
    archived(open_folder / "two", 2)
    for path in (open_folder, *open_folder.rglob("*")):
        if as_nobody:
            os.chown(path, 65534, 65534)
    (open_folder / name).chmod(0)
    words = [*as_nobody, sys.executable, "-m", "scenarios", "report", str(open_folder)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, cwd="/", env=env, capture_output=True, text=True, timeout=60)
    (open_folder / name).chmod(0o755)
    if name in ("run/captures", "run/logs"):  # nothing of what is judged is in them
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Permission denied" in done.stderr
    assert str((open_folder / name).resolve()) in done.stderr
    assert ("two" in done.stdout) is (name != "."), "the others have their reports"


@pytest.mark.parametrize("text", ["", "{", "7", "[]", "{}", '{"verdict": "pass", "digest": "d"}', "[" * 10_000, "\xff"])
def test_a_result_of_any_kind_is_not_taken_for_one(run: Path, text: str) -> None:
    """By --resume, which runs the scenario again then."""
    (run / "result.json").write_text(text, encoding="latin-1")
    with pytest.raises(archive.NoRun, match=r"result.json is damaged; `teambed report .*/run` makes it anew$"):
        archive.case(run)
