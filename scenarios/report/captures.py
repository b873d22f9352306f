"""A run's captures: one file of all links, with the console's words at the faults, the steps and the moves.

Reads captures/*.pcap of a run's folder, writes capture.pcapng, and takes the single ones away.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from scenarios import console
from scenarios.measure.stories import Connection, Event, connections_of
from scenarios.report.pcapng import Capture, Comment, NoCaptureError, merge
from scenarios.report.whole import whole

SAID = ("step", "wire", "link", "fault", "move", "refused", "lost", "stranded", "members", "buckets")
MOST = 2000
"""Comments, at most; with more, the moves are left out."""


def put_together(folder: Path, scenario: str, said: Sequence[Comment]) -> None:
    """Once there are single captures. A file that tcpdump never began is left out. Raises OSError."""
    files = sorted((folder / "captures").glob("*.pcap"))
    captured = [Capture(file.stem, _what(file.stem), file.read_bytes()) for file in files if file.stat().st_size]
    if not captured:
        return
    try:
        with whole(folder / "capture.pcapng") as out:
            for piece in merge(captured, said, scenario):
                out.write(piece)
    except NoCaptureError:
        return
    for file in files:
        file.unlink()
    with suppress(OSError):  # somebody else has put something there
        (folder / "captures").rmdir()


def comments(events: Sequence[Event]) -> list[Comment]:
    """What is said at which time; nothing when nobody knows how the run's clock stood to the calendar."""
    zero = next((event["epoch"] - event["t"] for event in events if "epoch" in event), None)
    if zero is None:
        return []
    names = {c: event["traffic"] for event in events if event["event"] == "connected" for c in connections_of(event)}
    said = [event for event in events if event["event"] in SAID]
    if len(said) > MOST:
        said = [event for event in said if event["event"] not in ("move", "refused")][:MOST]
    found = [(zero + float(event["t"]), _words(event, names)) for event in said]
    return [(at, words) for at, words in found if words]


def _words(event: Event, names: Mapping[Connection, str]) -> str:
    match event["event"]:
        case "wire":
            return f"{event['nic']}: its link is {'up' if event['up'] else 'cut'}"
        case "members" | "buckets" if event.get("moved"):
            moved, had_to_move = event["moved"], event["had_to_move"]
            return f"{event['switch']}: chooses anew; {moved:.0%} of the buckets moved, {had_to_move:.0%} had to"
        case "members" | "buckets":
            return ""
        case _:
            return console.tell(event, names)


def _what(name: str) -> str:
    """A link's name in a scenario, in words."""
    if name.startswith("nic"):
        return f"{name}'s wire to the switch"
    return f"the link {name}" if "-" in name else f"{name}'s link"
