"""Side by side: several scenarios with `--jobs 2`, beside one after the other.

Decides: which scenarios. They mostly wait, as tests do: each is a short transfer, a link that fails, and its end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.harness import OURS, CannotMeasure, Report, Target, alternate, figure, last_line
from benchmarks.inside import ROOT
from benchmarks.load import load

PEER = "one after the other"
COUNT, LIMIT = 8, 300.0


def scenario(number: int, rate: int) -> str:
    return f"""
scenario: one_of_many_{number}
about: A download whose link fails.
network: {{nics: 2, clients: 1, rate: {rate}mbit}}
services:
  files: {{listen: 8080, app: builtin}}
traffic:
  download: {{client: c1, service: files, receive: 5MB}}
timeline:
  - {{at: 500ms, do: link_down, nic: carrying(download)}}
expect: [download.intact]
"""


def measure(tiny: bool) -> Report:
    """Each sample runs all of them."""
    count, samples = (2, 1) if tiny else (COUNT, 3)
    report = Report("side_by_side", f"{count} scenarios with --jobs 2, and one after the other")
    candidates = {OURS: partial(run, count, 2), PEER: partial(run, count, 1)}
    report.figures = [figure(f"{count} scenarios", "s", alternate(candidates, samples, load))]
    report.targets = [Target(f"--jobs 2 over {PEER}", report.figures[0].ratio(), 0.65)]
    report.conditions = {"count": count, "samples": samples}
    return report


def run(count: int, jobs: int) -> float:
    """Seconds. Raises CannotMeasure when one fails."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "scenarios")
        files.mkdir()
        for number in range(count):
            (files / f"{number}.yaml").write_text(scenario(number, 40))
        words = [sys.executable, "-m", "scenarios", "run", str(files), "--jobs", str(jobs)]
        words += ["--out", str(Path(folder, "out"))]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        began = time.perf_counter()
        done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT)
        took = time.perf_counter() - began
        if done.returncode:
            raise CannotMeasure(f"--jobs {jobs}: {last_line(done.stdout + done.stderr, done.returncode)}")
        return took
