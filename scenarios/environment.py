"""What a run ran on: kernel, versions, capabilities found and missing. Goes into every result.

Reads; changes nothing.
"""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from topologies.capabilities import Capability

PACKAGES = ("ryu", "mininet", "eventlet", "pydantic")


def describe(capabilities: Sequence[Capability]) -> dict[str, Any]:
    """The environment as JSON-ready data."""
    system = os.uname()
    return {
        "kernel": f"{system.sysname} {system.release}",
        "machine": system.machine,
        "cpus": os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            "openvswitch": _openvswitch(),
            **{package: _version(package) for package in PACKAGES},
        },
        "capabilities": {
            "found": [one.name for one in capabilities if one.ok],
            "missing": [one.name for one in capabilities if not one.ok],
        },
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _openvswitch() -> str | None:
    try:
        said = subprocess.run(["ovs-vswitchd", "--version"], capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.split("\n")[0].rpartition(" ")[2] or None
