"""Who may import what: the decisions know nothing of Ryu, sockets or clocks, and Ryu stays in two files."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

CONTROLLER = Path(__file__).parents[3] / "controller"
PURE = (
    *("hashing", "policies", "rebalance", "lag", "pipeline", "holddown", "recover", "switch"),
    *("lacpdu", "lacp", "probe", "aggregator", "lacp_text", "tracking"),
)
FORBIDDEN = {"ryu", "eventlet", "socket", "time", "os", "subprocess", "threading", "random"}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("module", PURE)
def test_decisions_are_pure(module: str) -> None:
    used = imports(CONTROLLER / f"{module}.py")
    assert not {name.split(".")[0] for name in used} & FORBIDDEN
    own = {name.split(".")[1] for name in used if name.startswith("controller.")}
    assert own <= set(PURE)


def test_ryu_is_imported_in_two_files_and_no_other_part_of_teambed_anywhere() -> None:
    by_file = {path.stem: {name.split(".")[0] for name in imports(path)} for path in CONTROLLER.glob("*.py")}
    assert {stem for stem, names in by_file.items() if "ryu" in names} == {"app", "openflow"}
    for names in by_file.values():
        assert not names & {"host_agent", "topologies", "scenarios", "scapy", "mininet"}
