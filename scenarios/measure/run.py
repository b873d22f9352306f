"""The run's own measurements: its times, its checks of records, its agent's restarts."""

from collections.abc import Sequence
from typing import Any

from scenarios.measure.faults import Fault
from scenarios.measure.stories import Event


def run(events: Sequence[Event], faults: Sequence[Fault]) -> dict[str, Any]:
    """All of them."""
    times = {event["event"]: float(event["t"]) for event in events if event["event"] in ("up", "stopping", "torn_down")}
    torn_down = "stopping" in times and "torn_down" in times
    return {
        "bring_up_ms": _ms(times["up"]) if "up" in times else None,
        "tear_down_ms": _ms(times["torn_down"] - times["stopping"]) if torn_down else None,
        "host_tcp_segments_after_offload": _host_tcp_segments(events),
        "record_checks": sum(event["event"] == "records_checked" for event in events),
        "records_compared": sum(event["connections"] for event in events if event["event"] == "records_checked"),
        "record_differences": _differences(events),
        "agent_rebuilt_ms": _rebuilt(events),
        "blocks_traced": len({event["block"] for event in events if event["event"] == "frame"}),
        "floods": sum(event["event"] == "flood" and event["who"].startswith("agent") for event in events),
        "neighbour_changes": sum(
            event["event"] == "neighbour" and event["who"].startswith("agent") for event in events
        ),
        "path_changes": sum(event["event"] == "path" and event["who"].startswith("agent") for event in events),
        "aged": sum(event["event"] == "aged" for event in events),
        "miswired": _miswired(events),
        "faults": len({fault.t for fault in faults}),
        "longest_detection_ms": _longest_detection(faults),
    }


def _miswired(events: Sequence[Event]) -> int:
    """NICs, over all teams; what an agent told last counts."""
    told = {
        event["who"]: event["partners"]
        for event in events
        if event["event"] == "miswired" and event["who"].startswith("agent")
    }
    return sum(len(one["nics"]) for partners in told.values() for one in partners if not one["selected"])


def _differences(events: Sequence[Event]) -> int | None:
    """Over all checks; None when none of them had a connection to look at."""
    checks = [event for event in events if event["event"] == "records_checked" and event["connections"]]
    return sum(int(event["differences"]) for event in checks) if checks else None


def _rebuilt(events: Sequence[Event]) -> float | None:
    """The longest time from a restart of the agent until it had its records again; None while one has not."""
    longest, began = None, None
    for event in events:
        if event["event"] == "restarted" and event["process"] == "agent":
            began = float(event["t"])
        elif event["who"] == "agent" and event["event"] in ("rebuilt", "ready") and began is not None:
            if event["event"] == "rebuilt" or longest is None:
                longest = max(longest or 0.0, float(event["t"]) - began)
            began = None if event["event"] == "ready" else began
    return None if longest is None or began is not None else _ms(longest)


def _host_tcp_segments(events: Sequence[Event]) -> int | None:
    """The kernel's own count (Tcp InSegs of the server), from the last offload to the end of the run."""
    offloads = [event for event in events if event["event"] == "move" and event["kind"] == "offload"]
    ends = [event["host_tcp_segments"] for event in events if event["event"] == "counters" and event["who"] == "agent"]
    return int(ends[-1] - offloads[-1]["host_tcp_segments"]) if offloads and ends else None


def _longest_detection(faults: Sequence[Fault]) -> float | None:
    """None when there was no fault, or one was never detected."""
    took = [None if fault.seen is None else fault.seen - fault.t for fault in faults]
    return None if None in took or not took else _ms(max(one for one in took if one is not None))


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
