"""The longest stall of one paced connection when its link is lost, and when the switch re-hashes; beside other teams.

Decides: the teams, the order of repetitions, what is a stall, and where ours spends it. A network serves several
repetitions, each with a connection of its own that runs for 1.2 s; in the middle of it comes the fault. What counts is
the longest time without a new byte at the receiver that ends after the fault and begins less than WINDOW_S behind it.
Networks of all teams take turns.

    python -m benchmarks.stall REPETITIONS TEAM …        only these teams, one network each, to compare two versions

Link loss: the member that carries the most bytes of the connection loses its carrier (a system call). Re-hash: the
switch sends the connection by another member from now on.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import OURS, Figure, Report, Sample, Series, Target, number, percentile
from benchmarks.inside import call
from benchmarks.load import load
from benchmarks.moves import cut, prepared
from scenarios.bench import Bench
from scenarios.drivers import has_lag
from scenarios.load import load as load_scenario
from scenarios.processes import RunError
from topologies import capabilities

HOST = "ours, host stack"
TEAMS: dict[str, str] = {
    OURS: "offload: {after: 64KiB}",
    HOST: "offload: never",
    "ovs_active_backup": "driver: ovs_active_backup",
    "ovs_balance_tcp": "driver: ovs_balance_tcp",
    "linux_bonding": "driver: linux_bonding",
}
"""By name, the keys of `team:`."""
LOSS, REHASH = "link loss", "re-hash"
DIRECTIONS = {"download": "receive", "upload": "send"}
"""By traffic, its data's direction as the client has it."""
PACE_MBIT, BYTES, BEFORE = 100, 15_000_000, 5_000_000
"""The connection's pace, all its bytes, and how many have arrived when the fault comes."""
WINDOW_S, SETTLE_S, LIMIT_S = 0.3, 0.2, 30.0
SCENARIO = """
scenario: stall
about: One paced connection at a time.
network: {{nics: 3, clients: 1, rate: 200mbit}}
team: {{{team}}}
services: {{files: {{listen: 8080}}}}
traffic:
  download: {{client: c1, service: files, receive: {size}B, pace: {pace}mbit}}
  upload: {{client: c1, service: files, send: {size}B, pace: {pace}mbit}}
expect: [download.intact]
"""
Repetition = dict[str, Any]


def measure(tiny: bool) -> Report:
    """Every team has a network in every round."""
    rounds, each = (1, 1) if tiny else (5, 6)
    lacking = [one.name for one in capabilities.missing(["bonding"])]
    teams = [team for team in TEAMS if not (team == "linux_bonding" and lacking)]
    found: dict[str, list[Repetition]] = {team: [] for team in teams}
    for _ in range(rounds):
        for team in teams:
            answer = call("benchmarks.stall", "inside", team=team, repetitions=each)
            found[team] += answer["repetitions"]
    report = Report("stall", f"one connection of {PACE_MBIT} Mbit/s, the longest time without a new byte")
    for event in (LOSS, REHASH):
        for traffic in DIRECTIONS:
            mine = {team: of(found[team], event, traffic) for team in teams if of(found[team], event, traffic)}
            report.figures.append(_figure(event, traffic, mine))
            report.notes += [_note(event, traffic, team, runs) for team, runs in mine.items()]
            report.notes.append(_parts(event, traffic, mine[OURS]))
    quiet = [run["before"] for runs in found.values() for run in runs]
    report.notes.append(f"the same, undisturbed, all teams: {_three(quiet)} ms")
    report.notes += ["ovs_active_backup has no LAG, so there is no re-hash"]
    report.notes += ["not measured: linux_bonding, which this kernel lacks"] if lacking else []
    report.targets = [*_loss_targets(report.figures), *_rehash_targets(report.figures, found[OURS])]
    report.conditions = {"rounds": rounds, "repetitions": each, "pace_mbit": PACE_MBIT, "bytes": BYTES}
    report.conditions["real_time"] = answer["real_time"]
    report.notes += [] if answer["real_time"] else ["without SCHED_RR: other work on this machine is in the figures"]
    report.details = {"repetitions": found}
    return report


def of(runs: Sequence[Repetition], event: str, traffic: str) -> list[Repetition]:
    return [run for run in runs if (run["event"], run["traffic"]) == (event, traffic)]


def _figure(event: str, traffic: str, mine: Mapping[str, Sequence[Repetition]]) -> Figure:
    series = {
        team: Series(team, tuple(Sample(run["stall"], run["load"]) for run in runs)) for team, runs in mine.items()
    }
    return Figure(f"{event}, {traffic}", "ms", series[OURS], tuple(one for team, one in series.items() if team != OURS))


def _note(event: str, traffic: str, team: str, runs: Sequence[Repetition]) -> str:
    again = [run["retransmits"] for run in runs if run["retransmits"] is not None]
    lost = sum(not run["intact"] for run in runs)
    none = sum(count == 0 for count in again)
    return (
        f"{event}, {traffic}, {team}: sent again by the client {_three(again)}, none in {none} of {len(runs)};"
        f" connections lost {lost}, bytes lost {sum(run['missing'] for run in runs)}"
    )


def _parts(event: str, traffic: str, runs: Sequence[Repetition]) -> str:
    """Medians of the parts of ours, in their order."""
    names = list(dict.fromkeys(name for run in runs for name in run["parts"]))
    values = {name: [run["parts"][name] for run in runs if name in run["parts"]] for name in names}
    told = ", ".join(f"{name} {number(statistics.median(some))} ({len(some)})" for name, some in values.items())
    return f"{event}, {traffic}, ours: medians in ms (in how many): {told}"


def _three(values: Sequence[float]) -> str:
    if not values:
        return "unknown"
    three = (statistics.median(values), percentile(values, 99), max(values))
    return "median {}, p99 {}, max {}".format(*map(number, three))


def _loss_targets(figures: Sequence[Figure]) -> list[Target]:
    targets = []
    for one in [figure for figure in figures if figure.what.startswith(LOSS)]:
        targets += [Target(f"{one.what}, median", one.ours.median, 5), Target(f"{one.what}, p99", one.ours.p99, 25)]
        for peer in [peer.who for peer in one.peers if peer.who != HOST]:
            for statistic in ("median", "p99"):
                targets.append(Target(f"{one.what}, {statistic} over that of {peer}", one.ratio(peer, statistic), 1))
    return targets


def _rehash_targets(figures: Sequence[Figure], ours: Sequence[Repetition]) -> list[Target]:
    targets = []
    for one in [figure for figure in figures if figure.what.startswith(REHASH)]:
        runs = of(ours, REHASH, one.what.rpartition(" ")[2])
        quiet = sum(run["retransmits"] == 0 for run in runs) / len(runs)
        targets += [
            Target(f"{one.what}, bytes lost", sum(run["missing"] for run in runs), 0),
            Target(f"{one.what}, share with nothing sent again by the client", quiet, 29 / 30, at_least=True),
            Target(f"{one.what}, p99", one.ours.p99, 5),
        ]
    return targets


def main(words: Sequence[str]) -> int:
    """A few repetitions, with no targets."""
    if len(words) < 2 or not words[0].isdigit() or set(words[1:]) - TEAMS.keys():
        print(f"usage: python -m benchmarks.stall REPETITIONS TEAM …; teams: {' | '.join(TEAMS)}", file=sys.stderr)
        return 2
    for team in words[1:]:
        found = call("benchmarks.stall", "inside", team=team, repetitions=int(words[0]))["repetitions"]
        for event, traffic in [(event, traffic) for event in (LOSS, REHASH) for traffic in DIRECTIONS]:
            if runs := of(found, event, traffic):
                print(f"{event}, {traffic}, {team}: {_three([run['stall'] for run in runs])} ms")
                print(f"  {_note(event, traffic, team, runs)}\n  {_parts(event, traffic, runs)}", flush=True)
    return 0


# ------------------------------------------------------------------------------------------- inside the sandbox


def inside(team: str, repetitions: int) -> dict[str, Any]:
    """Repetitions of every event in every direction in one network of that team, and whether it ran in real time."""
    soon = real_time()
    text = SCENARIO.format(team=TEAMS[team], size=BYTES, pace=PACE_MBIT)
    with tempfile.TemporaryDirectory() as folder:
        bench = prepared(load_scenario(text, "stall"), Path(folder))
        try:
            bench.up()
            events = (LOSS, REHASH) if has_lag(bench.scenario) else (LOSS,)
            stalls = Stalls(bench)
            kinds = [(event, traffic) for event in events for traffic in DIRECTIONS]
            for traffic in DIRECTIONS:
                stalls.warm_up(traffic)
            return {"real_time": soon, "repetitions": [stalls.one(*kind) for _ in range(repetitions) for kind in kinds]}
        finally:
            bench.down()


def real_time() -> bool:
    """This process and all that it starts, of whichever team, goes before the rest of the machine, where it may: on two
    busy CPUs a process waits 10 ms and more for its turn, and a stall would tell of that alone."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        return False
    return True


class Stalls:
    """Repetitions in one network."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._events: list[dict[str, Any]] = []

    def warm_up(self, traffic: str) -> None:
        """The first connection of a network is none to judge by: TCP has no idea of the path yet."""
        self._begin(traffic)
        self._end(traffic)

    def _begin(self, traffic: str) -> None:
        self._until(self._healthy, "all links to be used")
        self._rest(SETTLE_S)
        self._events.clear()
        self._bench.traffic_again(traffic)

    def _end(self, traffic: str) -> None:
        self._until(lambda: self._of("done") and self._of("served"), "both ends to tell")
        self._until(lambda: not self._bench.children.running(f"client-{traffic}"), "the client to end")

    def one(self, event: str, traffic: str) -> Repetition:
        bench, at = self._bench, load()
        self._begin(traffic)
        self._until(lambda: self._arrived(traffic) >= BEFORE or self._of("done"), "bytes to arrive")
        nic = self._carrier(traffic)
        fault = time.monotonic() - bench.emit.zero
        if event == LOSS:
            cut(bench.topology.nic(nic).switch_port)
        else:
            names = [one.name for one in bench.topology.nics]
            bench.rehash(traffic, names[(names.index(nic) + 1) % len(names)])
        time.sleep(WINDOW_S)  # nobody looks meanwhile: that would take the CPU from those who are measured
        self._end(traffic)
        if event == LOSS:
            bench.network.link_up(nic)
        return {"event": event, "traffic": traffic, "load": at, **self._told(traffic, fault)}

    def _healthy(self) -> bool:
        bench = self._bench
        return (not has_lag(bench.scenario) or bench.all_members_active()) and bench.network.bond_ready()

    def _carrier(self, traffic: str) -> str:
        if self._bench.topology.bond:
            nic = self._bench.busiest_nic()
            if nic is None:
                raise RunError("no wire carries anything")
            return nic
        sports = {event["sport"] for event in self._of("connected")}
        return next(str(record["nic"]) for record in self._bench.all_records() if record["sport"] in sports)

    def _told(self, traffic: str, fault: float) -> Repetition:
        (done,), (served,) = self._of("done"), self._of("served")
        far, near = (served, done) if traffic == "download" else (done, served)
        missing = max(0, BYTES - near["received_bytes"])
        whole = not missing and near["received_sha256"] == far["sent_sha256"]
        stalls = gaps(self._of("progress"), DIRECTIONS[traffic])
        stall = max((s for s in stalls if fault < s[1] and s[0] < fault + WINDOW_S), key=_length)
        before = [_length(s) for s in stalls if fault - WINDOW_S < s[0] and s[1] < fault]
        return {
            "stall": 1000 * _length(stall),
            "before": 1000 * max(before),
            "retransmits": done.get("retransmits"),
            "intact": whole and not done.get("error"),
            "missing": missing,
            "parts": parts(self._events, fault, stall),
        }

    def _arrived(self, traffic: str) -> int:
        return max((event["bytes"] for event in self._of("progress")), default=0)

    def _of(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self._events if event["event"] == name]

    def _until(self, holds: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not holds():
            if time.monotonic() > deadline:
                raise RunError(f"waited {LIMIT_S:g} s for {what}, in vain")
            self._rest(0.02)

    def _rest(self, seconds: float) -> None:
        time.sleep(seconds)
        self._events += self._bench.look()


def _length(gap: tuple[float, float]) -> float:
    return gap[1] - gap[0]


def gaps(progress: Sequence[Mapping[str, Any]], direction: str) -> list[tuple[float, float]]:
    """The longest times without a new byte, from when until when: those of 5 ms and more, and of each report's time the
    longest, whose place in it nobody tells."""
    found = []
    for event in progress:
        if event["dir"] == direction:
            t = float(event["t"])
            found += [(t - (ago + lasted) / 1000, t - ago / 1000) for ago, lasted in event.get("stalls", ())]
            found.append((t - event["gap_ms"] / 1000, t))
    return found


def parts(events: Sequence[Mapping[str, Any]], fault: float, stall: tuple[float, float]) -> dict[str, float]:
    """Where the stall's milliseconds went: until the agent saw the link go, until the hold, the parts of each move, and
    from the first release to the new byte. Empty without moves."""
    links = [e for e in events if e["event"] == "link" and e["who"].startswith("agent")]
    seen = [e["t"] for e in links if not e["up"] and e["t"] > fault]
    moves = [e for e in events if e["event"] == "move" and e["t"] > fault]
    found: dict[str, float] = {"before the fault": 1000 * max(0.0, fault - stall[0])}
    last = fault
    if seen:
        found["detected"], last = 1000 * (seen[0] - fault), seen[0]
    for number_, move in enumerate(moves, 1):
        told = move["parts_ms"]
        began = move["t"] - told["total"] / 1000
        which = "" if number_ == 1 else f" of move {number_}"
        found[f"until the hold{which}"] = 1000 * (began - last)
        found |= {f"{name}{which}": ms for name, ms in told.items() if name != "total"}
        last = move["t"]
    if moves and stall[0] <= moves[0]["t"] <= stall[1]:  # else the stall was another one
        found["from the first release to the new byte"] = 1000 * (stall[1] - moves[0]["t"])
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
