"""What all tests share: asking for capabilities, and running a script inside a sandbox."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from topologies import capabilities, sandbox

ROOT = Path(__file__).resolve().parent.parent
# How long an example takes says nothing on a busy machine.
hypothesis.settings.register_profile("teambed", deadline=None)
hypothesis.settings.load_profile("teambed")

STRICT = os.environ.get("TEAMBED_STRICT") == "1" or os.environ.get("CI") == "true"
"""Where the project is judged, a test that cannot run is a test that failed."""

# What the marked tests rest on; a test may ask for more with `require`.
NEEDED = {
    "kernel": (
        "root",
        "ip",
        "tc",
        "unshare",
        "namespaces",
        "ipv6",
        "veth",
        "clsact",
        "bpf",
        "bpffs",
        "tcp_repair",
    ),
    "net": tuple(one for one in capabilities.NAMES if one not in (*capabilities.OPTIONAL, "bpf_objects")),
}

PRELUDE = """
import json, os, subprocess, sys, time
from pathlib import Path
from topologies import sandbox
from topologies.shapes import figure_1
sandbox.enter()
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked long runs only where -m speaks of it."""
    if "long" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if not item.get_closest_marker("long")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked kernel or net require what these rest on."""
    for marker, names in NEEDED.items():
        if item.get_closest_marker(marker):
            _require(*names)


def _require(*names: str) -> None:
    lacking = [one for one in _probe() if one.name in names and not one.ok]
    unknown = set(names) - set(capabilities.NAMES)
    assert not unknown, f"no such capability: {', '.join(sorted(unknown))}"
    if lacking:
        reason = "; ".join(f"{one.name}: {one.detail} ({one.remedy})" for one in lacking)
        if STRICT:
            pytest.fail(f"this machine lacks {reason}", pytrace=False)
        pytest.skip(f"this machine lacks {reason}")


_found: list[capabilities.Capability] = []


def _probe() -> list[capabilities.Capability]:
    """Once per session; probing takes a fifth of a second."""
    if not _found:
        _found.extend(capabilities.probe())
    return _found


@pytest.fixture(scope="session")
def require() -> Callable[..., None]:
    """`require("netem")` skips the test where this machine lacks that; under TEAMBED_STRICT=1 it fails."""
    return _require


@pytest.fixture
def in_sandbox() -> Iterator[Callable[..., sandbox.Sandbox]]:
    """in_sandbox(code, *arguments) runs Python code inside a sandbox of its own, which ends with the test."""
    started: list[sandbox.Sandbox] = []

    def start(code: str, *arguments: str) -> sandbox.Sandbox:
        pipe = subprocess.PIPE
        one = sandbox.launch(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )
        started.append(one)
        return one

    yield start
    for one in started:
        one.kill()
        one.communicate()
