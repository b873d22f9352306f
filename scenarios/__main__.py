"""`python -m scenarios` is the command line. While it is imported, some tenths of a second, Ctrl-C ends it at once.

What a run will need begins here, before it is known whether there is something to run: the nursery, which has a CPU of
its own to import it, and the look at what this machine can do, which mostly waits.
"""

import importlib
import os
import signal
import sys
from typing import NoReturn

from scenarios import nursery
from topologies import capabilities

INTERRUPTED = 130  # as a shell tells of it: 128, and the signal's number
RUNNING = (["run"], ["demo"])
"""Commands that run scenarios in this process's forks."""


def begin(module: str = "scenarios.cli") -> int:
    """Import it, and run its main."""
    if sys.stdout is None or sys.stderr is None:  # closed by the caller; what is opened next would take their numbers
        while (nothing := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        sys.stdout = sys.stdout or open(nothing, "w", closefd=False)  # noqa: SIM115
        sys.stderr = sys.stderr or open(nothing, "w", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored by the caller, every child would seem to have ended well
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not by a shell's background job
    if heeded:
        signal.signal(signal.SIGINT, _end_at_once)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # ./teambed has it wait until now
    if sys.argv[1:2] in RUNNING and os.geteuid() == 0:
        nursery.SHARED.begin()
        capabilities.begin()
    main = importlib.import_module(module).main
    try:
        try:
            if heeded:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            return int(main())
        finally:
            if heeded:  # no traceback from the interpreter's own end either
                signal.signal(signal.SIGINT, _end_at_once)
            nursery.SHARED.end()
    except KeyboardInterrupt:
        return INTERRUPTED


def _end_at_once(_number: int, _frame: object) -> NoReturn:
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(begin())
