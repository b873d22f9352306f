"""Counts where frames that are for everybody arrive, in a whole run's network, through a list of faults.

Runs inside a sandbox: `main(shape)` prints one JSON document, by fault and frame how often it came to each station. A
station is a node with a packet socket and a raw one, this file's own `listen` in a process there; frames are told apart
by a number in their payload.
"""

from __future__ import annotations

import itertools
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from pathlib import Path

MAGIC = b"for all:"
DEADLINE_S = 8.0
SCENARIO = """
scenario: census
about: Counts.
network: {{shape: {shape}, nics: {nics}, clients: 3}}
services: {{files: {{listen: 8080}}}}
traffic: {{never: {{client: c1, service: files, receive: 1B}}}}
expect: [never.intact]
"""


def listen(interface: str) -> None:
    """The life of a station: `send HEX` and `count` come in by lines; a JSON object of counts goes out."""
    everything = 3  # ETH_P_ALL
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(everything))
    with wire, selectors.DefaultSelector() as ready:
        wire.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        wire.bind((interface, everything))
        ready.register(wire, selectors.EVENT_READ)
        ready.register(sys.stdin, selectors.EVENT_READ)
        seen: Counter[int] = Counter()
        print("{}", flush=True)
        while True:
            for key, _ in ready.select():
                if key.fileobj is wire:
                    frame, (_, _, kind, *_) = wire.recvfrom(2048)
                    at = frame.find(MAGIC)
                    if at >= 0 and kind != socket.PACKET_OUTGOING:
                        seen[struct.unpack_from("!I", frame, at + len(MAGIC))[0]] += 1
                    continue
                word, _, rest = os.read(0, 65536).decode().strip().partition(" ")
                if not word:
                    return
                if word == "send":
                    wire.send(bytes.fromhex(rest))
                print(json.dumps(seen), flush=True)


@dataclass
class Station:
    """An interface of a node that hears what is for everybody."""

    node: str
    interface: str
    mac: str
    ip4: str
    ip6: str
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def name(self) -> str:
        return f"{self.interface} of {self.node}"

    def ask(self, line: str) -> dict[int, int]:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin
        assert stdout
        stdin.write(line.encode() + b"\n")
        stdin.flush()
        return {int(number): count for number, count in json.loads(stdout.readline()).items()}


def frames(of: Station, team_ip4: str, number: Callable[[], int]) -> Iterator[tuple[str, int, bytes]]:
    """An ARP request for the team, an IPv6 frame to all nodes, an IPv4 one to a group that nobody has asked for."""
    source, ip4, ip6 = bytes.fromhex(of.mac.replace(":", "")), ip_address(of.ip4).packed, ip_address(of.ip6).packed

    def mark() -> tuple[int, bytes]:
        one = number()
        return one, MAGIC + struct.pack("!I", one)

    one, payload = mark()
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, source, ip4, bytes(6), ip_address(team_ip4).packed)
    yield "broadcast", one, b"\xff" * 6 + source + b"\x08\x06" + arp + payload
    one, payload = mark()
    no_next_header = 59
    head = struct.pack("!IHBB", 6 << 28, len(payload), no_next_header, 255)
    all_nodes = ip_address("ff02::1").packed
    yield "IPv6 multicast", one, bytes.fromhex("333300000001") + source + b"\x86\xdd" + head + ip6 + all_nodes + payload
    one, payload = mark()
    experimental = 253
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 8, experimental, 0)
    group = ip_address("239.255.77.9").packed
    ip = head + ip4 + group
    total = sum(struct.unpack("!10H", ip))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    ip = ip[:10] + struct.pack("!H", checksum) + ip[12:]
    yield "unknown multicast", one, bytes.fromhex("01005e7f4d09") + source + b"\x08\x00" + ip + payload


class Census:
    """A run's bench that is up, and its stations."""

    def __init__(self, shape: str, nics: int) -> None:
        from scenarios.bench import Bench
        from scenarios.events import Emitter
        from scenarios.load import load
        from topologies import sandbox

        out = Path("/run/census")
        (out / "logs").mkdir(parents=True)
        events = os.open(out / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        scenario = load(SCENARIO.format(shape=shape, nics=nics), "census.yaml")
        self.bench = Bench(scenario, sandbox.RUN_DIR, out, Emitter("census", events))
        self.topology, self.network = self.bench.topology, self.bench.network
        self.sent: list[tuple[str, str, str, int]] = []
        self._numbers = itertools.count(1)

    def up(self) -> None:
        """Bench and stations."""
        self.bench.up()
        topology, router = self.topology, self.topology.router
        self.teams = [Station(topology.server, team.name, team.mac, team.ip4, team.ip6) for team in topology.teams]
        at_switch = [client for client in topology.clients if not client.routed]
        self.others = [Station(one.name, one.interface, one.mac, one.ip4, one.ip6) for one in at_switch]
        if router:
            self.others.append(Station(router.name, router.interface, router.mac(), router.ip4, router.ip6))
        self.stations = (*self.teams, *self.others)
        pipe = subprocess.PIPE
        for station in self.stations:
            argv = [sys.executable, __file__, station.interface]
            station.process = self.network.popen(station.node, argv, stdin=pipe, stdout=pipe)
        for station in self.stations:
            assert station.process.stdout
            assert station.process.stdout.readline() == b"{}\n", f"no station at {station.node}"

    def send(self, fault: str, deadline_s: float = DEADLINE_S) -> bool:
        """From a client (or the router) and from the first team, one of each kind. Whether all have arrived."""
        wanted: dict[int, list[Station]] = {}
        for sender in (self.others[0], self.others[-1], self.teams[0]):
            for kind, number, frame in frames(sender, self.topology.team.ip4, lambda: next(self._numbers)):
                sender.ask(f"send {frame.hex()}")
                self.sent.append((fault, kind, sender.name, number))
                wanted[number] = [one for one in self.stations if one is not sender]
        deadline = time.monotonic() + deadline_s
        for station in self.stations:
            mine = {number for number, stations in wanted.items() if station in stations}
            while not mine <= station.ask("count").keys():
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.005)
        return True

    def forwarded(self) -> bool:
        """Whether everything arrives by now; these frames do not count."""
        before = len(self.sent)
        arrived = self.send("on the way", 0.2)
        del self.sent[before:]
        return arrived

    def told(self) -> list[dict[str, object]]:
        """Each frame, with how often it came to every other station, and back to its sender."""
        counts = {station.name: station.ask("count") for station in self.stations}
        told = []
        for fault, kind, sender, number in self.sent:
            arrived = {name: seen.get(number, 0) for name, seen in counts.items()}
            back = arrived.pop(sender)
            told.append({"fault": fault, "kind": kind, "from": sender, "arrived": arrived, "back": back})
        return told

    # ------------------------------------------------------------------------------------------------ faults

    def faults(self) -> Iterator[str]:
        """Does one after the other; its name comes out when everybody has taken notice."""
        network, bench, first, second = self.network, self.bench, *self.topology.nics[:2]
        yield "none"
        network.link_down(first.name)
        self.settle({first.name})
        yield "link down"
        network.link_up(first.name)
        self.settle()
        yield "link up"
        network.black_hole(second.name)
        network.heal(second.name)
        yield "black hole healed"
        bench.set_switch({"seed": 77})
        yield "another hash"
        if router := self.topology.router:
            mac = network.change_router_mac()
            self.others[-1].mac = mac
            yield f"{router.name} with another MAC"
        network.all_links_down()
        self.hear({nic.name for nic in self.topology.nics})
        network.all_links_up()
        self.settle()
        yield "all links down and up"
        bench.children.send(second.name, signal.SIGSTOP)
        network.adapter_failure(second.name)
        bench.kill(second.name)
        bench.await_(partial(self.used, {second.name}), f"the switch to leave {second.name}")
        yield "adapter gone"
        network.adapter_replace(second.name)
        bench.restart(second.name)
        bench.await_event(second.name, "ready")
        network.adapter_return(second.name)
        self.settle()
        yield "adapter back"
        if self.topology.uplinks:
            behind = {nic.name for nic in self.topology.nics if nic.switch == first.switch}
            for name in behind:
                network.link_down(name)
            self.settle(behind)
            yield "no member left at one switch"
            for name in behind:
                network.link_up(name)
            self.settle()
        else:
            bench.use_member(first.name, False)
            yield "taken out"
            bench.use_member(first.name, True)
            self.settle()
            yield "taken back"
        for switch in sorted({nic.switch for nic in self.topology.nics}):
            network.switch_down(switch)
            gone = {nic.name for nic in self.topology.nics if nic.switch == switch}
            if len(gone) < len(self.topology.nics):
                self.settle(gone)
                yield f"{switch} down"
            network.switch_up(switch)
            self.settle()
            yield f"{switch} up"
        bench.kill("controller")
        yield "controller dead"
        network.link_down(second.name)
        self.hear({second.name})
        yield "controller dead, link down"
        network.link_up(second.name)
        self.hear()
        bench.restart("controller")
        bench.await_(bench.switches_ready, "the controller")
        self.settle()
        yield "controller restarted"
        bench.forget_switches()
        network.kill_switch()
        network.restart_switch()
        bench.await_(bench.switches_ready, "Open vSwitch")
        self.settle()
        yield "Open vSwitch restarted"
        yield "at the end"  # its frames come behind all others, copies too many included

    def hear(self, gone: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """Wait until the agents know which links are up."""
        wanted = {nic.name: nic.name not in gone for nic in self.topology.nics}
        self.bench.await_(lambda: wanted.items() <= self.bench.known.links.items(), f"links but {gone}")

    def settle(self, gone: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """Wait until agents and switches use all members but these."""
        self.hear(gone)
        self.bench.await_(partial(self.used, gone), f"members but {gone}")

    def used(self, gone: set[str]) -> bool:
        """Whether the switches use all members but these."""
        from scenarios import local

        topology = self.topology
        left = [nic for nic in topology.nics if nic.name not in gone]
        for switch in topology.switches:
            told = local.ask(self.bench.cast.controller, {"do": "members", "switch": switch.name})["lags"]
            for team in topology.teams:
                mine = [nic for nic in left if nic in team.nics]
                wanted = {port for nic in mine for name, port in topology.way_to(nic) if name == switch.name}
                if team.name in told and set(told[team.name]["active"]) != wanted:
                    return False
        return True


def main(shape: str, nics: int) -> None:
    """The whole census of one shape."""
    census = Census(shape, nics)
    try:
        census.up()
        for fault in census.faults():
            # What has been decided must have arrived: at the switches, and at the flows that Open vSwitch has cached.
            census.bench.await_(census.forwarded, f"frames to arrive everywhere: {fault}")
            census.send(fault)
        print(json.dumps(census.told()), flush=True)
    finally:
        census.bench.down()


if __name__ == "__main__":
    listen(sys.argv[1])
