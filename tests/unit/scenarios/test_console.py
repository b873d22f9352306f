"""What a person reads: plain lines for CI, one live line on a terminal, and why an expectation failed."""

import io
from pathlib import Path

from scenarios import console
from scenarios.console import AROUND, Console, around, tell
from scenarios.load import load
from scenarios.verdict import judge
from tests.unit.scenarios.test_verdict import SCENARIO, WHO, ev, run

MOVE = {
    "kind": "reload",
    "from": "nic0",
    "to": "nic2",
    "cause": "link_down",
    "parts_ms": {"total": 0.42},
    "retransmits": 0,
}


def shown(events, live=False) -> str:
    out = io.StringIO()
    console = Console(SCENARIO, out, live)
    console.start()
    console.see(events)
    console.result(judge(SCENARIO, events, {}), events, Path("results/s"))
    return out.getvalue()


def test_plain():
    text = shown(run(ev(1.5, "move", **WHO, **MOVE)))
    assert "\x1b" not in text
    assert "\r" not in text
    assert "     1.500 s  download: reload nic0 → nic2 (link_down)\n" in text
    assert "  download  1.500 s  reload  nic0 → nic2  link_down  0.42 ms\n" in text
    assert "  ✓ download.intact   (download.intact = true)\n" in text
    assert "  ✗ download.moves == 0   (download.moves = 1)\n" in text
    assert text.endswith("FAIL s\n")


def test_a_failed_expectation_shows_the_events_around_it():
    lines = shown(run(ev(1.5, "move", **WHO, **MOVE))).partition("✗")[2].splitlines()
    assert lines[1:4] == [
        "         1.000 s  download: connected from 10.0.0.11:40000",
        "         1.500 s  download: reload nic0 → nic2 (link_down)",
        "         2.000 s  download: done",
    ]


def test_a_passed_run_names_every_value():
    text = shown(run())
    assert "✗" not in text
    assert "download.moves = 0" in text
    assert text.endswith("PASS s\n")


def test_a_run_that_broke_off_says_why():
    text = shown([ev(1, "error", reason="agent was ended by SIGKILL")])
    assert "  error: agent was ended by SIGKILL\n" in text
    assert "nothing measured" in text
    assert text.endswith("ERROR s\n")


def test_live_updates_one_line():
    out = io.StringIO()
    console = Console(SCENARIO, out, live=True)
    for step in range(1, 5):
        console.see([ev(step / 2, "progress", traffic="download", dir="receive", bytes=step * 10_000_000, gap_ms=1)])
    text = out.getvalue()
    assert "\n" not in text
    assert text.count("\r") == 4
    assert "download 40.0 MB 160 Mbit/s" in text


def test_around_leaves_out_other_traffic_and_progress():
    text = """\
scenario: s
about: a
services: {files: {listen: 80}}
traffic:
  one: {client: c1, service: files, send: 1B}
  two: {client: c1, service: files, send: 1B}
expect: [one.intact]
"""
    load(text, "s.yaml")
    events = [
        ev(1, "connected", traffic="one", **WHO),
        ev(1, "connected", traffic="two", **(WHO | {"sport": 1})),
    ]
    events += [ev(2, "progress", traffic="one", dir="send", bytes=1, gap_ms=1)]
    events += [ev(3, "step", index=0, do="link_down", nic="nic0"), ev(4, "done", traffic="two")]
    lines = around({"one.intact": False}, events)
    assert [line.split("  ")[-1] for line in lines] == [
        "one: connected from 10.0.0.11:40000",
        "step 1: link_down nic0",
    ]
    refused = [ev(1, "refused", **WHO, reason=f"reason {index}") for index in range(50)]
    assert len(around({"one.intact": 0}, events[:1] + refused)) == AROUND
    # What is told again and again counts once.
    assert len(around({"one.intact": 0}, events[:1] + refused[:1] * 50)) == 2


def test_the_events_around_a_failure_are_in_their_order():
    """Also those that are told again and again, which count once."""
    link, step = ev(1, "link", nic="nic0", up=False), ev(2, "step", index=0, do="link_up", nic="nic0")
    assert around({"one.intact": False}, [link, step, {**link, "t": 3.0}]) == [
        "   2.000 s  step 1: link_up nic0",
        "   3.000 s  nic0: the agent sees its link down",
    ]


def test_events_that_nobody_needs_are_silent():
    assert tell(ev(1, "learned", mac="x"), {}) == ""
    assert tell(ev(1, "fault", nic="nic0", kind="link"), {}) == "", "the event `link` has told it"


def test_a_step_is_told_as_it_was_written():
    def told(do: str, **words: object) -> str:
        return tell(ev(1, "step", index=0, at=0.5, do=do, **words), {})

    assert (
        told("link_flap", nic="nic1", times=4, down=0.2, up=1.5) == "step 1: link_flap nic1 times 4 down 200ms up 1.5s"
    )
    assert told("set_rate", nic="nic1", rate=10_000_000) == "step 1: set_rate nic1 rate 10mbit"
    assert told("impair", nic="nic1", loss=0.015) == "step 1: impair nic1 loss 1.5%"
    assert told("syn_flood", client="c1", rate=500.0) == "step 1: syn_flood c1 rate 500/s"
    assert told("change_router_mac", announce=False) == "step 1: change_router_mac announce false"
    assert told("of_a_newer_teambed", hours=0.5) == "step 1: of_a_newer_teambed hours 0.5"


def test_another_team_is_not_said_to_offload():
    team = SCENARIO.team.model_copy(update={"driver": "ovs_active_backup"})
    for scenario, said in ((SCENARIO, True), (SCENARIO.model_copy(update={"team": team}), False)):
        out = io.StringIO()
        Console(scenario, out).result(judge(SCENARIO, run(), {}), run(), Path("results/s"))
        assert ("of the time offloaded" in out.getvalue()) == said


def test_many_connections_are_told_together():
    text = SCENARIO.model_copy(
        update={"traffic": {"download": SCENARIO.traffic["download"].model_copy(update={"count": 50})}}
    )
    out = io.StringIO()
    console = Console(text, out, live=False)
    keys = {key: WHO[key] for key in ("src", "dst", "dport")}
    console.see([ev(1, "connected", traffic="download", sports=list(range(50)), **keys)])
    console.see([ev(2, "move", **keys, sport=port, **MOVE) for port in range(50)])
    lines = out.getvalue().splitlines()
    assert [line.split("  ")[-1] for line in lines] == [
        "download: 50 more connected",
        "download, 50 ×: reload nic0 → nic2 (link_down)",
    ]


def test_a_check_of_the_records_is_told():
    assert tell(ev(1, "records_checked", connections=7, differences=0, examples=[]), {}) == (
        "records and sockets of 7 connections agree"
    )
    assert "differ, 1 times: x" in tell(ev(1, "records_checked", connections=7, differences=1, examples=["x"]), {})


def test_lists_areshown_value_by_value_or_in_brief():
    assert console.shown("t.stalls_ms", [6.0, 1200.0]) == "t.stalls = [6.00 ms, 1.20 s]"
    assert console.shown("t.each.intact", {"values": 20, "true": 19}) == "t.each.intact: values 20, true 19"
    brief = {"values": 100, "min": 1.0, "median": 50.5, "max": 100.0}
    shown = "t.each.longest_stall: values 100, min 1.00 ms, median 50.5 ms, max 100.0 ms"
    assert console.shown("t.each.longest_stall_ms", brief) == shown
