"""`teambed bench`: runs benchmarks, prints their tables, writes their figures and a page of them.

    python -m benchmarks [--tiny] [--out DIR] [NAME ...]
    python -m benchmarks --page DIR                         the page of an old run anew

Decides: what runs, in which order, and exit statuses: 0 all could be measured, whether or not a target was met ·
1 one broke off · 2 the call is wrong · 3 this machine cannot run them.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import page
from benchmarks.harness import CannotMeasure, Report
from scenarios.cli import Parser, folder
from scenarios.launcher import give_to_caller

NAMES = ("frame_path", "stall", "moves", "goodput", "turnaround", "side_by_side")
"""Each is a module with measure(tiny) -> Report."""
MEASURED, BROKE_OFF, WRONG, CANNOT = 0, 1, 2, 3


def main(words: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = Parser(prog="teambed bench", description="Measures teambed beside the alternatives.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--tiny", action="store_true", help="small numbers: shows that it works, proves nothing")
    parser.add_argument("--out", type=folder, metavar="DIR", help="for the figures (default: results/bench-<UTC time>)")
    parser.add_argument("--page", type=folder, metavar="DIR", help="measure nothing; make these figures' page anew")
    arguments = parser.parse_args(words)
    if arguments.page is not None:
        if arguments.names or arguments.tiny or arguments.out:
            print("teambed: --page measures nothing, so it goes with nothing else", file=sys.stderr)
            return WRONG
        return _page(arguments.page)
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        print(f"teambed: no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}", file=sys.stderr)
        return WRONG
    if os.geteuid() != 0:
        print("teambed: needs root to make network namespaces; call it with sudo", file=sys.stderr)
        return CANNOT
    out = arguments.out or Path("results") / f"bench-{datetime.now(UTC).strftime('%Y-%m-%dT%H-%M-%SZ')}"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"teambed: {out}: {error.strerror}; choose another --out", file=sys.stderr)
        return WRONG
    try:
        status = _measure(arguments.names or NAMES, arguments.tiny, out)
    except KeyboardInterrupt:
        _conclude(out)  # with what was finished
        raise
    return _conclude(out) or status


def _measure(names: Sequence[str], tiny: bool, out: Path) -> int:
    status, at = MEASURED, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name in names:
        try:
            report: Report = importlib.import_module(f"benchmarks.{name}").measure(tiny)
        except CannotMeasure as reason:
            print(f"{name}: not measured: {reason}", file=sys.stderr)
            status = BROKE_OFF
            continue
        report.conditions |= {"tiny": tiny, "kernel": platform.release(), "cpus": os.cpu_count(), "at": at}
        print(f"{report.text()}\n", flush=True)
        try:
            (out / f"{name}.json").write_text(json.dumps(report.document(), indent=1, ensure_ascii=False) + "\n")
        except OSError as error:  # a disk that is full
            print(f"teambed: {out / name}.json: {error.strerror}", file=sys.stderr)
            return BROKE_OFF
    return status


def _conclude(out: Path) -> int:
    print(f"figures: {out} (load: runnable processes, mean of a minute; {os.cpu_count()} CPUs)")
    give_to_caller(out)
    return _page(out) if any((out / f"{name}.json").exists() for name in NAMES) else MEASURED


def _page(folder: Path) -> int:
    """Made of the figures in a folder."""
    try:
        text = page.page(page.read(folder, NAMES), folder.resolve().name, NAMES)
        (folder / page.FILE).write_text(text)
        give_to_caller(folder / page.FILE)
    except (page.NoFigures, OSError) as reason:
        print(f"teambed: no page: {reason}", file=sys.stderr)
        return WRONG
    print(f"page: {folder / page.FILE}")
    return MEASURED


if __name__ == "__main__":
    sys.exit(main())
