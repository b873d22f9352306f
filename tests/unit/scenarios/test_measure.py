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
        "connections": 1,
        "broken": 0,
        **digests,
    }
    extra = {"retransmits": 2, "out_of_order": 5, "duplicates": 6} if event == "done" else {}
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
        "exit_status": None,
        "took_ms": None,
        "responses_ms": None,
        "bytes": 1000,
        "goodput_mbit": 0.004,
        "resets": 0,
        "moves": 2,
        "offloads": 1,
        "uploads": 0,
        "reloads": 1,
        "causes": {"policy": 1, "link_down": 1},
        "connections": 1,
        "broken": 0,
        "lost": 0,
        "stranded": 0,
        "refused": 0,
        "refusals": {},
        "longest_stall_ms": 31.0,
        "longest_move_ms": 1.25,
        "retransmits": 2 + 0 + 3 + 4,
        "client_retransmits": 2,
        "server_retransmits": 0 + 3 + 4,
        "client_out_of_order": 5,
        "client_duplicates": 6,
        "collateral": 0,
        "first_byte_after_fault_ms": None,
        "stalls_ms": [],
        "each": None,
        "each_move": {
            **{f"{part}_ms": [] for part in ("detect", "wait", "hold", "save", "restore", "release")},
            # Upper bounds: no stall was told, and shorter ones than 5 ms are not.
            "first_byte_ms": [5.0, 5.0],
            "total_ms": [0.5, 1.25],
        },
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
        (
            "done",
            {"broken", "intact", "bytes", "goodput_mbit", "retransmits", "client_retransmits", "offloaded_share"}
            | {"client_out_of_order", "client_duplicates"},
        ),
        ("served", {"intact", "bytes", "goodput_mbit"}),
        ("closed", {"retransmits", "server_retransmits"}),
        ("resets", {"resets"}),
        ("record", {"host_segments_while_offloaded", "strays"}),
        ("progress", {"longest_stall_ms"}),
        (
            "connected",
            {"goodput_mbit", "moves", "offloads", "uploads", "reloads", "causes", "longest_move_ms"}
            | {"connections", "lost", "stranded", "refused", "refusals"}
            | {
                "retransmits",
                "server_retransmits",
                "collateral",
                "stalls_ms",
                "offloaded_share",
                "host_segments_while_offloaded",
                "strays",
            },
        ),
    ],
)
def test_what_is_missing_is_unknown(missing, unknown):
    never = {"exit_status", "took_ms", "responses_ms", "first_difference", "error", "first_byte_after_fault_ms", "each"}
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


def test_a_command_that_has_a_name():
    """What it ended with and printed is measured under its name; without its event nothing is."""
    ran = ev(1.0, "ran", name="seen", exit_status=1, output="10.0.0.11")
    assert measure([ran])["seen"] == {"exit_status": 1, "output": "10.0.0.11"}
    assert measure([]).keys() == {"run"}


def test_the_run_itself():
    assert measure([ev(1.25, "up"), ev(5.0, "stopping"), ev(5.5, "torn_down")])["run"] == {
        "bring_up_ms": 1250.0,
        "tear_down_ms": 500.0,
        "host_tcp_segments_after_offload": None,
        "record_checks": 0,
        "records_compared": 0,
        "record_differences": None,
        "agent_rebuilt_ms": None,
        "blocks_traced": 0,
        "floods": 0,
        "neighbour_changes": 0,
        "miswired": 0,
        "path_changes": 0,
        "aged": 0,
        "faults": 0,
        "longest_detection_ms": None,
    }
    assert set(measure([])["run"].values()) == {None, 0}


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


def crowd(*, without=(), served=None, count=3):
    """Three connections of one traffic; the last was lost with its adapter."""
    ports = [40000, 40001, 40002]
    keys = {"src": "10.0.0.11", "dst": "10.0.0.1", "dport": 8080}
    ends = {"connections": 3, "sent_bytes": 30, "received_bytes": 60, "sent_sha256": "a", "received_sha256": "b"}
    events = [
        ev(0.9, "traffic", traffic="crowd", send=10, receive=20, count=count, seed=0),
        ev(1.0, "connected", traffic="crowd", sports=ports[:2], **keys),
        ev(2.0, "connected", traffic="crowd", sports=ports[2:], **keys),
        *(move(2.0, "offload", "policy") | keys | {"sport": port} for port in ports),
        move(3.0, "reload", "link_down", retransmits=5) | keys | {"sport": ports[0]},
        ev(2.5, "refused", **keys, sport=ports[1], reason="full"),
        ev(2.6, "refused", **keys, sport=ports[1], reason="feature:ipv6"),
        ev(2.7, "refused", **keys, sport=ports[1], reason="it said no"),
        *(ev(4.0, "closed", **keys, sport=port, retransmits=1) for port in ports),
        *(ev(9.0, "record", **keys, sport=port, strays=2, host_segments_while_offloaded=0) for port in ports),
        ev(5.0, "done", traffic="crowd", **ends, broken=0, first_difference=None, error=None, retransmits=4),
        ev(5.1, "served", traffic="crowd", broken=0, first_difference=None, error=None)
        | {"connections": 3, "sent_bytes": 60, "received_bytes": 30, "sent_sha256": "b", "received_sha256": "a"}
        | (served or {}),
        ev(5.2, "resets", traffic="crowd", resets=0),
    ]
    return measure([event for event in events if event["event"] not in without])["crowd"]


def test_many_connections_are_measured_together():
    found = crowd()
    assert (found["intact"], found["connections"], found["bytes"]) == (True, 3, 90)
    assert (found["offloads"], found["reloads"], found["strays"]) == (3, 1, 6)
    assert found["retransmits"] == 4 + 3 + 5
    assert (found["refused"], found["refusals"]) == (3, {"full": 1, "feature_ipv6": 1, "other": 1})
    # Lived 3, 3 and 2 seconds, owned by a NIC for 2 each.
    assert found["offloaded_share"] == 0.75


def test_one_of_many_that_is_not_whole_makes_all_not_intact():
    assert crowd(served={"received_sha256": "other"})["intact"] is False
    assert crowd(served={"connections": 2, "received_bytes": 20})["intact"] is False
    assert crowd(served={"first_difference": 3})["intact"] is False
    assert crowd(count=4)["intact"] is False
    assert crowd(without=["served"])["intact"] is None
    assert crowd(without=["record"])["strays"] is None


def test_lost_and_stranded():
    events = [
        ev(0.9, "traffic", traffic="t", send=1, receive=0),
        ev(1, "connected", traffic="t", **WHO),
        ev(2, "stranded", **WHO, nic="nic0"),
        ev(3, "lost", **WHO, reason="the adapter is gone"),
    ]
    found = measure(events)["t"]
    assert (found["lost"], found["stranded"], found["refused"]) == (1, 1, 0)


def test_checks_of_records_and_restarts_of_the_agent():
    agent = {"who": "agent"}
    events = [
        ev(1.0, "ready") | agent,
        ev(2.0, "restarted", process="agent"),
        ev(2.3, "rebuilt", records=2) | agent,
        ev(2.4, "ready") | agent,
        ev(3.0, "records_checked", connections=2, differences=0, examples=[]),
        ev(4.0, "records_checked", connections=2, differences=3, examples=[]),
    ]
    run = measure(events)["run"]
    assert (run["record_checks"], run["record_differences"], run["agent_rebuilt_ms"]) == (2, 3, 300.0)
    assert run["records_compared"] == 4
    assert measure(events[:2])["run"]["agent_rebuilt_ms"] is None
    idle = [ev(3.0, "records_checked", connections=0, differences=0, examples=[])]
    assert measure(idle)["run"]["record_differences"] is None, "nothing was looked at"


def test_of_a_command_its_exit_status_says_whether_it_is_intact():
    asked = {"t": 0.0, "who": "runner", "event": "traffic", "traffic": "page", "command": "curl"}
    done = {"t": 2.0, "who": "client-page", "event": "done", "traffic": "page", "took_ms": 1500.0, "connections": 0}
    for status, intact in ((0, True), (22, False)):
        values = measure([asked, done | {"exit_status": status, "error": "no" if status else None}])["page"]
        assert (values["exit_status"], values["intact"], values["took_ms"]) == (status, intact, 1500.0)
        assert values["longest_stall_ms"] is None


def test_response_times_of_requests():
    asked = {"t": 0.0, "who": "runner", "event": "traffic", "traffic": "t", "send": 5, "receive": 5, "requests": 3}
    one = {"t": 1.0, "who": "client-t", "event": "responses", "traffic": "t"}
    told = [one | {"ms": ms} for ms in ([3.5, 4.0], [9.0])]
    assert measure([asked, *told])["t"]["responses_ms"] == [3.5, 4.0, 9.0]
