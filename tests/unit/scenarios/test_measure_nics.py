"""What each NIC and each switch did: wires, Figure 4, connections held, choices of the switch."""

from scenarios import vocabulary
from scenarios.measure import measure
from scenarios.measure.owners import offloaded
from tests.unit.scenarios.test_measure_moves import PLACES, TEAMS, WHO, ev, move

BLOCKS = {"402_404": 1, "406_408": 2, "410_412": 3, "410_414": 4, "forwarded": 5, "held": 6, "other": 9, "up": 9}
OWN = {"to_host": 9, "to_wire": 9, "own_in": 7, "own_out": 8, "silenced": 0}
EVENTS = [
    ev(0.0, "topology", "runner", **PLACES, teams=TEAMS),
    ev(0.1, "ready", "nic0"),
    ev(0.5, "members", "controller", switch="s1", lag="team0", active=[1, 2], moved=1.0, had_to_move=0.0),
    ev(0.5, "switch_ready", "controller", switch="s1", kept=0, changed=90),
    ev(1.0, "up"),
    ev(1.0, "ports", ports={"s1-nic0": [1000, 10, 2000, 20], "s1-nic1": [0, 0, 0, 0]}),
    ev(1.1, "ports", ports={"s1-nic0": [1500, 15, 2600, 26]}),
    move(1.1, "offload", "policy", "host", "nic0"),
    move(1.1, "offload", "policy", "host", "nic0", sport=2),
    ev(1.2, "ports", ports={"s1-nic0": [1600, 16, 2700, 27], "s1-nic1": [40, 4, 90, 9]}),
    move(2.0, "reload", "stray", "nic0", "nic1"),
    ev(2.0, "members", "controller", switch="s1", lag="team0", active=[1], moved=0.6667, had_to_move=0.3333),
    ev(2.1, "buckets", "controller", switch="s1", lag="team0", moved=0.25, had_to_move=0.0),
    ev(2.1, "switch_ready", "controller", switch="s1", kept=90, changed=0),
    ev(2.1, "switch_ready", "controller", switch="s1", kept=83, changed=7),
    ev(2.2, "closed", "nic1", **WHO),
    move(2.3, "upload", "command", "nic0", "host", sport=2),
    ev(2.5, "ports", ports={"s1-nic1": [10, 1, 30, 3]}),
    ev(9.0, "counters", "agent", nics={"nic0": BLOCKS}, host_tcp_segments=1),
    ev(9.0, "counters", "nic0", **OWN),
]


def test_a_nics_measurements():
    found = measure(EVENTS)
    assert found["nic0"] == {
        **{"bytes_out": 600, "frames_out": 6, "bytes_in": 700, "frames_in": 7},
        **{"most_offloaded": 2, "arrivals": 2, "departures": 2},
        **{"block_404": 1, "block_408": 2, "block_412": 3, "block_414": 4, "forwarded": 5, "held": 6},
        **{"own_frames_in": 7, "own_frames_out": 8, "silenced": 0},
    }
    # Its port was made anew in the middle, with counters from zero.
    assert (found["nic1"]["bytes_out"], found["nic1"]["frames_in"]) == (50, 12)
    assert found["nic1"]["block_404"] is None
    assert found["nic2"]["frames_in"] is None


def test_an_engine_that_was_killed_took_its_counts_along():
    again = [*EVENTS[:5], ev(3.0, "ready", "nic0"), *EVENTS[5:]]
    assert measure(again)["nic0"]["own_frames_in"] is None
    assert measure(again)["nic0"]["block_408"] == 2, "the frame path is the server's"


def test_a_switchs_measurements():
    found = measure(EVENTS)["s1"]
    assert found == {
        "frames_to_members": 19,
        "frames_from_members": 11,
        "frames_per_member": {"nic0": 7, "nic1": 12},
        "busiest_share": 0.6316,
        "choices": 2,
        "met": 3,
        "rewritten": 7,
        "moved": 0.9167,
        "had_to_move": 0.3333,
        "collateral_ratio": 0.636,
    }
    assert measure(EVENTS)["s2"]["frames_to_members"] is None
    assert measure(EVENTS)["s2"]["collateral_ratio"] == 0.0


def test_offloaded_connections_over_time():
    assert [held for _, held in offloaded(EVENTS)] == [
        {"nic0": 1},
        {"nic0": 2},
        {"nic0": 1, "nic1": 1},
        {"nic0": 1, "nic1": 0},
        {"nic0": 0, "nic1": 0},
    ]


def test_every_word_of_the_vocabulary_is_measured():
    found = measure(EVENTS)
    assert vocabulary.NIC.keys() == found["nic0"].keys()
    assert vocabulary.SWITCH.keys() == found["s1"].keys() - {"frames_per_member"}
    assert vocabulary.RUN.keys() == found["run"].keys()
    events = [ev(0.9, "traffic", traffic="t", send=0, receive=1000), ev(1, "connected", traffic="t", **WHO)]
    ended = {"sports": [40000], **{key: [0] for key in ("ended_ms_ago", "bytes", "longest_stall_ms")}}
    ended |= {key: [0] for key in ("stall_ended_ms_ago", "retransmits", "out_of_order", "duplicates")}
    keys = {key: WHO[key] for key in ("src", "dst", "dport")}
    traffic = measure([*events, ev(2, "ended", traffic="t", **keys, **ended)])["t"]
    more = {"first_difference", "error", *vocabulary.TABLES, *vocabulary.LISTS, *vocabulary.LISTS[""]} - {""}
    assert vocabulary.TRAFFIC.keys() == traffic.keys() - more
    assert vocabulary.EACH.keys() == traffic["each"].keys()
    assert vocabulary.EACH_MOVE.keys() == traffic["each_move"].keys()
