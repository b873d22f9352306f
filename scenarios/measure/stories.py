"""A run's events sorted by what they are about: whose connection it is, what its traffic did."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Event = Mapping[str, Any]
Connection = tuple[str, int, str, int]
"""src, sport, dst, dport; src is the client."""


COLUMNS = (
    *("ended_ms_ago", "bytes", "longest_stall_ms", "stall_ended_ms_ago"),
    *("retransmits", "out_of_order", "duplicates"),
)
"""Of an `ended` event."""


@dataclass(frozen=True)
class End:
    """What the client said of one connection when it was over; times in seconds of the run, lengths in ms."""

    ended: float
    bytes: int
    longest_stall_ms: float
    stall_ended: float
    retransmits: int | None
    out_of_order: int | None
    duplicates: int | None
    index: int | None
    """Which of many it was; an older client did not tell."""


@dataclass
class Story:
    """The events of one traffic, whose connections are one or many."""

    asked: Event
    connected: dict[Connection, float] = field(default_factory=dict)
    """By connection, when it was told."""
    done: Event | None = None
    served: Event | None = None
    resets: Event | None = None
    ends: dict[Connection, End] = field(default_factory=dict)
    closed: dict[Connection, Event] = field(default_factory=dict)
    records: dict[Connection, Event] = field(default_factory=dict)
    lost: dict[Connection, Event] = field(default_factory=dict)
    refused: list[Event] = field(default_factory=list)
    responses: list[float] = field(default_factory=list)
    """Of requests: from each one's first byte to its answer's last, ms."""
    stranded: list[Event] = field(default_factory=list)
    moves: list[Event] = field(default_factory=list)
    progress: dict[str, list[Event]] = field(default_factory=lambda: {"send": [], "receive": []})

    @property
    def directions(self) -> list[str]:
        """Those that were asked for: send, receive."""
        return [direction for direction in ("send", "receive") if self.asked.get(direction)]


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
            case "responses":
                story.responses += event["ms"]
            case "ended":
                story.ends |= _ends(event)
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


def _ends(event: Event) -> dict[Connection, End]:
    """The columns of one `ended` event, by connection."""
    at = float(event["t"])
    indexes = event.get("index", [None] * len(event["bytes"]))
    rows = zip(*(event[key] for key in COLUMNS), indexes, strict=True)
    return {
        one: End(at - ended / 1000, bytes_, stall, at - stalled / 1000, *counts)
        for one, (ended, bytes_, stall, stalled, *counts) in zip(connections_of(event), rows, strict=True)
    }
