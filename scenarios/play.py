"""The traffic and the timeline of one run: has each step done when it is due.

Decides whose turn it is: clients to start, acts put off, the step that is due, or waiting. Which step is due is
`timeline`'s, what it does is `deeds`'.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count

from scenarios.bench import POLL_S, Bench
from scenarios.conditions import Facts
from scenarios.configs import agent_name
from scenarios.deeds import Act, Deeds
from scenarios.events import Event
from scenarios.local import LocalError
from scenarios.measure import connection_of
from scenarios.processes import RunError
from scenarios.timeline import Timeline

GRACE_S = 5.0
"""Over the scenario's limit, for clients to give up by themselves."""
RECORDS_S = 0.01
"""Between two looks at the agent's records while a step waits for them, at least."""


class Play:
    """The traffic and the timeline of one run, from the traffic's start on."""

    def __init__(self, bench: Bench) -> None:
        """The clock starts here."""
        self.bench, self.zero = bench, time.monotonic()
        self.timeline = Timeline.of(bench.scenario.timeline, bench.scenario.seed)
        self._deeds = Deeds(bench, self)
        self._traffic = dict(sorted(bench.scenario.traffic.items(), key=lambda item: item[1].at))
        self._asked, self._took = 0.0, 0.0
        self._records: dict[str, list[Event]] = {}
        self._later: list[tuple[float, int, Act]] = []
        self._order = count()
        self._hold: tuple[Callable[[], bool], float, str] | None = None
        """What the timeline waits for before its next step, until when, and what to say then."""

    def run(self) -> None:
        """Until all steps are done and all clients have ended. Raises RunError, TimelineError, LocalError."""
        scenario, done = self.bench.scenario, self.bench.known.done
        names = set(scenario.traffic)
        deadline = self.zero + max((t.at for t in scenario.traffic.values()), default=0.0) + scenario.limit + GRACE_S
        while self._busy() or not names <= done:
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
            if time.monotonic() > deadline and not names <= done:
                missing = ", ".join(sorted(names - done))
                raise RunError(f"{missing} did not end within the limit of {scenario.limit:g} s")
            self.bench.look()
            time.sleep(POLL_S)

    def after(self, seconds: float, act: Act) -> None:
        """Do it then; the timeline goes on meanwhile."""
        heapq.heappush(self._later, (time.monotonic() - self.zero + seconds, next(self._order), act))

    def until(self, holds: Callable[[], bool], limit: float, what: str) -> None:
        """The next step waits until it holds; past the limit the run breaks off, with `what`."""
        self._hold = (holds, time.monotonic() - self.zero + limit, what)

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

    def _step(self, now: float) -> None:
        self.bench.look()
        due, self.timeline = self.timeline.advance(now, self._facts())
        self._asked = now if due is None else 0.0
        if due is not None:
            self._deeds.do(due)

    def _facts(self) -> Facts:
        bench, known = self.bench, self.bench.known
        began = time.monotonic()
        if known.connections:
            self._records = self._look_up()
        self._took = time.monotonic() - began
        traffic = bench.scenario.traffic
        # How many connections a command will have, nobody knows: one of them counts for all.
        counts = {name: one.count for name, one in traffic.items()}
        offloaded = {name: sum(r["offloaded"] for r in records) for name, records in self._records.items()}
        all_there = {name for name, ones in known.connections.items() if len(ones) >= counts[name]}
        ever = {
            name
            for name in all_there
            if (any if traffic[name].command else all)(one in known.ever_offloaded for one in known.connections[name])
        }
        return Facts(
            nics=[nic.name for nic in bench.topology.nics],
            down=frozenset(self._deeds.down),
            carrying=self._carrying(),
            connected=frozenset(all_there),
            offloaded=frozenset(name for name in all_there if offloaded.get(name, 0) >= counts[name]),
            uploaded=frozenset(name for name in ever if not offloaded.get(name)),
            done=frozenset(known.done),
            moves=known.moves("offload", "upload", "reload"),
            reloads=known.moves("reload"),
            received=dict(known.received),
            sent=dict(known.sent),
            links=dict(known.links),
        )

    def _carrying(self) -> dict[str, str]:
        """By traffic: of our team the records tell; of another one nobody knows, but which wire is the busiest."""
        bench, known = self.bench, self.bench.known
        if bench.topology.bond:
            busiest = bench.busiest_nic()
            return {name: busiest for name in known.connections if busiest and name not in known.done}
        return {
            name: _busiest([one for one in records if connection_of(one) not in known.closed] or records)
            for name, records in self._records.items()
            if records and name not in known.done
        }

    def _look_up(self) -> dict[str, list[Event]]:
        """The records, or those last known while an agent is gone as part of the scenario."""
        bench = self.bench
        try:
            return bench.records()
        except LocalError:
            agents = [agent_name(team, bench.topology) for team in bench.topology.teams]
            if any(bench.children.killed(one) or not bench.seen(one, "ready") for one in agents):
                return self._records
            raise


def _busiest(records: Sequence[Event]) -> str:
    """The NIC whose connections have carried the most bytes."""
    carried: Counter[str] = Counter()
    for record in records:
        carried[record["nic"]] += 1 + record.get("bytes", 0) + record.get("bytes_out", 0)
    return carried.most_common(1)[0][0]
