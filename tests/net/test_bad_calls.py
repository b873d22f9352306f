"""Wrong calls and machines that lack something: one line with what, where and the remedy; nothing left."""

import os
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.net

ROOT = Path(__file__).resolve().parents[2]
GOOD = """\
scenario: good
about: A short download.
network: {nics: 3, rate: 200mbit}
services: {files: {listen: 8080}}
traffic: {download: {client: c1, service: files, receive: 2MB}}
timeline:
  - {at: 1s, do: link_down, nic: nic0}
expect: [download.intact]
"""


def call(*words: str, cwd: Path, **keys: object) -> subprocess.CompletedProcess[str]:
    """./teambed to its end."""
    return subprocess.run([ROOT / "teambed", *words], cwd=cwd, capture_output=True, text=True, timeout=120, **keys)  # type: ignore[call-overload, no-any-return]


def still_running(folder: Path) -> list[str]:
    """Command lines of the processes that work in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(path / "cwd")) == folder:
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("nics: 3", "nic: 3", "bad.yaml:3: network.nic: unknown key; did you mean `nics`?"),
        ("200mbit", "200", "bad.yaml:3: network.rate: `200` has no unit; write 200kbit or 200mbit or 200gbit"),
        ("200mbit", "25MB", "bad.yaml:3: network.rate: `MB` is no unit of a rate; use kbit, mbit, gbit"),
        ("nic: nic0", "nic: nic9",
         "bad.yaml:7: timeline[0].nic: `nic9` is no NIC of this network; there is nic0, nic1, nic2, any, last"),
        ("nics: 3", "nics: 0", "bad.yaml:3: network.nics: a team has 1 to 16 NICs, not 0"),
        ("nics: 3", "nics: 300", "bad.yaml:3: network.nics: a team has 1 to 16 NICs, not 300"),
        ("download.intact", "downlod.intact",
         "bad.yaml:8: expect[0]: `downlod` is no traffic, NIC or switch of this scenario; did you mean `download`?"),
        ("timeline:", "\ttimeline:", "bad.yaml:6: not YAML: found character '\\t' that cannot start any token"),
    ],
)  # fmt: skip
def test_a_wrong_scenario(tmp_path: Path, before: str, after: str, line: str) -> None:
    """Status 2, the line, and no results; `validate` says the same."""
    assert before in GOOD
    (tmp_path / "bad.yaml").write_text(GOOD.replace(before, after, 1))
    for command in ("run", "validate"):
        done = call(command, "bad.yaml", cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", line + "\n")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]
    assert still_running(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["run", "none.yaml"],
         "none.yaml: cannot be read: No such file or directory; see `teambed list` for those that come along"),
        (["run", "good.yaml", "--set", "network.nics=0"],
         "--set network.nics=0: network.nics: a team has 1 to 16 NICs, not 0"),
        (["run", "good.yaml", "--set", "network"], "--set network: write KEY=VALUE, for example network.rate=100mbit"),
        (["run", "good.yaml", "--out", "good.yaml"], "teambed: good.yaml is a file; --out names a folder"),
        (["run", "."], None),
    ],
)  # fmt: skip
def test_a_wrong_call(tmp_path: Path, words: list[str], line: str | None) -> None:
    """Status 2 and one line that names the place and the remedy."""
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "same.yaml").write_text(GOOD)
    line = line or "teambed: good.yaml and same.yaml are both called `good`; their results would mix"
    done = call(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line + "\n")


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The only line on stderr of a call that this machine could not carry out."""
    assert done.returncode == 3, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    return line


def path_without(folder: Path, program: str) -> str:
    """A folder of links to every program there is but one."""
    folder.mkdir()
    for place in os.environ["PATH"].split(":"):
        for file in Path(place).glob("*"):
            link = folder / file.name
            if file.name != program and not link.exists() and os.access(file, os.X_OK):
                link.symlink_to(file)
    return str(folder)


@pytest.mark.parametrize("program", ["tc", "ovs-vsctl"])
def test_a_program_is_missing(tmp_path: Path, program: str) -> None:
    """Status 3; the line names the program and the package that brings it."""
    (tmp_path / "good.yaml").write_text(GOOD)
    environment = os.environ | {"PATH": path_without(tmp_path / "bin", program)}
    command = [str(ROOT / ".venv" / "bin" / "python"), "-m", "scenarios", "run", str(tmp_path / "good.yaml")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    line = one_line(done)
    assert re.search(rf"\b{program} is missing: .*apt-get install ", line), line


def test_not_root(tmp_path: Path) -> None:
    """Status 3 and the word that helps. In a child that gives up root after Python has started."""
    (tmp_path / "good.yaml").write_text(GOOD)
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import scenarios.cli; os.chdir(sys.argv[2]);"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(scenarios.cli.main(['run', 'good.yaml']))"
    )
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    python = str(ROOT / ".venv" / "bin" / "python")
    done = subprocess.run([python, "-c", code, str(ROOT), str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert one_line(done) == "teambed: needs root to make network namespaces; call it with sudo"
    assert not (tmp_path / "results").exists()


def test_a_named_command_that_kills_its_shell(tmp_path: Path) -> None:
    """It says what became of it, though it left no status."""
    step = "- {at: 0s, do: run, name: bad, node: c1, command: kill -9 $PPID}"
    (tmp_path / "bad.yaml").write_text(GOOD.replace("- {at: 1s, do: link_down, nic: nic0}", step))
    done = call("run", "bad.yaml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert "error: step-1 was ended by SIGKILL" in done.stdout
