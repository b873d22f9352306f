"""The team as its agent sees it: which NICs are members, and which of them can carry frames now.

Decides: which NICs are active, and what keeps the others from it. Never touches: maps, engines, links; it is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TeamState:
    """names: in NIC id order. A NIC is fit while it is a member, its engine answers, its link is up, and nobody calls
    it unfit (LACP, the probe). Fit NICs are active if there are at least min_links of them, else none is."""

    names: tuple[str, ...]
    min_links: int = 1
    members: set[int] = field(default_factory=set)
    links: set[int] = field(default_factory=set)
    engines: set[int] = field(default_factory=set)
    unfit: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.members |= set(range(len(self.names)))

    @property
    def active(self) -> tuple[int, ...]:
        fit = tuple(sorted((self.members & self.links & self.engines) - self.unfit.keys()))
        return fit if len(fit) >= self.min_links else ()

    def why(self, nic: int) -> str | None:
        """What keeps a NIC from being active: removed, engine, carrier, lacp, probe or min_links. None: it is."""
        for there, word in ((self.members, "removed"), (self.engines, "engine"), (self.links, "carrier")):
            if nic not in there:
                return word
        return self.unfit.get(nic) or (None if nic in self.active else "min_links")

    def name(self, place: int) -> str:
        """Of a NIC id, or of the host for a negative one."""
        return "host" if place < 0 else self.names[place]

    def nic(self, name: str) -> int:
        """Raises KeyError with what there is."""
        if name not in self.names:
            raise KeyError(f"{name!r} is not in the team ({', '.join(self.names)})")
        return self.names.index(name)
