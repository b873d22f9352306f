"""The steps of a timeline: what may happen in a run; decides their words.

Pure. What they mean for the network and the processes is in `deeds`. The texts of a step and of its keys are also what
docs/scenario-language.md and editors say of them.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from scenarios import units
from scenarios.words import Arrivals, Duration, Name, Rate, Share, Strict


class Step(Strict):
    """What all steps have: the time since the traffic's start."""

    at: Duration
    """When, from the start of the traffic on; a `wait` before it puts it off."""


class OfNic(Step):
    """A step that happens to a NIC."""

    nic: str
    """A NIC: `nic0`, `carrying(TRAFFIC)`, `other(TRAFFIC)`, `last`, `any`."""


class OfEnd(Step):
    """A step that happens to a NIC's wire, or to a client's link."""

    nic: str | None = None
    """The NIC whose wire it is. Either this or `client`."""
    client: str | None = None
    """The client whose link it is. Either this or `nic`."""

    @model_validator(mode="after")
    def _one_end(self) -> "OfEnd":
        if (self.nic is None) == (self.client is None):
            raise ValueError("give it either `nic`, for a NIC's wire, or `client`, for a client's link")
        return self


class LinkDown(OfNic):
    """The NIC's link to the switch loses its carrier."""

    do: Literal["link_down"]


class LinkUp(OfNic):
    """The NIC's link to the switch gets its carrier back."""

    do: Literal["link_up"]


class LinkFlap(OfNic):
    """The NIC's link goes down and comes back, `times` times; it is up at the end. The timeline goes on meanwhile."""

    do: Literal["link_flap"]
    times: int = Field(default=3, ge=1, le=1000)
    """How often."""
    down: Duration = 0.05
    """How long it is down each time."""
    up: Duration = 0.05
    """How long it is up in between."""


class AllLinksDown(Step):
    """Every link of the team loses its carrier at once."""

    do: Literal["all_links_down"]


class AllLinksUp(Step):
    """Every link of the team gets its carrier back."""

    do: Literal["all_links_up"]


class AdapterFailure(OfNic):
    """The adapter dies: wire and bus are gone at once, then its engine is killed, and its contexts are lost."""

    do: Literal["adapter_failure"]


class AdapterReturn(OfNic):
    """An adapter that had failed is there again, with a new engine that knows no connection."""

    do: Literal["adapter_return"]


class BlackHole(OfNic):
    """The NIC's wire eats all frames while its carrier stays up: no link event tells of it. `heal` ends it."""

    do: Literal["black_hole"]
    direction: Literal["both", "to_nic", "from_nic"] = "both"
    """Which frames are eaten."""


class Impair(OfEnd):
    """A wire loses, damages or delays frames, both ways. `heal` ends it. Delay and jitter need a kernel with netem."""

    do: Literal["impair"]
    loss: Share = 0.0
    """Share of the frames that are lost, each by chance."""
    corrupt: Share = 0.0
    """Share of the frames that arrive with a wrong byte."""
    delay: Duration = 0.0
    """Time that each frame takes longer."""
    jitter: Duration = 0.0
    """How far the delay varies, either way."""

    @model_validator(mode="after")
    def _does_something(self) -> "Impair":
        if not (self.loss or self.corrupt or self.delay):
            raise ValueError("impairs nothing; give it `loss`, `corrupt` or `delay`, for example `loss: 1%`")
        if self.jitter > self.delay:
            raise ValueError("`jitter` is more than `delay`; a frame cannot arrive before it was sent")
        return self


class Heal(OfEnd):
    """Every black hole and impairment of this wire ends."""

    do: Literal["heal"]


class SetRate(OfNic):
    """The NIC's wire has another rate from now on, both ways."""

    do: Literal["set_rate"]
    rate: Rate
    """Bits per second."""


class RemoveNic(OfNic):
    """The NIC leaves the team: the agent drains it, then its link is taken down."""

    do: Literal["remove_nic"]


class AddNic(OfNic):
    """The NIC joins the team again: its link comes up and the agent takes it in."""

    do: Literal["add_nic"]


class Rehash(Step):
    """The switch moves live connections to another member with no fault, as after a new hash seed."""

    do: Literal["rehash"]
    connection: str
    """The traffic whose connections are moved."""
    to: str = "other"
    """The NIC that they leave by from now on."""


class SetSwitch(Step):
    """The switch hashes with other settings from now on; connections move as these have it. At least one is needed."""

    do: Literal["set_switch"]
    hash: Literal["layer2", "layer2+3", "layer3+4", "src-ip", "symmetric"] | None = None
    """The policy: what of a frame the hash is over."""
    seed: int | None = Field(default=None, ge=0, le=65535)
    """The hash's seed."""
    rebalance: Literal["modulo", "resilient", "rendezvous"] | None = None
    """How connections are spread again when members come and go."""

    @model_validator(mode="after")
    def _sets_something(self) -> "SetSwitch":
        if self.hash is None and self.seed is None and self.rebalance is None:
            raise ValueError("sets nothing; give it `hash`, `seed` or `rebalance`")
        return self


class TakeOut(OfNic):
    """The switch uses this member of its LAG no more; the link stays up, and the server is not told."""

    do: Literal["take_out"]


class TakeBack(OfNic):
    """The switch uses this member of its LAG again."""

    do: Literal["take_back"]


class SwitchDown(Step):
    """A whole switch dies: every link of it loses its carrier, and it forwards nothing."""

    do: Literal["switch_down"]
    switch: str
    """Its name: `s1`."""


class SwitchUp(Step):
    """A switch that was down is there again, with its links."""

    do: Literal["switch_up"]
    switch: str
    """Its name: `s1`."""


class ChangeRouterMac(Step):
    """The router between clients and team has another MAC from now on, as after a router failover. Shape `routed`."""

    do: Literal["change_router_mac"]
    announce: bool = True
    """Whether it says so, by a gratuitous ARP and an unsolicited neighbour advertisement."""


class OffloadNow(Step):
    """By command, connections go from the host to this NIC, or to the one that the agent chooses."""

    do: Literal["offload"]
    connection: str
    """The traffic whose connections go."""
    nic: str | None = None
    """Where to; the agent's choice without it."""


class ReloadNow(Step):
    """By command, connections go from their NIC to this one, or to the one that the agent chooses."""

    do: Literal["reload"]
    connection: str
    """The traffic whose connections go."""
    nic: str | None = None
    """Where to; the agent's choice without it."""


class UploadNow(Step):
    """By command, connections go back to the host."""

    do: Literal["upload"]
    connection: str
    """The traffic whose connections go."""


class Kill(Step):
    """A process is killed (SIGKILL) and started again, at once or `after` a time.

    Started at once, it is ready before the next step; else the timeline goes on without it. A NIC's engine dies with
    the contexts it holds; until it is started again the NIC passes nothing, though its carrier stays up. The host's
    engine too dies with those it holds, those on NICs go on; until it is started again the server's own TCP is silent.
    """

    do: Literal["kill"]
    process: str
    """`agent`, `host` for the host's engine (of a second team: `agent-team1`, `host-team1`), `controller`, `switch`
    (Open vSwitch), or a NIC for its engine."""
    after: Duration = 0.0
    """How long it stays dead."""


class SynFlood(Step):
    """A client sends SYNs that nobody will follow up, from made-up addresses and ports. The timeline goes on."""

    do: Literal["syn_flood"]
    client: str
    """The client that sends them."""
    service: str
    """The service that they ask for."""
    rate: Arrivals = 1000.0
    """SYNs per second."""
    time: Duration = 1.0
    """How long."""


class CheckRecords(Step):
    """Compares the agent's records with the sockets that exist in every namespace, until they agree.

    What differs at the limit is told, and measured as `run.record_differences`.
    """

    do: Literal["check_records"]
    limit: Duration = 2.0
    """How long they may take to agree."""


class Run(Step):
    """A shell command inside a node, to its end; one that fails breaks the run off, unless it has a `name`."""

    do: Literal["run"]
    name: Name | None = None
    """Expectations may ask for what a command with a name ended with, and what it printed."""
    node: str
    """A client, a NIC, `server`, or a switch."""
    command: str
    """For `sh -c`."""
    limit: Duration = 10.0
    """How long it may take."""


class Wait(Step):
    """The timeline's clock stands still until the condition holds; an error after `limit`."""

    do: Literal["wait"]
    until: str
    """The condition."""
    limit: Duration = 10.0
    """How long it may take."""


AnyStep = Annotated[
    LinkDown | LinkUp | LinkFlap | AllLinksDown | AllLinksUp | AdapterFailure | AdapterReturn
    | BlackHole | Impair | Heal | SetRate | RemoveNic | AddNic
    | Rehash | SetSwitch | TakeOut | TakeBack | SwitchDown | SwitchUp | ChangeRouterMac
    | OffloadNow | ReloadNow | UploadNow | Kill | SynFlood | CheckRecords | Run | Wait,
    Field(discriminator="do"),
]  # fmt: skip

STEPS: dict[str, type[Step]] = {
    get_args(step.model_fields["do"].annotation)[0]: step for step in get_args(get_args(AnyStep)[0])
}
"""By the word after `do`."""

QUIET = ("wait", "check_records")
"""Steps that change nothing."""
PROCESSES = ("agent", "host", "controller", "switch")
"""What `kill` may name, besides NICs."""


def written(do: str, key: str, value: Any) -> str:
    """A step's word as its author wrote it, of the value that it was read as."""
    field = STEPS[do].model_fields.get(key) if do in STEPS else None
    parse = next((one.func for one in field.metadata if isinstance(one, BeforeValidator)), None) if field else None
    return units.written(parse, value)


def nic_of(step: Step) -> str | None:
    """The words of a step that mean a NIC, None where it has none."""
    written: Any = getattr(step, "nic", None)
    if isinstance(step, Rehash):
        written = step.to
    elif isinstance(step, Kill) and step.process.partition("-")[0] not in PROCESSES:
        written = step.process
    return None if written is None else str(written)


def key_of_nic(step: Step) -> str:
    """The key that these words are under."""
    return {"rehash": "to", "kill": "process"}.get(str(getattr(step, "do", "")), "nic")


def connection_of(step: Step) -> str | None:
    """The traffic whose connections a step is about."""
    written: Any = getattr(step, "connection", None)
    return None if written is None else str(written)
