"""The nodes of a network, their names, addresses and port numbers.

Decides what everything is called and how it is addressed. Pure: holds no sockets, starts nothing, knows no
Mininet. Addresses are text without a prefix length; the prefix lengths are PREFIX4 and PREFIX6.
"""

from dataclasses import dataclass
from typing import NamedTuple

MAX_NICS = 16
MAX_TEAMS = 4
MAX_CLIENTS = 200
MIN_RATE_BPS = 1_000_000
MAX_RATE_BPS = 100_000_000_000
PREFIX4 = 24
PREFIX6 = 64


class TopologyError(ValueError):
    """A network that cannot be built. The message is one line for a person."""


def checked_rate(rate_bps: int) -> int:
    """A link's rate. Raises TopologyError."""
    if not MIN_RATE_BPS <= rate_bps <= MAX_RATE_BPS:
        raise TopologyError(f"a link's rate is 1 Mbit/s to 100 Gbit/s, not {rate_bps:,} bit/s")
    return rate_bps


@dataclass(frozen=True)
class Nic:
    """One NIC of the team: a node with a `wire` to the switch and a `bus` to the server."""

    index: int
    """From 0."""
    switch: str
    """The switch that its wire leads to."""
    wire: str = "wire"
    bus: str = "bus"
    rate_bps: int | None = None
    """Bits per second on its wire, both directions; None: the network's."""

    @property
    def name(self) -> str:
        """The node: nic0, nic1, …"""
        return f"nic{self.index}"

    @property
    def server_bus(self) -> str:
        """The server's end of the bus: bus0, bus1, …"""
        return f"bus{self.index}"

    @property
    def server_bus_mac(self) -> str:
        """The address of the server's end of the bus; nothing on the network ever sees it."""
        return f"02:00:00:00:02:{self.index:02x}"

    @property
    def own_mac(self) -> str:
        """Its own address, where another team than ours has it; ours gives every NIC the team's."""
        return f"02:00:00:00:08:{self.index:02x}"

    @property
    def port_no(self) -> int:
        """The OpenFlow port of the wire, from 1."""
        return self.index + 1

    @property
    def switch_port(self) -> str:
        """The switch's end of the wire: s1-nic0, …"""
        return f"{self.switch}-{self.name}"

    @property
    def switch_port_mac(self) -> str:
        """The address of the switch's end of the wire."""
        return f"02:00:00:00:03:{self.index:02x}"


@dataclass(frozen=True)
class Client:
    """A machine at the far side of the switch, with one interface."""

    index: int
    """From 1, as its name counts."""
    switch: str
    """The switch that its link leads to, or the router."""
    port_no: int
    """The OpenFlow port of its link; a router numbers its ports too, and nobody asks."""
    interface: str = "eth0"
    routed: bool = False
    """Whether it is behind a router, in a network of its own."""

    @property
    def name(self) -> str:
        """The node: c1, c2, …"""
        return f"c{self.index}"

    @property
    def ip4(self) -> str:
        """10.0.0.11 for c1, and so on: its address towards the first team."""
        return self.ip4_towards(0)

    @property
    def ip6(self) -> str:
        """fd00::11 for c1, and so on: its address towards the first team."""
        return self.ip6_towards(0)

    def ip4_towards(self, team: int) -> str:
        """Each team has a network of its own: 10.0.1.11 for c1 towards the second one. Behind a router: 10.1.1.2."""
        return f"10.1.{self.index}.2" if self.routed else f"10.0.{team}.{10 + self.index}"

    def ip6_towards(self, team: int) -> str:
        """fd00:0:0:1::11 for c1 towards the second team. Behind a router: fd00:0:1:1::2."""
        return f"fd00:0:1:{self.index:x}::2" if self.routed else f"{_network6(team)}{0x10 + self.index:x}"

    @property
    def gateway4(self) -> str:
        """The router's address in this client's own network: 10.1.1.1 for c1."""
        return f"10.1.{self.index}.1"

    @property
    def gateway6(self) -> str:
        """The same of IPv6: fd00:0:1:1::1."""
        return f"fd00:0:1:{self.index:x}::1"

    @property
    def mac(self) -> str:
        """02:00:00:00:01:01 for c1, and so on."""
        return f"02:00:00:00:01:{self.index:02x}"

    @property
    def switch_port(self) -> str:
        """The other end of its link: s1-c1, …"""
        return f"{self.switch}-{self.name}"

    @property
    def switch_port_mac(self) -> str:
        """The address of the other end of its link."""
        return f"02:00:00:00:04:{self.index:02x}"


@dataclass(frozen=True)
class Router:
    """What stands between the clients and the team's network, with a port for each client."""

    switch: str
    port_no: int
    """The OpenFlow port of its link to the switch."""
    name: str = "r1"
    interface: str = "eth0"
    ip4: str = "10.0.0.254"
    ip6: str = "fd00::fe"

    @property
    def switch_port(self) -> str:
        """The switch's end of its link: s1-r1."""
        return f"{self.switch}-{self.name}"

    @property
    def switch_port_mac(self) -> str:
        """The address of the switch's end of its link."""
        return "02:00:00:00:06:00"

    def mac(self, number: int = 1) -> str:
        """Its address in the team's network; the first one, or the one after so many changes."""
        return f"02:00:00:00:06:{number:02x}"


@dataclass(frozen=True)
class Uplink:
    """The link of a switch that has members of the team to the switch that has the clients, which is `core`."""

    switch: str
    port_no: int
    core: str
    core_port_no: int

    @property
    def ports(self) -> tuple["Port", "Port"]:
        """Its end at the switch, and its end at the core."""
        macs = [f"02:00:00:00:07:{self.core_port_no:x}{end}" for end in (1, 2)]
        return (
            Port(self.switch, self.port_no, f"{self.switch}-{self.core}", macs[0]),
            Port(self.core, self.core_port_no, f"{self.core}-{self.switch}", macs[1]),
        )


class Port(NamedTuple):
    """A port of a switch, by its OpenFlow number, and the device that it is."""

    switch: str
    number: int
    device: str
    mac: str


def _network6(team: int) -> str:
    return f"fd00:0:0:{team}::" if team else "fd00::"


@dataclass(frozen=True)
class Team:
    """The server's virtual NIC: one MAC and one address, whichever NIC carries a frame."""

    nics: tuple[Nic, ...]
    name: str = "team0"
    mac: str = "02:00:00:00:00:01"
    ip4: str = "10.0.0.1"
    ip6: str = "fd00::1"
    peer_mac: str = "02:00:00:00:00:02"

    @classmethod
    def numbered(cls, number: int, nics: tuple[Nic, ...]) -> "Team":
        """The team of that number, from 0, with a device, a MAC, addresses and a network of its own."""
        macs = [f"02:00:00:00:00:{number:x}{end}" for end in (1, 2)]
        return cls(nics, f"team{number}", macs[0], f"10.0.{number}.1", f"{_network6(number)}1", macs[1])

    @property
    def peer(self) -> str:
        """The other end of the virtual NIC's veth pair, in the server too: team0p."""
        return f"{self.name}p"


@dataclass(frozen=True)
class Bond:
    """Another team than ours: the server is an ordinary host, its NICs are interfaces of it, bonded by `driver`."""

    driver: str
    """ovs_active_backup, ovs_balance_tcp or linux_bonding."""
    lacp: str = "off"
    """Of its end: off, active, passive."""
    lacp_rate: str = "fast"


@dataclass(frozen=True)
class Switch:
    """A switch, an Open vSwitch bridge of that name."""

    name: str
    dpid: int

    @property
    def mac(self) -> str:
        """The address of the bridge's own port."""
        return f"02:00:00:00:05:{self.dpid:02x}"


@dataclass(frozen=True)
class Topology:
    """A server with a team or several, a switch or several, clients. Raises TopologyError when it cannot be built."""

    team: Team
    switch: Switch
    """The one that the clients' frames come to first."""
    clients: tuple[Client, ...]
    rate_bps: int | None = None
    """Bits per second on each wire, both directions; None: as fast as it goes."""
    server: str = "server"
    more_teams: tuple[Team, ...] = ()
    """Teams of the server besides `team`; NICs are numbered through all of them."""
    more_switches: tuple[Switch, ...] = ()
    """Switches besides `switch`, each with an uplink to it."""
    uplinks: tuple[Uplink, ...] = ()
    router: Router | None = None
    bond: Bond | None = None
    """Who bonds the server's NICs, None: our teaming software."""

    def __post_init__(self) -> None:
        """Refuses what cannot be built."""
        for team in self.teams:
            if not 1 <= len(team.nics) <= MAX_NICS:
                raise TopologyError(f"a team has 1 to {MAX_NICS} NICs, not {len(team.nics)}")
        if len(self.teams) > MAX_TEAMS:
            raise TopologyError(f"a server has 1 to {MAX_TEAMS} teams, not {len(self.teams)}")
        if self.bond and (self.more_teams or self.more_switches):
            raise TopologyError("another team than ours stands alone at one switch: shape figure_1 or routed")
        if len({team.name for team in self.teams}) < len(self.teams):
            raise TopologyError("two teams share a name")
        if not 1 <= len(self.clients) <= MAX_CLIENTS:
            raise TopologyError(f"a network has 1 to {MAX_CLIENTS} clients, not {len(self.clients)}")
        for rate in (self.rate_bps, *(nic.rate_bps for nic in self.nics)):
            if rate is not None:
                checked_rate(rate)
        names = [switch.name for switch in self.switches]
        ports: dict[tuple[str, int], str] = {}
        for port in self.ports:
            if port.switch not in names:
                raise TopologyError(f"{port.device} leads to no switch; there is {', '.join(names)}")
            other = ports.setdefault((port.switch, port.number), port.device)
            if other != port.device:
                raise TopologyError(f"{other} and {port.device} share port {port.number} of {port.switch}")
        if len({*self.nodes, *names}) < len(self.nodes) + len(names):
            raise TopologyError("two nodes share a name")

    @property
    def teams(self) -> tuple[Team, ...]:
        """All teams of the server, in order."""
        return (self.team, *self.more_teams)

    @property
    def nics(self) -> tuple[Nic, ...]:
        """The NICs of all teams, in order."""
        return tuple(nic for team in self.teams for nic in team.nics)

    def rate_of(self, nic: Nic) -> int | None:
        """Bits per second on that NIC's wire, both directions; None: as fast as it goes."""
        return nic.rate_bps if nic.rate_bps is not None else self.rate_bps

    def team_of(self, nic_name: str) -> Team:
        """The team that the NIC of that name belongs to. Raises TopologyError."""
        nic = self.nic(nic_name)
        return next(team for team in self.teams if nic in team.nics)

    @property
    def switches(self) -> tuple[Switch, ...]:
        """All switches, the clients' first."""
        return (self.switch, *self.more_switches)

    @property
    def ends(self) -> tuple[Nic | Client, ...]:
        """The nodes that have one link to the network: the NICs, then the clients."""
        return (*self.nics, *self.clients)

    @property
    def ports(self) -> tuple[Port, ...]:
        """Every port of every switch."""
        ends: list[Nic | Client | Router] = [end for end in self.ends if not isinstance(end, Client) or not end.routed]
        ends += [self.router] if self.router else []
        at_ends = [Port(end.switch, end.port_no, end.switch_port, end.switch_port_mac) for end in ends]
        return (*at_ends, *(port for uplink in self.uplinks for port in uplink.ports))

    def ports_of(self, switch: str) -> tuple[Port, ...]:
        """The ports of the switch of that name. Raises TopologyError, naming the switches that exist."""
        names = [one.name for one in self.switches]
        if switch not in names:
            raise TopologyError(f"no switch {switch!r}; there is {', '.join(names)}")
        return tuple(port for port in self.ports if port.switch == switch)

    def way_to(self, nic: Nic) -> tuple[tuple[str, int], ...]:
        """The members of LAGs that a client's frame passes on its way to a NIC: (switch, port number) each."""
        over = [(uplink.core, uplink.core_port_no) for uplink in self.uplinks if uplink.switch == nic.switch]
        return (*over, (nic.switch, nic.port_no))

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the nodes that have a network namespace of their own: server, NICs, clients, router."""
        routers = [self.router.name] if self.router else []
        nics = [] if self.bond else [nic.name for nic in self.nics]
        return (self.server, *nics, *(client.name for client in self.clients), *routers)

    def wire_end(self, nic: Nic) -> tuple[str, str]:
        """The node and the interface that a NIC's wire ends at: in a bond the NIC is an interface of the server's."""
        return (self.server, nic.name) if self.bond else (nic.name, nic.wire)

    def nic(self, name: str) -> Nic:
        """The NIC of that name. Raises TopologyError, naming those that exist."""
        for nic in self.nics:
            if nic.name == name:
                return nic
        raise TopologyError(f"no NIC {name!r}; there are {', '.join(nic.name for nic in self.nics)}")

    def client(self, name: str) -> Client:
        """The client of that name. Raises TopologyError, naming the first and the last that exist."""
        for client in self.clients:
            if client.name == name:
                return client
        raise TopologyError(f"no client {name!r}; there are {self.clients[0].name} to {self.clients[-1].name}")
