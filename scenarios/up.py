"""A network that is up, and a shell on it: `teambed up FILE`. Decides nothing; the words are in `live`.

    python -m scenarios.up --scenario FILE --out DIR          (started by `start`, inside the sandbox)

Whatever way the shell ends, or this process, the sandbox takes everything away.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from scenarios import events
from scenarios.bench import Bench
from scenarios.claim import claim
from scenarios.launcher import ROOT
from scenarios.live import Live
from scenarios.load import Case, load_file
from scenarios.local import LocalError
from scenarios.processes import RunError, raise_descriptor_limit
from scenarios.schema import Scenario
from topologies import sandbox
from topologies.commands import NetworkError
from topologies.model import TopologyError
from topologies.sandbox import SandboxError

LOOK_S = 0.2


def start(case: Case, out: Path) -> int:
    """From outside: the sandbox on this terminal, to its end; its exit status. Raises SandboxError."""
    (out / "logs").mkdir(parents=True)
    claimed = claim(out)
    (out / "scenario.yaml").write_text(case.text, encoding="utf-8")
    argv = [sys.executable, "-m", "scenarios.up", "--scenario", str(out / "scenario.yaml"), "--out", str(out)]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {events.ZERO: repr(time.monotonic()), "PYTHONPATH": os.pathsep.join(paths)}
    # In this session, for the shell reads the terminal; Ctrl-C is the shell's, and not for this process.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = sandbox.launch(argv, env=env)
        signal.signal(signal.SIGTERM, lambda *_: run.terminate())
        while True:
            try:
                return run.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                continue
    finally:
        claimed.close()
        signal.signal(signal.SIGINT, before)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="scenarios.up")
    parser.add_argument("--scenario", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = os.open(arguments.out / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    raise_descriptor_limit()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    bench: Bench | None = None
    status = 0
    try:
        sandbox.enter()
        scenario = load_file(arguments.scenario)
        print(f"{scenario.scenario}: bringing it up …", flush=True)
        bench = Bench(scenario, sandbox.RUN_DIR, arguments.out, events.Emitter("runner", record))
        bench.up()
        print("\n".join(banner(bench.scenario, bench)), flush=True)
        Live(bench).run()
    except (RunError, LocalError, NetworkError, SandboxError, TopologyError) as error:
        print(f"teambed: {error}", file=sys.stderr)
        status = 1
    except (SystemExit, KeyboardInterrupt):
        status = 1
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("taking it down", flush=True)
    if bench:
        bench.down()
    return status


def banner(scenario: Scenario, bench: Bench) -> list[str]:
    """What a person must know to begin."""
    topology = bench.topology
    teams = ", ".join(
        f"{team.name} {team.ip4} {team.ip6} ({', '.join(n.name for n in team.nics)})" for team in topology.teams
    )
    clients = ", ".join(f"{one.name} {one.ip4}" for one in topology.clients)
    services = ", ".join(f"{name} at port {one.listen}" for name, one in scenario.services.items())
    return [
        f"  server: {teams}",
        f"  clients: {clients}",
        f"  services: {services}",
        f"  traffic: {', '.join(scenario.traffic)} (`traffic` starts it)",
        "`help` lists the words; `exit` or Ctrl-D ends it, and nothing is left.",
    ]


if __name__ == "__main__":
    sys.exit(main())
