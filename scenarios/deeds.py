"""What each step of a timeline does to the network, the processes, the switch and the agent.

Decides what a step's words mean; when a step is due is `timeline`'s, and what it is that waits is `play`'s.
"""

import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from scenarios.bench import Bench
from scenarios.configs import engine_name
from scenarios.steps import (
    AdapterFailure,
    AdapterReturn,
    AddNic,
    AllLinksDown,
    AllLinksUp,
    BlackHole,
    ChangeRouterMac,
    CheckRecords,
    Heal,
    Impair,
    Kill,
    LinkDown,
    LinkFlap,
    LinkUp,
    OffloadNow,
    Rehash,
    ReloadNow,
    RemoveNic,
    Run,
    SetRate,
    SetSwitch,
    SwitchDown,
    SwitchUp,
    SynFlood,
    TakeBack,
    TakeOut,
    UploadNow,
    Wait,
    key_of_nic,
)
from scenarios.timeline import Due

CHECK_S = 0.05
"""Between two comparisons of records and sockets."""
READY_S = 10.0
"""For a process that was started again to be ready; it takes a fraction of a second."""
DRAIN_S = 10.0
LOOK_S = 0.01
"""Between two looks whether an engine is ready."""
EXAMPLES = 10
"""Of differences between records and sockets, in one event."""

OUTPUT = 1000
"""Characters of what a command printed, in one event."""

Act = Callable[[], None]


class Clock(Protocol):
    """Who has acts done later, and keeps the next step waiting."""

    def after(self, seconds: float, act: Act) -> None:
        """Do it then; the timeline goes on meanwhile."""

    def until(self, holds: Callable[[], bool], limit: float, what: str) -> None:
        """The next step waits until it holds; past the limit the run breaks off, with `what`."""


class Deeds:
    """Does steps. `down` holds the NICs that steps have put out of service."""

    def __init__(self, bench: Bench, clock: Clock) -> None:
        """Does nothing yet."""
        self._bench, self._network, self._clock = bench, bench.network, clock
        self.down: set[str] = set()

    def do(self, due: Due) -> None:
        """Do one step. Raises RunError, LocalError, NetworkError."""
        step, nic, bench, network = due.step, due.nic or "", self._bench, self._network
        words = step.model_dump(exclude_defaults=True, exclude={key_of_nic(step)} if due.nic else None)
        # Before the deed, so that what follows from it comes later in the record.
        bench.emit("step", index=due.index, **words, **({"nic": nic} if nic else {}))
        match step:
            case LinkDown():
                self._link_down(nic)
            case LinkUp():
                self._link_up(nic)
            case LinkFlap():
                for turn in range(step.times):
                    self._clock.after(turn * (step.down + step.up), partial(self._link_down, nic))
                    self._clock.after(turn * (step.down + step.up) + step.down, partial(self._link_up, nic))
            case AllLinksDown():
                network.all_links_down()
                self.down |= {one.name for one in bench.topology.nics}
            case AllLinksUp():
                network.all_links_up()
                self.down.clear()
            case AdapterFailure():
                # Stopped first: else it would still tell of its link, and its contexts could be saved in time.
                bench.children.send(nic, signal.SIGSTOP)
                network.adapter_failure(nic)
                self.down.add(nic)
                bench.kill(nic)
            case AdapterReturn():
                network.adapter_replace(nic)
                # Its links come up behind its engine: an adapter without one would answer for what it does not know.
                self._restart(nic, then=partial(self._adapter_back, nic))
            case BlackHole():
                network.black_hole(nic, step.direction)
                self.down.add(nic)
            case Impair():
                network.impair(nic or str(step.client), step.loss, step.corrupt, step.delay, step.jitter)
            case Heal():
                network.heal(nic or str(step.client))
                self.down.discard(nic)
            case SetRate():
                network.set_rate(nic, step.rate)
            case Rehash():
                bench.rehash(step.connection, nic)
            case SetSwitch():
                wanted = {"hash": step.hash, "seed": step.seed, "rebalance": step.rebalance}
                bench.set_switch({key: value for key, value in wanted.items() if value is not None})
            case TakeOut() | TakeBack():
                bench.use_member(nic, isinstance(step, TakeBack))
            case SwitchDown():
                network.switch_down(step.switch)
                self.down |= self._behind(step.switch)
            case SwitchUp():
                network.switch_up(step.switch)
                self.down -= self._behind(step.switch)
            case ChangeRouterMac():
                bench.emit("router_mac", mac=network.change_router_mac(step.announce))
            case OffloadNow() | ReloadNow():
                bench.command(step.do, step.connection, nic or None)
            case UploadNow():
                bench.command(step.do, step.connection, None)
            case RemoveNic():
                bench.membership(step.do, nic)
                self._clock.until(partial(self._drained, nic), DRAIN_S, f"{nic} was not drained within {DRAIN_S:g} s")
            case AddNic():
                self._link_up(nic)
                bench.membership(step.do, nic)
            case Kill():
                self._kill(nic or step.process, step.after)
            case SynFlood():
                bench.cast.start_flood(f"step-{due.index + 1}", step.client, step.service, step.rate, step.time)
            case CheckRecords():
                self._check(step.limit)
            case Run():
                self._run(due.index, step)
            case Wait():
                pass

    def _behind(self, switch: str) -> set[str]:
        return {nic.name for nic in self._bench.topology.nics if nic.switch == switch}

    def _link_down(self, nic: str) -> None:
        self._bench.emit("wire", nic=nic, up=False)
        self._network.link_down(nic)
        self.down.add(nic)

    def _link_up(self, nic: str) -> None:
        self._bench.emit("wire", nic=nic, up=True)
        self._network.link_up(nic)
        self.down.discard(nic)

    def _drained(self, nic: str) -> bool:
        """Whether no record names it any more; then its link goes down."""
        records = (record for records in self._bench.records().values() for record in records)
        if any(record["offloaded"] and record["nic"] == nic for record in records):
            return False
        self._network.link_down(nic)  # now the switch learns that it is no member any more
        self.down.add(nic)
        return True

    def _adapter_back(self, nic: str) -> None:
        self._network.adapter_return(nic)
        self.down.discard(nic)

    def _kill(self, who: str, after: float) -> None:
        if who == "switch":
            self._network.kill_switch()
            self._bench.forget_switches()
        else:
            if self._is_nic(who):
                # A dead NIC says nothing; this one's kernel would end its connections in good order.
                self._network.black_hole(who, "both")
                self.down.add(who)
            self._silence(who, True)
            self._bench.kill(who)
        if after:
            self._clock.after(after, partial(self._start_again, who))
            self._clock.after(after, partial(self._is_back, who))
        else:
            self._restart(who, then=partial(self._is_back, who))

    def _silence(self, who: str, silent: bool) -> None:
        """A dead host says nothing, as a dead NIC; and what its kernel still says of its own accord comes too late."""
        for team in self._bench.topology.teams:
            if who == engine_name(team, self._bench.topology):
                self._network.silence_host(team, silent)

    def _is_nic(self, who: str) -> bool:
        return who in [nic.name for nic in self._bench.topology.nics]

    def _is_back(self, who: str) -> None:
        """Looks until it is; the run does not end before."""
        if not self._ready(who):
            self._clock.after(LOOK_S, partial(self._is_back, who))
        elif self._is_nic(who):
            self._network.heal(who)
            self.down.discard(who)
        else:
            self._silence(who, False)

    def _ready(self, who: str) -> bool:
        if who in ("controller", "switch"):
            return self._bench.switches_ready()
        return self._bench.seen(who, "ready")

    def _start_again(self, who: str) -> None:
        if who == "switch":
            self._network.restart_switch()
        else:
            self._bench.restart(who)

    def _restart(self, who: str, then: Act | None = None) -> None:
        def ready() -> bool:
            if not self._ready(who):
                return False
            if then:
                then()
            return True

        self._start_again(who)
        self._clock.until(ready, READY_S, f"{who} was not ready again within {READY_S:g} s")

    def _check(self, limit: float) -> None:
        """Compare until they agree, for a connection may be on its way between two engines; then tell."""
        bench, began, looked = self._bench, time.monotonic(), 0.0

        def agreed() -> bool:
            nonlocal looked
            if time.monotonic() - looked < CHECK_S:
                return False
            held, found = bench.differences()
            looked = time.monotonic()
            late = looked - began > limit
            if late or not found:
                bench.emit("records_checked", connections=held, differences=len(found), examples=found[:EXAMPLES])
            return late or not found

        self._clock.until(agreed, limit + READY_S, "records and sockets could not be compared")

    def _run(self, index: int, step: Run) -> None:
        who = f"step-{index + 1}"
        self._bench.cast.start_command(who, step.node, step.command, may_fail=step.name is not None)

        def ended() -> bool:
            if self._bench.children.running(who):
                return False
            self._bench.children.check()  # else a shell that was killed left no status to read
            if step.name is not None:
                told = [(self._bench.run_dir / f"{who}.{one}").read_text(errors="replace") for one in ("status", "out")]
                output = " ".join(told[1].split())[-OUTPUT:]
                self._bench.emit("ran", name=step.name, exit_status=int(told[0]), output=output)
            return True

        what = f"step {index + 1}: `{step.command}` did not end within {step.limit:g} s"
        self._clock.until(ended, step.limit, what)
