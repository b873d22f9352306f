"""Every benchmark runs with small numbers and says what it found; no time is judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cli import NAMES

pytestmark = pytest.mark.net

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", NAMES)
def test_a_tiny_run(name: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks", "--tiny", "--out", str(tmp_path), name]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads((tmp_path / f"{name}.json").read_text())
    assert document["benchmark"] == name
    assert document["targets"]
    for figure in document["figures"]:
        assert all(value > 0 for value, _ in figure["ours"]["samples_and_loads"])
    assert any(figure["peers"] for figure in document["figures"])
    assert done.stdout.startswith(f"{name}: ")
    (page,) = tmp_path.glob("*.html")
    assert 's target"' in page.read_text(), "a drawing knows this benchmark's figures and what is to be reached"
