"""The nodes of a network, their names, addresses and port numbers.

Decides what everything is called and how it is addressed. Pure: holds no sockets, starts nothing, knows no
Mininet. Addresses are text without a prefix length; the prefix lengths are PREFIX4 and PREFIX6.
"""

from dataclasses import dataclass

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
    port_no: int
    """The OpenFlow port of its link."""
    interface: str = "eth0"

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
        """Each team has a network of its own: 10.0.1.11 for c1 towards the second one."""
        return f"10.0.{team}.{10 + self.index}"

    def ip6_towards(self, team: int) -> str:
        """fd00:0:0:1::11 for c1 towards the second team."""
        return f"{_network6(team)}{0x10 + self.index:x}"

    @property
    def mac(self) -> str:
        """02:00:00:00:01:01 for c1, and so on."""
        return f"02:00:00:00:01:{self.index:02x}"

    @property
    def switch_port(self) -> str:
        """The switch's end of its link: s1-c1, …"""
        return f"{self.switch}-{self.name}"

    @property
    def switch_port_mac(self) -> str:
        """The address of the switch's end of its link."""
        return f"02:00:00:00:04:{self.index:02x}"


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
class Switch:
    """The switch, an Open vSwitch bridge of that name."""

    name: str
    dpid: int

    @property
    def mac(self) -> str:
        """The address of the bridge's own port."""
        return f"02:00:00:00:05:{self.dpid:02x}"


@dataclass(frozen=True)
class Topology:
    """A server with a team or several, a switch, clients. Raises TopologyError when it cannot be built."""

    team: Team
    switch: Switch
    clients: tuple[Client, ...]
    rate_bps: int | None = None
    """Bits per second on each wire, both directions; None: as fast as it goes."""
    server: str = "server"
    more_teams: tuple[Team, ...] = ()
    """Teams of the server besides `team`; NICs are numbered through all of them."""

    def __post_init__(self) -> None:
        """Refuses what cannot be built."""
        for team in self.teams:
            if not 1 <= len(team.nics) <= MAX_NICS:
                raise TopologyError(f"a team has 1 to {MAX_NICS} NICs, not {len(team.nics)}")
        if len(self.teams) > MAX_TEAMS:
            raise TopologyError(f"a server has 1 to {MAX_TEAMS} teams, not {len(self.teams)}")
        if len({team.name for team in self.teams}) < len(self.teams):
            raise TopologyError("two teams share a name")
        if not 1 <= len(self.clients) <= MAX_CLIENTS:
            raise TopologyError(f"a network has 1 to {MAX_CLIENTS} clients, not {len(self.clients)}")
        for rate in (self.rate_bps, *(nic.rate_bps for nic in self.nics)):
            if rate is not None:
                checked_rate(rate)
        ports: dict[int, str] = {}
        for end in self.ends:
            other = ports.setdefault(end.port_no, end.name)
            if other != end.name:
                raise TopologyError(f"{other} and {end.name} share port {end.port_no} of {self.switch.name}")
        if len({end.name for end in self.ends}) < len(self.ends):
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
    def ends(self) -> tuple[Nic | Client, ...]:
        """What sits at the switch's ports: the NICs, then the clients."""
        return (*self.nics, *self.clients)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the nodes that have a network namespace of their own: server, NICs, clients."""
        return (self.server, *(nic.name for nic in self.nics), *(client.name for client in self.clients))

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
