"""The borders of the design: who may import whom, which modules are pure, and what lives in one file only.

Read from the source with `ast`; nothing is imported. The second half breaks each rule in a made-up project.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MAY_IMPORT: dict[str, set[str]] = {
    "topologies": set(),
    "controller": set(),
    "host_agent": set(),
    "scenarios": {"topologies"},
    "benchmarks": {"topologies", "controller", "host_agent", "scenarios"},
}
"""By folder, the others it may import. `scenarios` starts the controller and the host agent as processes; nobody knows
`benchmarks`."""

PURE = (
    "benchmarks.curves",
    "benchmarks.harness",
    "benchmarks.plot",
    "topologies.impair",
    "topologies.model",
    "topologies.settings",
    "topologies.shapes",
    "topologies.shaping",
    "controller.hashing",
    "controller.holddown",
    "controller.aggregator",
    "controller.lacp",
    "controller.lacp_text",
    "controller.lacpdu",
    "controller.lag",
    "controller.pipeline",
    "controller.policies",
    "controller.probe",
    "controller.rebalance",
    "controller.recover",
    "controller.switch",
    "controller.tracking",
    "host_agent.ageing",
    "host_agent.connection",
    "host_agent.context",
    "host_agent.decision",
    "host_agent.lacp",
    "host_agent.lacp_pdu",
    "host_agent.lacp_port",
    "host_agent.lacp_probe",
    "host_agent.lacp_text",
    "host_agent.flood",
    "host_agent.limits",
    "host_agent.paths",
    "host_agent.policy",
    "host_agent.rebuild",
    "host_agent.statistics",
    "host_agent.team",
    "scenarios.configs",
    "scenarios.expect",
    "scenarios.measure",
    "scenarios.needs",
    "scenarios.references",
    "scenarios.schema",
    "scenarios.timeline",
    "scenarios.units",
    "scenarios.verdict",
)
"""They return what is to be done: no sockets, clocks, files, processes, nor through what they import."""

IMPURE = {
    *(
        "asyncio",
        "concurrent",
        "ctypes",
        "datetime",
        "fcntl",
        "io",
        "multiprocessing",
        "os",
        "pathlib",
        "select",
    ),
    *("selectors", "shutil", "signal", "socket", "subprocess", "sysconfig", "tempfile", "threading", "time"),
    *("eventlet", "mininet", "ryu", "scapy"),
}


def sources(root: Path, folder: str = "") -> list[Path]:
    """The Python files of all folders, or of one."""
    folders = [folder] if folder else list(MAY_IMPORT)
    return sorted(path for one in folders for path in (root / one).rglob("*.py"))


def imports(root: Path, path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it, with their full dotted names."""
    package = list(path.relative_to(root).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, node.module] if node.module else base)
            found.add(module)
            # `from folder import module` names a module only if there is such a file.
            for alias in node.names:
                if file_of(root, f"{module}.{alias.name}"):
                    found.add(f"{module}.{alias.name}")
    return found


def file_of(root: Path, module: str) -> Path | None:
    """The file of one of the project's own modules, if it is one."""
    path = root.joinpath(*module.split("."))
    for one in (path.with_suffix(".py"), path / "__init__.py"):
        if one.exists():
            return one
    return None


def words(path: Path) -> set[str]:
    """The names and the strings in a file's code, and names with what is taken of them; prose is not code."""
    tree = ast.parse(path.read_text(), str(path))
    prose = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
            if isinstance(node.value, ast.Name):
                found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.alias):
            found.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            found.add(node.value)
    return found


def using(root: Path, holds: Callable[[Path], bool], folder: str = "") -> list[str]:
    """The files for which something holds, by their path in the project."""
    return [str(path.relative_to(root)) for path in sources(root, folder) if holds(path)]


def importing(root: Path, package: str, folder: str = "") -> list[str]:
    """The files that import a package."""
    return using(root, lambda path: package in {name.partition(".")[0] for name in imports(root, path)}, folder)


def crossings(root: Path) -> list[str]:
    """Imports from one folder into another that it may not know."""
    return [
        f"{path.relative_to(root)} imports {name}"
        for folder, allowed in MAY_IMPORT.items()
        for path in sources(root, folder)
        for name in sorted(imports(root, path))
        if name.partition(".")[0] in MAY_IMPORT.keys() - allowed - {folder}
    ]


def impurities(root: Path, pure: tuple[str, ...]) -> Iterator[str]:
    """What makes modules impure: an import of theirs, or of what they import, or a call of open()."""
    for module in pure:
        first = file_of(root, module)
        if first is None:
            yield f"{module} does not exist"
            continue
        seen, waiting = {first}, [(module, first)]
        while waiting:
            way, path = waiting.pop()
            if "open" in words(path):
                yield f"{way} opens files"
            for name in sorted(imports(root, path)):
                if name.partition(".")[0] in IMPURE:
                    yield f"{way} imports {name}"
                further = file_of(root, name)
                if further and further not in seen:
                    seen.add(further)
                    waiting.append((f"{way} → {name}", further))


def stray_repair(root: Path) -> list[str]:
    """Files that speak of the socket option which saves and restores a connection."""
    return using(root, lambda path: any("TCP_REPAIR" in word for word in words(path)))


def stray_kernel(root: Path) -> list[str]:
    """Files of the host agent that talk to the kernel by system call, netlink or a program such as tc."""
    tools = {"ctypes", "pyroute2", "subprocess", "AF_NETLINK", "os.system", "execv", "execvp", "posix_spawn"}
    return using(root, lambda path: bool(words(path) & tools), "host_agent")


def test_the_folders_do_not_know_one_another() -> None:
    assert crossings(ROOT) == []


def test_pure_modules_are_pure() -> None:
    assert list(impurities(ROOT, PURE)) == []


def test_mininet_is_in_one_file_and_its_shell_in_another() -> None:
    """The third one is read by `mn` itself, the peer in a benchmark."""
    assert importing(ROOT, "mininet") == [
        "benchmarks/mn_topology.py",
        "topologies/network.py",
        "topologies/shell.py",
    ]


def test_ryu_is_in_two_files_at_most() -> None:
    files = importing(ROOT, "ryu")
    assert 1 <= len(files) <= 2, files
    assert all(name.startswith("controller/") for name in files)


def test_tcp_repair_is_in_one_file() -> None:
    assert stray_repair(ROOT) == ["host_agent/repair.py"]


def test_the_kernel_is_spoken_to_in_two_files() -> None:
    """libbpf and netlink; besides them only the build, which starts the compiler, and never in a run."""
    assert stray_kernel(ROOT) == ["host_agent/bpf/build.py", "host_agent/kernel.py", "host_agent/rtnetlink.py"]


def test_the_controller_has_no_scapy() -> None:
    assert importing(ROOT, "scapy", "controller") == []


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Writes a made-up project: project({"controller/a.py": "import socket"})."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("controller/a.py", "import topologies.model"),
        ("controller/sub/a.py", "def f():\n    from host_agent import decision"),
        ("host_agent/a.py", "from controller.hashing import x"),
        ("topologies/a.py", "import scenarios"),
        ("scenarios/a.py", "import host_agent.decision"),
    ],
)
def test_a_crossing_is_found(project: Callable[..., Path], path: str, text: str) -> None:
    root = project({path: text, "scenarios/b.py": "from topologies import model"})
    assert len(crossings(root)) == 1


def test_an_impurity_is_found_also_behind_another_module(project: Callable[..., Path]) -> None:
    root = project(
        {
            "scenarios/__init__.py": "",
            "scenarios/far.py": "import json\nimport os.path",
            "scenarios/near.py": "from . import far",
            "scenarios/pure.py": "from scenarios.near import x\nimport json",
            "scenarios/reads.py": "x = open('/tmp/x')",
        }
    )
    assert list(impurities(root, ("scenarios.pure",))) == [
        "scenarios.pure → scenarios.near → scenarios.far imports os.path"
    ]
    assert list(impurities(root, ("scenarios.reads",))) == ["scenarios.reads opens files"]
    assert list(impurities(root, ("scenarios.gone",))) == ["scenarios.gone does not exist"]


def test_a_stray_use_is_found_but_prose_is_not(project: Callable[..., Path]) -> None:
    root = project(
        {
            "host_agent/engine.py": '"""Moves by TCP_REPAIR and netlink."""\n# TCP_REPAIR, ctypes\n',
            "host_agent/one.py": "import socket\nsocket.TCP_REPAIR",
            "host_agent/two.py": "x = {'TCP_REPAIR_QUEUE': 20}",
            "host_agent/three.py": "import subprocess",
            "host_agent/four.py": "from socket import AF_NETLINK",
        }
    )
    assert stray_repair(root) == ["host_agent/one.py", "host_agent/two.py"]
    assert stray_kernel(root) == ["host_agent/four.py", "host_agent/three.py"]
