"""What a fork must do that takes the place of an executed program: begin as one, and end as one. Decides nothing.

It spares the start of an interpreter and all imports, which is most of what a short process does.
"""

import ctypes
import gc
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


def begin() -> None:
    """Nobody else's signal handlers or garbage, and streams that are this process's descriptors 0 to 2."""
    gc.freeze()  # collected, what the caller has dropped would close its descriptors, whose numbers are others' here
    gc.enable()  # subprocess turns it off around its preexec_fn
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as every interpreter does
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def end(run: Callable[[], int | None]) -> NoReturn:
    """Runs it to its end, which is the process's, with no way back into the caller.

    As an interpreter would end, but for exit functions: those that there are were left by the caller, to tidy up after
    itself.
    """
    status: object = 1
    try:
        status = run()
    except SystemExit as done:
        status = done.code
    except BaseException:
        traceback.print_exc()
    if isinstance(status, str):
        print(status, file=sys.stderr)
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)


def die_with_parent(lives: Callable[[], bool]) -> None:
    """SIGKILL for this process when the thread that forked it ends. lives: whether that is still there."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if not lives():  # it died before the line above took effect
        os._exit(1)


def ready(descriptor: int, within_s: float | None) -> bool:
    """Whether it can be read within this time, a process's one: whether that ends; None: waits for it. As select, for
    descriptors of any number."""
    one = select.poll()
    one.register(descriptor, select.POLLIN)
    return bool(one.poll(None if within_s is None else within_s * 1000))


def descriptors() -> set[int]:
    """All that are open."""
    found = set()
    for one in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the one that the list was read by
            os.fstat(one)
            found.add(one)
    return found


def close(numbers: Iterable[int]) -> None:
    """Those of them that are open."""
    for one in numbers:
        with suppress(OSError):
            os.close(one)
