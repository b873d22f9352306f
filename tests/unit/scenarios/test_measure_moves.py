"""A move's parts from fault to first byte, faults and their detection, collateral moves, single connections of many."""

import pytest

from scenarios.measure import measure, stories
from scenarios.measure.arrivals import Arrivals
from scenarios.measure.faults import faults
from scenarios.measure.moves import moves
from scenarios.measure.stories import COLUMNS

WHO = {"src": "10.0.0.11", "sport": 40000, "dst": "10.0.0.1", "dport": 8080}
PLACES = {"server": "server", "switches": ["s1", "s2"], "clients": {"c1": "s1"}, "rate_bps": None}
TEAMS = {"team0": {"nic0": "s1", "nic1": "s1"}, "team1": {"nic2": "s2"}}


def ev(t: float, event: str, who: str = "x", **keys):
    return {"t": t, "who": who, "event": event, **keys}


def move(t, kind, cause, source, target, total=4.0, **keys):
    parts = {"hold": 0.5, "save": 1.0, "restore": 2.0, "release": total - 3.5, "total": total}
    return (
        ev(
            t,
            "move",
            **WHO,
            host_tcp_segments=0,
            kind=kind,
            cause=cause,
            parts_ms=parts,
            **{"from": source, "to": target},
        )
        | keys
    )


def heard(t, total, gap=2.0, stalls=()):
    return ev(
        t, "progress", traffic="t", dir="receive", bytes=total, gap_ms=gap, **({"stalls": stalls} if stalls else {})
    )


RUN = [
    ev(0.0, "topology", **PLACES, teams=TEAMS),
    ev(0.9, "traffic", traffic="t", send=0, receive=1000),
    ev(1.0, "connected", traffic="t", **WHO),
    heard(1.02, 100),
    move(1.1, "offload", "policy", "host", "nic0"),
    heard(1.96, 400),
    ev(2.0, "wire", "runner", nic="nic0", up=False),
    ev(2.003, "fault", "agent", nic="nic0", kind="link"),
    move(2.009, "reload", "link_down", "nic0", "nic1"),
    # The last byte came at 1.99, the next one at 2.021, 9 ms before this was told.
    heard(2.03, 500, gap=31.0, stalls=[[9.0, 31.0]]),
    heard(2.05, 600),
    ev(3.0, "done", traffic="t", retransmits=0),
]


def test_a_moves_parts_from_the_fault_to_the_first_byte():
    found = moves(stories(RUN)["t"], faults(RUN))
    assert [one.parts for one in found] == [
        {"hold": 0.5, "save": 1.0, "restore": 2.0, "release": 0.5, "first_byte": 2.0},
        {"detect": 3.0, "wait": 2.0, "hold": 0.5, "save": 1.0, "restore": 2.0, "release": 0.5, "first_byte": 12.0},
    ]
    assert list(found[1].parts) == ["detect", "wait", "hold", "save", "restore", "release", "first_byte"]
    assert (found[1].source, found[1].target, round(found[1].began, 6)) == ("nic0", "nic1", 2.005)


def test_the_first_byte_after_the_fault():
    assert measure(RUN)["t"]["first_byte_after_fault_ms"] == 21.0
    assert measure([e for e in RUN if e["event"] != "wire"])["t"]["first_byte_after_fault_ms"] is None
    # Without a move, from the agent's knowing of it on: the stall goes on until 2.021 all the same.
    assert measure([e for e in RUN if e["event"] != "move"])["t"]["first_byte_after_fault_ms"] == 21.0
    unseen = [e for e in RUN if e["event"] not in ("move", "fault")]
    assert measure(unseen)["t"]["first_byte_after_fault_ms"] is None
    late = [{**event, "t": 3.5} if event["event"] == "wire" else event for event in RUN]
    assert measure(late)["t"]["first_byte_after_fault_ms"] is None, "the traffic had ended"


def test_a_gap_too_short_to_be_told_bounds_the_first_byte():
    arrivals = Arrivals([heard(1.0, 10), heard(1.02, 20, gap=3.0), heard(1.04, 20, gap=9.0), heard(1.06, 30, gap=9.0)])
    assert arrivals.first_after(1.01) == 0.003
    assert arrivals.first_after(1.03) == 0.005, "longer than 5 ms would have been told as a stall"
    assert arrivals.first_after(1.07) is None


def test_stalls_of_a_single_connection():
    assert measure(RUN)["t"]["stalls_ms"] == [31.0]
    assert measure([event for event in RUN if event["event"] != "connected"])["t"]["stalls_ms"] is None


@pytest.mark.parametrize(
    ("step", "cut"),
    [
        ({"do": "adapter_failure", "nic": "nic1"}, ["nic1"]),
        ({"do": "all_links_down"}, ["nic0", "nic1", "nic2"]),
        ({"do": "switch_down", "switch": "s2"}, ["nic2"]),
        ({"do": "link_up", "nic": "nic1"}, []),
        ({"do": "kill", "process": "agent"}, []),
        ({"do": "kill", "nic": "nic1"}, ["nic1"]),
    ],
)
def test_steps_that_are_faults(step, cut):
    found = faults([RUN[0], ev(2.0, "step", index=0, **step)])
    assert [one.nic for one in found] == cut
    assert all(one.seen is None for one in found)


def test_detection_belongs_to_the_fault_before_it():
    events = [
        ev(1.0, "wire", nic="nic0", up=False),
        ev(1.004, "fault", "agent", nic="nic1", kind="link"),
        ev(2.0, "wire", nic="nic0", up=True),
        ev(3.0, "wire", nic="nic0", up=False),
        ev(3.002, "fault", "agent", nic="nic0", kind="link"),
    ]
    assert [one.seen for one in faults(events)] == [None, 3.002]
    assert measure(events)["run"]["longest_detection_ms"] is None, "one was never noticed"
    assert measure(events[2:])["run"]["longest_detection_ms"] == 2.0
    assert measure(events)["run"]["faults"] == 2


def test_what_corrects_a_guess_is_no_collateral_move():
    def count(*causes):
        chain = [move(1 + n, "reload", cause, "nic0", "nic1") for n, cause in enumerate(causes)]
        return measure([*RUN[:3], *chain])["t"]["collateral"]

    assert count("policy", "link_down", "stray") == 0
    assert count("policy", "stray") == 1
    assert count("policy", "link_down", "stray", "stray") == 1
    assert count("policy", "command", "stray") == 0


def test_each_connection_of_many():
    keys = {"src": "10.0.0.11", "dst": "10.0.0.1", "dport": 8080}
    columns = {"ended_ms_ago": [0, 500], "bytes": [1000, 500], "longest_stall_ms": [100.0, 30.0]}
    columns |= {"stall_ended_ms_ago": [950, 900], "retransmits": [1, 0], "out_of_order": [0, 2]}
    events = [
        *RUN[:2],
        ev(1.0, "connected", traffic="t", sports=[1, 2, 3], **keys),
        ev(2.0, "wire", "runner", nic="nic0", up=False),
        ev(2.01, "fault", "agent", nic="nic0", kind="link"),
        move(2.04, "reload", "link_down", "nic0", "nic1", sport=1, retransmits=1),
        move(2.2, "reload", "stray", "nic0", "nic1", sport=2, retransmits=0),
        *(ev(3.0, "closed", "nic1", **keys, sport=port, retransmits=more) for port, more in ((1, 4), (2, 0))),
        ev(3.0, "ended", traffic="t", sports=[1, 2], **keys, **columns, duplicates=[0, None], index=[0, 2]),
        ev(3.1, "done", traffic="t", wrong=[]),
        ev(3.2, "resets", traffic="t", resets=2, of={"2": 2}),
    ]
    found = measure(events)["t"]
    assert found["each"] == {
        "intact": None,
        "bytes": [1000, 500],
        "goodput_mbit": [0.004, 0.002667],
        "longest_stall_ms": [100.0, 30.0],
        "client_retransmits": [1, 0],
        "server_retransmits": [5, 0],
        "client_out_of_order": [0, 2],
        "client_duplicates": None,
        "resets": [0, 2],
        "moves": [1, 1],
        "reloads": [1, 1],
        "offloaded_share": [0.48, 0.4],
    }
    # The first one had no byte from 1.95 to 2.05; the second one's longest stall was no matter of the fault.
    assert found["first_byte_after_fault_ms"] == 50.0
    assert found["each_move"]["first_byte_ms"] == []
    assert found["stalls_ms"] is None


@pytest.mark.parametrize(
    ("done", "served", "intact"),
    [
        ([], {"connections": 3, "wrong": []}, [True, True]),
        ([2], {"connections": 3, "wrong": []}, [True, False]),
        ([], {"connections": 3, "wrong": [0]}, [False, True]),
        ([1], {"connections": 2, "wrong": []}, [True, True]),
        ([], {"connections": 1, "wrong": []}, None),
        (None, {"connections": 3, "wrong": []}, None),
        ([], None, None),
    ],
)
def test_which_of_many_are_intact(done, served, intact):
    """Both ends judge; one that was ended before it had judged all says nothing of any."""
    keys = {"src": "10.0.0.11", "dst": "10.0.0.1", "dport": 8080}
    columns = {key: [0, 0] for key in COLUMNS}
    events = [
        *(RUN[0], {**RUN[1], "count": 3}),
        ev(1.0, "connected", traffic="t", sports=[1, 2], **keys),
        ev(3.0, "ended", traffic="t", sports=[1, 2], **keys, **columns, index=[0, 2]),
        ev(3.1, "done", traffic="t", error="one is broken", wrong=done),
        *([] if served is None else [ev(3.2, "served", traffic="t", **served)]),
    ]
    assert measure(events)["t"]["each"]["intact"] == intact
