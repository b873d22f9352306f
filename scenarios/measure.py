"""A run's events → measurements, by traffic name; decides what each measurement means (names: `vocabulary`).

Pure: a list of event dicts in, numbers out, so an archived run can be measured again. A measurement whose
events are missing is None, never a guess.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scenarios.vocabulary import REFUSALS

Event = Mapping[str, Any]
Connection = tuple[str, int, str, int]
"""src, sport, dst, dport; src is the client."""


@dataclass
class Story:
    """The events of one traffic, whose connections are one or many."""

    asked: Event
    connected: dict[Connection, float] = field(default_factory=dict)
    """By connection, when it was told."""
    done: Event | None = None
    served: Event | None = None
    resets: Event | None = None
    closed: dict[Connection, Event] = field(default_factory=dict)
    records: dict[Connection, Event] = field(default_factory=dict)
    lost: dict[Connection, Event] = field(default_factory=dict)
    refused: list[Event] = field(default_factory=list)
    stranded: list[Event] = field(default_factory=list)
    moves: list[Event] = field(default_factory=list)
    progress: dict[str, list[Event]] = field(default_factory=lambda: {"send": [], "receive": []})


def connection_of(event: Event) -> Connection | None:
    """The connection that an event is about, None when it names none."""
    if not all(key in event for key in ("src", "sport", "dst", "dport")):
        return None
    return event["src"], int(event["sport"]), event["dst"], int(event["dport"])


def connections_of(event: Event) -> list[Connection]:
    """All connections that an event is about: a client with many tells of their ports together, in `sports`."""
    one = connection_of(event)
    if one:
        return [one]
    if not all(key in event for key in ("src", "sports", "dst", "dport")):
        return []
    return [(event["src"], int(port), event["dst"], int(event["dport"])) for port in event["sports"]]


def stories(events: Iterable[Event]) -> dict[str, Story]:
    """Traffic name → its events. A client's `connected` tells whose the connection is, in all events."""
    events = list(events)
    found = {event["traffic"]: Story(event) for event in events if event["event"] == "traffic"}
    names: dict[Connection, str] = {}
    for event in events:
        if event["event"] == "connected":
            for one in connections_of(event):
                names[one] = event["traffic"]
            if event["traffic"] in found:
                found[event["traffic"]].connected |= dict.fromkeys(connections_of(event), float(event["t"]))
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
            case "done" | "served" | "resets" as kind:
                setattr(story, kind, event)
            case "refused":
                story.refused.append(event)
            case "stranded":
                story.stranded.append(event)
            case "closed" if connection:
                story.closed[connection] = event
            case "record" if connection:
                story.records[connection] = event
            case "lost" if connection:
                story.lost[connection] = event
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
        "record_checks": sum(event["event"] == "records_checked" for event in events),
        "records_compared": sum(event["connections"] for event in events if event["event"] == "records_checked"),
        "record_differences": _differences(events),
        "agent_rebuilt_ms": _rebuilt(events),
        "aged": sum(event["event"] == "aged" for event in events),
    }


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


def _traffic(story: Story) -> dict[str, Any]:
    done, served = story.done or {}, story.served or {}
    bytes_moved = (
        done["received_bytes"] + served["received_bytes"]
        if "received_bytes" in done and "received_bytes" in served
        else None
    )
    client = done.get("retransmits")
    moves = Counter(move["kind"] for move in story.moves)
    known = bool(story.connected)
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
        "connections": len(story.connected) if known else None,
        "broken": done.get("broken"),
        "lost": len(story.lost) if known else None,
        "stranded": len(story.stranded) if known else None,
        "refused": len(story.refused) if known else None,
        "refusals": dict(Counter(_refusal(event) for event in story.refused)) if known else None,
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


def _refusal(event: Event) -> str:
    """The kind of a refusal, as `vocabulary.REFUSALS` has it: `feature:ipv6` → `feature_ipv6`."""
    reason = str(event.get("reason", "")).replace("feature:", "feature_")
    word = reason.partition(":")[0].partition(" ")[0]
    return word if word in REFUSALS else "other"


def _intact(story: Story) -> bool | None:
    """Whether both directions arrived whole; None when an end says nothing."""
    done, served, asked = story.done, story.served, story.asked
    if (done and done.get("error")) or (served and served.get("error")):
        return False
    if done is None or served is None:
        return None
    count = asked.get("count", 1)
    if count > 1 and not count == len(story.connected) == done["connections"] == served["connections"]:
        return False
    return all(
        near["sent_bytes"] == far["received_bytes"] == wanted
        and near["sent_sha256"] == far["received_sha256"]
        and far["first_difference"] is None
        for near, far, wanted in (
            (done, served, asked["send"] * count),
            (served, done, asked["receive"] * count),
        )
    )


def _goodput(story: Story, bytes_moved: int | None) -> float | None:
    if not story.connected or story.done is None or bytes_moved is None:
        return None
    seconds = story.done["t"] - min(story.connected.values())
    return round(bytes_moved * 8 / seconds / 1e6, 3) if seconds > 0 else None


def _longest_stall(story: Story) -> float | None:
    """Over the directions that were asked for; None when the receiving end of one has reported nothing."""
    asked = [direction for direction in ("send", "receive") if story.asked[direction]]
    if any(not story.progress[direction] for direction in asked):
        return None
    return max(float(event["gap_ms"]) for direction in asked for event in story.progress[direction])


def _retransmits(story: Story, client: int | None) -> int | None:
    """Both ends: the client's socket, the sockets that moves left behind, and the last one at the server."""
    if client is None or not story.closed or story.closed.keys() != story.connected.keys():
        return None
    last = (event.get("retransmits") for event in story.closed.values())
    parts = [client, *last, *(move.get("retransmits") for move in story.moves)]
    return None if None in parts else sum(int(part) for part in parts if part is not None)


def _offloaded_share(story: Story) -> float | None:
    """By time: a NIC owns a connection from an offload until an upload or the end; all connections together."""
    if not story.connected or story.done is None:
        return None
    moves: dict[Connection | None, list[Event]] = {}
    for move in sorted(story.moves, key=lambda event: float(event["t"])):
        moves.setdefault(connection_of(move), []).append(move)
    end, owned, lived = float(story.done["t"]), 0.0, 0.0
    for connection, start in story.connected.items():
        # One connection ends with its client; of many, each when its engine was done with it.
        closed = story.closed.get(connection) if len(story.connected) > 1 else None
        over = max(start, min(end, float(closed["t"]))) if closed else end
        owned += _owned(moves.get(connection, []), start, over)
        lived += over - start
    return round(owned / lived, 4) if lived > 0 else None


def _owned(moves: Iterable[Event], start: float, end: float) -> float:
    """Seconds during which a NIC owned a connection that lived from `start` to `end`."""
    owned, since = 0.0, None
    for move in moves:
        at = min(max(move["t"], start), end)
        if move["kind"] == "upload" and since is not None:
            owned, since = owned + at - since, None
        elif move["kind"] != "upload" and since is None:
            since = at
    return owned + (end - since if since is not None else 0.0)


def _recorded(story: Story, key: str) -> int | None:
    """The sum over all connections; None while one is missing."""
    if not story.connected or story.records.keys() != story.connected.keys():
        return None
    values = [record.get(key) for record in story.records.values()]
    return None if None in values else sum(int(value) for value in values if value is not None)


def _took(move: Event) -> float:
    return float(move.get("parts_ms", {}).get("total", 0.0))


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
