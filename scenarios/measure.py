"""A run's events → measurements, by traffic name; decides what each measurement means (names: `vocabulary`).

Pure: a list of event dicts in, numbers out, so an archived run can be measured again. A measurement whose
events are missing is None, never a guess.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Event = Mapping[str, Any]
Connection = tuple[str, int, str, int]
"""src, sport, dst, dport; src is the client."""


@dataclass
class Story:
    """The events of one traffic's connection."""

    asked: Event
    connected: Event | None = None
    done: Event | None = None
    served: Event | None = None
    resets: Event | None = None
    closed: Event | None = None
    record: Event | None = None
    moves: list[Event] = field(default_factory=list)
    progress: dict[str, list[Event]] = field(default_factory=lambda: {"send": [], "receive": []})


def connection_of(event: Event) -> Connection | None:
    """The connection that an event is about, None when it names none."""
    if not all(key in event for key in ("src", "sport", "dst", "dport")):
        return None
    return event["src"], int(event["sport"]), event["dst"], int(event["dport"])


def stories(events: Iterable[Event]) -> dict[str, Story]:
    """Traffic name → its events. A client's `connected` tells whose the connection is, in all events."""
    events = list(events)
    found = {event["traffic"]: Story(event) for event in events if event["event"] == "traffic"}
    names: dict[Connection, str] = {}
    for event in events:
        connection = connection_of(event)
        if event["event"] == "connected" and connection:
            names[connection] = event["traffic"]
    for event in events:
        connection = connection_of(event)
        story = found.get(event.get("traffic") or names.get(connection or ("", 0, "", 0), ""))
        if story is None:
            continue
        match event["event"]:
            case "move":
                story.moves.append(event)
            case "progress":
                story.progress[event["dir"]].append(event)
            case "connected" | "done" | "served" | "resets" | "closed" | "record" as kind:
                setattr(story, kind, event)
    return found


def measure(events: Sequence[Event]) -> dict[str, dict[str, Any]]:
    """All measurements of a run: by traffic name, and of the run itself under `run`."""
    return {name: _traffic(story) for name, story in stories(events).items()} | {"run": _run(events)}


def _run(events: Sequence[Event]) -> dict[str, Any]:
    times = {event["event"]: float(event["t"]) for event in events if event["event"] in ("up", "stopping", "torn_down")}
    torn_down = "stopping" in times and "torn_down" in times
    return {
        "bring_up_ms": _ms(times["up"]) if "up" in times else None,
        "tear_down_ms": _ms(times["torn_down"] - times["stopping"]) if torn_down else None,
        "host_tcp_segments_after_offload": _host_tcp_segments(events),
    }


def _host_tcp_segments(events: Sequence[Event]) -> int | None:
    """The kernel's own count (Tcp InSegs of the server), from the last offload to the end of the run."""
    offloads = [event for event in events if event["event"] == "move" and event["kind"] == "offload"]
    ends = [event["host_tcp_segments"] for event in events if event["event"] == "counters" and event["who"] == "agent"]
    return int(ends[-1] - offloads[-1]["host_tcp_segments"]) if offloads and ends else None


def _traffic(story: Story) -> dict[str, Any]:
    done, served = story.done or {}, story.served or {}
    bytes_moved = (
        done["received_bytes"] + served["received_bytes"]
        if "received_bytes" in done and "received_bytes" in served
        else None
    )
    client = done.get("retransmits")
    moves = Counter(move["kind"] for move in story.moves)
    known = story.connected is not None
    return {
        "intact": _intact(story),
        "bytes": bytes_moved,
        "goodput_mbit": _goodput(story, bytes_moved),
        "resets": story.resets["resets"] if story.resets else None,
        "moves": len(story.moves) if known else None,
        "offloads": moves["offload"] if known else None,
        "uploads": moves["upload"] if known else None,
        "reloads": moves["reload"] if known else None,
        "causes": dict(Counter(move["cause"] for move in story.moves)) if known else None,
        "longest_stall_ms": _longest_stall(story),
        "longest_move_ms": max((_took(move) for move in story.moves), default=None),
        "retransmits": _retransmits(story, client),
        "client_retransmits": client,
        "offloaded_share": _offloaded_share(story),
        "host_segments_while_offloaded": _recorded(story, "host_segments_while_offloaded"),
        "strays": _recorded(story, "strays"),
        "first_difference": _first([done.get("first_difference"), served.get("first_difference")]),
        "error": _first([done.get("error"), served.get("error")]),
    }


def _intact(story: Story) -> bool | None:
    """Whether both directions arrived whole; None when an end says nothing."""
    done, served, asked = story.done, story.served, story.asked
    if (done and done.get("error")) or (served and served.get("error")):
        return False
    if done is None or served is None:
        return None
    return all(
        near["sent_bytes"] == far["received_bytes"] == wanted
        and near["sent_sha256"] == far["received_sha256"]
        and far["first_difference"] is None
        for near, far, wanted in ((done, served, asked["send"]), (served, done, asked["receive"]))
    )


def _goodput(story: Story, bytes_moved: int | None) -> float | None:
    if story.connected is None or story.done is None or bytes_moved is None:
        return None
    seconds = story.done["t"] - story.connected["t"]
    return round(bytes_moved * 8 / seconds / 1e6, 3) if seconds > 0 else None


def _longest_stall(story: Story) -> float | None:
    """Over the directions that were asked for; None when the receiving end of one has reported nothing."""
    asked = [direction for direction in ("send", "receive") if story.asked[direction]]
    if any(not story.progress[direction] for direction in asked):
        return None
    return max(float(event["gap_ms"]) for direction in asked for event in story.progress[direction])


def _retransmits(story: Story, client: int | None) -> int | None:
    """Both ends: the client's socket, the sockets that moves left behind, and the last one at the server."""
    if client is None or story.closed is None:
        return None
    parts = [client, story.closed.get("retransmits"), *(move.get("retransmits") for move in story.moves)]
    return None if None in parts else sum(int(part) for part in parts if part is not None)


def _offloaded_share(story: Story) -> float | None:
    """By time: a NIC owns the connection from an offload until an upload or the end."""
    if story.connected is None or story.done is None:
        return None
    start, end = story.connected["t"], story.done["t"]
    owned, since = 0.0, None
    for move in sorted(story.moves, key=lambda event: float(event["t"])):
        at = min(max(move["t"], start), end)
        if move["kind"] == "upload" and since is not None:
            owned, since = owned + at - since, None
        elif move["kind"] != "upload" and since is None:
            since = at
    owned += end - since if since is not None else 0.0
    return round(owned / (end - start), 4) if end > start else None


def _recorded(story: Story, key: str) -> int | None:
    return story.record.get(key) if story.record else None


def _took(move: Event) -> float:
    return float(move.get("parts_ms", {}).get("total", 0.0))


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
