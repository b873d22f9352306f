"""The live shell as a person has it: on a terminal, with keys; and what is left behind."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.net

TEAMBED = Path(__file__).resolve().parents[2] / "teambed"
PROMPT = "teambed> "
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """A call of teambed on a terminal of its own."""

    def __init__(self, *words: str | Path, cwd: Path) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.environ["TERM"] = "dumb"
            os.execv(TEAMBED, [str(TEAMBED), *map(str, words)])
        self.said = ""

    def until(self, pattern: str, seconds: float = 60.0) -> str:
        """What was said up to the pattern, since the last call."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.said)):
            assert select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))[0], self.said
            try:
                self.said += os.read(self._fd, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"it ended without {pattern!r}: {self.said}") from None
        before, self.said = self.said[: found.end()], self.said[found.end() :]
        return before

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def ask(self, line: str) -> str:
        """What the shell says to a line."""
        self.type(line + "\n")
        return self.until(re.escape(PROMPT))

    def ended(self, seconds: float = 30.0) -> int:
        """Its exit status."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError):
                while select.select([self._fd], [], [], 0.05)[0]:
                    self.said += os.read(self._fd, 65536).decode(errors="replace")
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, self.said

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Terminal]:
    """link_failover, up, at its first prompt."""
    terminal = Terminal("up", "link_failover", "--out", tmp_path / "out", cwd=tmp_path)
    terminal.until(re.escape(PROMPT))
    yield terminal
    terminal.close()


def left(out: Path) -> list[str]:
    """Processes that name the results' folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found += [words] if str(out) in words and "pytest" not in words else []
    return found


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
    assert "exit" in shell.ask("help")


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
