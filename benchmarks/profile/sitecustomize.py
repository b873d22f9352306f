"""Profiles every Python process of a run, when the folder is on PYTHONPATH and TEAMBED_PROFILES names another.

Decides: nothing. Each process leaves NAME.PID.prof there when it ends by itself: what pstats reads.
"""

import atexit
import cProfile
import os
import sys

if folder := os.environ.get("TEAMBED_PROFILES"):
    profile = cProfile.Profile()

    def dump(folder: str = folder) -> None:
        profile.disable()
        words = [word for word in sys.orig_argv[1:4] if not word.startswith("-")]
        name = "-".join(word.replace("/", "_") for word in words[:1]) or "python"
        who = sys.argv[sys.argv.index("--name") + 1] if "--name" in sys.argv else "one"
        profile.dump_stats(os.path.join(folder, f"{name}.{who}.{os.getpid()}.prof"))

    atexit.register(dump)
    profile.enable()
