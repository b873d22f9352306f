"""One scenario from outside its sandbox: makes the output folder, launches the runner, follows it, judges.

The judgement is made here, from events.jsonl alone, so a run whose sandbox was killed has its result too.
"""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from scenarios import events, needs, nursery, title, verdict
from scenarios.claim import claim
from scenarios.load import Case, LoadError
from scenarios.report import archive
from scenarios.schema import Scenario
from topologies import sandbox

ROOT = Path(__file__).resolve().parent.parent
LOOK_S = 0.1
STRICT = "TEAMBED_STRICT"
"""The environment variable under which what this machine cannot run fails instead of being skipped, at 1."""
ENDED = ("pass", "fail")
"""Verdicts of runs that came to their end."""
FINISH_S = 20.0
"""For the runner to finish after it was asked to; then the sandbox is ended."""


class Watcher(Protocol):
    """Who is told what happens, while it happens."""

    def see(self, new: Sequence[events.Event]) -> None:
        """New events; called about every 100 ms, also with none."""


@dataclass(frozen=True)
class Job:
    """One case to run, and where its results go."""

    case: Case
    out: Path
    keep: str | None = None
    """What a person gets in the network when it fails: a shell (`cli`), a `pause`, or nothing."""

    @property
    def scenario(self) -> Scenario:
        """The case's scenario."""
        return self.case.scenario


class Interruption:
    """While it is entered, SIGINT, SIGTERM and SIGHUP are counted instead of ending this process."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> "Interruption":
        heeded = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
            heeded.append(signal.SIGHUP)
        self._before = {number: signal.signal(number, self._signal) for number in heeded}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _signal(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


class Run:
    """One run: `go_on` again and again until it is over, then `result`."""

    def __init__(self, job: Job, environment: Mapping[str, Any], watcher: Watcher, interruption: Interruption) -> None:
        """Launches it. Raises SandboxError where no sandbox can be made."""
        self.job, self._watcher, self._interruption = job, watcher, interruption
        record, scenario = job.out / "events.jsonl", job.scenario
        (job.out / "logs").mkdir(parents=True)
        self._claim = claim(job.out)
        (job.out / "scenario.yaml").write_text(job.case.text, encoding="utf-8")
        self._zero = time.monotonic()
        with record.open("ab") as file:
            emit = events.Emitter("teambed", file.fileno(), self._zero)
            names = {"scenario": scenario.scenario, "seed": scenario.seed, "digest": job.case.digest}
            emit(
                "scenario",
                **names,
                epoch=round(time.time(), 6),
                started=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            )
            emit("environment", environment=environment)
            reason = needs.lacking(scenario, environment["capabilities"]["missing"])
            if reason:
                emit("skipped", reason=reason, strict=os.environ.get(STRICT) == "1")
        self._tail = events.Tail(record)
        self._kept, self._unseen = False, list[events.Event]()
        self._asked, self._give_up = 0, float("inf")  # who interrupts while this begins means it too
        self._sandbox = None if reason else self._launch()
        """None when it is skipped, for this machine cannot run it."""
        importlib.import_module("scenarios.report.page").prepare()  # for the end, while the sandbox comes up

    def _launch(self) -> sandbox.Sandbox:
        """The runner, as a fork of this process: to import all of it anew would take as long as half the bring-up."""
        from scenarios import runner  # and with it Mininet: nobody else here needs it

        scenario, out, keep = self.job.scenario, self.job.out, self.job.keep
        argv = [sys.executable, "-m", "scenarios.runner", "--scenario", str(out / "scenario.yaml"), "--out", str(out)]
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {events.ZERO: repr(self._zero), "PYTHONPATH": os.pathsep.join(paths)}

        nursery.SHARED.begin()

        def inside() -> int:
            title.call_it(argv)
            os.environ.update(env)
            return runner.main(scenario, out, keep)

        # In a session of its own: Ctrl-C comes to this process alone, which asks the runner to finish. Not so where it
        # may need the terminal.
        with (out / "logs" / "runner.log").open("ab") as log:
            return sandbox.launch(
                argv,
                inside=inside,
                pass_fds=nursery.SHARED.descriptors,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=keep is None,
            )

    def go_on(self, longest: float = LOOK_S) -> bool:
        """Wait so long at most, tell what has happened, pass interruptions on. False when it is over."""
        self._see()
        if self._sandbox is None:
            return False
        if self._kept:  # Ctrl-C is the shell's
            self._interruption.count = self._asked
        if self._interruption.count > self._asked:
            again, self._asked = self._asked > 0, self._interruption.count
            self._give_up = time.monotonic() if again else time.monotonic() + FINISH_S
            self._sandbox.terminate()
        if time.monotonic() >= self._give_up:
            self._sandbox.kill()
        try:
            self._sandbox.wait(longest)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _see(self) -> None:
        """Tell what has happened; but while a person has the terminal, nobody else writes on it."""
        self._unseen += self._tail.read()
        for event in self._unseen:
            if event["event"] in ("kept", "let_go"):
                self._kept = event["event"] == "kept"
        if not self._kept:
            new, self._unseen = self._unseen, []
            self._watcher.see(new)

    def kill(self) -> None:
        """End it at once."""
        if self._sandbox and self._sandbox.poll() is None:
            self._sandbox.kill()
            self._sandbox.wait()

    def result(self) -> verdict.Result:
        """Judge it and write all that is made of it."""
        status, out = self._sandbox.wait() if self._sandbox else 0, self.job.out
        self._kept = False
        self._see()
        self._tail.close()
        record = out / "events.jsonl"
        if self._sandbox:
            with record.open("ab") as file:
                events.Emitter("teambed", file.fileno(), self._zero)("torn_down", status=status)
        with self._claim:
            return archive.write(out, self.job.scenario).result


def run(job: Job, environment: Mapping[str, Any], watcher: Watcher, interruption: Interruption) -> verdict.Result:
    """Run it to its end and write `result.json`. Raises SandboxError where no sandbox can be made."""
    one = Run(job, environment, watcher, interruption)
    try:
        while one.go_on():
            pass
    finally:
        one.kill()
    return one.result()


def finished(job: Job) -> str | None:
    """The verdict of an earlier run of this very case that came to its end, None when there is none."""
    try:
        result = archive.case(job.out).result
        return str(result["verdict"]) if result["digest"] == job.case.digest and result["verdict"] in ENDED else None
    except (OSError, KeyError, LoadError, archive.NoRun):
        return None


def give_to_caller(folder: Path) -> None:
    """Under sudo, results belong to the person who called it."""
    uid, gid = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if os.geteuid() != 0 or not (uid or "").isdecimal() or not (gid or "").isdecimal():
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, int(uid or 0), int(gid or 0), follow_symlinks=False)
