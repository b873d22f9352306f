"""The live shell as a person has it: on a terminal, with keys; and what is left behind."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.terminal import CTRL_C, CTRL_D, PROMPT, TEAMBED, Terminal, left

pytestmark = pytest.mark.net

SHORT = """\
scenario: short
about: A short download.
topic: basics
network: {nics: 1}
services: {files: {listen: 8080}}
traffic: {download: {client: c1, service: files, receive: 2MB}}
expect: [download.intact, download.offloads == 7]
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Terminal]:
    """link_failover, up, at its first prompt."""
    terminal = Terminal("up", "link_failover", "--out", tmp_path / "out", cwd=tmp_path)
    terminal.until(re.escape(PROMPT))
    yield terminal
    terminal.close()


def test_a_session(shell: Terminal, tmp_path: Path) -> None:
    """Traffic is started, its connection moved by command and by an unplugged link; then Ctrl-D."""
    assert "nic2" in shell.ask("team")
    assert "answered" in shell.ask("pingall")
    assert "1 packets transmitted, 1 received" in shell.ask("c1 ping -c 1 server")
    shell.ask("traffic")
    deadline = time.monotonic() + 10
    while "download  nic" not in (records := shell.ask("records")):
        assert time.monotonic() < deadline, records
    (nic,) = re.findall(r"download  (nic\d)", records)
    other = next(name for name in ("nic0", "nic1", "nic2") if name != nic)
    assert "done, epoch" in shell.ask("upload 1")
    assert "done, epoch" in shell.ask(f"offload download {other}")
    shell.ask(f"unplug {other}")
    deadline = time.monotonic() + 5
    while f"download  {other}" in (records := shell.ask("records")):
        assert time.monotonic() < deadline, records
    assert re.search(rf"{other} +DOWN", shell.ask("team"))
    shell.ask(f"plug {other}")
    assert "buckets" in shell.ask("groups")
    shell.type(CTRL_D)
    shell.until("taking it down")
    assert shell.ended() == 0
    assert left(tmp_path / "out") == []


def test_the_live_table_goes_on_until_enter(shell: Terminal) -> None:
    """Twice a second, with throughput."""
    shell.ask("traffic")
    shell.type("watch\n")
    shell.until("Enter ends it")
    table = shell.until("Enter ends it")
    rates = [float(line.split()[-1]) for line in table.splitlines() if line.startswith("nic")]
    assert max(rates) > 20
    shell.type("\n")
    shell.until(re.escape(PROMPT))


def test_wrong_words_are_one_line(shell: Terminal) -> None:
    """Nothing ends the shell but its end."""
    for line, answer in {
        "unplug nic9": "write `unplug NIC`; there are nic0, nic1, nic2",
        "offload": "write `offload CONNECTION [NIC]`; `records` shows them",
        "reload 7": "no connection '7'; name its number in `records`, its traffic, or ADDRESS:PORT",
        "traffic upload": "no traffic 'upload'; there is download",
        "iperf": "*** Unknown command: iperf",
    }.items():
        assert answer in shell.ask(line)


def test_ctrl_c_ends_a_command_and_not_the_shell(shell: Terminal) -> None:
    """What a node does ends; the network stays."""
    shell.type("c1 ping 10.0.0.1\n")
    shell.until("bytes from 10.0.0.1")
    shell.type(CTRL_C)
    shell.until(re.escape(PROMPT))
    assert "up" in shell.ask("team")
    said = shell.ask("help")
    assert "exit" in said
    assert "!!" not in said


def test_a_killed_shell_leaves_nothing(shell: Terminal, tmp_path: Path) -> None:
    """kill -9 of the caller takes the sandbox along."""
    os.kill(shell.pid, signal.SIGKILL)
    shell.ended()
    deadline = time.monotonic() + 10
    while left(tmp_path / "out"):
        assert time.monotonic() < deadline, left(tmp_path / "out")
        time.sleep(0.05)


def test_a_script_may_be_piped_in(tmp_path: Path) -> None:
    """No terminal: the same words, in order."""
    call = [TEAMBED, "up", "link_failover", "--out", "out"]
    done = subprocess.run(call, input="team\nexit\n", cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "nic2" in done.stdout
    assert done.stdout.endswith("taking it down\n")


def test_a_failed_scenario_keeps_its_network_for_a_shell(tmp_path: Path) -> None:
    """--cli-on-error: the reason, a shell, and the verdict behind it."""
    (tmp_path / "short.yaml").write_text(SHORT)
    terminal = Terminal("run", "short.yaml", "--cli-on-error", "--out", tmp_path / "out", cwd=tmp_path)
    try:
        assert "download.offloads == 7   (download.offloads = 1)" in terminal.until(re.escape(PROMPT))
        assert "nic0" in terminal.ask("team")
        terminal.type(CTRL_C)  # is the shell's, and ends nothing
        terminal.until(re.escape(PROMPT))
        assert "nic0" in terminal.ask("team")
        terminal.type("exit\n")
        terminal.until(r"FAIL\S* short")
        assert terminal.ended() == 1
    finally:
        terminal.close()
    assert left(tmp_path / "out") == []


def test_a_failed_scenario_pauses(tmp_path: Path) -> None:
    """--pause-on-error: how to get in, and Enter goes on."""
    (tmp_path / "short.yaml").write_text(SHORT)
    terminal = Terminal("run", "short.yaml", "--pause-on-error", "--out", tmp_path / "out", cwd=tmp_path)
    try:
        way = re.search(r"sudo (nsenter .*)\r\n", terminal.until("Enter takes it down"))
        assert way
        inside = subprocess.run(["sh", "-c", f"{way[1]} ip -br link"], capture_output=True, text=True, timeout=20)
        assert "s1-nic0" in inside.stdout, inside.stderr
        terminal.type("\n")
        terminal.until(r"FAIL\S* short")
        assert terminal.ended() == 1
    finally:
        terminal.close()


def test_no_terminal_no_shell(tmp_path: Path) -> None:
    """In CI the run goes on to its end."""
    (tmp_path / "short.yaml").write_text(SHORT)
    call = [TEAMBED, "run", "short.yaml", "--cli-on-error", "--out", "out"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=60, start_new_session=True)
    assert done.returncode == 1
    assert done.stdout.endswith("FAIL short\n")
    assert "could not be kept" in (tmp_path / "out" / "short" / "logs" / "runner.log").read_text()


def test_pytest_gives_the_shell_too(tmp_path: Path) -> None:
    """Though it captures what tests write."""
    (tmp_path / "short.yaml").write_text(SHORT)
    terminal = Terminal(
        "test", tmp_path / "short.yaml", "-p", "scenarios.pytest_plugin", "--cli-on-error", cwd=tmp_path
    )
    try:
        terminal.until(re.escape(PROMPT))
        assert "nic0" in terminal.ask("team")
        terminal.type(CTRL_D)
        terminal.until("1 failed")
        assert terminal.ended() == 1
    finally:
        terminal.close()


def test_pytest_runs_cases_side_by_side(tmp_path: Path) -> None:
    """With xdist, each in its sandbox, and a JUnit file of them all; paths are those of the caller's folder."""
    text = SHORT.replace("network: {nics: 1}", "matrix: {network.nics: [1, 2]}").replace("== 7", "== 1")
    (tmp_path / "short.yaml").write_text(text)
    (tmp_path / "bad.yaml").write_text(SHORT.replace("receive: 2MB", "receive: 2"))
    call = [TEAMBED, "test", ".", "-p", "scenarios.pytest_plugin", "-n", "2", "--junitxml", "j.xml"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "2 passed, 1 error" in done.stdout, done.stdout
    assert "bad.yaml:6: traffic.download.receive: `2` has no unit" in done.stdout
    assert 'name="short[nics=2]"' in (tmp_path / "j.xml").read_text()
