"""A network that failed its scenario, kept for a person to look at before it is taken down: a live shell, or a pause.

Runs inside the sandbox, in the runner. Decides whether there is a reason to keep it. The terminal is the one that the
call came from, whatever has become of standard input and output.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scenarios import console, verdict
from scenarios.bench import Bench
from scenarios.events import Event
from scenarios.live import Live
from scenarios.schema import Scenario
from topologies.commands import NetworkError

CLI, PAUSE = "cli", "pause"
KEPT, LET_GO = "kept", "let_go"
"""Events around it."""


def reasons(scenario: Scenario, events: Sequence[Event]) -> list[str]:
    """Why the run has failed, as far as that is known before it is taken down."""
    result = verdict.judge(scenario, events, {})
    if result.get("reason"):
        return [str(result["reason"])]
    return [
        f"{one['text']}   ({', '.join(console.shown(name, value) for name, value in one['measured'].items())})"
        for one in result["expectations"]
        # Some measurements come only with the end; what is unknown is no failure yet.
        if one["verdict"] == "fail" and None not in one["measured"].values()
    ]


def keep(bench: Bench, how: str, why: Sequence[str]) -> None:
    """Until the person is done. Without a terminal it says so in the log and returns at once."""
    bench.emit(KEPT)
    try:
        with _terminal():
            print(f"\r\x1b[K{bench.scenario.scenario} failed, and its network is still up:", *why, sep="\n  ")
            if how == PAUSE:
                print("\n".join(_way_in(bench.out)))
                input("Enter takes it down. ")
            else:
                print("`help` lists the words; `exit` or Ctrl-D takes it down.")
                Live(bench).run()
    except (OSError, EOFError, NetworkError) as error:
        print(f"the failed network could not be kept: {error}", file=sys.stderr)
    finally:
        bench.emit(LET_GO)


def _way_in(out: Path) -> list[str]:
    named = re.sub(r"[][(){}.*+?^$|\\]", r"\\\g<0>", str(out))  # pgrep reads a pattern; cases of a matrix have brackets
    return [
        "In another terminal, this leads into it, and from there into a node:",
        f"  sudo nsenter -a -t \"$(pgrep -nf '[s]cenarios.runner --scenario {named}/')\"",
        "  mnexec -a $(pgrep -f 'mininet:c1$') bash",
    ]


@contextmanager
def _terminal() -> Iterator[None]:
    """Standard input, output and errors are the terminal meanwhile. Raises OSError where there is none."""
    terminal = os.open("/dev/tty", os.O_RDWR)
    before = [os.dup(number) for number in range(3)]
    try:
        for number in range(3):
            os.dup2(terminal, number)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        yield
    finally:
        sys.stdout.flush()
        for number, fd in enumerate(before):
            os.dup2(fd, number)
            os.close(fd)
        os.close(terminal)
