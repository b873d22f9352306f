"""The scenarios that come along, by topic, as `teambed list` shows them. Pure: scenarios in, lines out."""

from collections.abc import Sequence
from typing import get_args

from scenarios.needs import needs_of
from scenarios.schema import Scenario, Topic

HEADS = {
    "basics": "What it is: every kind of connection, on small and large teams",
    "offload": "When a connection goes to a NIC, and to which",
    "failover": "When links and adapters fail",
    "switch": "When the switch changes its mind",
    "lacp": "When switch and server speak LACP",
    "links": "Links that lose, delay and swallow frames",
    "shapes": "Other networks",
    "agent": "When software fails",
    "limits": "When something is full, or old",
    "applications": "Real applications, unmodified",
    "other": "Others",
}
TOPICS: tuple[str, ...] = get_args(Topic)


def lines(scenarios: Sequence[Scenario]) -> list[str]:
    """Topics in their order, each with its scenarios by name, and what a machine may lack for them."""
    width = max((len(one.scenario) for one in scenarios), default=0)
    found: list[str] = []
    for topic in TOPICS:
        about = sorted((one for one in scenarios if one.topic == topic), key=lambda one: one.scenario)
        if about:
            found += [*([""] if found else []), f"{topic}: {HEADS[topic]}"]
            found += [f"  {one.scenario:{width}}  {one.about}{_needs(one)}" for one in about]
    return found


def _needs(scenario: Scenario) -> str:
    needs = [one for one in needs_of(scenario) if one != "tcpdump"]
    return f" (needs {', '.join(needs)})" if needs else ""
