"""A sandbox's process as its caller sees it, without namespaces."""

import subprocess

import pytest

from topologies import sandbox


def test_a_run_that_ends_while_it_is_asked_to_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at who is there and the signal."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    monkeypatch.setattr(sandbox, "_children", lambda _: [gone.pid])
    one = sandbox.Sandbox(["sleep", "60"])
    try:
        one.terminate()
    finally:
        one.kill()
        one.wait()
