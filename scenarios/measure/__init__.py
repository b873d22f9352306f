"""A run's events → measurements, by subject; decides what each measurement means (names: `vocabulary`).

Pure: a list of event dicts in, numbers out, so an archived run can be measured again. A measurement whose
events are missing is None, never a guess. One file per noun: traffic (and its moves), NICs, switches, the run.
"""

from collections.abc import Sequence
from typing import Any

from scenarios.measure.faults import faults
from scenarios.measure.nics import nics
from scenarios.measure.run import run
from scenarios.measure.stories import Connection, Event, Story, connection_of, connections_of, stories
from scenarios.measure.switches import switches
from scenarios.measure.traffic import traffic
from scenarios.vocabulary import COMMAND

__all__ = ["Connection", "Event", "Story", "connection_of", "connections_of", "measure", "stories"]


def measure(events: Sequence[Event]) -> dict[str, dict[str, Any]]:
    """All measurements of a run: by the name of a traffic, NIC, switch or command, and the run's under `run`."""
    broken = faults(events)
    found = {name: traffic(story, broken) for name, story in stories(events).items()}
    commands = {event["name"]: {word: event[word] for word in COMMAND} for event in events if event["event"] == "ran"}
    return found | nics(events) | switches(events) | commands | {"run": run(events, broken)}
