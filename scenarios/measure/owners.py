"""Who owns which connection when, from the events of moves and ends."""

from collections import Counter
from collections.abc import Iterable, Iterator

from scenarios.measure.stories import Connection, Event, connection_of

HOST = "host"


def changes(events: Iterable[Event]) -> Iterator[tuple[float, Connection, str, str | None]]:
    """When, which connection, from whom, to whom: the host or a NIC, None when it has ended or is lost."""
    owner: dict[Connection, str] = {}
    for event in events:
        connection = connection_of(event)
        if connection is None:
            continue
        at, before = float(event["t"]), owner.get(connection, HOST)
        if event["event"] == "move":
            owner[connection] = place(event["to"])
            yield at, connection, before, owner[connection]
        elif event["event"] in ("closed", "lost") and connection in owner:
            del owner[connection]
            yield at, connection, before, None


def place(name: str) -> str:
    """The host engines of all teams are one place here."""
    return HOST if name.startswith(HOST) else name


def offloaded(events: Iterable[Event]) -> Iterator[tuple[float, dict[str, int]]]:
    """When it changed, and how many connections each NIC held from then on."""
    held: Counter[str] = Counter()
    for at, _, before, after in changes(events):
        for one, step in ((before, -1), (after, 1)):
            if one not in (HOST, None):
                held[str(one)] += step
        yield at, dict(held)
