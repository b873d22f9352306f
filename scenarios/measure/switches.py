"""Each switch's measurements: how it spread the frames over the NICs, and what its choices moved."""

from collections.abc import Sequence
from typing import Any

from scenarios.measure.nics import passed, places
from scenarios.measure.stories import Event


def switches(events: Sequence[Event]) -> dict[str, dict[str, Any]]:
    """Switch → its measurements. `frames_per_member`: NIC → frames sent to it."""
    return {
        switch: _one(switch, events) for event in events if event["event"] == "topology" for switch in event["switches"]
    }


def _one(switch: str, events: Sequence[Event]) -> dict[str, Any]:
    ports = passed(events)
    members = {nic: ports.get(f"{switch}-{nic}") for nic, where in places(events).items() if where == switch}
    known = {nic: counts for nic, counts in members.items() if counts is not None}
    sent = {nic: counts[3] for nic, counts in known.items()}
    total = sum(sent.values())
    up = next((float(event["t"]) for event in events if event["event"] == "up"), float("inf"))
    choices = [
        event
        for event in events
        if event["event"] in ("members", "buckets") and event.get("switch") == switch and "moved" in event
        if event["t"] >= up
    ]
    moved = sum(float(event["moved"]) for event in choices)
    meetings = [event for event in events if event["event"] == "switch_ready" and event.get("switch") == switch]
    had_to_move = sum(float(event["had_to_move"]) for event in choices)
    return {
        "frames_to_members": total if known else None,
        "frames_from_members": sum(counts[1] for counts in known.values()) if known else None,
        "frames_per_member": sent,
        "busiest_share": round(max(sent.values()) / total, 4) if total else None,
        "choices": len(choices),
        "met": len(meetings),
        "rewritten": sum(event["changed"] for event in meetings[1:]),
        "moved": round(moved, 4),
        "had_to_move": round(had_to_move, 4),
        "collateral_ratio": round(max(0.0, moved - had_to_move) / moved, 3) if moved else 0.0,
    }
