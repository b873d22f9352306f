"""The steps of a timeline: what may happen in a run; decides their words.

Pure. What they mean for the network is in `play`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from scenarios import units

Duration = Annotated[float, BeforeValidator(units.parse_duration)]


class Strict(BaseModel):
    """Unknown words are errors and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Step(Strict):
    """What all steps have: the time since the traffic's start."""

    at: Duration


class OfNic(Step):
    """A step that happens to a NIC."""

    nic: str


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
    down: Duration = 0.05
    up: Duration = 0.05


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
    to: str = "other"


class OffloadNow(Step):
    """By command, a connection goes from the host to this NIC, or to the one that the agent chooses."""

    do: Literal["offload"]
    connection: str
    nic: str | None = None


class ReloadNow(Step):
    """By command, a connection goes from its NIC to this one, or to the one that the agent chooses."""

    do: Literal["reload"]
    connection: str
    nic: str | None = None


class UploadNow(Step):
    """By command, a connection goes back to the host."""

    do: Literal["upload"]
    connection: str


class KillAgent(Step):
    """The host agent is killed (SIGKILL) and started again, at once or `after` a time.

    Started at once, it is ready before the next step; else the timeline goes on without it.
    """

    do: Literal["kill_agent"]
    after: Duration = 0.0


class CheckRecords(Step):
    """Compares the agent's records with the sockets that exist in every namespace, until they agree.

    What differs at the limit is told, and measured as `run.record_differences`.
    """

    do: Literal["check_records"]
    limit: Duration = 2.0


class Run(Step):
    """A shell command inside a node, to its end; one that fails breaks the run off."""

    do: Literal["run"]
    node: str
    command: str
    limit: Duration = 10.0


class Wait(Step):
    """The timeline's clock stands still until the condition holds; an error after `limit`."""

    do: Literal["wait"]
    until: str
    limit: Duration = 10.0


STEPS: dict[str, type[Step]] = {
    "link_down": LinkDown,
    "link_up": LinkUp,
    "rehash": Rehash,
    "wait": Wait,
    "link_flap": LinkFlap,
    "all_links_down": AllLinksDown,
    "all_links_up": AllLinksUp,
    "adapter_failure": AdapterFailure,
    "adapter_return": AdapterReturn,
    "remove_nic": RemoveNic,
    "add_nic": AddNic,
    "offload": OffloadNow,
    "reload": ReloadNow,
    "upload": UploadNow,
    "kill_agent": KillAgent,
    "check_records": CheckRecords,
    "run": Run,
}
"""By the word after `do`."""

AnyStep = Annotated[
    LinkDown | LinkUp | LinkFlap | AllLinksDown | AllLinksUp | AdapterFailure | AdapterReturn | RemoveNic | AddNic
    | Rehash | OffloadNow | ReloadNow | UploadNow | KillAgent | CheckRecords | Run | Wait,
    Field(discriminator="do"),
]  # fmt: skip


def nic_of(step: Step) -> str | None:
    """The words of a step that mean a NIC, None where it has none."""
    written: Any = step.to if isinstance(step, Rehash) else getattr(step, "nic", None)
    return None if written is None else str(written)


def connection_of(step: Step) -> str | None:
    """The traffic whose connections a step is about."""
    written: Any = getattr(step, "connection", None)
    return None if written is None else str(written)
