"""The two ends of a traffic as processes, at a port of loopback: the built-in application and its client."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def application(record: Path) -> Iterator[str]:
    """Gives where it listens; its events go to `record`."""
    with record.open("ab") as out:
        argv = [sys.executable, "-m", "scenarios.app", "--name", "app", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(argv, stdout=out, cwd=ROOT)
    try:
        deadline = time.monotonic() + 10
        while b"ready" not in record.read_bytes():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        yield json.loads(record.read_text())["listen"]
    finally:
        process.terminate()
        assert process.wait(5) == 0


def client(to: str, *words: str) -> list[dict]:
    """Runs to its end; its events."""
    argv = [sys.executable, "-m", "scenarios.client", "--now", "--name", "c", "--traffic", "t", "--seed", "5"]
    done = subprocess.run([*argv, "--to", to, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(len(line) < 4096 for line in done.stdout.splitlines())
    return [json.loads(line) for line in done.stdout.splitlines()]
