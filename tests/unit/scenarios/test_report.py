"""The page of a run, opened in a real Chromium; and a report made anew from an archived run, by nobody."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scenarios.cli import main
from scenarios.load import load
from scenarios.report import archive
from scenarios.report.series import bins, held, records, throughput
from scenarios.report.svg import Scale, el, title
from tests.unit.scenarios.test_measure_moves import WHO, ev

ROOT = Path(__file__).resolve().parents[3]
TEXT = """\
scenario: s
about: A <b>bold</b> & risky run.
services: {files: {listen: 8080}}
traffic: {crowd_of_many: {client: c1, service: files, receive: 10KB, count: COUNT}}
expect: [crowd_of_many.connections == COUNT, crowd_of_many.resets == 1]
"""


def events(count: int, nics: int = 4, steps: int = 3):
    """A run of so many connections on so many NICs: offloaded, then moved when nic0 lost its link, in many steps."""
    names = [f"nic{n}" for n in range(nics)]
    found = [
        ev(0.0, "scenario", "teambed", scenario="s", seed=0, digest="d", epoch=1e9, started="2026-01-02T03:04:05Z"),
        ev(0.0, "environment", "teambed", environment={"kernel": "Linux", "versions": {"python": "3"}}),
        ev(0.1, "topology", "runner", server="server", switches=["s1"], teams={"team0": dict.fromkeys(names, "s1")})
        | {"clients": {f"c{n}": "s1" for n in range(1, 31)}, "uplinks": {}, "router": {}, "rate_bps": None},
        ev(
            0.2,
            "traffic",
            traffic="crowd_of_many",
            client="c1",
            service="files",
            send=0,
            receive=10,
            seed=0,
            count=count,
        ),
        ev(1.0, "up"),
    ]
    ports = list(range(20000, 20000 + count))
    keys = {key: WHO[key] for key in ("src", "dst", "dport")}
    found += [
        ev(1.0, "connected", traffic="crowd_of_many", sports=ports[i : i + 400], **keys) for i in range(0, count, 400)
    ]
    parts = {"hold": 0.1, "save": 1.0, "restore": 2.0, "release": 0.4, "total": 3.5}
    more = {"parts_ms": parts, "retransmits": 0, "host_tcp_segments": 0}
    for n, port in enumerate(ports):
        way = {"from": "host", "to": names[n % nics], "kind": "offload", "cause": "policy"}
        found.append(ev(1.1 + n / 5000, "move", **keys, sport=port, **way, **more))
    for n in range(steps):
        found.append(ev(2.0 + n / 20, "step", "runner", index=n, do="link_down", nic="nic0", at=1.0))
        found.append(ev(2.0 + n / 20, "wire", "runner", nic="nic0", up=False))
    found.append(ev(2.003 + steps / 20, "fault", "agent", nic="nic0", kind="link"))
    for n, port in enumerate(ports[::nics]):
        way = {"from": "nic0", "to": names[1 + n % (nics - 1)], "kind": "reload", "cause": "link_down"}
        found.append(ev(2.1 + steps / 20 + n / 2000, "move", **keys, sport=port, **way, **more))
    for tick in range(40):
        counts = {f"s1-{nic}": [tick * 1_000_000 * (n + 1), tick * 800, tick * 9000, tick * 90]
                  for n, nic in enumerate(names)}  # fmt: skip
        found.append(ev(1.0 + tick / 10, "ports", "runner", over=0.1, ports=counts))
        some = min(count, 1 + tick * count // 30) // nics
        found.append(ev(1.05 + tick / 10, "headcount", "agent", nics={nic: [some, some // 2] for nic in names}))
    found += [ev(5.0, "resets", traffic="crowd_of_many", resets=1), ev(5.1, "finished"), ev(5.2, "stopping")]
    return sorted([*found, ev(5.4, "torn_down", "teambed", status=0)], key=lambda one: one["t"])


def archived(folder: Path, count: int, **more: int) -> Path:
    """An archived run."""
    folder.mkdir()
    (folder / "scenario.yaml").write_text(TEXT.replace("COUNT", str(count)))
    (folder / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events(count, **more)))
    return folder


@pytest.mark.parametrize(("count", "nics", "steps"), [(2, 2, 1), (9, 4, 3), (1000, 16, 30)])
def test_the_page_in_chromium(tmp_path, alone, count, nics, steps):
    run = archived(tmp_path / "run", count, nics=nics, steps=steps)
    assert archive.rebuild(run, print).result["verdict"] == "pass"
    shown = alone(run / "report.html")
    for words in (
        "✓ passed",
        "A &lt;b&gt;bold&lt;/b&gt; &amp; risky run.",
        f"crowd_of_many.connections = {count}",
        "nic1",
    ):
        assert words in shown
    for section in ("expectations", "traffic", "network", "timeline", "moves", "nics", "switches", "environment"):
        assert f'<section id="{section}">' in shown
    assert shown.count('class="badge fault"') >= 2, "the fault is marked"
    assert shown.count('class="part restore"') >= 1
    assert 'class="area c1"' in shown
    assert 'class="area c1 pale"' in shown, "records of connections that are not offloaded"
    assert ('class="area c0"' in shown) is (nics > 7), "NICs without a colour of their own go together"


def test_a_run_that_never_came_up_has_a_page_too(tmp_path):
    run = archived(tmp_path / "run", 2)
    (run / "events.jsonl").write_text(json.dumps(ev(0.5, "error", reason="no <switch>")) + "\n")
    assert archive.rebuild(run, print).result["verdict"] == "error"
    assert "no &lt;switch&gt;" in (run / "report.html").read_text()


def test_a_report_is_made_anew_by_nobody(open_folder, as_nobody):
    out = open_folder / "results"
    out.mkdir()
    archived(out / "one", 3)
    archived(out / "two", 5)
    (out / "two" / "result.json").write_text("old")
    if as_nobody:
        for path in (out, *out.rglob("*")):
            os.chown(path, 65534, 65534)
    words = [sys.executable, "-m", "scenarios", "report", str(out)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*as_nobody, *words], cwd=out, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "PASS s: one/report.html\nPASS s: two/report.html\n"
    assert json.loads((out / "two" / "result.json").read_text())["digest"] == "d"
    assert (out / "one" / "report.html").stat().st_uid == (65534 if as_nobody else os.geteuid())
    assert (out / "junit.xml").read_text().count("<testcase ") == 2


def test_a_run_that_cannot_be_judged_does_not_keep_others_from_it(tmp_path, capsys):
    for name in ("one", "two", "three"):
        archived(tmp_path / name, 2)
    (tmp_path / "one" / "scenario.yaml").unlink()
    (tmp_path / "two" / "scenario.yaml").write_text("scenario: s\n")
    assert main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == f"PASS s: {tmp_path}/three/report.html\n"
    missing = f"{tmp_path}/one has no scenario.yaml to judge the run by; put the one there that it was run by"
    assert said.err.startswith(f"teambed: {missing}\n{tmp_path}/two/")
    assert (tmp_path / "junit.xml").read_text().count("<testcase ") == 1


def test_a_folder_without_a_run_is_one_line(tmp_path):
    words = [sys.executable, "-m", "scenarios", "report", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == f"teambed: {tmp_path} holds no run: no events.jsonl is in it, nor in a folder in it\n"


def test_many_connections_make_a_page_within_seconds(tmp_path):
    run = archived(tmp_path / "run", 10_000, nics=16)
    began = time.monotonic()
    archive.rebuild(run, print)
    assert time.monotonic() - began < 30, "generous: it takes about one second on a quiet machine"


def test_throughput_is_shared_out_over_time():
    run = events(2, nics=2)
    grid = bins(run)
    bits = throughput(run, grid)
    # 10 MB/s received and 90 KB/s sent, twice that at the second NIC's receiving side.
    assert bits["nic0"][20] == pytest.approx(80.72, rel=0.01)
    assert bits["nic1"][20] == pytest.approx(160.72, rel=0.01)
    assert sum(bits["nic0"]) * grid.width == pytest.approx(39 * 1_009_000 * 8 / 1e6, rel=0.001)
    # A reading that came late tells of all the time since the one before.
    late = [one | {"over": 0.5} if one["event"] == "ports" and one["t"] == 1.5 else one for one in run]
    late = [one for one in late if one["event"] != "ports" or not 1.05 < one["t"] < 1.45]
    assert throughput(late, grid)["nic0"][:4] == pytest.approx([80.72] * 4, rel=0.01)
    assert held(run, grid)["nic0"][5] == 1
    assert held(run, grid)["nic1"][-1] == 2


def test_records_are_what_the_agents_counted_last():
    run = events(2, nics=2)
    grid = bins(run)
    counted = [ev(1.25, "headcount", "agent", nics={"nic0": [3, 1], "nic1": [1, 1]}),
               ev(1.35, "headcount", "agent-team1", nics={"nic2": [7, 0]}),
               ev(1.37, "headcount", "agent", nics={"nic0": [2, 2], "nic1": [0, 0]})]  # fmt: skip
    others = [one for one in run if one["event"] != "headcount"]
    assert records(others, grid) is None
    found = records([*others, *counted], grid)
    assert [found.offloaded["nic0"][n] for n in (1, 2, 3, -1)] == [0, 1, 2, 2]
    assert [found.others["nic0"][n] for n in (1, 2, 3, -1)] == [0, 2, 0, 0]
    assert found.offloaded["nic1"][2:4] == [1, 0]
    assert found.others["nic2"][2:4] == [0, 7]


def test_text_of_any_kind_is_safe():
    assert str(el("text", title("<script>"), cls='a" onload="b')) == (
        '<text class="a&#34; onload=&#34;b"><title>&lt;script&gt;</title></text>'
    )


@pytest.mark.parametrize(
    ("least", "most", "ticks"), [(0, 200, [0, 50, 100, 150, 200]), (1.9, 4.1, [2, 2.5, 3, 3.5, 4])]
)
def test_ticks_are_round(least, most, ticks):
    assert list(Scale(least, most, 0, 1).ticks(5)) == ticks


def test_the_scenario_of_these_tests_is_right():
    assert load(TEXT.replace("COUNT", "2"), "s.yaml").scenario == "s"
