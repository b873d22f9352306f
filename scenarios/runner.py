"""Runs one scenario inside its sandbox: bring up, traffic and timeline, finish, stop.

`launcher` forks it. Decides nothing about the verdict: everything that happens goes to events.jsonl. Exits 0 when it
could write how the run ended, well or badly.
"""

import os
import signal
import time
import traceback
from contextlib import suppress
from pathlib import Path

from scenarios import keep
from scenarios.bench import POLL_S, Bench
from scenarios.events import Emitter, read
from scenarios.local import LocalError
from scenarios.play import Play
from scenarios.processes import RunError, raise_descriptor_limit
from scenarios.schema import Scenario
from scenarios.timeline import TimelineError
from topologies import sandbox
from topologies.commands import NetworkError
from topologies.model import TopologyError
from topologies.sandbox import SandboxError

DYING_S = 0.5
"""For a process that no longer answers to end, if it is dying."""
SETTLE_S = 2.0
"""For the server's ends of connections to tell how they ended, once the clients are done."""


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
    bench.look_at_ports(at_once=True)
    bench.emit("finished")


def _reason(bench: Bench, error: Exception) -> str:
    """Why it broke off; a process that died is the cause of whatever was noticed first."""
    deadline = time.monotonic() + (DYING_S if isinstance(error, LocalError) else 0.0)
    try:
        bench.look()
        while time.monotonic() < deadline:  # its connections break a moment before it has ended
            time.sleep(POLL_S)
            bench.look()
    except RunError as died:
        return str(died)
    return str(error)


def main(scenario: Scenario, out: Path, kept: str | None) -> int:
    """The first process of a sandbox. kept: what a person gets when it fails, `keep.CLI` or `keep.PAUSE`."""
    events = os.open(out / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    emit = Emitter("runner", events)
    raise_descriptor_limit()
    bench: Bench | None = None
    try:
        sandbox.enter()
        bench = Bench(scenario, sandbox.RUN_DIR, out, emit)
        run(bench)
    except (RunError, TimelineError, LocalError, NetworkError, SandboxError, TopologyError) as error:
        emit("error", reason=_reason(bench, error) if bench else str(error))
    except (SystemExit, KeyboardInterrupt):
        emit("interrupted")
    except Exception as error:
        traceback.print_exc()
        emit("error", reason=f"teambed's own mistake, see logs/runner.log: {type(error).__name__}: {error}")
    if bench and kept and (why := keep.reasons(bench.scenario, read(out / "events.jsonl"))):
        with suppress(SystemExit, KeyboardInterrupt):
            keep.keep(bench, kept, why)
    # From here on it ends by itself, soon: no signal shall keep it from writing what it knows.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    emit("stopping")
    if bench:
        bench.down()
    emit("stopped")
    return 0
