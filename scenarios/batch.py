"""Many scenarios in one call, one after the other or side by side, each in its sandbox; decides whose turn it is.

Of one at a time a person sees what happens while it happens. Of several each gets its block when it has ended, and on a
terminal one line tells what runs.
"""

import io
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from scenarios import events, launcher
from scenarios.console import Console
from scenarios.launcher import Interruption, Job

TURN_S = 0.05
"""For each of several to be waited for."""


class Unseen:
    """Watches nothing."""

    def see(self, new: Sequence[events.Event]) -> None:
        """Looks away."""


@dataclass
class Batch:
    """All cases of one call."""

    jobs: Sequence[Job]
    environment: Mapping[str, Any]
    interruption: Interruption
    shown: Path
    """Paths are shown relative to this folder."""
    out: TextIO = sys.stdout

    def run(self, side_by_side: int = 1) -> list[str]:
        """Run them; the verdicts of those that were begun, in no order. Raises SandboxError."""
        if side_by_side == 1:
            return [self._alone(job) for job in self.jobs if not self.interruption.count]
        waiting, verdicts = list(self.jobs), list[str]()
        running: list[launcher.Run] = []
        try:
            while running or (waiting and not self.interruption.count):
                while waiting and len(running) < side_by_side and not self.interruption.count:
                    running.append(launcher.Run(waiting.pop(0), self.environment, Unseen(), self.interruption))
                self._live(f"running {', '.join(one.job.scenario.scenario for one in running)}; {len(waiting)} wait")
                for one in list(running):
                    if not one.go_on(TURN_S):
                        running.remove(one)
                        verdicts.append(self._block(one))
        finally:
            for one in running:
                one.kill()
        self._live("")
        return verdicts

    def _alone(self, job: Job) -> str:
        console = Console(job.scenario, self.out)
        console.start()
        try:
            result = launcher.run(job, self.environment, console, self.interruption)
        finally:
            launcher.give_to_caller(job.out.parent)
        console.result(result, events.read(job.out / "events.jsonl"), short(job.out, self.shown))
        return str(result["verdict"])

    def _block(self, one: launcher.Run) -> str:
        text = io.StringIO()
        console = Console(one.job.scenario, text, live=False, colours=self.out.isatty())
        try:
            result = one.result()
        finally:
            launcher.give_to_caller(one.job.out.parent)
        console.start()
        console.result(result, events.read(one.job.out / "events.jsonl"), short(one.job.out, self.shown))
        self._live("")
        self.out.write(text.getvalue())
        self.out.flush()
        return str(result["verdict"])

    def _live(self, text: str) -> None:
        if self.out.isatty():
            self.out.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
            self.out.flush()


def short(path: Path, folder: Path) -> Path:
    """Relative to the folder where that is shorter."""
    try:
        return path.relative_to(folder)
    except ValueError:
        return path
