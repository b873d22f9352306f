"""Profiles every Python process of a run, when the folder is on PYTHONPATH and TEAMBED_PROFILES names another.

Decides: nothing. Each process, forked ones too, leaves MODULE.NAME.PID.prof there when it ends by itself: what pstats
reads.
"""

import atexit
import cProfile
import os
import sys

if folder := os.environ.get("TEAMBED_PROFILES"):
    profile = cProfile.Profile()

    def begin() -> None:
        """A fork's profile is its own."""
        global profile
        profile.disable()
        profile = cProfile.Profile()
        profile.enable()

    def dump(folder: str = folder) -> None:
        """atexit runs it where an interpreter was started; a fork runs no exit functions, it just leaves."""
        profile.disable()
        module = sys.argv[0].removesuffix(".py").replace("/", ".").rpartition(".")[2] or "python"
        who = sys.argv[sys.argv.index("--name") + 1] if "--name" in sys.argv else "one"
        profile.dump_stats(os.path.join(folder, f"{module}.{who}.{os.getpid()}.prof"))

    def dump_and_leave(status: int) -> None:
        if "/" not in sys.argv[0]:  # called by a module's name: not one that only forks
            dump()
        leave(status)

    atexit.register(dump)
    leave, os._exit = os._exit, dump_and_leave  # type: ignore[assignment]
    os.register_at_fork(after_in_child=begin)
    profile.enable()
