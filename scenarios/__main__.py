"""`python -m scenarios` is the command line. While it is imported, some tenths of a second, Ctrl-C ends it at once."""

import importlib
import os
import signal
import sys

INTERRUPTED = 130  # as a shell tells of it: 128, and the signal's number


def begin(module: str = "scenarios.cli") -> int:
    """Import it, and run its main."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not by a shell's background job
    if heeded:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # ./teambed has it wait until now
    main = importlib.import_module(module).main
    try:
        if heeded:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return int(main())
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(begin())
