"""The words of a scenario file; decides what may be written in one.

Pure: pydantic models of one file by itself; the timeline's are in `steps`. Whether names refer to something is in
`references`, where a word stands in the file is in `load`. Quantities are in base units once read: seconds, bytes,
bits per second.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator
from pydantic.fields import FieldInfo

from scenarios.steps import AnyStep
from scenarios.words import After, Arrivals, Duration, Lacp, Name, Ports, Rate, Seed, Size, Strict
from topologies.model import MAX_CLIENTS, MAX_NICS

MOST_CONNECTIONS = 10_000
"""Of one traffic. A process has 20,000 descriptors on many machines, and an engine needs two a connection."""


def _one_to(most: int) -> FieldInfo:
    """For editors; what a network can have is the topology's to judge."""
    field: FieldInfo = Field(json_schema_extra={"minimum": 1, "maximum": most})
    return field


class Network(Strict):
    """The topology, and how its switch spreads connections over the team's links."""

    shape: Literal["figure_1", "two_teams", "two_switches", "routed"] = "figure_1"
    """What is connected to what."""
    nics: Annotated[int, _one_to(MAX_NICS)] = 3
    """NICs of each team, 1 to 16: `nic0`, `nic1`, …"""
    clients: Annotated[int, _one_to(MAX_CLIENTS)] = 2
    """Clients, 1 to 200: `c1`, `c2`, …"""
    rate: Rate | None = None
    """Of each NIC's wire, both ways; as fast as it goes without it."""
    rates: dict[str, Rate] = Field(default_factory=dict)
    """By NIC, where one's rate differs: `{nic1: 10mbit}`."""
    hash: Literal["layer2", "layer2+3", "layer3+4", "src-ip", "symmetric"] = "layer3+4"
    """The switch's policy: what of a frame its hash is over, as Linux bonding's xmit_hash_policy has it."""
    rebalance: Literal["modulo", "resilient", "rendezvous"] = "modulo"
    """How the switch spreads connections again when members come and go."""
    seed: int = Field(default=0, ge=0, le=65535)
    """Of the switch's hash."""
    lacp: Lacp = "off"
    """The switch's end of LACP on the team's links; the team's own is `team: lacp:`."""
    lacp_rate: Literal["fast", "slow"] = "fast"
    """How often the switch wants to hear from the team: every second, or every 30; silence is noticed after three."""
    min_links: Annotated[int, _one_to(MAX_NICS)] = 1
    """With fewer members that could carry frames the switch uses none."""
    probe: Duration | None = None
    """How often the switch asks over each link whether it carries frames both ways; never without it."""
    swapped: Annotated[list[str], Field(max_length=2)] = Field(default_factory=list)
    """Two NICs whose cables are plugged into each other's switch port, by mistake; of two teams: `[nic2, nic3]`."""
    updelay: Duration = 0.0
    """A link that returns must stay up for so long before the switch uses it."""
    downdelay: Duration = 0.0
    """A link must be down for so long before the switch spreads connections again; it leaves the link at once."""
    fill: Duration = 0.1
    """`resilient`: how often a member that returned gets one more bucket."""


class OffloadAfter(Strict):
    """Offload a connection once it has carried this many bytes, or is this old."""

    after: After
    """Bytes (`64KiB`) or a time (`500ms`)."""


def _offload_form(written: Any) -> str:
    return "offload_after" if isinstance(written, dict) else "offload_word"


Offload = Annotated[
    Annotated[OffloadAfter, Tag("offload_after")] | Annotated[Literal["never", "at_once"], Tag("offload_word")],
    Discriminator(_offload_form),
]


class ReloadAfter(Strict):
    """How much evidence that the switch has chosen another NIC is needed: frames, or a time since the first."""

    frames: int = Field(default=1, ge=1, le=1_000_000)
    """Frames that came by the other NIC."""
    time: Duration = 0.0
    """Since the first of them."""


Feature = Literal["ipv4", "ipv6", "timestamps", "sack"]


class Team(Strict):
    """When connections go to the NICs, and what happens to them when a link fails."""

    driver: Literal["offload", "ovs_active_backup", "ovs_balance_tcp", "linux_bonding"] = "offload"
    """Who makes a team of the NICs: ours, with all other keys; or another one, to compare with: docs/other-teams.md."""
    offload: Offload = OffloadAfter.model_construct(after=65536)
    """When a connection goes to a NIC: `{after: 64KiB}`, `{after: 500ms}`, `at_once`, `never`."""
    on_fault: Literal["reload", "upload", "on_first_packet"] = "reload"
    """Where the connections of a dead link go: to another NIC, to the host, or to the NIC that the next frame names."""
    choice: Literal["least_loaded", "round_robin", "by_hash"] = "least_loaded"
    """How another NIC is chosen while nobody knows the switch's choice."""
    fail_back: Literal["none", "rebalance"] = "none"
    """Whether a NIC whose link returns takes over its share at once."""
    reload_after: ReloadAfter = ReloadAfter()
    """The evidence that a reload without a fault needs."""
    age: Duration = 300.0
    """A record is removed after so long without a frame."""
    capacity: int | None = Field(default=None, ge=1, le=1 << 20)
    """Connections that a NIC has room for; any number without it."""
    memory: Size | None = Field(default=None, ge=1)
    """What the connections of a NIC may take, their queues included; any amount without it."""
    features: dict[str, list[Feature]] = Field(default_factory=dict)
    """By NIC, what its TCP can do; everything without it."""
    lacp: Lacp = "off"
    """The team's end of LACP on its links; the switch's own is `network: lacp:`."""
    lacp_rate: Literal["fast", "slow"] = "fast"
    """How often the team wants to hear from the switch."""
    min_links: Annotated[int, _one_to(MAX_NICS)] = 1
    """With fewer active members the team is down."""
    probe: Duration | None = None
    """How often the team asks over each link whether it carries frames both ways; never without it."""
    records: int | None = Field(default=None, ge=1, le=1 << 20)
    """How many connections the team has records for; a default that does for most without it."""
    trace: bool = False
    """Record every part of every move."""


class Service(Strict):
    """A port of the team's address, and the application that serves it."""

    listen: int = Field(ge=1, le=65535)
    """The port."""
    app: Annotated[str, StringConstraints(pattern=r"^(builtin|[A-Za-z0-9_.-]+:[0-9]{1,5})$")] = "builtin"
    """The built-in application, or where another one listens inside the server: `localhost:8080`.

    `localhost` is 127.0.0.1 to IPv4 clients and ::1 to IPv6 clients; on these it sees the clients' own addresses.
    """
    ports: Ports | None = None
    """More ports of it, the same outside and inside: `30000-30009`, for FTP's passive mode."""
    command: str | None = None
    """A shell command that starts that one, in the server, in a folder of its own.

    `{server}` stands for the team's address, `{out}` for a folder of the results.
    """
    offload: Offload | None = None
    """For connections to this port, instead of the team's."""
    team: str = "team0"
    """The team at whose address it is."""

    @property
    def all_ports(self) -> tuple[int, ...]:
        """The port and those of the range."""
        return self.listen, *(range(self.ports[0], self.ports[1] + 1) if self.ports else ())


class Distribution(Strict):
    """Sizes of many connections, drawn by the traffic's seed. One of these."""

    uniform: Annotated[list[Size], Field(min_length=2, max_length=2)] | None = None
    """The least and the most: `[1KiB, 1MB]`."""
    exponential: Size | None = None
    """The mean."""
    pareto: Size | None = None
    """The mean; few are large and many small (shape 1.5), none is more than a hundred times the mean."""

    @model_validator(mode="after")
    def _one_kind(self) -> "Distribution":
        if sum(one is not None for one in (self.uniform, self.exponential, self.pareto)) != 1:
            raise ValueError("give it one of `uniform: [1KiB, 1MB]`, `exponential: 64KiB`, `pareto: 64KiB`")
        if self.uniform is not None and not 1 <= self.uniform[0] <= self.uniform[1]:
            raise ValueError("`uniform` is the least and the most, at least 1B: [1KiB, 1MB]")
        if 0 in (self.exponential, self.pareto):
            raise ValueError("the mean is at least 1B")
        return self


def _sizes_form(written: Any) -> str:
    return "distribution" if isinstance(written, dict) else "size"


Sizes = Annotated[
    Annotated[Distribution, Tag("distribution")] | Annotated[Size, Tag("size")], Discriminator(_sizes_form)
]


class Traffic(Strict):
    """Connections from a client to a service: one, or `count`, of checked bytes; or those of a `command`."""

    client: str
    """Where from: `c1`."""
    service: str
    """Where to, by its name under `services`."""
    send: Sizes = 0
    """Bytes from each connection's client to the application; of each of many, from a distribution."""
    receive: Sizes = 0
    """Bytes the other way. With both, both go at once."""
    requests: int | None = Field(default=None, ge=1, le=100_000)
    """Each connection asks so often: `send` bytes, answered by `receive` bytes, one after the other."""
    think: Duration = 0.0
    """Between an answer and the next request."""
    at: Duration = 0.0
    """When it starts."""
    seed: Seed | None = None
    """Of its bytes; the scenario's without it."""
    ipv6: bool = False
    """To the team's IPv6 address."""
    count: int = Field(default=1, ge=1, le=MOST_CONNECTIONS)
    """Connections."""
    rate: Arrivals | None = None
    """How fast many connections come: `500/s`; all at once without it."""
    pace: Rate | None = None
    """What each end of each connection sends at most."""
    idle: Duration | None = None
    """Each end sends one byte so often, at most every 20 s."""
    half_close: Literal["client", "server"] | None = None
    """The end that closes its direction as soon as it has sent everything, while the other goes on."""
    command: str | None = None
    """A shell command in the client's node that makes the traffic, for example `curl -sSf http://{address}/`.

    `{server}` `{port}` `{address}` stand for the service's address, port, and both; `{out}` for a folder of
    the results, in which it starts. It is done when the command has ended; exit status 0 makes it `intact`.
    """

    @model_validator(mode="after")
    def _one_tempo(self) -> "Traffic":
        if self.command is not None:
            extra = [key for key in self.model_fields_set if key not in OF_COMMANDS]
            if extra:
                raise ValueError(f"has a `command`, which makes its own traffic; leave out {_listed(extra)}")
        if self.requests is not None:
            extra = [key for key in ("pace", "idle", "half_close") if getattr(self, key) is not None]
            if extra:
                raise ValueError(f"has `requests`, which have a tempo of their own; leave out {_listed(extra)}")
            if self.send == 0 or self.receive == 0:
                raise ValueError("has `requests`; give it `send`, a request's size, and `receive`, its answer's")
        if self.think and self.requests is None:
            raise ValueError("`think` is the time between two requests: give it `requests`")
        if self.think > 20:
            raise ValueError("`think` is at most 20s")
        if self.pace is not None and self.idle is not None:
            raise ValueError("has `pace` and `idle`; a connection is either paced or idle")
        if self.idle is not None and not 0 < self.idle <= 20:
            raise ValueError("`idle` is the time between two bytes: more than 0s, at most 20s")
        if self.rate is not None and self.count == 1:
            raise ValueError("`rate` is that of arrivals and needs many connections: give it a `count`")
        return self


OF_COMMANDS = ("client", "service", "at", "ipv6", "command")
"""Keys of a traffic that has a command."""
PLACEHOLDERS = ("server", "port", "address", "out")
"""In a traffic's command, in braces."""


def _listed(keys: list[str]) -> str:
    return ", ".join(f"`{key}`" for key in sorted(keys))


Topic = Literal[
    "basics", "offload", "failover", "switch", "lacp", "links", "shapes", "agent", "limits", "applications", "other"
]
Need = Literal["bonding", "curl", "iperf3", "netem", "nginx", "ovs_kernel", "tcpdump"]


class Scenario(Strict):
    """One file: a network, what runs on it, what happens to it, and what must hold at the end."""

    scenario: Name
    """Its name; the folder of its results is called so."""
    about: str
    """A sentence: what it teaches."""
    topic: Topic = "other"
    """What it is about, for `list` and for pytest's `-m`."""
    needs: list[Need] = Field(default_factory=list)
    """Programs and kernel features that a machine may lack; there the scenario is skipped."""
    matrix: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    """Paths of words and the values they take in turn: `{network.nics: [2, 4]}`. Every combination is a case."""
    seed: Seed = 0
    """Of the traffic's bytes and of whatever is left to chance."""
    limit: Duration = 60.0
    """How long the traffic may take."""
    network: Network = Network()
    """The network."""
    team: Team = Team()
    """The server's teaming software."""
    services: dict[Name, Service] = Field(min_length=1)
    """By name, what the team's address serves."""
    traffic: dict[Name, Traffic]
    """By name, what the clients do. Expectations and steps use the names."""
    captures: list[str] = Field(default_factory=list)
    """Links whose frames are captured, their headers: of clients (c1), NICs (nic0), between switches (s1-core)."""
    timeline: list[AnyStep] = Field(default_factory=list)
    """What happens, in the order of the steps' times."""
    expect: list[str] = Field(min_length=1)
    """What must hold at the end."""
