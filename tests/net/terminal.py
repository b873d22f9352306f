"""A call of teambed on a terminal of its own, as a person has it; and what it leaves running."""

import contextlib
import os
import pty
import re
import select
import signal
import time
from pathlib import Path

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
        self._ready = select.poll()  # unlike select(), for descriptors above 1023 too
        self._ready.register(self._fd, select.POLLIN)

    def until(self, pattern: str, seconds: float = 60.0) -> str:
        """What was said up to the pattern, since the last call."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.said)):
            assert self._ready.poll(1000 * max(0.0, deadline - time.monotonic())), self.said
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


def left(out: Path) -> list[str]:
    """Processes that name the results' folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found += [words] if str(out) in words and "pytest" not in words else []
    return found
