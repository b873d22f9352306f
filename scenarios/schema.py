"""The words of a scenario file; decides what may be written in one.

Pure: pydantic models of one file by itself; the timeline's are in `steps`. Whether names refer to something is in
`references`, where a word stands in the file is in `load`. Quantities are in base units once read: seconds, bytes,
bits per second.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from scenarios.steps import AnyStep
from scenarios.words import After, Arrivals, Duration, Name, Rate, Seed, Size, Strict

MOST_CONNECTIONS = 10_000
"""Of one traffic. A process has 20,000 descriptors on many machines, and an engine needs two a connection."""


class Network(Strict):
    """The topology, and how its switch spreads connections over the team's links."""

    shape: Literal["figure_1", "two_teams"] = "figure_1"
    nics: int = 3
    clients: int = 2
    rate: Rate | None = None
    rates: dict[str, Rate] = Field(default_factory=dict)
    hash: Literal["layer2", "layer2+3", "layer3+4", "src-ip", "symmetric"] = "layer3+4"
    rebalance: Literal["modulo", "resilient", "rendezvous"] = "modulo"
    seed: int = Field(default=0, ge=0, le=65535)


class OffloadAfter(Strict):
    """Offload a connection once it has carried this many bytes (an int), or is this old in seconds (a float)."""

    after: After


def _offload_form(written: Any) -> str:
    return "offload_after" if isinstance(written, dict) else "offload_word"


Offload = Annotated[
    Annotated[OffloadAfter, Tag("offload_after")] | Annotated[Literal["never", "at_once"], Tag("offload_word")],
    Discriminator(_offload_form),
]


class ReloadAfter(Strict):
    """How much evidence that the switch has chosen another NIC is needed: frames, or a time since the first."""

    frames: int = Field(default=1, ge=1, le=1_000_000)
    time: Duration = 0.0


Feature = Literal["ipv4", "ipv6", "timestamps", "sack"]


class Team(Strict):
    """When connections go to the NICs, and what happens to them when a link fails."""

    offload: Offload = OffloadAfter.model_construct(after=65536)
    on_fault: Literal["reload", "upload", "on_first_packet"] = "reload"
    choice: Literal["least_loaded", "round_robin", "by_hash"] = "least_loaded"
    fail_back: Literal["none", "rebalance"] = "none"
    reload_after: ReloadAfter = ReloadAfter()
    age: Duration = 300.0
    capacity: int | None = Field(default=None, ge=1)
    features: dict[str, list[Feature]] = Field(default_factory=dict)
    records: int | None = Field(default=None, ge=1, le=1 << 20)
    trace: bool = False


class Service(Strict):
    """A port of the team's address, and the application that serves it.

    `app` is the built-in application or HOST:PORT inside the server; `command` starts that one. `offload` overrules
    the team's for connections to this port.
    """

    listen: int = Field(ge=1, le=65535)
    app: Annotated[str, StringConstraints(pattern=r"^(builtin|[A-Za-z0-9_.-]+:[0-9]{1,5})$")] = "builtin"
    command: str | None = None
    offload: Offload | None = None
    team: str = "team0"


class Traffic(Strict):
    """Connections from a client, one or `count`: the bytes each sends and receives, and when they start.

    rate: arrivals per second, for many connections; all at once without it. pace: bits per second of each end of each
    connection. idle: each end sends one byte so often. half_close: the end that closes its direction as soon as it
    has sent everything, while the other goes on.
    """

    client: str
    service: str
    send: Size = 0
    receive: Size = 0
    at: Duration = 0.0
    seed: Seed | None = None
    ipv6: bool = False
    count: int = Field(default=1, ge=1, le=MOST_CONNECTIONS)
    rate: Arrivals | None = None
    pace: Rate | None = None
    idle: Duration | None = None
    half_close: Literal["client", "server"] | None = None

    @model_validator(mode="after")
    def _one_tempo(self) -> "Traffic":
        if self.pace is not None and self.idle is not None:
            raise ValueError("has `pace` and `idle`; a connection is either paced or idle")
        if self.idle is not None and not 0 < self.idle <= 20:
            raise ValueError("`idle` is the time between two bytes: more than 0s, at most 20s")
        if self.rate is not None and self.count == 1:
            raise ValueError("`rate` is that of arrivals and needs many connections: give it a `count`")
        return self


class Scenario(Strict):
    """One file: a network, what runs on it, what happens to it, and what must hold at the end."""

    scenario: Name
    about: str
    seed: Seed = 0
    limit: Duration = 60.0
    network: Network = Network()
    team: Team = Team()
    services: dict[Name, Service] = Field(min_length=1)
    traffic: dict[Name, Traffic] = Field(min_length=1)
    captures: list[str] = Field(default_factory=list)
    timeline: list[AnyStep] = Field(default_factory=list)
    expect: list[str] = Field(min_length=1)
