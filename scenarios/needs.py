"""What a scenario needs that a machine may lack. There it is skipped; `TEAMBED_STRICT=1` makes that a failure.

Pure. The words are capabilities of `teambed doctor`: those that the file names, and those that follow from its steps.
"""

from collections.abc import Collection

from scenarios.schema import Scenario
from scenarios.steps import Impair


def needs_of(scenario: Scenario) -> list[str]:
    """The optional capabilities without which it cannot run."""
    found = dict.fromkeys(scenario.needs)
    if scenario.captures:
        found["tcpdump"] = None
    if any(isinstance(step, Impair) and (step.delay or step.jitter) for step in scenario.timeline):
        found["netem"] = None
    if scenario.team.driver == "linux_bonding":
        found["bonding"] = None
    return list(found)


def lacking(scenario: Scenario, missing: Collection[str]) -> str:
    """Why it cannot run on a machine that misses these, one line; empty when it can."""
    lacks = [one for one in needs_of(scenario) if one in missing]
    return f"this machine lacks {', '.join(lacks)}; `teambed doctor` says how to get it" if lacks else ""
