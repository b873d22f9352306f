"""One scenario from outside its sandbox: makes the output folder, launches the runner, follows it, judges.

The judgement is made here, from events.jsonl alone, so a run whose sandbox was killed has its result too.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from scenarios import events, needs, verdict
from scenarios.schema import Scenario
from topologies import sandbox

ROOT = Path(__file__).resolve().parent.parent
LOOK_S = 0.1
STRICT = "TEAMBED_STRICT"
"""The environment variable under which what this machine cannot run fails instead of being skipped, at 1."""
FINISH_S = 20.0
"""For the runner to finish after it was asked to; then the sandbox is ended."""


class Watcher(Protocol):
    """Who is told what happens, while it happens."""

    def see(self, new: Sequence[events.Event]) -> None:
        """New events; called about every 100 ms, also with none."""


@dataclass(frozen=True)
class Job:
    """One scenario to run: its file, its overrides, where its results go."""

    scenario: Scenario
    file: Path
    overrides: tuple[str, ...]
    out: Path


class Interruption:
    """While it is entered, SIGINT and SIGTERM are counted instead of ending this process."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> "Interruption":
        self._before = {n: signal.signal(n, self._signal) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _signal(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


def run(job: Job, environment: Mapping[str, Any], watcher: Watcher, interruption: Interruption) -> verdict.Result:
    """Run it and write `result.json`. Raises SandboxError where no sandbox can be made."""
    record = job.out / "events.jsonl"
    (job.out / "logs").mkdir(parents=True)
    record.touch()
    shutil.copyfile(job.file, job.out / "scenario.yaml")
    zero, scenario = time.monotonic(), job.scenario
    with record.open("ab") as file:
        emit = events.Emitter("teambed", file.fileno(), zero)
        emit("scenario", scenario=scenario.scenario, about=scenario.about, seed=scenario.seed, set=job.overrides)
        emit("environment", environment=environment)
        status = 0
        if reason := needs.lacking(scenario, environment["capabilities"]["missing"]):
            emit("skipped", reason=reason, strict=os.environ.get(STRICT) == "1")
        else:
            status = _follow(job, zero, watcher, interruption)
            emit("torn_down", status=status)
    result = verdict.judge(job.scenario, events.read(record), environment)
    if result.get("reason") == verdict.WITHOUT_A_WORD:
        result["reason"] += f" (exit status {status}){_last_words(job.out / 'logs' / 'runner.log')}"
    written = job.out / "result.json.new"
    written.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    written.replace(job.out / "result.json")
    return result


def _follow(job: Job, zero: float, watcher: Watcher, interruption: Interruption) -> int:
    """Launch the sandbox and see it to its end. Returns its exit status."""
    argv = [
        sys.executable,
        "-m",
        "scenarios.runner",
        "--scenario",
        str(job.out / "scenario.yaml"),
        "--out",
        str(job.out),
    ]
    argv += [word for override in job.overrides for word in ("--set", override)]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {events.ZERO: repr(zero), "PYTHONPATH": os.pathsep.join(paths)}
    tail = events.Tail(job.out / "events.jsonl")
    with (job.out / "logs" / "runner.log").open("ab") as log:
        # In a session of its own: Ctrl-C comes to this process alone, which asks the runner to finish.
        run = sandbox.launch(argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    asked, give_up = interruption.count, float("inf")
    try:
        while run.poll() is None:
            watcher.see(tail.read())
            if interruption.count > asked:
                again, asked = asked > 0, interruption.count
                give_up = time.monotonic() if again else time.monotonic() + FINISH_S
                run.terminate()
            if time.monotonic() >= give_up:
                run.kill()
            try:
                run.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                continue
    finally:
        if run.poll() is None:
            run.kill()
        status = run.wait()
        watcher.see(tail.read())
        tail.close()
    return status


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""


def give_to_caller(folder: Path) -> None:
    """Under sudo, results belong to the person who called it."""
    uid, gid = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if os.geteuid() != 0 or not (uid or "").isdecimal() or not (gid or "").isdecimal():
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, int(uid or 0), int(gid or 0), follow_symlinks=False)
