"""Moves a second: a NIC with many connections loses its link.

Decides: how many connections, and what a move is compared with (floor.py). Counted from the moment the link is cut:
until the last connection is released on the other NIC, and until each of them has delivered a byte. The application
sends that byte to every connection just behind the cut.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import OURS, CannotMeasure, Figure, Report, Sample, Series, Target
from benchmarks.inside import call
from benchmarks.load import load
from scenarios.bench import Bench
from scenarios.events import Emitter
from scenarios.load import load as load_scenario
from scenarios.schema import Scenario
from topologies import sandbox

PEER = "floor"
LIMIT = 40.0
MOVE = b'"event": "move", "kind": "%s"'
FAULT = b'"event": "fault"'
PROFILES = "TEAMBED_PROFILES"
"""An environment variable: a folder for the profiles of agent and engines (profile/sitecustomize.py)."""
SCENARIO = f"""
scenario: moves
about: Two NICs; all connections of one client reach the same one.
network: {{nics: 2, clients: 1, hash: src-ip}}
team: {{offload: {{after: 100B}}, on_fault: reload}}
services:
  crowd: {{listen: 8080, app: "127.0.0.1:7000",
          command: "exec {sys.executable} -m benchmarks.crowd serve --listen 127.0.0.1:7000"}}
  unused: {{listen: 8081, app: builtin}}
traffic:
  unused: {{client: c1, service: unused, send: 1B}}
expect: [unused.intact]
"""


def measure(tiny: bool) -> Report:
    """A bench of its own for each sample, ours and the floor's in turn."""
    counts, samples = ((1, 20), 1) if tiny else ((1, 100, 1000, 5000), 3)
    report = Report("moves", "a NIC with many connections loses its link; the floor is save and restore alone")
    found = {count: _samples(count, samples) for count in counts}
    for count, (runs, floor) in found.items():
        names = {"released": "all released", "delivered": "each has delivered a byte"}
        for key, what in names.items():
            ours = Series(OURS, tuple(Sample(1000 * run[key], at) for run, at in runs))
            peers = (Series(PEER, tuple(Sample(1000 * took, at) for took, at in floor)),)
            report.figures.append(Figure(f"{count:,} connections, {what}", "ms", ours, peers))
        detail = {key: sum(run["parts"][key] for run, _ in runs) / len(runs) for key in runs[0][0]["parts"]}
        told = ", ".join(f"{key} {1000 * value:,.0f} ms" for key, value in detail.items())
        report.notes.append(f"{count:,} connections, from the cut, mean: {told}")
    report.conditions = {"counts": counts, "samples": samples}
    most, some = counts[-1], counts[1]
    released = {one.what: one for one in report.figures}
    last, first = released[f"{most:,} connections, all released"], released[f"{some:,} connections, all released"]
    resets = sum(run["broken"] for runs, _ in found.values() for run, _ in runs)
    each = [figure.ours.median / count for figure, count in ((first, some), (last, most))]
    report.targets = [
        Target(f"moves a second, {most:,} connections", 1000 * most / last.ours.median, 10_000, at_least=True),
        Target(f"{most:,} connections, all released, over the floor", last.ratio(), 2.5),
        Target(f"cost of one among {most:,} over one among {some:,}", each[1] / each[0], 1.2),
        Target("connections that broke", resets, 0),
    ]
    return report


def _samples(count: int, samples: int) -> tuple[list[tuple[dict[str, Any], float]], list[tuple[float, float]]]:
    runs, floor = [], []
    for _ in range(samples):
        at = load()
        runs.append((call("benchmarks.moves", "inside", count=count), at))
        at = load()
        floor.append((call("benchmarks.floor", "inside", count=count), at))
    return runs, floor


# ------------------------------------------------------------------------------------------- inside the sandbox


def inside(count: int) -> dict[str, Any]:
    """Seconds from the cut: `released` and `delivered`; connections that `broken`; `parts` on the way there."""
    with tempfile.TemporaryDirectory() as folder:
        bench = prepared(load_scenario(SCENARIO, "moves"), Path(folder))
        try:
            return _run(bench, count)
        finally:
            bench.down()


def prepared(scenario: Scenario, out: Path) -> Bench:
    """A bench that is not up yet, with a record of its own in that folder."""
    (out / "logs").mkdir()
    events = os.open(out / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.environ["TEAMBED_T0"] = repr(time.monotonic())
    return Bench(scenario, sandbox.RUN_DIR, out, Emitter("bench", events))


def _run(bench: Bench, count: int) -> dict[str, Any]:
    bench.up()
    watch = Watch(bench)
    to = f"{bench.topology.team.ip4}:8080"
    words = [sys.executable, "-m", "benchmarks.crowd", "connect", "--name", "crowd", "--to", to, "--count", str(count)]
    bench.children.start("crowd", words, lambda argv, **how: bench.network.popen("c1", argv, **how))
    watch.until(MOVE % b"offload", count, "all connections to be offloaded")
    nics = {move["to"] for move in watch.moves("offload")}
    if len(nics) != 1:
        raise CannotMeasure(f"the connections are on {', '.join(sorted(nics))}, not on one NIC")
    (nic,) = nics
    others = {"the agent's CPU": "agent", "the old engine's CPU": nic}
    others["the new engine's CPU"] = next(one.name for one in bench.topology.nics if one.name != nic)
    before = {what: cpu(bench.children.pid(who)) for what, who in others.items()}
    began = time.monotonic() - bench.emit.zero
    cut(bench.topology.nic(nic).switch_port)
    bench.children.send("app-crowd", signal.SIGUSR1)
    watch.until(MOVE % b"reload", count, "all connections to be released")
    watch.until(b'"crowd_delivered"', 1, "the last byte")
    moves, (delivered,) = watch.moves("reload"), watch.named("crowd_delivered")
    if delivered["last"] is None:
        raise CannotMeasure("no connection has delivered a byte")
    parts = {
        "the agent sees it": watch.seen(began) - began,
        "first released": min(move["t"] for move in moves) - began,
        "half of the bytes": delivered["median"] - began,
    }
    parts |= {what: cpu(bench.children.pid(who)) - before[what] for what, who in others.items()}
    released = max(move["t"] for move in moves) - began
    answer = {"released": released, "delivered": delivered["last"] - began, "broken": delivered["broken"]}
    return answer | {"parts": parts, "moves": len(moves)}


class Watch:
    """Keeps what has happened. While it waits it only counts what it waits for, in what is new: to take every event
    apart, or to copy all that was told before, would take a tenth of the machine that is measured."""

    def __init__(self, bench: Bench):
        self._bench = bench
        self._file = (bench.out / "events.jsonl").open("rb", buffering=0)
        self._told, self._whole = bytearray(), 0

    def until(self, told: bytes, count: int, what: str) -> None:
        """So many events with this in them. Raises CannotMeasure."""
        deadline, found = time.monotonic() + LIMIT, self._told.count(told)
        while found < count:
            self._told += self._file.read() or b""
            before, self._whole = self._whole, self._told.rfind(b"\n", self._whole) + 1 or self._whole
            found += self._told.count(told, before, self._whole)
            self._bench.children.check()
            if time.monotonic() > deadline:
                raise CannotMeasure(f"waited {LIMIT:g} s for {what}, in vain")
            time.sleep(0.01)

    def named(self, name: str) -> list[dict[str, Any]]:
        lines = self._told[: self._whole].splitlines()
        return [event for line in lines if (event := json.loads(line))["event"] == name]

    def seen(self, began: float) -> float:
        """When the agent saw the link go, which it may tell behind the moves. Raises CannotMeasure."""
        self.until(FAULT, 1, "the agent to tell of the link")
        return next(float(e["t"]) for e in self.named("link") if e["who"] == "agent" and not e["up"] and e["t"] > began)

    def moves(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.named("move") if event["kind"] == kind]


def cpu(pid: int) -> float:
    """Seconds of a process's own work so far: how long that takes depends on nobody else."""
    fields = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(fields[0]) / 1e9


def cut(interface: str) -> None:
    """Takes the interface down, without the time that starting a program takes."""
    get, put, up = 0x8913, 0x8914, 1  # linux/sockios.h: SIOCGIFFLAGS, SIOCSIFFLAGS; linux/if.h: IFF_UP
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sH22x", interface.encode(), 0)
        flags = struct.unpack("16sH22x", fcntl.ioctl(s, get, request))[1]
        fcntl.ioctl(s, put, struct.pack("16sH22x", interface.encode(), flags & ~up))
