"""Turn-around: `teambed run` of a scenario with no traffic, beside `mn --test none` with the same nodes.

Decides: the two sizes. Both are counted from the call to the prompt. Ours starts its Open vSwitch, the controller, the
engines and the agent as well, judges and writes results; for `mn` Open vSwitch and a controller run already. A second
peer counts their start too, since nobody has `mn` without them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.harness import OURS, CannotMeasure, Report, Target, alternate, figure, last_line
from benchmarks.inside import ROOT, call
from benchmarks.load import load
from scenarios import configs
from scenarios.load import load as load_scenario
from scenarios.references import topology_of
from topologies import sandbox

PEER = "mn --test none"
WHOLE = "mn, Open vSwitch and controller"
SIZES = ((3, 2), (16, 50))
LIMIT = 120.0


def scenario(nics: int, clients: int) -> str:
    return f"""
scenario: nothing
about: A network comes up and goes down again.
network: {{nics: {nics}, clients: {clients}}}
services:
  files: {{listen: 8080, app: builtin}}
traffic: {{}}
expect: [run.faults == 0]
"""


def measure(tiny: bool) -> Report:
    """Each sample is a run of its own, in its own sandbox."""
    sizes, samples = (SIZES[:1], 1) if tiny else (SIZES, 5)
    report = Report("turnaround", "from the call to the prompt, with no traffic")
    for nics, clients in sizes:
        candidates = {
            OURS: partial(ours, nics, clients),
            PEER: partial(mininet, nics, clients),
            WHOLE: partial(mininet, nics, clients, whole=True),
        }
        series = alternate(candidates, samples, load)
        report.figures.append(figure(f"{nics} NICs, {clients} clients", "s", series))
    small, large = report.figures[0], report.figures[-1]
    report.targets = [Target(f"{one.what}, over {PEER}", one.ratio(), 1.5) for one in report.figures]
    growth = large.ours.median / small.ours.median
    theirs = large.peers[0].median / small.peers[0].median
    report.targets.append(Target(f"growth from {small.what} to {large.what}, over {PEER}'s", growth / theirs, 1.0))
    report.notes = [f"growth: ours {growth:.2f}, {PEER} {theirs:.2f}"]
    report.conditions = {"sizes": sizes, "samples": samples}
    return report


def ours(nics: int, clients: int) -> float:
    """Seconds. Raises CannotMeasure when the run fails."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "nothing.yaml")
        file.write_text(scenario(nics, clients))
        words = [sys.executable, "-m", "scenarios", "run", str(file), "--out", str(Path(folder, "out"))]
        began = time.perf_counter()
        done = subprocess.run(words, cwd=ROOT, env=_env(), capture_output=True, text=True, timeout=LIMIT)
        took = time.perf_counter() - began
        if done.returncode:
            raise CannotMeasure(f"teambed run: {last_line(done.stderr + done.stdout, done.returncode)}")
        return took


def mininet(nics: int, clients: int, whole: bool = False) -> float:
    """Seconds. whole: with the start of what `mn` finds running."""
    return float(call("benchmarks.turnaround", "inside", nics=nics, clients=clients, whole=whole))


def _env() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


# ------------------------------------------------------------------------------------------- inside the sandbox


def inside(nics: int, clients: int, whole: bool) -> float:
    """Seconds that `mn` takes, with the same controller as ours, which waits for its switch."""
    began = time.perf_counter()
    sandbox.OpenVSwitch(sandbox.RUN_DIR).start()
    controller = _controller(nics, clients)
    try:
        words = ["--custom", str(ROOT / "benchmarks" / "mn_topology.py"), "--topo", f"figure_1,{nics},{clients}"]
        words += ["--switch", "ovs,datapath=user,protocols=OpenFlow13"]
        words += ["--controller", "remote,ip=127.0.0.1,port=6653", "--test", "none"]
        mn = Path(sys.executable).parent / "mn"
        began = began if whole else time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(mn), *words], env=_env(), capture_output=True, text=True, timeout=LIMIT
        )
        took = time.perf_counter() - began
    finally:
        controller.kill()
        controller.wait()
    if done.returncode or "Caught exception" in done.stderr:
        # Behind the exception it tells of its clean-up.
        said = done.stderr.partition("*** Cleaning up")[0].rstrip(" -\n")
        raise CannotMeasure(f"mn: {last_line(said, done.returncode)}")
    return took


def _controller(nics: int, clients: int) -> subprocess.Popen[str]:
    """Ours, listening."""
    one = load_scenario(scenario(nics, clients), "turnaround")
    document = configs.controller(one, topology_of(one), "127.0.0.1:6653", "/run/controller.sock")
    config = Path("/run/controller.json")
    config.write_text(json.dumps(document))
    words = [sys.executable, "-m", "controller", "--config", str(config)]
    process = subprocess.Popen(words, env=_env(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "listening":
            return process
    raise CannotMeasure("the controller does not listen")
