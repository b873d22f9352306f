"""Compiles the BPF programs: `python -m host_agent.bpf.build`.

Decides: where the objects lie, and whether they are newer than their sources. Never touches: the kernel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
OBJECTS = SOURCES.parents[1] / ".build"
PROGRAMS = ("nic", "team", "quiet", "carrier")


def path(name: str) -> Path:
    """The object of one program file, one of PROGRAMS."""
    return OBJECTS / f"{name}.bpf.o"


def stale(name: str, folder: Path = SOURCES) -> bool:
    target = path(name)
    sources = (*SOURCES.glob("*.h"), folder / f"{name}.bpf.c")
    return not target.exists() or any(s.stat().st_mtime > target.stat().st_mtime for s in sources)


def build(names: Iterable[str] = PROGRAMS, folder: Path = SOURCES) -> str | None:
    """Compiles what is stale of a folder's programs. Gives one line that says what went wrong, or None."""
    clang = shutil.which("clang")
    if clang is None:
        return "clang is missing; install the Debian package clang"
    OBJECTS.mkdir(exist_ok=True)
    multiarch = sysconfig.get_config_var("MULTIARCH") or f"{os.uname().machine}-linux-gnu"
    for name in names:
        if not stale(name, folder):
            continue
        source, part = folder / f"{name}.bpf.c", OBJECTS / f"{name}.{os.getpid()}.o"
        command = [clang, "-O2", "-g", "-Wall", "-Werror", "-target", "bpf"]
        command += [f"-I/usr/include/{multiarch}", f"-I{SOURCES}", "-c", str(source), "-o", str(part)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            part.unlink(missing_ok=True)
            errors = [line for line in result.stderr.splitlines() if "error" in line] or [result.stderr.strip()]
            return f"{errors[0]} (are the Debian packages libbpf-dev and linux-libc-dev installed?)"
        part.rename(path(name))  # whole or not at all, also with two builds at once
    return None


def main() -> int:
    problem = build()
    if problem:
        print(f"BPF build: {problem}", file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
