"""Runs one scenario inside its sandbox: bring up, traffic and timeline, finish, stop.

    python -m scenarios.runner --scenario FILE --out DIR [--set KEY=VALUE ...]       (started by `launcher`)

Decides nothing about the verdict: everything that happens goes to events.jsonl. Exits 0 when it could write
how the run ended, well or badly.
"""

import argparse
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from scenarios.bench import POLL_S, Bench
from scenarios.events import Emitter
from scenarios.load import load_file
from scenarios.local import LocalError
from scenarios.processes import RunError
from scenarios.schema import LinkDown, LinkUp, Rehash
from scenarios.timeline import Due, Facts, Timeline, TimelineError
from topologies import sandbox
from topologies.model import TopologyError
from topologies.network import NetworkError
from topologies.sandbox import SandboxError

SETTLE_S = 2.0
"""For the server's ends of connections to tell how they ended, once the clients are done."""
GRACE_S = 5.0
"""Over the scenario's limit, for clients to give up by themselves."""
RECORDS_S = 0.01
"""Between two looks at the agent's records while a step waits for them."""


class Play:
    """The traffic and the timeline of one run, from the traffic's start on."""

    def __init__(self, bench: Bench) -> None:
        """The clock starts here."""
        self.bench, self.zero = bench, time.monotonic()
        self.timeline = Timeline.of(bench.scenario.timeline, bench.scenario.seed)
        self.down: set[str] = set()
        self._waiting = dict(sorted(bench.scenario.traffic.items(), key=lambda item: item[1].at))
        self._asked = 0.0

    def run(self) -> None:
        """Until all steps are done and all clients have ended. Raises RunError, TimelineError, LocalError."""
        names = set(self.bench.scenario.traffic)
        deadline = (
            self.zero + max(t.at for t in self.bench.scenario.traffic.values()) + self.bench.scenario.limit + GRACE_S
        )
        while not (self.timeline.finished and names <= self.bench.done):
            now = time.monotonic() - self.zero
            for name in [name for name, traffic in self._waiting.items() if traffic.at <= now]:
                del self._waiting[name]
                self.bench.start_traffic(name)
            if self.timeline.ready_in(now) == 0.0 and now - self._asked >= RECORDS_S:
                self._step(now)
                continue
            if time.monotonic() > deadline and not names <= self.bench.done:
                missing = ", ".join(sorted(names - self.bench.done))
                raise RunError(f"{missing} did not end within the limit of {self.bench.scenario.limit:g} s")
            self.bench.look()
            time.sleep(POLL_S)

    def _step(self, now: float) -> None:
        self.bench.look()
        due, self.timeline = self.timeline.advance(now, self._facts())
        self._asked = now if due is None else 0.0
        if due is not None:
            self._do(due)

    def _facts(self) -> Facts:
        bench = self.bench
        records = bench.records() if bench.connections else {}
        return Facts(
            nics=[nic.name for nic in bench.topology.nics],
            down=frozenset(self.down),
            carrying={name: record["nic"] for name, record in records.items() if name not in bench.done},
            connected=frozenset(bench.connections),
            offloaded=frozenset(name for name, record in records.items() if record["offloaded"]),
            done=frozenset(bench.done),
        )

    def _do(self, due: Due) -> None:
        step, nic = due.step, due.nic or ""
        keys = {"index": due.index, "do": step.do, "at": step.at}
        # Before the deed, so that what follows from it comes later in the record.
        if isinstance(step, (LinkDown, LinkUp)):
            self.bench.emit("step", **keys, nic=nic)
            if isinstance(step, LinkDown):
                self.bench.network.link_down(nic)
                self.down.add(nic)
            else:
                self.bench.network.link_up(nic)
                self.down.discard(nic)
        elif isinstance(step, Rehash):
            self.bench.emit("step", **keys, nic=nic, connection=step.connection)
            self.bench.rehash(step.connection, nic)
        else:
            self.bench.emit("step", **keys, until=step.until)


def run(bench: Bench) -> None:
    """The whole run, up to the end of the traffic."""
    bench.up()
    bench.emit("up")
    Play(bench).run()
    deadline = time.monotonic() + SETTLE_S
    while not bench.settled() and time.monotonic() < deadline:
        bench.look()
        time.sleep(POLL_S)
    bench.await_(lambda: not bench.clients_run(), "the clients to end")
    bench.emit("finished")


def _reason(bench: Bench, error: Exception) -> str:
    """Why it broke off; a process that died is the cause of whatever was noticed first."""
    try:
        bench.look()
    except RunError as died:
        return str(died)
    return str(error)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="scenarios.runner")
    parser.add_argument("--scenario", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    events = os.open(arguments.out / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    emit = Emitter("runner", events)
    bench: Bench | None = None
    try:
        sandbox.enter()
        bench = Bench(load_file(arguments.scenario, arguments.set), sandbox.RUN_DIR, arguments.out, emit)
        run(bench)
    except (RunError, TimelineError, LocalError, NetworkError, SandboxError, TopologyError) as error:
        emit("error", reason=_reason(bench, error) if bench else str(error))
    except (SystemExit, KeyboardInterrupt):
        emit("interrupted")
    except Exception as error:
        traceback.print_exc()
        emit("error", reason=f"teambed's own mistake, see logs/runner.log: {type(error).__name__}: {error}")
    # From here on it ends by itself, soon: no signal shall keep it from writing what it knows.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    emit("stopping")
    if bench:
        bench.down()
    emit("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
