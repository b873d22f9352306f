"""The traffic and the timeline of one run: does each step when it is due.

Decides what a step's words mean for the network, the processes and the agent; which step is due is `timeline`'s.
"""

import heapq
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count

from scenarios.bench import POLL_S, Bench
from scenarios.events import Event
from scenarios.local import LocalError
from scenarios.processes import RunError
from scenarios.steps import (
    AdapterFailure,
    AdapterReturn,
    AddNic,
    AllLinksDown,
    AllLinksUp,
    CheckRecords,
    KillAgent,
    LinkDown,
    LinkFlap,
    LinkUp,
    OffloadNow,
    Rehash,
    ReloadNow,
    RemoveNic,
    Run,
    UploadNow,
    Wait,
    connection_of,
)
from scenarios.timeline import Due, Facts, Timeline

GRACE_S = 5.0
"""Over the scenario's limit, for clients to give up by themselves."""
RECORDS_S = 0.01
"""Between two looks at the agent's records while a step waits for them, at least."""
CHECK_S = 0.05
"""Between two comparisons of records and sockets."""
READY_S = 10.0
"""For a process that was started again to be ready; it takes a fraction of a second."""
DRAIN_S = 10.0
EXAMPLES = 10
"""Of differences between records and sockets, in one event."""

Act = Callable[[], None]


class Play:
    """The traffic and the timeline of one run, from the traffic's start on."""

    def __init__(self, bench: Bench) -> None:
        """The clock starts here."""
        self.bench, self.zero = bench, time.monotonic()
        self.timeline = Timeline.of(bench.scenario.timeline, bench.scenario.seed)
        self.down: set[str] = set()
        self._traffic = dict(sorted(bench.scenario.traffic.items(), key=lambda item: item[1].at))
        self._asked, self._took = 0.0, 0.0
        self._records: dict[str, list[Event]] = {}
        self._later: list[tuple[float, int, Act]] = []
        self._order = count()
        self._hold: tuple[Callable[[], bool], float, str] | None = None
        """What the timeline waits for before its next step, until when, and what to say then."""

    def run(self) -> None:
        """Until all steps are done and all clients have ended. Raises RunError, TimelineError, LocalError."""
        scenario = self.bench.scenario
        names = set(scenario.traffic)
        deadline = self.zero + max(t.at for t in scenario.traffic.values()) + scenario.limit + GRACE_S
        while self._busy() or not names <= self.bench.done:
            now = time.monotonic() - self.zero
            for name in [name for name, traffic in self._traffic.items() if traffic.at <= now]:
                del self._traffic[name]
                self.bench.start_traffic(name)
            if self._later and self._later[0][0] <= now:
                heapq.heappop(self._later)[2]()
                continue
            if self._held(now):
                pass
            elif self.timeline.ready_in(now) == 0.0 and now - self._asked >= max(RECORDS_S, 2 * self._took):
                self._step(now)
                continue
            if time.monotonic() > deadline and not names <= self.bench.done:
                missing = ", ".join(sorted(names - self.bench.done))
                raise RunError(f"{missing} did not end within the limit of {scenario.limit:g} s")
            self.bench.look()
            time.sleep(POLL_S)

    def _busy(self) -> bool:
        return bool(self._later or self._hold) or not self.timeline.finished

    def _held(self, now: float) -> bool:
        """Whether the step before this one is still being done. Raises RunError at its limit."""
        if self._hold is None:
            return False
        holds, until, what = self._hold
        if holds():
            self._hold = None
        elif now > until:
            raise RunError(what)
        return self._hold is not None

    def _until(self, holds: Callable[[], bool], limit: float, what: str) -> None:
        self._hold = (holds, time.monotonic() - self.zero + limit, what)

    def _after(self, seconds: float, act: Act) -> None:
        heapq.heappush(self._later, (time.monotonic() - self.zero + seconds, next(self._order), act))

    def _step(self, now: float) -> None:
        self.bench.look()
        due, self.timeline = self.timeline.advance(now, self._facts())
        self._asked = now if due is None else 0.0
        if due is not None:
            self._do(due)

    def _facts(self) -> Facts:
        bench = self.bench
        began = time.monotonic()
        if bench.connections:
            self._records = self._look_up()
        self._took = time.monotonic() - began
        counts = {name: traffic.count for name, traffic in bench.scenario.traffic.items()}
        offloaded = {name: sum(r["offloaded"] for r in records) for name, records in self._records.items()}
        all_there = {name for name, ones in bench.connections.items() if len(ones) >= counts[name]}
        ever = {name for name in all_there if bench.ever_offloaded.issuperset(bench.connections[name])}
        return Facts(
            nics=[nic.name for nic in bench.topology.nics],
            down=frozenset(self.down),
            carrying={
                name: Counter(record["nic"] for record in records).most_common(1)[0][0]
                for name, records in self._records.items()
                if records and name not in bench.done
            },
            connected=frozenset(all_there),
            offloaded=frozenset(name for name in all_there if offloaded.get(name) == counts[name]),
            uploaded=frozenset(name for name in ever if not offloaded.get(name)),
            done=frozenset(bench.done),
        )

    def _look_up(self) -> dict[str, list[Event]]:
        """The records, or those last known while an agent is gone as part of the scenario."""
        try:
            return self.bench.records()
        except LocalError:
            if self.bench.children.killed("agent") or not self.bench.seen("agent", "ready"):
                return self._records
            raise

    # ------------------------------------------------------------------------------------------- the steps

    def _do(self, due: Due) -> None:
        step, nic, bench = due.step, due.nic or "", self.bench
        keys: dict[str, object] = {"index": due.index, "do": step.do, "at": step.at}
        keys |= {"nic": nic} if nic else {}
        keys |= {key: found for key in ("connection", "until", "node", "command") if (found := getattr(step, key, ""))}
        # Before the deed, so that what follows from it comes later in the record.
        bench.emit("step", **keys)
        name = connection_of(step) or ""
        match step:
            case LinkDown():
                self._link_down(nic)
            case LinkUp():
                self._link_up(nic)
            case LinkFlap():
                for turn in range(step.times):
                    self._after(turn * (step.down + step.up), partial(self._link_down, nic))
                    self._after(turn * (step.down + step.up) + step.down, partial(self._link_up, nic))
            case AllLinksDown():
                bench.network.all_links_down()
                self.down |= {one.name for one in bench.topology.nics}
            case AllLinksUp():
                bench.network.all_links_up()
                self.down.clear()
            case AdapterFailure():
                # Stopped first: else it would still tell of its link, and its contexts could be saved in time.
                bench.children.send(nic, signal.SIGSTOP)
                bench.network.adapter_failure(nic)
                self.down.add(nic)
                bench.kill(nic)
            case AdapterReturn():
                bench.network.adapter_replace(nic)
                # Its links come up behind its engine: an adapter without one would answer for what it does not know.
                self._restart(nic, then=partial(self._adapter_back, nic))
            case Rehash():
                bench.rehash(name, nic)
            case OffloadNow() | ReloadNow() | UploadNow():
                bench.command(step.do, name, nic or None)
            case RemoveNic():
                bench.membership(step.do, nic)
                self._until(partial(self._drained, nic), DRAIN_S, f"{nic} was not drained within {DRAIN_S:g} s")
            case AddNic():
                self._link_up(nic)
                bench.membership(step.do, nic)
            case KillAgent():
                self._kill_agent(step.after)
            case CheckRecords():
                self._check(step.limit)
            case Run():
                self._run(due.index, step)
            case Wait():
                pass

    def _link_down(self, nic: str) -> None:
        self.bench.network.link_down(nic)
        self.down.add(nic)

    def _link_up(self, nic: str) -> None:
        self.bench.network.link_up(nic)
        self.down.discard(nic)

    def _drained(self, nic: str) -> bool:
        """Whether no record names it any more; then its link goes down."""
        records = (record for records in self.bench.records().values() for record in records)
        if any(record["offloaded"] and record["nic"] == nic for record in records):
            return False
        self._link_down(nic)  # now the switch learns that it is no member any more
        return True

    def _adapter_back(self, nic: str) -> None:
        self.bench.network.adapter_return(nic)
        self.down.discard(nic)

    def _restart(self, who: str, then: Act | None = None) -> None:
        def ready() -> bool:
            if not self.bench.seen(who, "ready"):
                return False
            if then:
                then()
            return True

        self.bench.restart(who)
        self._until(ready, READY_S, f"{who} was not ready again within {READY_S:g} s")

    def _kill_agent(self, after: float) -> None:
        self.bench.kill("agent")
        if after:
            self._after(after, partial(self.bench.restart, "agent"))
        else:
            self._restart("agent")

    def _check(self, limit: float) -> None:
        """Compare until they agree, for a connection may be on its way between two engines; then tell."""
        began, looked = time.monotonic(), 0.0

        def agreed() -> bool:
            nonlocal looked
            if time.monotonic() - looked < CHECK_S:
                return False
            held, found = self.bench.differences()
            looked = time.monotonic()
            late = looked - began > limit
            if late or not found:
                self.bench.emit("records_checked", connections=held, differences=len(found), examples=found[:EXAMPLES])
            return late or not found

        self._until(agreed, limit + READY_S, "records and sockets could not be compared")

    def _run(self, index: int, step: Run) -> None:
        who = f"step-{index + 1}"
        self.bench.start_command(who, step.node, step.command)
        what = f"step {index + 1}: `{step.command}` did not end within {step.limit:g} s"
        self._until(lambda: not self.bench.children.running(who), step.limit, what)
