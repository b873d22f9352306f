"""Commands run to their end, one or one in each node; whatever goes wrong is one line.

Decides nothing. What they do, and in which namespace, their words say.
"""

import subprocess
import time
from collections.abc import Mapping, Sequence

STEP_SECONDS = 20.0
"""The longest that one step of building may take; on a busy machine the whole takes one or two seconds."""


class NetworkError(Exception):
    """The network could not be built, or a command failed. One line for a person."""


def run(
    argv: Sequence[str], what: str, *, stdin: str = "", timeout: float = STEP_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end. Raises NetworkError with what it said."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout)
    except FileNotFoundError:
        raise NetworkError(f"{what}: the program {argv[0]!r} is not installed") from None
    except subprocess.TimeoutExpired:
        raise NetworkError(f"{what}: not done within {timeout:g} s") from None
    if done.returncode:
        raise NetworkError(f"{what}: {_why(done.returncode, done.stderr or done.stdout)}")
    return done


def run_together(commands: Mapping[str, Sequence[str]], stdin: Mapping[str, str], what: str = "setting up") -> None:
    """Runs one command per node; all are started at the same time. Raises NetworkError for the first that fails.

    One that waits for its input gets it when those before it have ended: all at once takes longer on two CPUs.
    """
    deadline = time.monotonic() + STEP_SECONDS
    pipe = subprocess.PIPE
    running = {
        node: subprocess.Popen(argv, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, text=True)
        for node, argv in commands.items()
    }
    failed = ""
    for node, process in running.items():
        try:
            _, said = process.communicate(stdin.get(node, ""), timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            said = f"not done within {STEP_SECONDS:g} s"
        if process.returncode and not failed:
            failed = f"{what} {node}: {_why(process.returncode, said)}"
    if failed:
        raise NetworkError(failed)


def _why(status: int, said: str) -> str:
    """The first line of what a failed program said, else its exit status."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[0] if lines else f"exit status {status}"
