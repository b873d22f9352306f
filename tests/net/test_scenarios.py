"""The scenarios that come along, run as a user runs them, and what they leave behind."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from scapy.utils import RawPcapReader

LONGEST_S = 900
"""For the whole library; it takes some five minutes on two cores."""
pytestmark = [pytest.mark.net, pytest.mark.timeout(LONGEST_S + 60)]

ROOT = Path(__file__).resolve().parents[2]
TEAMBED = ROOT / "teambed"
LIBRARY = ROOT / "scenarios" / "library"
RST, SYN, FIN = 4, 2, 1
Run = Callable[..., subprocess.CompletedProcess[str]]


def teambed(*words: str | Path, cwd: Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Call ./teambed to its end."""
    return subprocess.run([TEAMBED, *words], cwd=cwd, capture_output=True, text=True, timeout=timeout)


def result(folder: Path) -> dict[str, Any]:
    """A run's result.json."""
    read: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return read


def tcp_flags(pcap: Path) -> Iterator[int]:
    """The flags of every TCP segment over IPv4 in a capture."""
    for frame, _ in RawPcapReader(str(pcap)):
        if frame[12:14] == b"\x08\x00" and frame[23] == 6:
            yield frame[14 + 4 * (frame[14] & 15) + 13]


def still_running(out: Path) -> list[str]:
    """Command lines of processes that belong to a run with these results."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(out) in words and "pytest" not in words:
            found.append(words)
    return found


class Library:
    """The scenarios that come along: those that the chosen tests ask for, run once, three at a time."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder, self._names = folder, names
        self._done: subprocess.CompletedProcess[str] | None = None

    def ran(self) -> subprocess.CompletedProcess[str]:
        """The call that ran them."""
        if self._done is None:
            words = ["run", *self._names, "--jobs", "3", "--out", "out"]
            self._done = teambed(*words, cwd=self._folder, timeout=LONGEST_S)
        return self._done

    def results(self, name: str) -> Path:
        """Where its results are."""
        self.ran()
        return self._folder / "out" / name


@pytest.fixture(scope="module")
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The scenarios of the library that this session's tests are about, and their results."""
    chosen = {
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == Path(__file__) and hasattr(item, "callspec") and "name" in item.callspec.params
    }
    return Library(tmp_path_factory.mktemp("library"), sorted(chosen | {"link_failover", "host_stack"}))


NAMES = sorted(file.stem for file in LIBRARY.glob("*.yaml"))
CAPTURED = [name for name in NAMES if "\ncaptures:" in (LIBRARY / f"{name}.yaml").read_text()]
OFTEN_UNKNOWN = {"exit_status", "took_ms", "longest_move_ms", "first_difference", "error"}
OFTEN_UNKNOWN |= {"first_byte_after_fault_ms", "stalls_ms", "responses_ms"}  # without a fault; of many connections
WITHOUT_A_RECORD = {"host_segments_while_offloaded", "strays"}
"""Where there are fewer records than connections, or none: another team than ours."""
WHEN_LOST = {"retransmits", "server_retransmits", "host_segments_while_offloaded", "strays"}
"""Some of what a connection did went with the adapter that held it."""


@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_passes(library: Library, name: str) -> None:
    """Exit status 0, nothing on stderr, no colours where nobody looks, nothing left running; and the result says
    what was measured for every expectation."""
    done = library.ran()
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    block = done.stdout.rpartition(f"\n{name}: ")[2].partition("\nPASS ")[0]
    assert f"PASS {name}\n" in done.stdout, block
    assert still_running(library.results(name)) == []
    found = result(library.results(name))
    assert found["verdict"] == "pass"
    assert found["scenario"] == name
    assert all(one["verdict"] == "pass" and one["measured"] for one in found["expectations"])
    assert {"kernel", "versions", "capabilities"} <= set(found["environment"])
    restarted = found["measurements"]["run"]["agent_rebuilt_ms"] is not None
    for traffic, values in found["measurements"].items():
        if "intact" in values and values["exit_status"] is None:  # of a command only itself knows the bytes
            unknown = {key for key, value in values.items() if value is None}
            allowed = OFTEN_UNKNOWN | (WHEN_LOST if values["lost"] or restarted else set())
            written = (LIBRARY / f"{name}.yaml").read_text()
            allowed |= WITHOUT_A_RECORD if "records:" in written or "driver:" in written else set()
            assert unknown <= allowed, (traffic, unknown)
    assert 0 < found["measurements"]["run"]["bring_up_ms"] < 60_000
    assert 0 < found["measurements"]["run"]["tear_down_ms"] < 20_000


def test_two_scenarios_in_one_call(tmp_path: Path) -> None:
    """A folder of files, their verdicts counted."""
    for name in ("one", "two"):
        text = SHORT.replace("scenario: short", f"scenario: {name}").replace("EXPECTATION", "download.resets == 0")
        (tmp_path / f"{name}.yaml").write_text(text)
    done = teambed("run", tmp_path, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("2 pass\n")


@pytest.mark.parametrize("name", CAPTURED)
def test_the_client_saw_whole_connections_and_no_reset(library: Library, name: str) -> None:
    """The capture at the client is the proof from outside: SYN and FIN both ways, and no RST."""
    folder = library.results(name)
    flags = list(tcp_flags(folder / "capture.pcapng"))
    assert len(flags) > 1000
    assert sum(bool(one & SYN) for one in flags) >= 2
    assert sum(bool(one & FIN) for one in flags) >= 2
    assert not any(one & RST for one in flags), "it holds an RST"
    logs = list((folder / "logs").glob("capture-*.log"))
    assert logs
    assert all("0 packets dropped by kernel" in log.read_text() for log in logs)


def test_the_connection_really_left_the_link_that_failed(library: Library) -> None:
    """The moves of link_failover: off the NIC whose link went down, to another one."""
    events = [json.loads(line) for line in (library.results("link_failover") / "events.jsonl").read_text().splitlines()]
    (cut,) = [event["nic"] for event in events if event["event"] == "step" and event["do"] == "link_down"]
    moves = [event for event in events if event["event"] == "move"]
    assert [move["kind"] for move in moves][:2] == ["offload", "reload"]
    assert moves[0]["to"] == moves[1]["from"] == cut
    assert moves[1]["to"] != cut
    assert moves[1]["cause"] == "link_down"


def test_nothing_moved_in_the_host_stack(library: Library) -> None:
    """What the other scenarios are compared with is really without offload."""
    values = result(library.results("host_stack"))["measurements"]["download"]
    assert (values["moves"], values["offloaded_share"]) == (0, 0)


SHORT = """\
scenario: short
about: A short download.
services: {files: {listen: 8080}}
traffic: {download: {client: c1, service: files, receive: 2MB}}
expect: [download.intact, EXPECTATION]
"""


def test_a_false_expectation_fails(tmp_path: Path) -> None:
    """Exit status 1, the text, what was measured and the events around it."""
    (tmp_path / "short.yaml").write_text(SHORT.replace("EXPECTATION", "download.offloads == 7"))
    done = teambed("run", "short.yaml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "✗ download.offloads == 7   (download.offloads = 1)" in done.stdout
    assert "download: connected from 10.0.0.11:" in done.stdout.partition("✗")[2]
    assert done.stdout.endswith("FAIL short\n")
    verdicts = [one["verdict"] for one in result(tmp_path / "out" / "short")["expectations"]]
    assert verdicts == ["pass", "fail"]


LONG = SHORT.replace("2MB", "1GB").replace("EXPECTATION", "download.resets == 0").replace(
    "services", "network: {rate: 50mbit}\nservices"
)  # fmt: skip


def start(tmp_path: Path, *words: str, until: Sequence[str] = ("short",)) -> subprocess.Popen[str]:
    """A call of `run`, by default of one that takes minutes, with the traffic of these scenarios under way."""
    (tmp_path / "long.yaml").write_text(LONG)
    pipe = subprocess.PIPE
    call = [TEAMBED, "run", *(words or ["long.yaml"]), "--out", "out"]
    process = subprocess.Popen(call, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    records = [tmp_path / "out" / name / "events.jsonl" for name in until]
    deadline = time.monotonic() + 60
    while not all(one.exists() and b'"progress"' in one.read_bytes() for one in records):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """Everything written, verdict error, nothing left running."""
    process = start(tmp_path)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == ""
    assert out.endswith("ERROR short\n")
    found = result(tmp_path / "out" / "short")
    assert (found["verdict"], found["reason"]) == ("error", "interrupted")
    events = (tmp_path / "out" / "short" / "events.jsonl").read_text().splitlines()
    assert {"record", "counters", "stopped", "torn_down"} <= {json.loads(line)["event"] for line in events}
    assert still_running(tmp_path / "out") == []


def below(pid: int) -> list[int]:
    """All processes that this one has started, and those these have, and itself."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def namespaces(pids: Sequence[int] | None = None) -> set[str]:
    """The network namespaces in which these processes are, or any."""
    found = set()
    for path in [Path(f"/proc/{pid}") for pid in pids] if pids else Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(path / "ns" / "net"))
    return found


def test_some_side_by_side_are_interrupted_and_resumed(tmp_path: Path) -> None:
    """What had ended keeps its result, what had not leaves nothing behind, and only that is run again."""
    (tmp_path / "cases").mkdir()
    for name, size in {"a_short": "2MB", "b_long": "40MB", "c_long": "40MB", "d_last": "2MB"}.items():
        text = LONG.replace("1GB", size).replace("scenario: short", f"scenario: {name}")
        (tmp_path / "cases" / f"{name}.yaml").write_text(text)
    process = start(tmp_path, "cases", "--jobs", "2", until=("b_long", "c_long"))
    ours = namespaces(below(process.pid)) - {os.readlink("/proc/self/ns/net")}
    assert len(ours) > 10, "each of the two has a server, a switch, three NICs, two clients"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")
    assert out.endswith("1 pass, 2 error, 1 not run\n"), out
    assert not ours & namespaces()
    assert still_running(tmp_path / "out") == []
    assert {one.name for one in (tmp_path / "out").iterdir()} == {"a_short", "b_long", "c_long", "junit.xml"}
    for name in ("b_long", "c_long"):
        assert result(tmp_path / "out" / name)["reason"] == "interrupted"
    kept = (tmp_path / "out" / "a_short" / "result.json").stat()

    done = teambed("run", "cases", "--jobs", "2", "--out", "out", "--resume", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.startswith("1 of 4 have run already\n")
    assert done.stdout.endswith("\n4 pass\n")
    assert "PASS a_short" not in done.stdout
    again = (tmp_path / "out" / "a_short" / "result.json").stat()
    assert (again.st_ino, again.st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)
    assert result(tmp_path / "out" / "b_long")["verdict"] == "pass"


def pid_of(words: str, caller: subprocess.Popen[str]) -> int:
    """The process below `caller` whose command line holds these words; never one of another run."""
    for pid in below(caller.pid):
        with contextlib.suppress(OSError):
            if words in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                return pid
    raise AssertionError(f"no process with {words}")


def test_a_killed_runner_leaves_a_result_and_nothing_running(tmp_path: Path) -> None:
    """The sandbox dies with its runner, and the judgement is made outside of it."""
    process = start(tmp_path)
    os.kill(pid_of("python -m scenarios.runner", process), signal.SIGKILL)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == ""
    assert "the run ended without a word; see logs/runner.log" in out
    assert result(tmp_path / "out" / "short")["verdict"] == "error"
    assert still_running(tmp_path / "out") == []


def test_a_killed_teambed_leaves_nothing_running(tmp_path: Path) -> None:
    """kill -9 of the caller takes the whole sandbox along."""
    process = start(tmp_path)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while still_running(tmp_path / "out"):
        assert time.monotonic() < deadline, still_running(tmp_path / "out")
        time.sleep(0.05)


def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    """Verdict error with one line that says which process and how it ended."""
    process = start(tmp_path)
    os.kill(pid_of("scenarios.client --name client-download", process), signal.SIGKILL)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "error: client-download was ended by SIGKILL; it left nothing in its log" in out


def test_a_step_that_cannot_be_done_is_named(tmp_path: Path) -> None:
    """A step after the connection's end: verdict error, and which step it was."""
    text = SHORT.replace("EXPECTATION", "download.resets == 0")
    text += "timeline: [{at: 4s, do: link_down, nic: carrying(download)}]\n"
    (tmp_path / "late.yaml").write_text(text)
    done = teambed("run", "late.yaml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert "error: step 1 (link_down at 4s): no NIC carries `download`; it has ended" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(file.stem for file in (ROOT / "scenarios" / "long").glob("*.yaml")))
def test_a_long_scenario_passes(tmp_path: Path, name: str) -> None:
    """Those that take too long for the library."""
    done = teambed("run", ROOT / "scenarios" / "long" / f"{name}.yaml", "--out", "out", cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
