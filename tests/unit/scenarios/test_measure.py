"""Measurements: what each one is computed from, and that nothing is made up when its events are missing."""

import pytest

from scenarios.measure import measure

WHO = {"src": "10.0.0.11", "sport": 40000, "dst": "10.0.0.1", "dport": 8080}
OTHER = WHO | {"sport": 40001}


def ev(t: float, event: str, **keys):
    return {"t": t, "who": "x", "event": event, **keys}


def move(t: float, kind: str, cause: str, **keys):
    return (
        ev(
            t,
            "move",
            **WHO,
            kind=kind,
            cause=cause,
            retransmits=0,
            parts_ms={"total": 0.5},
            **{"from": "a", "to": "b"},
        )
        | keys
    )


def end(event: str, t: float, sent: int, received: int, **keys):
    """`done` or `served`, as if every byte had arrived."""
    digests = {"sent_sha256": f"{sent}", "received_sha256": f"{received}"}
    facts = {
        "sent_bytes": sent,
        "received_bytes": received,
        "first_difference": None,
        "error": None,
        **digests,
    }
    extra = {"retransmits": 2} if event == "done" else {}
    return ev(t, event, traffic="download", **facts, **extra) | keys


def run(*, without=(), change=None):
    """The events of a whole run; `change` edits those of one name."""
    events = [
        ev(0.9, "traffic", traffic="download", client="c1", service="files", send=0, receive=1000, seed=0),
        ev(1.0, "up"),
        ev(1.0, "connected", traffic="download", **WHO),
        move(1.5, "offload", "policy"),
        ev(1.6, "progress", traffic="download", dir="receive", bytes=500, gap_ms=12.0),
        move(2.0, "reload", "link_down", retransmits=3, parts_ms={"total": 1.25}),
        move(2.1, "reload", "stray") | OTHER,  # another connection's
        ev(2.2, "progress", traffic="download", dir="receive", bytes=1000, gap_ms=31.0),
        end("served", 2.9, 1000, 0),
        end("done", 3.0, 0, 1000),
        ev(3.0, "closed", **WHO, reason="fin", retransmits=4, bytes_in=0, bytes_out=1000),
        ev(3.2, "resets", traffic="download", resets=0),
        ev(3.3, "finished"),
        ev(3.4, "stopping"),
        ev(3.5, "record", **WHO, nic="nic1", offloaded=True, host_segments_while_offloaded=0, strays=7),
        ev(3.7, "torn_down"),
    ]
    events = [event for event in events if event["event"] not in without]
    for event in events:
        if change and event["event"] == change[0]:
            event.update(change[1])
    return measure(events)["download"]


def test_a_whole_run():
    assert run() == {
        "intact": True,
        "bytes": 1000,
        "goodput_mbit": 0.004,
        "resets": 0,
        "moves": 2,
        "offloads": 1,
        "uploads": 0,
        "reloads": 1,
        "causes": {"policy": 1, "link_down": 1},
        "longest_stall_ms": 31.0,
        "longest_move_ms": 1.25,
        "retransmits": 2 + 0 + 3 + 4,
        "client_retransmits": 2,
        "offloaded_share": 0.75,
        "host_segments_while_offloaded": 0,
        "strays": 7,
        "first_difference": None,
        "error": None,
    }


@pytest.mark.parametrize(
    "change",
    [
        ("done", {"received_bytes": 999}),
        ("done", {"received_sha256": "other"}),
        ("done", {"first_difference": 17}),
        ("done", {"error": "ECONNRESET: Connection reset by peer"}),
        ("done", {"sent_bytes": 1}),
        ("served", {"sent_bytes": 999}),
        ("served", {"sent_sha256": "other"}),
        ("served", {"error": "took too long"}),
        ("served", {"received_sha256": "other"}),
        ("traffic", {"receive": 1001}),
        ("traffic", {"send": 1}),
    ],
)
def test_every_damage_is_not_intact(change):
    assert run(change=change)["intact"] is False


@pytest.mark.parametrize(
    ("missing", "unknown"),
    [
        ("done", {"intact", "bytes", "goodput_mbit", "retransmits", "client_retransmits", "offloaded_share"}),
        ("served", {"intact", "bytes", "goodput_mbit"}),
        ("closed", {"retransmits"}),
        ("resets", {"resets"}),
        ("record", {"host_segments_while_offloaded", "strays"}),
        ("progress", {"longest_stall_ms"}),
        (
            "connected",
            {"goodput_mbit", "moves", "offloads", "uploads", "reloads", "causes", "longest_move_ms"}
            | {"retransmits", "offloaded_share", "host_segments_while_offloaded", "strays"},
        ),
    ],
)
def test_what_is_missing_is_unknown(missing, unknown):
    never = {"first_difference", "error"}
    assert {key for key, value in run(without=[missing]).items() if value is None} - never == unknown


def test_an_old_socket_that_did_not_tell_makes_the_sum_unknown():
    assert run(change=("move", {"retransmits": None}))["retransmits"] is None


def test_where_it_first_differed_is_told():
    assert run(change=("served", {"first_difference": 17}))["first_difference"] == 17


def test_an_upload_ends_the_offloaded_time():
    events = [
        ev(0.9, "traffic", traffic="download", send=0, receive=1),
        ev(1.0, "connected", traffic="download", **WHO),
        move(2.0, "offload", "policy"),
        move(4.0, "reload", "stray"),
        move(6.0, "upload", "command"),
        move(8.0, "offload", "policy"),
        end("done", 11.0, 0, 1),
    ]
    assert measure(events)["download"]["offloaded_share"] == 0.7


def test_both_directions_count_for_the_stall():
    events = [
        ev(0, "traffic", traffic="t", send=5, receive=5),
        ev(1, "progress", traffic="t", dir="receive", bytes=5, gap_ms=3.0),
    ]
    assert measure(events)["t"]["longest_stall_ms"] is None
    events.append(ev(1, "progress", traffic="t", dir="send", bytes=5, gap_ms=90.0))
    assert measure(events)["t"]["longest_stall_ms"] == 90.0


def test_the_run_itself():
    assert measure([ev(1.25, "up"), ev(5.0, "stopping"), ev(5.5, "torn_down")])["run"] == {
        "bring_up_ms": 1250.0,
        "tear_down_ms": 500.0,
        "host_tcp_segments_after_offload": None,
    }
    assert set(measure([])["run"].values()) == {None}


def test_what_the_servers_tcp_received_is_the_kernels_count_since_the_last_offload() -> None:
    events = [
        move(1.0, "offload", "policy", host_tcp_segments=20),
        move(2.0, "offload", "policy", host_tcp_segments=30),
        move(3.0, "reload", "stray", host_tcp_segments=31),
        ev(9.0, "counters", nics={}, host_tcp_segments=35) | {"who": "agent"},
        ev(9.1, "counters", own_in=7) | {"who": "nic0"},
    ]
    assert measure(events)["run"]["host_tcp_segments_after_offload"] == 5
    assert measure(events[:3])["run"]["host_tcp_segments_after_offload"] is None
    assert measure(events[2:])["run"]["host_tcp_segments_after_offload"] is None
