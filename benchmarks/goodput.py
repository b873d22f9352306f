"""Goodput, latency and many small requests of an offloaded connection, beside the same application without all that.

Decides: the peers. All have the same link rate and the same application.

    ours             c1 ── s1 ── nic0 ── server    offloaded: the NIC's TCP, and the relay to the application
    direct           c1 ──────────────── server    one link; the server's own TCP; no team, no NIC, no relay, no switch
    through a switch c1 ── s1 ── c2                one link behind the same switch: what the switch alone costs
    without a switch c3 ──────── nic1 ── server    offloaded, and the client is on the NIC's wire: what we alone cost
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import OURS, CannotMeasure, Figure, Report, Sample, Series, Target, alternate, figure, last_line
from benchmarks.inside import call
from benchmarks.load import load
from scenarios.bench import Bench
from scenarios.events import Emitter
from scenarios.load import load as load_scenario
from topologies import sandbox, shaping
from topologies.model import Topology
from topologies.network import Network

RATE = 200_000_000
DIRECT, SWITCHED, UNSWITCHED = "direct", "through a switch", "without a switch"
UNITS = {"goodput": "Mbit/s", "latency": "µs", "requests": "requests/s"}
SCENARIO = f"""
scenario: goodput
about: The application is reached through a NIC, by a link of its own, and behind the switch.
network: {{nics: 2, clients: 3, rate: {RATE // 10**6}mbit}}
team: {{offload: {{after: 100B}}}}
services:
  talk: {{listen: 8080, app: "127.0.0.1:7000",
         command: "exec {sys.executable} -m benchmarks.talk serve --listen 0.0.0.0:7000"}}
  unused: {{listen: 8081, app: builtin}}
traffic:
  unused: {{client: c1, service: unused, send: 1B}}
expect: [unused.intact]
"""


def measure(tiny: bool) -> Report:
    """All in one network, taking turns."""
    numbers = {"goodput": 1_000_000, "latency": 50, "requests": 20}
    if not tiny:
        numbers = {"goodput": 20_000_000, "latency": 2000, "requests": 250}
    words: dict[str, Any] = {"numbers": numbers, "samples": 1 if tiny else 7}
    found = call("benchmarks.goodput", "inside", **words)
    report = Report("goodput", f"an offloaded connection beside a plain one, links of {RATE // 10**6} Mbit/s")
    for what, series in found["figures"].items():
        taken = {who: Series(who, tuple(Sample(*one) for one in samples)) for who, samples in series.items()}
        report.figures.append(figure(what, UNITS[what], taken))
    for way, who, peer in (
        ("", OURS, DIRECT),
        ("", OURS, SWITCHED),
        (f"{UNSWITCHED}, ", UNSWITCHED, DIRECT),
    ):
        goodput, latency, requests = (_ratio(one, who, peer) for one in report.figures)
        report.targets += [
            Target(f"{way}goodput over {peer}", goodput, 0.95, at_least=True),
            Target(f"{way}median round trip over {peer}", latency, 1.25),
            Target(f"{way}requests a second over {peer}", requests, 0.7, at_least=True),
        ]
    report.conditions = words
    report.details = {"round_trips": found["round_trips"]}
    report.notes = [
        "a round trip is the median of each sample's; requests: 64 bytes, answers of 1 KiB, 8 connections at once",
        f"connections offloaded meanwhile: {found['offloads']} of {found['asked']}",
    ]
    return report


def _ratio(one: Figure, who: str, peer: str) -> float:
    """The medians of any two."""
    return one.ratio(peer) if who == OURS else one.ratio(peer) / one.ratio(who)


# ------------------------------------------------------------------------------------------- inside the sandbox


def inside(numbers: dict[str, int], samples: int) -> dict[str, Any]:
    """Samples by figure and candidate; all samples' percentiles of round trips; how many connections were to be
    offloaded, and were."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        (out / "logs").mkdir()
        events = os.open(out / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.environ["TEAMBED_T0"] = repr(time.monotonic())
        bench = Bench(load_scenario(SCENARIO, "goodput"), sandbox.RUN_DIR, out, Emitter("bench", events))
        try:
            bench.up()
            return _run(bench, numbers, samples)
        finally:
            bench.down()


def _run(bench: Bench, numbers: dict[str, int], samples: int) -> dict[str, Any]:
    network, topology = bench.network, bench.topology
    c1, c2, c3 = topology.clients
    _direct_link(network, topology.server)
    _plug_in(network, topology)
    _shape(network, c2.name, c2.interface)
    _shape(network, topology.switch.name, c2.switch_port)
    serve = [sys.executable, "-m", "benchmarks.talk", "serve", "--listen", "0.0.0.0:7000"]
    bench.children.start("talk-c2", serve, partial(network.popen, c2.name))
    service = f"{topology.team.ip4}:8080"
    places = {
        OURS: (c1.name, service),
        DIRECT: (c1.name, "10.99.0.2:7000"),
        SWITCHED: (c1.name, f"{c2.ip4}:7000"),
        UNSWITCHED: (c3.name, service),
    }

    round_trips: dict[str, list[float]] = {who: [] for who in places}

    def sample(what: str, who: str) -> float:
        node, to = places[who]
        words = ["-m", "benchmarks.talk", what, "--to", to, "--number", str(numbers[what])]
        talk = network.popen(node, [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        told, complained = talk.communicate(timeout=120)
        if talk.returncode:
            raise CannotMeasure(f"{what} {who}: {last_line(complained.decode(), talk.returncode)}")
        found = json.loads(told)
        if what != "latency":
            return float(found)
        round_trips[who] += found
        return float(found[49])

    for who in places:
        _until_served(partial(sample, "latency", who))
        round_trips[who].clear()
    bench.look()
    figures = {what: alternate({who: partial(sample, what, who) for who in places}, samples, load) for what in numbers}
    offloads = sum(event["event"] == "move" and event["kind"] == "offload" for event in bench.look())
    plain = {what: {w: [(s.value, s.load) for s in one.samples] for w, one in f.items()} for what, f in figures.items()}
    return {"figures": plain, "offloads": offloads, "asked": 2 * samples * (1 + 1 + 8), "round_trips": round_trips}


def _until_served(ask: Callable[[], float], limit: float = 10.0) -> None:
    """The application is ready there."""
    deadline = time.monotonic() + limit
    while True:
        try:
            ask()
            return
        except CannotMeasure:
            if time.monotonic() > deadline:
                raise


@contextmanager
def _namespace(network: Network, node: str) -> Iterator[str]:
    """A process in a node, for its namespace has no name: what `ip` calls it by."""
    inside = network.popen(node, ["sleep", "60"])
    try:
        while Path(f"/proc/{inside.pid}/comm").read_text().strip() != "sleep":  # it has not come there yet
            time.sleep(0.001)
        yield str(inside.pid)
    finally:
        inside.kill()


def _direct_link(network: Network, server: str) -> None:
    """A link of its own between c1 and the server, at the same rate."""
    with _namespace(network, server) as there:
        network.run("c1", ["ip", "link", "add", "direct", "type", "veth", "peer", "direct", "netns", there])
    for node, address in (("c1", "10.99.0.1"), (server, "10.99.0.2")):
        network.run(node, ["ip", "address", "add", f"{address}/24", "dev", "direct"])
        network.run(node, ["ip", "link", "set", "direct", "up"])
        _shape(network, node, "direct")


def _plug_in(network: Network, topology: Topology) -> None:
    """The far end of nic1's wire goes from the switch to c3, in place of its own link, at the same rate."""
    client, nic, switch, team = topology.clients[2], topology.nics[1], topology.switch.name, topology.team
    network.run(switch, ["ovs-vsctl", "del-port", switch, nic.switch_port])
    with _namespace(network, client.name) as there:
        network.run(switch, ["ip", "link", "set", nic.switch_port, "netns", there])
    wire = ["dev", nic.switch_port]
    for words in (
        ["ip", "address", "flush", "dev", client.interface],
        ["ip", "link", "set", client.interface, "down"],
        ["ip", "address", "add", f"{client.ip4}/24", *wire],
        ["ip", "link", "set", nic.switch_port, "up"],
        ["ip", "neighbour", "replace", team.ip4, "lladdr", team.mac, "nud", "permanent", *wire],
    ):
        network.run(client.name, words)
    told = json.loads(network.run(client.name, ["ip", "-json", "link", "show", *wire]).stdout)
    known = ["ip", "neighbour", "replace", client.ip4, "lladdr", told[0]["address"], "nud", "permanent"]
    network.run(topology.server, [*known, "dev", team.name])
    _shape(network, client.name, nic.switch_port)


def _shape(network: Network, node: str, interface: str) -> None:
    """As shaping.py shapes a NIC's wire."""
    burst, limit = f"{shaping.burst_bytes(RATE)}b", f"{shaping.queue_bytes(RATE)}b"
    rate = ["rate", f"{RATE}bit", "ceil", f"{RATE}bit", "burst", burst, "cburst", burst, "quantum", "1514"]
    for words in (
        ["qdisc", "replace", "dev", interface, "root", "handle", "1:", "htb", "default", "1"],
        ["class", "replace", "dev", interface, "parent", "1:", "classid", "1:1", "htb", *rate],
        ["qdisc", "replace", "dev", interface, "parent", "1:1", "handle", "10:", "bfifo", "limit", limit],
    ):
        network.run(node, ["tc", *words])
