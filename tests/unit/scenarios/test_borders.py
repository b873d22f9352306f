"""Who may know what: pure modules touch nothing, and the bench imports neither agent nor controller."""

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "scenarios"
PURE = (
    "configs",
    "units",
    "vocabulary",
    "schema",
    "matrix",
    "sizes",
    "steps",
    "words",
    "conditions",
    "known",
    "references",
    "needs",
    "drivers",
    "complain",
    "timeline",
    "expect",
    "grammar",
    "spelling",
    "aggregates",
    *(f"measure.{noun}" for noun in ("__init__", "arrivals", "faults", "moves", "nics", "owners", "run", "stories")),
    "measure.switches",
    "measure.traffic",
    "verdict",
    "stream",
)
IMPURE = {
    "socket",
    "time",
    "subprocess",
    "os",
    "select",
    "selectors",
    "threading",
    "signal",
    "sys",
    "pathlib",
    "datetime",
}

MODULES = [str(file.relative_to(FOLDER).with_suffix("")).replace("/", ".") for file in FOLDER.rglob("*.py")]


def imports(module: str) -> set[str]:
    """Top-level packages and modules of ours that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((FOLDER / f"{module.replace('.', '/')}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_stay_pure(module):
    names = imports(module)
    assert not {name.split(".")[0] for name in names} & IMPURE
    ours = {name.split(".")[1] for name in names if name.startswith("scenarios.")}
    assert ours <= {module.split(".")[0] for module in PURE}, (
        f"{module} imports {ours - set(PURE)}, which may touch the world"
    )
    theirs = {".".join(name.split(".")[:2]) for name in names if name.startswith("topologies.")}
    assert theirs <= {"topologies.model", "topologies.shapes"}


@pytest.mark.parametrize("module", MODULES)
def test_the_bench_imports_neither_the_controller_nor_the_agent(module):
    assert not {name.split(".")[0] for name in imports(module)} & {
        "controller",
        "host_agent",
        "mininet",
        "ryu",
    }


def test_modules_stay_small():
    for file in FOLDER.rglob("*.py"):
        assert len(file.read_text().splitlines()) < 400, file.name
