"""What a run's events have told so far, while it runs; decides nothing.

Pure: events in, one after the other.
"""

from collections import Counter
from dataclasses import dataclass, field

from scenarios.measure import Connection, Event, connection_of, connections_of


@dataclass
class Known:
    """Of connections, moves, bytes and links."""

    connections: dict[str, list[Connection]] = field(default_factory=dict)
    """Traffic → its connections that have come about."""
    ever_offloaded: set[Connection] = field(default_factory=set)
    closed: set[Connection] = field(default_factory=set)
    """The server's end has told how they ended."""
    done: set[str] = field(default_factory=set)
    """Traffic whose client has ended."""
    served: set[str] = field(default_factory=set)
    """Traffic of which the application has told how it ended."""
    links: dict[str, bool] = field(default_factory=dict)
    """NIC → whether its link is up, as the agent has told last."""
    received: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    """Traffic → bytes that have arrived at the client, and at the application."""
    _moves: Counter[tuple[Connection, str]] = field(default_factory=Counter)

    def take_in(self, event: Event) -> None:
        """One more event."""
        connection, name = connection_of(event), event.get("traffic", "")
        match event["event"]:
            case "connected":
                self.connections.setdefault(name, []).extend(connections_of(event))
            case "closed" | "lost" if connection:
                self.closed.add(connection)
            case "move" if connection:
                self._moves[connection, event["kind"]] += 1
                if event["kind"] == "offload":
                    self.ever_offloaded.add(connection)
            case "progress":
                (self.received if event["dir"] == "receive" else self.sent)[name] = event["bytes"]
            case "link" if event["who"].startswith("agent"):
                self.links[event["nic"]] = event["up"]
            case "done":
                self.done.add(name)
                if "exit_status" in event:
                    self.served.add(name)  # nobody at the server tells of a command
            case "served":
                self.served.add(name)

    def moves(self, *kinds: str) -> dict[str, int]:
        """Traffic → how many moves of these kinds its connections have made."""
        return {
            name: sum(self._moves[one, kind] for one in connections for kind in kinds)
            for name, connections in self.connections.items()
        }
