"""What counts as a stall, and where its milliseconds went."""

from benchmarks.stall import DIRECTIONS, LOSS, REHASH, gaps, of, parts

PROGRESS = [
    {"t": 1.00, "dir": "receive", "bytes": 1, "gap_ms": 2.0},
    {"t": 1.02, "dir": "send", "bytes": 1, "gap_ms": 9.0},
    {"t": 1.10, "dir": "receive", "bytes": 9, "gap_ms": 60.0, "stalls": [[10.0, 60.0], [2.0, 6.0]]},
]


def rounded(found: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(round(begin, 4), round(end, 4)) for begin, end in found]


def test_a_stall_has_its_own_place_and_the_longest_gap_that_of_its_report() -> None:
    assert rounded(gaps(PROGRESS, DIRECTIONS["download"])) == [
        (0.998, 1.0),
        (1.03, 1.09),
        (1.092, 1.098),
        (1.04, 1.1),
    ]
    assert rounded(gaps(PROGRESS, DIRECTIONS["upload"])) == [(1.011, 1.02)]


def test_the_parts_add_up_to_the_stall() -> None:
    told = {"hold": 0.5, "save": 1.0, "restore": 2.0, "release": 0.5, "total": 4.0}
    events = [
        {"t": 0.9, "event": "move", "parts_ms": told},  # the offload, before the fault
        {"t": 1.006, "event": "link", "who": "nic0", "up": False},
        {"t": 1.009, "event": "move", "parts_ms": told},
        {"t": 1.003, "event": "link", "who": "agent", "up": False},  # told behind the move
    ]
    found = parts(events, 1.0, (0.999, 1.012))
    assert {name: round(ms, 6) for name, ms in found.items()} == {
        "before the fault": 1,
        "detected": 3,
        "until the hold": 2,
        **{"hold": 0.5, "save": 1, "restore": 2, "release": 0.5},
        "from the first release to the new byte": 3,
    }
    assert round(sum(found.values()), 6) == 13


def test_another_team_has_no_parts() -> None:
    assert list(parts([], 1.0, (0.999, 1.012))) == ["before the fault"]


def test_repetitions_are_told_apart() -> None:
    runs = [{"event": event, "traffic": traffic} for event in (LOSS, REHASH) for traffic in DIRECTIONS]
    assert of(runs, REHASH, "upload") == runs[3:]
