"""The words of a scenario file; decides what may be written in one.

Pure: pydantic models of one file by itself. Whether names refer to something is in `references`, where a word
stands in the file is in `load`. Quantities are in base units once read: seconds, bytes, bits per second.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, StringConstraints, Tag

from scenarios import units

Duration = Annotated[float, BeforeValidator(units.parse_duration)]
Size = Annotated[int, BeforeValidator(units.parse_size)]
Rate = Annotated[int, BeforeValidator(units.parse_rate)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Strict(BaseModel):
    """Unknown words are errors and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Network(Strict):
    """The topology, and how its switch spreads connections over the team's links."""

    shape: Literal["figure_1"] = "figure_1"
    nics: int = 3
    clients: int = 2
    rate: Rate | None = None
    hash: Literal["layer3+4"] = "layer3+4"
    rebalance: Literal["modulo"] = "modulo"
    seed: int = Field(default=0, ge=0, le=65535)


class OffloadAfter(Strict):
    """Offload a connection once it has carried this many bytes."""

    after: Size


def _offload_form(written: Any) -> str:
    return "offload_after" if isinstance(written, dict) else "offload_word"


Offload = Annotated[
    Annotated[OffloadAfter, Tag("offload_after")] | Annotated[Literal["never", "at_once"], Tag("offload_word")],
    Discriminator(_offload_form),
]


class Team(Strict):
    """When connections go to the NICs, and what happens to them when a link fails."""

    offload: Offload = OffloadAfter.model_construct(after=65536)
    on_fault: Literal["reload"] = "reload"


class Service(Strict):
    """A port of the team's address, and the application that serves it.

    `app` is the built-in application or HOST:PORT inside the server; `command` starts that one.
    """

    listen: int = Field(ge=1, le=65535)
    app: Annotated[str, StringConstraints(pattern=r"^(builtin|[A-Za-z0-9_.-]+:[0-9]{1,5})$")] = "builtin"
    command: str | None = None


class Traffic(Strict):
    """One connection from a client: the bytes it sends and receives, and when it starts."""

    client: str
    service: str
    send: Size = 0
    receive: Size = 0
    at: Duration = 0.0
    seed: Seed | None = None


class Step(Strict):
    """What all steps have: the time since the traffic's start."""

    at: Duration


class LinkDown(Step):
    """The NIC's link to the switch loses its carrier."""

    do: Literal["link_down"]
    nic: str


class LinkUp(Step):
    """The NIC's link to the switch gets its carrier back."""

    do: Literal["link_up"]
    nic: str


class Rehash(Step):
    """The switch moves a live connection to another member with no fault, as after a new hash seed."""

    do: Literal["rehash"]
    connection: str
    to: str = "other"


class Wait(Step):
    """The timeline's clock stands still until the condition holds; an error after `limit`."""

    do: Literal["wait"]
    until: str
    limit: Duration = 10.0


AnyStep = Annotated[LinkDown | LinkUp | Rehash | Wait, Field(discriminator="do")]


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
    captures: list[str] = []
    timeline: list[AnyStep] = []
    expect: list[str] = Field(min_length=1)
