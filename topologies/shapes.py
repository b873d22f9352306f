"""The shapes a network can have, by name.

Decides which nodes a shape has and how they are numbered. Pure. A new shape is a function here and a line in
SHAPES.
"""

from collections.abc import Callable

from topologies.model import MAX_CLIENTS, MAX_NICS, Client, Nic, Switch, Team, Topology, TopologyError


def figure_1(nics: int = 3, clients: int = 2, rate_bps: int | None = None) -> Topology:
    """The method's Figure 1: one server with a team of `nics` NICs, one switch, `clients` clients.

        c1 ──┐            ┌── nic0 ──┐
        c2 ──┤  switch s1 ├── nic1 ──┤ server
         ⋮   ┘            └── nic2 ──┘

    nics: 1 to 16; clients: 1 to 200; rate_bps: bits per second of each wire. Raises TopologyError.
    """
    # Counted before anything is built, so that a slip such as nics=10**9 is refused at once.
    if not 1 <= nics <= MAX_NICS:
        raise TopologyError(f"a team has 1 to {MAX_NICS} NICs, not {nics}")
    if not 1 <= clients <= MAX_CLIENTS:
        raise TopologyError(f"a network has 1 to {MAX_CLIENTS} clients, not {clients}")
    switch = Switch(name="s1", dpid=1)
    return Topology(
        team=Team(nics=tuple(Nic(index, switch.name) for index in range(nics))),
        switch=switch,
        clients=tuple(Client(k, switch.name, port_no=nics + k) for k in range(1, clients + 1)),
        rate_bps=rate_bps,
    )


SHAPES: dict[str, Callable[..., Topology]] = {"figure_1": figure_1}
"""By the name a scenario uses. Each takes nics, clients and rate_bps."""
