"""What broke when, and when the agent knew of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scenarios.measure.stories import Event

STEPS = ("adapter_failure", "all_links_down", "black_hole", "kill", "switch_down")
"""Steps that are faults; links that go down by themselves or in a flap are told by `wire`."""


@dataclass(frozen=True)
class Fault:
    """One NIC cut off. `what`: link_down, or the step. `seen`: when the agent knew, None when it never did."""

    t: float
    nic: str
    what: str
    seen: float | None = None


def faults(events: Sequence[Event]) -> list[Fault]:
    """In order; a step that cuts several NICs off is a fault of each."""
    switch_of = {
        nic: switch
        for event in events
        if event["event"] == "topology"
        for nics in event["teams"].values()
        for nic, switch in nics.items()
    }
    found: list[Fault] = []
    for event in events:
        t = float(event["t"])
        if event["event"] == "wire" and not event["up"]:
            found.append(Fault(t, event["nic"], "link_down"))
        elif event["event"] == "step" and event["do"] in STEPS:
            found += [Fault(t, nic, event["do"]) for nic in _cut_off(event, switch_of)]
    return [Fault(one.t, one.nic, one.what, _seen(one, found, events)) for one in found]


def _cut_off(step: Event, switch_of: Mapping[str, str]) -> list[str]:
    """The NICs that a step of STEPS takes away. A NIC whose engine is killed is one; other processes are none."""
    if step.get("nic"):
        return [step["nic"]]
    if step["do"] == "kill":
        return []
    return [nic for nic, switch in switch_of.items() if step["do"] != "switch_down" or switch == step.get("switch")]


def _seen(fault: Fault, all_of_them: Sequence[Fault], events: Sequence[Event]) -> float | None:
    later = min((one.t for one in all_of_them if one.nic == fault.nic and one.t > fault.t), default=float("inf"))
    for event in events:
        if event["event"] == "fault" and event.get("nic") == fault.nic and fault.t <= event["t"] < later:
            return float(event["t"])
    return None
