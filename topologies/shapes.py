"""The shapes a network can have, by name.

Decides which nodes a shape has and how they are numbered. Pure. A new shape is a function here and a line in
SHAPES.
"""

from collections.abc import Callable, Mapping

from topologies.model import MAX_CLIENTS, MAX_NICS, Client, Nic, Switch, Team, Topology, TopologyError

Rates = Mapping[str, int]
"""By NIC (`nic1`), bits per second of its wire where that differs from the others'."""


def figure_1(nics: int = 3, clients: int = 2, rate_bps: int | None = None, rates: Rates | None = None) -> Topology:
    """The method's Figure 1: one server with a team of `nics` NICs, one switch, `clients` clients.

        c1 ──┐            ┌── nic0 ──┐
        c2 ──┤  switch s1 ├── nic1 ──┤ server
         ⋮   ┘            └── nic2 ──┘

    nics: 1 to 16; clients: 1 to 200; rate_bps: bits per second of each wire. Raises TopologyError.
    """
    return _star(1, nics, clients, rate_bps, rates or {})


def two_teams(nics: int = 2, clients: int = 2, rate_bps: int | None = None, rates: Rates | None = None) -> Topology:
    """One server with two teams of `nics` NICs each; every team has its device, MAC, addresses and network.

        c1 ──┐            ┌── nic0, nic1 ── team0 ──┐
        c2 ──┤  switch s1 ├                         ├ server
         ⋮   ┘            └── nic2, nic3 ── team1 ──┘

    As `figure_1`; clients have an address in each team's network.
    """
    return _star(2, nics, clients, rate_bps, rates or {})


def _star(teams: int, nics: int, clients: int, rate_bps: int | None, rates: Rates) -> Topology:
    # Counted before anything is built, so that a slip such as nics=10**9 is refused at once.
    if not 1 <= nics <= MAX_NICS:
        raise TopologyError(f"a team has 1 to {MAX_NICS} NICs, not {nics}")
    if not 1 <= clients <= MAX_CLIENTS:
        raise TopologyError(f"a network has 1 to {MAX_CLIENTS} clients, not {clients}")
    switch = Switch(name="s1", dpid=1)

    def nic(index: int) -> Nic:
        return Nic(index, switch.name, rate_bps=rates.get(f"nic{index}"))

    made = [Team.numbered(k, tuple(map(nic, range(k * nics, (k + 1) * nics)))) for k in range(teams)]
    topology = Topology(
        team=made[0],
        more_teams=tuple(made[1:]),
        switch=switch,
        clients=tuple(Client(k, switch.name, port_no=teams * nics + k) for k in range(1, clients + 1)),
        rate_bps=rate_bps,
    )
    for name in rates:
        topology.nic(name)
    return topology


SHAPES: dict[str, Callable[..., Topology]] = {"figure_1": figure_1, "two_teams": two_teams}
"""By the name a scenario uses. Each takes nics, clients, rate_bps and rates."""
