"""The method's text as a small model, to hold the records, the policy and the BPF programs against.

Written from the sentences of the method and of docs/, not from decision.py: other words, other shapes, one clause after
the other. It knows what is on record and what is told to the agent; it knows nothing of maps, epochs' uses or verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

HALF = 2**31


@dataclass(frozen=True)
class Segment:
    """One TCP segment: its bits by letter (S, A, F, R), numbers, payload, and its length on the wire."""

    bits: str
    seq: int = 0
    ack: int = 0
    payload: int = 0
    length: int = 0

    @property
    def opens(self) -> bool:
        return "S" in self.bits and "A" not in self.bits and "R" not in self.bits

    @property
    def end(self) -> int:
        return (self.seq + self.payload + 1) % 2**32


@dataclass
class Entry:
    """One line of the table: NIC id and offload flag, and what has been counted."""

    nic: int
    born: int
    seen: int
    offloaded: bool = False
    moving: str = ""  # "", held, silent
    epoch: int = 0
    done: bool = False
    asked: bool = False  # the offload was asked for
    strays: int = 0  # since the last move
    first: int = 0
    all_strays: int = 0
    packets: int = 1
    came: int = 0
    went: int = 0
    into_host: int = 0
    hushed: int = 0
    peer_end: int | None = None
    host_end: int | None = None
    agreed: set[str] = field(default_factory=set)  # whose end of stream the other side has acknowledged

    @property
    def ends(self) -> bool:
        """An end of stream was seen, of either side."""
        return not (self.peer_end is None and self.host_end is None)

    def said(self, of: str, segment: Segment) -> None:
        """A segment of `peer` or `host` that the host's TCP took or sent: what it says of the ends of the streams."""
        if "S" in segment.bits:
            self.peer_end = self.host_end = None
            self.agreed.clear()
            self.done = self.done and not (of == "peer" and segment.opens)
            return
        if "F" in segment.bits and of == "peer":
            self.peer_end = segment.end
        elif "F" in segment.bits:
            self.host_end = segment.end
        theirs = self.host_end if of == "peer" else self.peer_end
        if "A" in segment.bits and theirs is not None and (segment.ack - theirs) % 2**32 < HALF:
            self.agreed.add("host" if of == "peer" else "peer")
        if self.agreed == {"peer", "host"}:
            self.done = True


@dataclass(frozen=True)
class Fate:
    """block: 404, 408, 412 or 414. way: up, owner or queue. told: what the agent hears, in order."""

    block: int
    way: str
    told: tuple[str, ...]


@dataclass
class Method:
    """The table and the settings. room: how many lines it has. Times in ns."""

    room: int
    enough_strays: int = 1
    enough_time: int | None = None
    by_bytes: int | None = None
    by_age: int | None = None
    services: dict[int, tuple[int | None, int | None]] = field(default_factory=dict)  # port: bytes, age
    table: dict[object, Entry] = field(default_factory=dict)

    def arrival(self, who, nic: int, s: Segment, now: int) -> Fate:
        """A NIC hands a frame to the teaming software."""
        old = self.table.get(who)
        if old and old.done and not old.moving and s.opens:
            fresh = self.table[who] = Entry(nic, now, now, came=s.length)
            fresh.epoch = old.epoch + 1
            return Fate(404, "up", ("closed",))
        if not old:
            if "R" in s.bits:
                return Fate(404, "up", ())
            if len(self.table) >= self.room:
                return Fate(404, "up", ("full",))
            self.table[who] = Entry(nic, now, now, came=s.length)
            return Fate(404, "up", ())
        e, told = old, []
        e.packets, e.came, e.seen = e.packets + 1, e.came + s.length, now
        block = 408 if e.nic == nic else 414 if e.offloaded else 412
        e.all_strays += block == 414
        if e.moving:
            return Fate(block, "queue", ())
        if block == 412:
            e.nic = nic
        if block == 414:
            e.strays += 1
            if e.strays == 1:
                e.first = now
            waited = self.enough_time is not None and now - e.first >= self.enough_time
            if not e.done and (e.strays >= self.enough_strays or waited):
                told.append("stray")
        if e.offloaded:
            return Fate(block, "owner", tuple(told))
        if "R" in s.bits:
            del self.table[who]
            return Fate(block, "up", ("closed",))
        return Fate(block, "up", ("due",) if self._becomes_due(who, e, s, now) else ())

    def enters(self, who, s: Segment, *, released: bool) -> bool:
        """A frame at the door of the host's TCP: does it get in?"""
        e = self.table.get(who)
        if e and (e.offloaded or (e.moving and not released)):
            return False
        if e:
            e.into_host += 1
            e.said("peer", s)
        return True

    def leaves(self, who, s: Segment, now: int, live: set[int]) -> tuple[bool, tuple[str, ...]]:
        """A segment of the host's TCP: does it go out, and what is told?"""
        e = self.table.get(who)
        if e and e.done and not e.moving and s.opens:
            del self.table[who]
            return bool(live), ("closed",)
        if not e:
            return bool(live), ()
        late = "R" in s.bits and e.agreed == {"peer", "host"}  # the kernel's, for what came behind the end
        if e.offloaded or e.moving == "silent" or late:
            e.hushed += 1
            return False, ()
        e.went += s.length
        e.said("host", s)
        if "R" in s.bits and e.moving:  # whoever moves it finds out
            told, e.done = () if e.done else ("closed",), True
            return bool(live), told
        if "R" in s.bits:
            del self.table[who]
            return bool(live), ("closed",)
        return bool(live), ("due",) if self._becomes_due(who, e, s, now) else ()

    def moved(self, who, *, nic: int | None) -> None:
        """A context has a new owner: a NIC, or None for the host."""
        e = self.table[who]
        e.offloaded, e.nic = nic is not None, e.nic if nic is None else nic
        e.moving, e.epoch, e.strays = "", e.epoch + 1, 0

    def too_old(self, active: dict[object, int], now: int, age: float, linger: float) -> tuple[set, set]:
        """Whose lines go, and who goes to the host first."""
        go, up = set(), set()
        for who, e in self.table.items():
            if e.moving:
                continue
            if not e.offloaded:
                if now - e.seen >= (linger if e.done else age):
                    go.add(who)
            elif who in active:
                if now - max(e.seen, active[who]) >= age:
                    up.add(who)
            elif e.done and now - e.seen >= linger:
                go.add(who)
        return go, up

    def _becomes_due(self, who, e: Entry, s: Segment, now: int) -> bool:
        size, age = self.services.get(who.dport, (self.by_bytes, self.by_age))
        enough = (size is not None and e.came + e.went >= size) or (age is not None and now - e.born >= age)
        shaking_hands = e.packets <= 2 or "S" in s.bits
        if e.asked or e.offloaded or e.done or e.moving or shaking_hands or not enough:
            return False
        e.asked = True
        return True
