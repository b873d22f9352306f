"""The timeline: which steps are due now, and which NIC a step's words mean.

Pure: the time since the traffic's start and what is known of the run come in, due steps with their names
resolved come out. `wait` holds the timeline's clock: the steps after it count from the moment it is met.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scenarios import conditions
from scenarios.conditions import Facts
from scenarios.steps import AnyStep, Wait, connection_of, nic_of

_WORD = re.compile(r"([a-z][a-z0-9_]*)(?:\(([a-z][a-z0-9_]*)\))?")
OF_TRAFFIC = ("carrying", "other")
"""NIC words that take a connection."""
ALONE = ("any", "last")


class TimelineError(Exception):
    """A step that cannot be done now: one line that names the step and the remedy."""


@dataclass(frozen=True)
class Due:
    """One step to do now. `nic` is a name; None where the step has none."""

    index: int
    step: AnyStep
    nic: str | None = None


@dataclass(frozen=True)
class Timeline:
    """Steps in the order of their times, and how far they have come. Immutable: see `advance`."""

    steps: Sequence[AnyStep]
    seed: int = 0
    next: int = 0
    held: float = 0.0
    """Seconds for which the timeline's clock has stood still."""
    waiting_since: float | None = None
    last: str | None = None
    before: Facts | None = None
    """What was known when the last step was done, `wait` apart."""

    @classmethod
    def of(cls, steps: Sequence[AnyStep], seed: int = 0) -> "Timeline":
        """The timeline of these steps; steps at one time keep the order of the file."""
        return cls(sorted(steps, key=lambda step: step.at), seed)

    @property
    def finished(self) -> bool:
        """No step is left."""
        return self.next >= len(self.steps)

    def ready_in(self, now: float) -> float | None:
        """Seconds until the next step is due, 0 when it is; None when none is left."""
        if self.finished:
            return None
        return max(0.0, self.steps[self.next].at + self.held - now)

    def advance(self, now: float, facts: Facts) -> tuple[Due | None, "Timeline"]:
        """The step due at `now`, if one is, and the timeline after it. Raises TimelineError."""
        if self.ready_in(now) != 0.0:
            return None, self
        step = self.steps[self.next]
        passed = replace(self, next=self.next + 1, waiting_since=None)
        if isinstance(step, Wait):
            # The step became due at its own time, not when somebody looked.
            since = self.waiting_since if self.waiting_since is not None else step.at + self.held
            if conditions.parse(step.until).holds(facts, self.before, self.last):
                return Due(self.next, step), replace(passed, held=self.held + now - since)
            if now - since > step.limit:
                raise TimelineError(f"{self.place()}: `{step.until}` did not hold within {step.limit:g} s")
            return None, replace(self, waiting_since=since)
        nic = self.resolve(step, facts)
        return Due(self.next, step, nic), replace(passed, last=nic or self.last, before=facts)

    def place(self) -> str:
        """The next step, for a person: `step 2 (link_up at 3s)`."""
        step = self.steps[self.next]
        return f"step {self.next + 1} ({step.do} at {step.at:g}s)"

    def resolve(self, step: AnyStep, facts: Facts) -> str | None:
        """The NIC that a step means, None when it speaks of none. Raises TimelineError when no NIC fits."""
        written = nic_of(step)
        if written is None:
            return None
        word, traffic = parse_word(written)
        if word == "other" and traffic is None:
            traffic = connection_of(step)
        if word in facts.nics and traffic is None:
            return word
        if word == "last":
            if self.last is None:
                raise TimelineError(f"{self.place()}: `last` is the NIC of the step before, and there is none")
            return self.last
        up = [nic for nic in facts.nics if nic not in facts.down]
        carrier = facts.carrying.get(traffic) if traffic else None
        if traffic and carrier is None:
            why = "it has ended" if traffic in facts.done else "do the step later, or wait for it"
            raise TimelineError(f"{self.place()}: no NIC carries `{traffic}`; {why}")
        if word == "carrying" and carrier is not None:
            return carrier
        choice = [nic for nic in up if nic != carrier]
        if not choice:
            raise TimelineError(f"{self.place()}: `{written}` fits no NIC: the link of every other NIC is down")
        return random.Random(f"{self.seed}/{self.next}").choice(choice)


def parse_word(written: str) -> tuple[str, str | None]:
    """`carrying(download)` → ("carrying", "download"); `nic1` → ("nic1", None). Raises ValueError."""
    found = _WORD.fullmatch(written.strip())
    if not found:
        raise ValueError(f"`{written}` is not a name; write a NIC such as nic0, or carrying(TRAFFIC)")
    return found.group(1), found.group(2)
