"""Calls one function of a benchmark inside a sandbox, and brings its answer out.

    python -m benchmarks.inside MODULE FUNCTION WORDS ANSWER        (started by `call`)

Decides: nothing. WORDS is JSON, the function's arguments by name; its result, JSON as well, goes to the file ANSWER.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import CannotMeasure
from scenarios.processes import raise_descriptor_limit
from topologies import sandbox

ROOT = Path(__file__).resolve().parent.parent


def call(module: str, function: str, seconds: float = 600.0, **words: Any) -> Any:
    """What the function answers, from inside a sandbox of its own. Raises CannotMeasure with its last words."""
    with tempfile.TemporaryDirectory() as folder:
        answer, log = Path(folder, "answer"), Path(folder, "log")
        argv = [sys.executable, "-m", "benchmarks.inside", module, function, json.dumps(words), str(answer)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
        with log.open("wb") as said:
            run = sandbox.launch(argv, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            run.wait(seconds)
        except subprocess.TimeoutExpired:
            raise CannotMeasure(f"{module}: not done within {seconds:g} s") from None
        finally:
            run.kill()
            run.wait()
        if not answer.exists():
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise CannotMeasure(f"{module}: {lines[-1] if lines else 'it ended without a word'}")
        return json.loads(answer.read_text())


def main() -> int:
    """Entry point."""
    module, function, words, answer = sys.argv[1:]
    raise_descriptor_limit()
    sandbox.enter()
    found = getattr(importlib.import_module(module), function)(**json.loads(words))
    Path(answer).write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
