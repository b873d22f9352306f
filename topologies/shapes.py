"""The shapes a network can have, by name.

Decides which nodes a shape has and how they are numbered. Pure. A new shape is a function here and a line in
SHAPES.
"""

from collections.abc import Callable, Mapping

from topologies.model import MAX_CLIENTS, MAX_NICS, Client, Nic, Router, Switch, Team, Topology, TopologyError, Uplink

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


def two_switches(nics: int = 4, clients: int = 2, rate_bps: int | None = None, rates: Rates | None = None) -> Topology:
    """A team on two switches that act as one LAG (MLAG): either may die. Clients are at a third one, the core.

        c1 ──┐          ┌── s1 ── nic0, nic2 ──┐
        c2 ──┤   core   ┤                      ├ server
         ⋮   ┘          └── s2 ── nic1, nic3 ──┘

    The core has a LAG of its two uplinks. There is no peer link between s1 and s2, so there is no loop; the controller
    takes an uplink out while no member behind it can carry anything. As `figure_1`, but 2 to 16 NICs, in turn at s1
    and s2.
    """
    _check(nics, clients, least=2)
    core, *pair = switches = Switch("core", 3), Switch("s1", 1), Switch("s2", 2)
    rates = rates or {}
    topology = Topology(
        team=Team(tuple(_nic(index, pair[index % 2], rates) for index in range(nics))),
        switch=core,
        more_switches=switches[1:],
        uplinks=tuple(Uplink(one.name, nics + 1, core.name, number) for number, one in enumerate(pair, 1)),
        clients=tuple(Client(k, core.name, port_no=len(pair) + k) for k in range(1, clients + 1)),
        rate_bps=rate_bps,
    )
    return _checked(topology, rates)


def routed(nics: int = 3, clients: int = 2, rate_bps: int | None = None, rates: Rates | None = None) -> Topology:
    """Clients behind a router, each in a network of its own: all their frames have the router's MAC.

        c1 ──┐               ┌── nic0 ──┐
        c2 ──┤ r1 ── s1 ─────┼── nic1 ──┤ server
         ⋮   ┘               └── nic2 ──┘

    As `figure_1`.
    """
    _check(nics, clients)
    switch, rates = Switch("s1", 1), rates or {}
    router = Router(switch.name, nics + 1)
    topology = Topology(
        team=Team(tuple(_nic(index, switch, rates) for index in range(nics))),
        switch=switch,
        router=router,
        clients=tuple(Client(k, router.name, port_no=k, routed=True) for k in range(1, clients + 1)),
        rate_bps=rate_bps,
    )
    return _checked(topology, rates)


def _star(teams: int, nics: int, clients: int, rate_bps: int | None, rates: Rates) -> Topology:
    _check(nics, clients)
    switch = Switch("s1", 1)
    numbers = [range(k * nics, (k + 1) * nics) for k in range(teams)]
    made = [Team.numbered(k, tuple(_nic(index, switch, rates) for index in numbers[k])) for k in range(teams)]
    topology = Topology(
        team=made[0],
        more_teams=tuple(made[1:]),
        switch=switch,
        clients=tuple(Client(k, switch.name, port_no=teams * nics + k) for k in range(1, clients + 1)),
        rate_bps=rate_bps,
    )
    return _checked(topology, rates)


def _check(nics: int, clients: int, least: int = 1) -> None:
    """Counted before anything is built, so that a slip such as nics=10**9 is refused at once."""
    if not least <= nics <= MAX_NICS:
        raise TopologyError(
            f"a team {'on two switches ' if least > 1 else ''}has {least} to {MAX_NICS} NICs, not {nics}"
        )
    if not 1 <= clients <= MAX_CLIENTS:
        raise TopologyError(f"a network has 1 to {MAX_CLIENTS} clients, not {clients}")


def _nic(index: int, switch: Switch, rates: Rates) -> Nic:
    return Nic(index, switch.name, rate_bps=rates.get(f"nic{index}"))


def _checked(topology: Topology, rates: Rates) -> Topology:
    for name in rates:
        topology.nic(name)
    return topology


SHAPES: dict[str, Callable[..., Topology]] = {
    "figure_1": figure_1,
    "two_teams": two_teams,
    "two_switches": two_switches,
    "routed": routed,
}
"""By the name a scenario uses. Each takes nics, clients, rate_bps and rates."""
