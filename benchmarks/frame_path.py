"""Nanoseconds per frame of each BPF program, by the number of records; one ageing sweep; memory per record.

Decides: which frames and which records. Never touches: the machine's interfaces; frames are run by BPF_PROG_TEST_RUN,
which carries out no verdict.

Each program runs twice over: `again` has one connection's frame again and again, as in a burst: all that it needs is in
the CPU's caches. `any` has one frame of another connection each time, behind a system call: its record comes from
memory, and the clock is read in between, for the peer as well. What memory alone costs then, programs show that find
something among as many and do nothing else (`lookup.bpf.c`). host_in, the leanest of ours, takes turns with them.
"""

from __future__ import annotations

import random
import statistics
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import OURS, CannotMeasure, Figure, Report, Sample, Series, Target, alternate, figure
from benchmarks.inside import call
from benchmarks.load import load
from host_agent import kernel
from host_agent.ageing import since, too_old
from host_agent.bpf import build
from host_agent.connection import KEY
from host_agent.decision import Record
from host_agent.records import Records, Team, pack_record

PEER = "headers only"
OK, REDIRECT = 0, 7  # linux/pkt_cls.h: TC_ACT_*
LEANEST = "host_in"
LOOKUPS = {"one_line": "one line of memory", "two_lines": "two lines", "least_entry": "the kernel's smallest entry"}
LOOPBACK = 1  # where a test run's frame comes in
TEAM = bytes([10, 0, 0, 1])
NEVER_TOLD = 2**63
PEER_MAC = bytes.fromhex("020000000101")
_PER_ADDRESS = 50_000
_BATCH = 10_000
AGE, QUIET_SHARE = 300.0, 0.02


def measure(tiny: bool) -> Report:
    """Inside a sandbox, for its network namespace's loopback."""
    if Path("/proc/sys/kernel/bpf_stats_enabled").read_text().strip() != "0":
        raise CannotMeasure("kernel.bpf_stats_enabled is not 0: reading the clock twice a frame would be most of it")
    counts = (10, 1000) if tiny else (10, 10_000, 1_000_000)
    words: dict[str, Any] = {"counts": counts, "samples": 3 if tiny else 15, "burst": 1000 if tiny else 20_000}
    found = call("benchmarks.frame_path", "inside", **words)
    report = Report("frame_path", "nanoseconds per frame of each BPF program, beside one that only reads the headers")
    for what, unit, series in found["figures"]:
        taken = {who: Series(who, tuple(Sample(*one) for one in samples)) for who, samples in series.items()}
        report.figures.append(figure(what, unit, taken))
    report.conditions = words
    report.notes = [f"{what}: {value:,.0f} {unit}" for what, value, unit in found["facts"]]
    report.notes.append(_growths(report.figures, counts[0], counts[-1]))
    report.targets = _targets(report.figures, counts[0], counts[-1])
    return report


def _growths(figures: list[Figure], few: int, many: int) -> str:
    below, above = (
        {one.who: one.median for figure in figures if figure.what == f"{LEANEST}, any, {count}"
         for one in (figure.ours, *figure.peers)}
        for count in (few, many)
    )  # fmt: skip
    times = ", ".join(f"{LEANEST if who == OURS else who} {above[who] / below[who]:.2f}" for who in below)
    return f"from {few:,} to {many:,} records, any frame, times as long: {times}"


def _targets(figures: list[Figure], few: int, many: int) -> list[Target]:
    by_name = {one.what: one for one in figures}
    programs = [name.removesuffix(f", again, {few}") for name in by_name if name.endswith(f", again, {few}")]
    found = []
    for mode in ("again", "any"):
        worst = max(programs, key=lambda p: by_name[f"{p}, {mode}, {few}"].ratio())
        found.append(
            Target(f"{worst}, the slowest, over {PEER} ({mode})", by_name[f"{worst}, {mode}, {few}"].ratio(), 3)
        )

        def growth(program: str, mode: str = mode) -> float:
            return by_name[f"{program}, {mode}, {many}"].ours.median / by_name[f"{program}, {mode}, {few}"].ours.median

        worst = max(programs, key=growth)
        found.append(Target(f"{worst}, {many:,} records over {few} ({mode})", growth(worst), 2))
    sweep = by_name[f"one sweep, {many}"]
    return [*found, Target(f"one sweep over {many:,} records, seconds (median)", sweep.ours.median, 1)]


# ------------------------------------------------------------------------------------------- inside the sandbox


def inside(counts: list[int], samples: int, burst: int) -> dict[str, Any]:
    """Figures as (what, unit, {who: samples}), and facts as (what, value, unit)."""
    for problem in (build.build(), build.build(("parse", "lookup"), Path(__file__).parent)):
        if problem:
            raise SystemExit(problem)
    parse = kernel.BpfObject(build.path("parse"))
    peers = {False: parse.program("inbound"), True: parse.program("outbound")}
    server, nic, lookups = _Server(max(counts)), _Nic(max(counts)), _Lookups(max(counts))
    figures: list[Any] = []
    facts: list[Any] = []
    for count in counts:
        server.fill(count)
        nic.fill(count)
        lookups.fill(count)
        for name, program, verdict, outward, pick in (*server.programs(), *nic.programs()):
            got, _ = program.timed(frame(pick(0), outward), 1)
            if got != verdict:
                raise SystemExit(f"{name} answers {got}, not {verdict}")
            for mode, timed in (("again", partial(_again, burst)), ("any", partial(_any, count))):
                running = {OURS: program, PEER: peers[outward]}
                if (name, mode) == (LEANEST, "any"):
                    running |= lookups.programs
                candidates = {who: partial(timed, p, outward, pick) for who, p in running.items()}
                _add(figures, f"{name}, {mode}, {count}", "ns", alternate(candidates, samples, load))
        _add(figures, f"one sweep, {count}", "s", server.sweeps(min(samples, 5)))
        slices = server.longest_slice()
        figures.append((f"its longest slice, {count}", "ms", {OURS: [(slices, load())]}))
        for what, a_map in (("record", server.map), ("entry of a NIC's offload table", nic.map)):
            each = a_map.memory() / count
            facts.append((f"memory of one {what} among {count:,}, in {max(counts):,} at most", each, "bytes"))
    return {"figures": figures, "facts": facts}


def _add(figures: list[Any], what: str, unit: str, series: dict[str, Series]) -> None:
    figures.append((what, unit, {who: [(s.value, s.load) for s in one.samples] for who, one in series.items()}))


def _again(burst: int, program: kernel.Program, outward: bool, pick: Callable[[int], int]) -> float:
    return program.timed(frame(pick(random.getrandbits(32)), outward), burst)[1]


def _any(count: int, program: kernel.Program, outward: bool, pick: Callable[[int], int]) -> float:
    """The median of many, each of another connection."""
    frames = [frame(pick(random.randrange(count)), outward) for _ in range(500)]
    return statistics.median(program.timed(one, 1)[1] for one in frames)


class _Table:
    """A hash map that is filled up step by step, from connection 0 on."""

    def __init__(self, a_map: kernel.Map):
        self.map, self.count = a_map, 0

    def fill(self, count: int) -> None:
        while self.count < count:
            upto = min(count, self.count + _BATCH)
            self.map.put_many([(self.key(index), self.value(index)) for index in range(self.count, upto)])
            self.count = upto

    def key(self, index: int) -> bytes:
        return key(index)

    def value(self, index: int) -> bytes:
        raise NotImplementedError

    def any(self, number: int) -> int:
        return number % self.count

    def even(self, number: int) -> int:
        return number % self.count & ~1

    def odd(self, number: int) -> int:
        return number % self.count | 1

    def unknown(self, number: int) -> int:
        return self.count + number % self.count


class _Server(_Table):
    """The server's programs. Even connections are the host's, by NIC 0; odd ones are offloaded to NIC 1."""

    def __init__(self, capacity: int):
        self._object = kernel.BpfObject(build.path("team"), {"records": capacity})
        self.records = Records.of_object(self._object)
        self.records.team = Team(virtual_nic=1, hold=1, live=(0, 1), bus=(1, 1), report_every=NEVER_TOLD)
        self.records.set_bus(LOOPBACK, 0)
        self._now = time.monotonic_ns()
        super().__init__(self._object.map("records", KEY.size, len(pack_record(Record(0)))))

    def value(self, index: int) -> bytes:
        quiet = index % round(1 / QUIET_SHARE) == 0
        seen = self._now - int((AGE if quiet else 0) * 1e9)
        offloaded = bool(index % 2)
        return pack_record(Record(index % 2, offloaded, created=seen, last_seen=seen, peer_mac=PEER_MAC))

    def programs(self) -> list[Any]:
        """Name, program, its verdict, whether the frame goes out, and which connections."""
        get = self._object.program
        return [
            ("bus_in of the host's (408)", get("bus_in"), REDIRECT, False, self.even),
            ("bus_in of a stray (414)", get("bus_in"), REDIRECT, False, self.odd),
            ("host_in", get("host_in"), OK, False, self.even),
            ("hold_in", get("hold_in"), REDIRECT, False, self.any),
            ("team_out", get("team_out"), REDIRECT, True, self.even),
        ]

    def sweeps(self, samples: int) -> dict[str, Series]:
        """Nothing is removed; the peer only copies all records out of the kernel."""

        def sweep() -> float:
            began = time.perf_counter()
            for _ in self._slices():
                pass
            return time.perf_counter() - began

        def copy() -> float:
            began = time.perf_counter()
            for _ in self.map.batches(8192):
                pass
            return time.perf_counter() - began

        return alternate({OURS: sweep, "copying only": copy}, samples, load)

    def longest_slice(self) -> float:
        longest, began = 0.0, time.perf_counter()
        for _ in self._slices():
            now = time.perf_counter()
            longest, began = max(longest, now - began), now
        return 1000 * longest

    def _slices(self) -> Any:
        return (too_old(some, {}, self._now, age=AGE) for some in self.records.quiet(*since(self._now, AGE)))


class _Nic(_Table):
    """A NIC's programs; it holds every connection of its table."""

    def __init__(self, capacity: int):
        self._object = kernel.BpfObject(build.path("nic"), {"offloads": capacity})
        ports = self._object.map("nic", 4, 0)
        ports.put(bytes(4), struct.pack("=II", LOOPBACK, LOOPBACK).ljust(ports.value_size(), b"\0"))
        entries = self._object.map("offloads", KEY.size, 0)
        # struct steer of bpf/nic.bpf.c: all doors are open, the next hop is known, nothing was counted.
        self._entry = struct.pack("=I6s", 1 | 2 | 4, PEER_MAC).ljust(entries.value_size(), b"\0")
        super().__init__(entries)

    def value(self, index: int) -> bytes:
        return self._entry

    def programs(self) -> list[Any]:
        get = self._object.program
        return [
            ("wire_in of the NIC's", get("wire_in"), OK, False, self.any),
            ("wire_in of the host's", get("wire_in"), REDIRECT, False, self.unknown),
            ("the NIC's bus_in", get("bus_in"), OK, False, self.any),
            ("wire_out", get("wire_out"), OK, True, self.any),
        ]


class _Numbered(_Table):
    """A table whose keys are numbers. As much of a value as there is says the number again."""

    def key(self, index: int) -> bytes:
        return struct.pack("=I", index)

    def value(self, index: int) -> bytes:
        return self.key(index).ljust(self.map.value_size(), b"\0")


class _Lookups:
    """Memory and nothing else, for so many."""

    def __init__(self, capacity: int):
        maps = {"elements": 64, "buckets": 16, "entries": 8}  # bytes of a value
        loaded = kernel.BpfObject(build.path("lookup"), dict.fromkeys(maps, capacity))
        self.programs = {who: loaded.program(name) for name, who in LOOKUPS.items()}
        self._tables = [_Numbered(loaded.map(name, 4, maps[name])) for name in ("buckets", "entries")]

    def fill(self, count: int) -> None:
        for table in self._tables:
            table.fill(count)
        for who, program in self.programs.items():
            if program.timed(frame(count - 1, False), 1)[0] != OK:
                raise SystemExit(f"{who}: nothing was found")


def _peer(index: int) -> tuple[bytes, int]:
    return b"\x0a" + struct.pack("!I", 0x10000 + index // _PER_ADDRESS)[1:], 1024 + index % _PER_ADDRESS


def key(index: int) -> bytes:
    """The connection's key in the maps."""
    mapped = bytes(10) + b"\xff\xff"
    address, port = _peer(index)
    return mapped + address + mapped + TEAM + struct.pack("!HH", port, 8080)


def frame(index: int, outward: bool) -> bytes:
    """A bare ACK of the connection, whose number is its sequence number as well; to the loopback's MAC, or it would be
    somebody else's."""
    address, port = _peer(index)
    ends = (TEAM, address, 8080, port) if outward else (address, TEAM, port, 8080)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0x4000, 64, 6, 0, ends[0], ends[1])
    tcp = struct.pack("!HHIIBBHHH", ends[2], ends[3], index, 1, 5 << 4, 0x10, 512, 0, 0)
    macs = PEER_MAC + bytes(6) if outward else bytes(6) + PEER_MAC
    return macs + b"\x08\x00" + ip + tcp
