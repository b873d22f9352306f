"""The page of a bench run, opened in a real Chromium; and made anew from the figures in a folder."""

import importlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cli as bench
from benchmarks import page
from benchmarks.curves import drawings
from benchmarks.harness import OURS, Figure, Report, Sample, Series, Target

PROGRAMS = ("bus_in of the host's (408)", "bus_in of a stray (414)", "host_in", "hold_in", "team_out",
            "wire_in of the NIC's", "wire_in of the host's", "the NIC's bus_in", "wire_out")  # fmt: skip
TEAMS = (OURS, "ours, host stack", "ovs_active_backup", "ovs_balance_tcp", "linux_bonding")
WAYS = (OURS, "direct", "through a switch", "without a switch")


def figure(what: str, unit: str, samples: int, medians: dict[str, float]) -> Figure:
    """Samples around these medians."""
    taken = [
        Series(who, tuple(Sample(value * (1 + (index - (samples - 1) / 2) / 50), 1.5) for index in range(samples)))
        for who, value in medians.items()
    ]
    return Figure(what, unit, taken[0], tuple(taken[1:]))


def reports(tiny: bool = False) -> list[Report]:
    """As benchmarks give them."""
    samples, counts, crowds = (1, (10, 1000), (1, 20)) if tiny else (30, (10, 10_000, 1_000_000), (1, 100, 1000, 5000))
    frames = Report("frame_path", "nanoseconds", conditions={"counts": list(counts), "samples": samples})
    for mode, slower in (("again", 1), ("any", 20)):
        for nth, program in enumerate(PROGRAMS):
            for count in counts:
                pair = {OURS: slower * (60.0 + 2 * nth), "headers only": slower * (31.0 + nth)}
                frames.figures.append(figure(f"{program}, {mode}, {count}", "ns", samples, pair))
        frames.targets.append(Target(f"host_in, the slowest, over headers only ({mode})", 2.7, 3))
    frames.figures.append(figure(f"one sweep, {counts[-1]}", "s", samples, {OURS: 0.3, "copying only": 0.4}))
    stall = Report("stall", "one <connection>", notes=["a & b"] * 9, conditions={"real_time": True})
    for nth, what in enumerate(("link loss, download", "link loss, upload", "re-hash, download", "re-hash, upload")):
        teams = TEAMS if nth < 2 else (*TEAMS[:2], *TEAMS[3:])
        stall.figures.append(figure(what, "ms", samples, {who: 3.0 + 4 * at for at, who in enumerate(teams)}))
        limits = {"median": 5.0, "p99": 25.0} if nth < 2 else {"p99": 5.0}
        stall.targets += [Target(f"{what}, {name}", 6.0, limit) for name, limit in limits.items()]
    moves = Report("moves", "a NIC with many", conditions={"counts": list(crowds)})
    for count in crowds:
        for what in ("all released", "each has delivered a byte"):
            pair = {OURS: 4.0 + count / 4, "floor": 0.4 + count / 12}
            moves.figures.append(figure(f"{count:,} connections, {what}", "ms", samples, pair))
    moves.targets = [Target(f"moves a second, {crowds[-1]:,} connections", 4100.0, 10_000, at_least=True)]
    talk = Report("goodput", "an offloaded connection", details={"round_trips": {}})
    talk.figures = [figure("latency", "µs", samples, {who: 20.0 * (4 - at) for at, who in enumerate(WAYS)})]
    talk.targets = [Target("median round trip over direct", 4.0, 1.25)]
    around = Report("turnaround", "from the call to the prompt")
    for what, slower in (("3 NICs, 2 clients", 1), ("16 NICs, 50 clients", 3)):
        times = {OURS: 1.1 * slower, "mn --test none": 0.7 * slower, "mn, Open vSwitch and controller": 0.9 * slower}
        around.figures.append(figure(what, "s", samples, times))
        around.targets.append(Target(f"{what}, over mn --test none", 1.6, 1.5))
    jobs = Report("side_by_side", "8 scenarios")
    jobs.figures = [figure("8 scenarios", "s", samples, {OURS: 9.0, "one after the other": 16.0})]
    jobs.targets = [Target("--jobs 2 over one after the other", 0.56, 0.65)]
    return [frames, stall, moves, talk, around, jobs]


def written(folder: Path, tiny: bool = False) -> Path:
    """A folder with the documents of a whole run."""
    folder.mkdir()
    for report in reports(tiny):
        report.conditions |= {"tiny": tiny, "kernel": "6.1", "cpus": 2}
        (folder / f"{report.name}.json").write_text(json.dumps(report.document()))
    return folder


def documents() -> dict[str, dict[str, Any]]:
    """By name, as they come out of their files."""
    return {one.name: json.loads(json.dumps(one.document())) for one in reports()}


@pytest.mark.parametrize("tiny", [True, False])
def test_the_page_in_chromium(tmp_path: Path, alone: Callable[[Path], str], tiny: bool) -> None:
    folder = written(tmp_path / "bench-1", tiny)
    assert bench.main(["--page", str(folder)]) == 0
    shown = alone(folder / "bench.html")
    for name in bench.NAMES:
        section = shown.partition(f'<section id="{name}">')[2].partition("</section>")[0]
        assert "<svg" in section
        assert 'class="s target"' in section, f"what is to be reached is drawn in {name}"
    assert "one &lt;connection&gt;" in shown
    assert "a &amp; b" in shown
    assert ("proves nothing" in shown) is tiny
    assert "5 of 13 targets are met" in shown


def test_every_benchmark_has_its_table_its_targets_and_its_conditions(tmp_path: Path) -> None:
    text = page.page(page.read(written(tmp_path / "one"), bench.NAMES), "one", bench.NAMES)
    assert "Without figures" not in text
    assert text.count('<tr class="first">') == sum(len(one.figures) for one in reports())
    assert '<td class="sign pass">✓</td><td>--jobs 2 over one after the other</td><td class="n">0.56</td>' in text
    assert '<td class="sign fail">✗</td><td>median round trip over direct</td><td class="n">4</td>' in text
    assert "counts: 10; 10,000; 1,000,000 · samples: 30 · tiny: no · kernel: 6.1 · cpus: 2 · load: 1.5 to 1.5" in text


def test_the_page_needs_no_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    folder = written(tmp_path / "one")
    assert bench.main(["--page", str(folder)]) == 0
    assert capsys.readouterr().out == f"page: {folder}/bench.html\n"


def test_a_line_is_three_times_the_median_peer() -> None:
    drawn = str(drawings(documents()["frame_path"])[0].drawn)
    assert "headers only: 35" in drawn
    assert "3 times headers only: 105" in drawn
    assert "3 times headers only: 2,100" in drawn, "of frames of any connection"
    assert "wire_out: 76" in drawn


def test_round_trips_are_drawn_where_they_are_known() -> None:
    document = documents()["goodput"]
    assert drawings(document)[0].about == "The medians of every sample."
    document["details"] = {"round_trips": {"ours": [100.0, 200.0], "direct": [10.0]}}
    (drawing,) = drawings(document)
    assert [name for name, _ in drawing.legend] == ["ours", "direct"]
    assert "1.25 × direct" in str(drawing.drawn)


def test_a_team_has_the_same_colour_in_every_plot() -> None:
    """Also where another one is missing."""
    (drawing,) = drawings(documents()["stall"])
    looks = dict(drawing.legend)
    assert list(looks) == list(TEAMS)
    assert str(drawing.drawn).count(f'class="s {looks["ovs_balance_tcp"]}"') == 4
    assert str(drawing.drawn).count(f'class="s {looks["ovs_active_backup"]}"') == 2


def test_one_connection_costs_its_share() -> None:
    drawn = str(drawings(documents()["moves"])[0].drawn)
    told = re.findall(r"5,000 connections, all released, ours: median ([\d,]+), .*?; (\d+) µs each", drawn)
    assert told[0] == ("1,254", "251")


def test_what_is_new_to_the_page_has_its_table_alone() -> None:
    document = documents()["stall"] | {"benchmark": "unheard_of"}
    assert "<h2>unheard_of" in page.page({"stall": document}, "one", ["stall"])
    assert drawings(document) == []


def test_the_page_tells_what_has_no_figures() -> None:
    assert "Without figures: moves, goodput.<" in page.page(
        {"stall": documents()["stall"]}, "one", ["moves", "stall", "goodput"]
    )


def test_the_page_is_made_of_all_that_is_in_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--page", str(tmp_path), "moves"]) == 2
    assert capsys.readouterr().err == "teambed: --page measures nothing, so it goes with nothing else\n"


def test_a_folder_without_figures_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--page", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"teambed: no page: {tmp_path} holds no figures: none of {', '.join(f'{name}.json' for name in bench.NAMES)}\n"
    )


@pytest.mark.parametrize("text", ["{", "[]", '{"benchmark": "moves"}', "7", '"x"', "null"])
def test_a_damaged_document_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "moves.json").write_text(text)
    assert bench.main(["--page", str(tmp_path)]) == 2
    damaged = "moves.json is not what a benchmark writes; measure it anew, or take it out of the folder"
    assert capsys.readouterr().err == f"teambed: no page: {damaged}\n"
    assert not (tmp_path / "bench.html").exists()


def test_of_an_interrupted_run_there_is_a_page_of_what_was_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def __init__(self, module: str):
            self.module = module

        def measure(self, _tiny: bool) -> Report:
            if self.module == "benchmarks.moves":
                raise KeyboardInterrupt
            return next(one for one in reports() if f"benchmarks.{one.name}" == self.module)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(importlib, "import_module", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.main(["stall", "moves", "goodput", "--out", str(tmp_path)])
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bench.html", "stall.json"]
    assert f"page: {tmp_path}/bench.html\n" in capsys.readouterr().out
