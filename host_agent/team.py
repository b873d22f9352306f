"""The team as its agent sees it: which NICs are members, and which of them can carry frames now.

Decides: which NICs are active. Never touches: maps, engines, links; it is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TeamState:
    """names: in NIC id order. A NIC is active while it is a member, its engine answers and its link is up."""

    names: tuple[str, ...]
    members: set[int] = field(default_factory=set)
    links: set[int] = field(default_factory=set)
    engines: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.members |= set(range(len(self.names)))

    @property
    def active(self) -> tuple[int, ...]:
        return tuple(sorted(self.members & self.links & self.engines))

    def name(self, place: int) -> str:
        """Of a NIC id, or of the host for a negative one."""
        return "host" if place < 0 else self.names[place]

    def nic(self, name: str) -> int:
        """Raises KeyError with what there is."""
        if name not in self.names:
            raise KeyError(f"{name!r} is not in the team ({', '.join(self.names)})")
        return self.names.index(name)
