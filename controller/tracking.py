"""Switches that act as one LAG: a member that leads to another switch is of use only while that switch has an active
member of its own.

       core ──┬── s1 ──┬── nic0     LAG team0 of the core: its links to s1 and s2
              │        └── nic2     LAG team0 of s1: nic0, nic2; of s2: nic1, nic3
              └── s2 ──┬── nic1
                       └── nic3     both links of s1 dead: the core has to send everything to s2

Network engineers call it link tracking. No frame has to go between s1 and s2: they need no link, and there is no loop.
Decides which members lead nowhere. Pure; `app` tells the switches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from controller.switch import Switch


class Way(NamedTuple):
    """A member of a switch's LAG, and the switch that it leads to, which has a LAG of the same name."""

    switch: str
    lag: str
    port: int
    to: str


def due(switches: Mapping[str, Switch], ways: Iterable[Way]) -> Iterator[tuple[Way, bool]]:
    """The ways that lead nowhere, or somewhere again, and whose switch does not know it.

    Of a switch that has not been met yet the best is assumed: it forwards by the flows that it has. A member without
    carrier carries nothing, even if a down-delay still keeps it in its LAG.
    """
    for way in ways:
        there = switches[way.to]
        somewhere = not there.known or any(there.ports.get(port) for port in there.lags[way.lag].active)
        if somewhere == (way.port in switches[way.switch].nowhere):
            yield way, somewhere
