"""What `wait` can wait for; decides whether a condition holds.

Pure: a condition's text and what is known of the run come in.

    offloaded(download)      received(download) >= 10MB      down(nic1)
"""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from scenarios import units
from scenarios.spelling import near

_WRITTEN = re.compile(r"([a-z_]+) ?\( ?([a-z][a-z0-9_]*) ?\)(?: ?>= ?(.+))?")

CONDITIONS = {
    "connected": "all connections of the traffic are there; of a command, one of them",
    "offloaded": "all its connections are on NICs; of a command, one of them",
    "uploaded": "all its connections are on the host again, after they had been on NICs",
    "done": "its client has ended",
    "moved": "a connection of it has moved since the step before",
    "reloaded": "a connection of it has moved from one NIC to another since the step before",
    "received": "its client has received so many bytes, of all its connections",
    "sent": "its application has received so many bytes, of all its connections",
    "up": "the agent sees the NIC's link up",
    "down": "the agent sees the NIC's link down",
}
SIZED = ("received", "sent")
"""Those compared with a size."""
OF_NIC = ("up", "down")
"""Those of a NIC; all others are of a traffic."""


@dataclass(frozen=True)
class Facts:
    """What is known of the run at one moment."""

    nics: Sequence[str]
    down: Set[str] = frozenset()
    """NICs that a step has put out of service."""
    carrying: Mapping[str, str] = field(default_factory=dict)
    """Traffic → the NIC that carries its connection, or most of them."""
    connected: Set[str] = frozenset()
    offloaded: Set[str] = frozenset()
    uploaded: Set[str] = frozenset()
    """Back on the host: connected and not offloaded, after it had been."""
    done: Set[str] = frozenset()
    moves: Mapping[str, int] = field(default_factory=dict)
    reloads: Mapping[str, int] = field(default_factory=dict)
    received: Mapping[str, int] = field(default_factory=dict)
    sent: Mapping[str, int] = field(default_factory=dict)
    links: Mapping[str, bool] = field(default_factory=dict)
    """NIC → whether its link is up, as the agent has told."""


@dataclass(frozen=True)
class Condition:
    """One condition: its word, what it is of, and the size where it has one."""

    word: str
    of: str
    size: int = 0

    def holds(self, facts: Facts, before: Facts | None = None, last: str | None = None) -> bool:
        """Whether it holds now. `before`: what was known at the last step; `last`: that step's NIC."""
        match self.word:
            case "moved":
                return facts.moves.get(self.of, 0) > (before.moves.get(self.of, 0) if before else 0)
            case "reloaded":
                return facts.reloads.get(self.of, 0) > (before.reloads.get(self.of, 0) if before else 0)
            case "received":
                return facts.received.get(self.of, 0) >= self.size
            case "sent":
                return facts.sent.get(self.of, 0) >= self.size
            case "up" | "down":
                nic = (last or "") if self.of == "last" else self.of
                return facts.links.get(nic) is (self.word == "up")
        known = {"connected": facts.connected, "offloaded": facts.offloaded, "uploaded": facts.uploaded}
        return self.of in (known | {"done": facts.done})[self.word]


def parse(written: str) -> Condition:
    """Read a condition. Raises ValueError with one line that says what there is."""
    found = _WRITTEN.fullmatch(" ".join(written.split()))
    if found and found.group(1) not in CONDITIONS and (meant := near(found.group(1), list(CONDITIONS))):
        raise ValueError(f"`{written}` is no condition; did you mean `{written.replace(found.group(1), meant[0], 1)}`?")
    if not found or found.group(1) not in CONDITIONS:
        raise ValueError(f"`{written}` is no condition; write one of {choices('TRAFFIC', 'NIC')}")
    word, of, size = found.groups()
    if (size is None) == (word in SIZED):
        form = f"{word}({of}) >= 10MB" if word in SIZED else f"{word}({of})"
        raise ValueError(f"`{written}` is no condition; write `{form}`")
    return Condition(word, of, units.parse_size(size) if size else 0)


def choices(traffic: str, nic: str) -> str:
    """All conditions, as one writes them."""
    return ", ".join(
        f"{word}({nic if word in OF_NIC else traffic})" + (" >= SIZE" if word in SIZED else "") for word in CONDITIONS
    )
