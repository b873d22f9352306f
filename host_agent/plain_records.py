"""The records in plain Python: another keeper than the BPF maps, with the same frame path.

Decides: nothing; decision.py does, frame by frame. Never touches: the kernel, clocks; time is passed in.

The agent asks a RecordKeeper for records and tells it what to change; where they lie is the keeper's affair. Tests use
this one to run the method without a kernel, and hold the BPF programs against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from host_agent.ageing import may_be_old
from host_agent.connection import Connection
from host_agent.decision import Action, By, Frame, Outward, Record, Verdict, figure_4, from_host, into_host
from host_agent.flood import is_half_open
from host_agent.records import COUNTED, Assignment, RecordsFull, Report, ReportKind, Slice, Slices, Team, Threshold

_COUNTED_AS = {Action.UP: "up", Action.FORWARD: "forwarded", Action.HOLD: "held"}


class PlainRecords:
    """A RecordKeeper. `arrive`, `enter` and `leave` are what bus_in, host_in and team_out of bpf/team.bpf.c do."""

    def __init__(self, capacity: int = 65536, take: Callable[[Report], None] = lambda report: None):
        """take: is given the frame path's reports."""
        self._records: dict[Connection, Record] = {}
        self._services: dict[int, Threshold] = {}
        self._counts: dict[int, dict[str, int]] = {}
        self._told_full: dict[int, int] = {}
        self._capacity, self._take = capacity, take
        self.team = Team()

    # -- as RecordKeeper ---------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        return self._capacity

    def get(self, connection: Connection) -> Record | None:
        return self._records.get(connection)

    def all(self) -> Iterator[tuple[Connection, Record]]:
        return iter(list(self._records.items()))

    def few(self) -> Slice | None:
        return list(self._records.items())

    def slices(self) -> Iterator[list[tuple[Connection, Record]]]:
        yield list(self._records.items())

    def quiet(self, since: int, closed_since: int, *, half_open: bool = False) -> Slices:
        old = [(c, r) for c, r in self._records.items() if may_be_old(r, since, closed_since)]
        yield [(c, r) for c, r in old if is_half_open(r)] if half_open else old

    def tally(self) -> Iterator[Counter[tuple[int, bool]]]:
        yield Counter((record.nic, record.offloaded) for record in self._records.values())

    def put(self, connection: Connection, record: Record) -> None:
        """Raises RecordsFull."""
        if connection not in self._records and len(self._records) >= self._capacity:
            raise RecordsFull(f"{connection}: {self._capacity} records are all there is room for")
        self._records[connection] = record

    def delete(self, connection: Connection) -> bool:
        return self._records.pop(connection, None) is not None

    def assign(self, assignments: Sequence[Assignment]) -> list[bool]:
        return [self._assigned(one) for one in assignments]

    def _assigned(self, a: Assignment) -> bool:
        record = self._records.get(a.connection)
        if record is None or record.epoch != a.epoch:
            return False
        self._records[a.connection] = replace(
            record,
            nic=a.nic,
            offloaded=a.offloaded,
            stage=a.stage,
            due=record.due if a.due is None else a.due,
            closing=record.closing if a.closing is None else a.closing,
            fins=record.fins | a.fins,
            epoch=(a.epoch + a.moved) % 2**32,
            forwarded=0 if a.moved else record.forwarded,
        )
        return True

    def set_service(self, port: int, threshold: Threshold | None) -> None:
        if threshold is None:
            self._services.pop(port, None)
        else:
            self._services[port] = threshold

    def counts(self, nic: int) -> dict[str, int]:
        return dict(self._counts_of(nic))

    # -- the frame path ----------------------------------------------------------------------------------------------

    def arrive(self, connection: Connection, frame: Frame, now: int) -> Verdict:
        """A frame that a NIC handed over: Figure 4."""
        team, threshold = self.team, self._threshold(connection)
        before = self._records.get(connection)
        verdict = figure_4(
            before,
            frame,
            now,
            offload_after=threshold.after_bytes,
            offload_after_ns=threshold.after_ns,
            report_every=team.report_every,
            stray_frames=team.stray_frames,
            stray_after=team.stray_after,
        )
        counts = self._counts_of(frame.nic)
        counts[verdict.block.label] += 1
        counts[_COUNTED_AS[verdict.action]] += 1
        epoch = before.epoch if before else 0
        if verdict.closed is By.REUSE and before is not None:
            self._tell(ReportKind.CLOSED, connection, frame, now, before.nic, epoch, by=By.REUSE)
        after = verdict.record
        if before is None and after is not None and len(self._records) >= self._capacity:
            counts["unrecorded"] += 1
            if now - self._told_full.get(frame.nic, 0) >= team.report_every:
                self._told_full[frame.nic] = now
                self._tell(ReportKind.FULL, connection, frame, now, frame.nic, epoch)
        else:
            self._set(connection, after)
        if verdict.new_hop and before is not None:
            self._tell(ReportKind.NEW_HOP, connection, frame, now, before.nic, epoch)
        if verdict.stray:
            on_the_way = {"block": verdict.block, "action": Action.FORWARD}
            self._tell(ReportKind.STRAY, connection, frame, now, frame.nic, epoch, **on_the_way)
        if verdict.closed is By.PEER:
            self._tell(ReportKind.CLOSED, connection, frame, now, frame.nic, epoch, by=By.PEER)
        if verdict.due and after is not None:
            self._tell(ReportKind.DUE, connection, frame, now, after.nic, epoch)
        if team.trace:
            epoch = after.epoch if verdict.closed is By.REUSE and after is not None else epoch
            on_the_way = {"block": verdict.block, "action": verdict.action}
            self._tell(ReportKind.TRACE, connection, frame, now, frame.nic, epoch, **on_the_way)
        return verdict

    def enter(self, connection: Connection, frame: Frame, *, released: bool = False) -> Action:
        """A frame that was let up, at the door of the host's TCP."""
        action, record = into_host(self._records.get(connection), frame, released=released)
        self._set(connection, record)
        return action

    def leave(self, connection: Connection, frame: Frame, now: int) -> Outward:
        """A segment of the host's TCP."""
        threshold = self._threshold(connection)
        before = self._records.get(connection)
        outward = from_host(
            before,
            frame,
            now,
            live=frozenset(self.team.live),
            offload_after=threshold.after_bytes,
            offload_after_ns=threshold.after_ns,
        )
        self._set(connection, outward.record)
        if before is not None and outward.closed:
            self._tell(ReportKind.CLOSED, connection, frame, now, before.nic, before.epoch, by=outward.closed)
        if before is not None and outward.due:
            self._tell(ReportKind.DUE, connection, frame, now, before.nic, before.epoch)
        return outward

    def _threshold(self, connection: Connection) -> Threshold:
        own = self._services.get(connection.dport)
        return own or Threshold(self.team.offload_after, self.team.offload_after_ns)

    def _counts_of(self, nic: int) -> dict[str, int]:
        return self._counts.setdefault(nic, dict.fromkeys(COUNTED, 0))

    def _set(self, connection: Connection, record: Record | None) -> None:
        if record is None:
            self._records.pop(connection, None)
        else:
            self._records[connection] = record

    def _tell(
        self, kind: ReportKind, c: Connection, frame: Frame, now: int, nic: int, epoch: int, **on: object
    ) -> None:
        what = (frame.seq, frame.ack, frame.payload, frame.flags)
        self._take(Report(now, c, kind, nic, epoch, *what, **on))  # type: ignore[arg-type]
