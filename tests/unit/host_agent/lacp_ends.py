"""Two ends of LACP on simulated wires: what one says, the other hears, unless its wire is cut, deaf or lossy."""

import random
from dataclasses import dataclass, field

from host_agent.lacp import Lacp
from host_agent.lacp_pdu import Lacpdu, pack, unpack

HOST, SWITCH, OTHER = (bytes.fromhex(f"02000000000{n}") for n in (1, 7, 8))
DELAY = 0.001  # seconds on the wire


@dataclass
class Wire:
    """From one end's member to another end's. loss: 0 to 1, each way; carrier: of both ends."""

    a: tuple[str, int]
    b: tuple[str, int]
    loss: dict[str, float] = field(default_factory=dict)  # by sender
    carrier: bool = True


class World:
    """Named ends, wires between their members, and a clock that goes from one event to the next."""

    def __init__(self, ends: dict[str, Lacp], wires: list[Wire], seed: int = 0):
        self.ends, self.wires, self.random, self.now = ends, wires, random.Random(seed), 0.0
        self.flying: list[tuple[float, int, tuple[str, int], Lacpdu]] = []
        self.heard: dict[tuple[str, int], float] = {}
        self.sent: dict[tuple[str, int], list[float]] = {}
        self.miswired: dict[str, list[list[int]]] = {}
        self.count = 0
        for wire in wires:
            self.carrier(wire, True)

    def carrier(self, wire: Wire, up: bool) -> None:
        wire.carrier = up
        for name, member in (wire.a, wire.b):
            self.do(name, self.ends[name].carrier(member, up, self.now))

    def do(self, name: str, doings) -> None:
        for member, pdu in doings.send:
            self.sent.setdefault((name, member), []).append(self.now)
            wire = next((w for w in self.wires if (name, member) in (w.a, w.b)), None)
            if wire is None or not wire.carrier or self.random.random() < wire.loss.get(name, 0):
                continue
            to = wire.b if wire.a == (name, member) else wire.a
            self.count += 1
            same = unpack(pack(pdu, HOST))
            assert same == pdu
            self.flying.append((self.now + DELAY, self.count, to, pdu))
        if doings.miswired:
            self.miswired.setdefault(name, []).append(sorted(doings.miswired.values()))

    def run(self, until: float) -> None:
        """Raises AssertionError when an end has always something to do."""
        steps = 0
        while True:
            due = min([at for at, *_ in self.flying] + [end.due() for end in self.ends.values()])
            if due > until:
                break
            steps += 1
            assert steps < 5_000, "it never rests"
            self.now = max(self.now, due)
            self.flying.sort()
            while self.flying and self.flying[0][0] <= self.now:
                _, _, (name, member), pdu = self.flying.pop(0)
                if name not in self.ends:
                    continue
                self.heard[name, member] = self.now
                self.do(name, self.ends[name].hear(member, pdu, self.now))
            for name, end in self.ends.items():
                if end.due() <= self.now:
                    self.do(name, end.tick(self.now))
        self.now = until

    def usable(self, name: str) -> list[bool]:
        return [port.usable for port in self.ends[name].ports]


def pair(
    nics: int = 1,
    *,
    rates: tuple[bool, bool] = (True, True),
    active: tuple[bool, bool] = (True, True),
    seed: int = 0,
    **words,
) -> World:
    """A host and a switch, member by member; rates: fast?"""
    host = Lacp(HOST, nics, active=active[0], fast=rates[0], **words)
    switch = Lacp(SWITCH, nics, active=active[1], fast=rates[1])
    wires = [Wire(("host", nic), ("switch", nic)) for nic in range(nics)]
    return World({"host": host, "switch": switch}, wires, seed)
