"""Goodput, latency and many small requests of an offloaded connection, beside the same application without all that.

Decides: the peers. All have the same link rate and the same application.

    ours             c1 ── s1 ── nic0 ── server    offloaded: the NIC's TCP, and the relay to the application
    direct           c1 ──────────────── server    one link; the server's own TCP; no team, no NIC, no relay, no switch
    through a switch c1 ── s1 ── c2                one link behind the same switch: what the switch alone costs
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import OURS, CannotMeasure, Report, Sample, Series, Target, alternate, figure
from benchmarks.inside import call
from benchmarks.load import load
from scenarios.bench import Bench
from scenarios.events import Emitter
from scenarios.load import load as load_scenario
from topologies import sandbox, settings
from topologies.network import Network

RATE = 200_000_000
DIRECT, SWITCHED = "direct", "through a switch"
UNITS = {"goodput": "Mbit/s", "latency": "µs", "requests": "requests/s"}
SCENARIO = f"""
scenario: goodput
about: One NIC; the application is reached through it, by a link of its own, and behind the switch.
network: {{nics: 1, clients: 2, rate: {RATE // 10**6}mbit}}
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
    goodput, latency, requests = report.figures
    for peer in (DIRECT, SWITCHED):
        report.targets += [
            Target(f"goodput over {peer}", goodput.ratio(peer), 0.95, at_least=True),
            Target(f"median round trip over {peer}", latency.ratio(peer), 1.25),
            Target(f"requests a second over {peer}", requests.ratio(peer), 0.7, at_least=True),
        ]
    report.conditions = words
    report.notes = [
        "a round trip is the median of each sample's; requests: 64 bytes, answers of 1 KiB, 8 connections at once",
        f"connections offloaded meanwhile: {found['offloads']} of {found['asked']}",
    ]
    return report


# ------------------------------------------------------------------------------------------- inside the sandbox


def inside(numbers: dict[str, int], samples: int) -> dict[str, Any]:
    """Samples by figure and candidate; how many connections were to be offloaded, and were."""
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
    _direct_link(network, topology.server)
    c1, c2 = topology.clients
    _shape(network, c2.name, c2.interface)
    _shape(network, topology.switch.name, c2.switch_port)
    serve = [sys.executable, "-m", "benchmarks.talk", "serve", "--listen", "0.0.0.0:7000"]
    bench.children.start("talk-c2", serve, partial(network.popen, c2.name))
    places = {OURS: f"{topology.team.ip4}:8080", DIRECT: "10.99.0.2:7000", SWITCHED: f"{c2.ip4}:7000"}

    def sample(what: str, who: str) -> float:
        words = ["-m", "benchmarks.talk", what, "--to", places[who], "--number", str(numbers[what])]
        talk = network.popen(c1.name, [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        told, complained = talk.communicate(timeout=120)
        if talk.returncode:
            raise CannotMeasure(f"{what} {who}: {complained.decode().strip().splitlines()[-1]}")
        return float(told)

    _until_served(sample)
    bench.look()
    figures = {what: alternate({who: partial(sample, what, who) for who in places}, samples, load) for what in numbers}
    offloads = sum(event["event"] == "move" and event["kind"] == "offload" for event in bench.look())
    plain = {what: {w: [(s.value, s.load) for s in one.samples] for w, one in f.items()} for what, f in figures.items()}
    return {"figures": plain, "offloads": offloads, "asked": samples * (1 + 1 + 8)}


def _until_served(sample: Any, limit: float = 10.0) -> None:
    """Each place has its application ready."""
    deadline = time.monotonic() + limit
    for who in (OURS, DIRECT, SWITCHED):
        while True:
            try:
                sample("latency", who)
                break
            except CannotMeasure:
                if time.monotonic() > deadline:
                    raise


def _direct_link(network: Network, server: str) -> None:
    """A link of its own between c1 and the server, at the same rate."""
    inside = network.popen(server, ["sleep", "60"])  # for its namespace has no name
    while Path(f"/proc/{inside.pid}/comm").read_text().strip() != "sleep":  # it has not come there yet
        time.sleep(0.001)
    words = ["ip", "link", "add", "direct", "type", "veth", "peer", "direct", "netns", str(inside.pid)]
    network.run("c1", words)
    inside.kill()
    for node, address in (("c1", "10.99.0.1"), (server, "10.99.0.2")):
        network.run(node, ["ip", "address", "add", f"{address}/24", "dev", "direct"])
        network.run(node, ["ip", "link", "set", "direct", "up"])
        _shape(network, node, "direct")


def _shape(network: Network, node: str, interface: str) -> None:
    """As settings.py shapes a NIC's wire."""
    burst, limit = f"{settings.burst_bytes(RATE)}b", f"{settings.queue_bytes(RATE)}b"
    rate = ["rate", f"{RATE}bit", "ceil", f"{RATE}bit", "burst", burst, "cburst", burst, "quantum", "1514"]
    for words in (
        ["qdisc", "replace", "dev", interface, "root", "handle", "1:", "htb", "default", "1"],
        ["class", "replace", "dev", interface, "parent", "1:", "classid", "1:1", "htb", *rate],
        ["qdisc", "replace", "dev", interface, "parent", "1:1", "handle", "10:", "bfifo", "limit", limit],
    ):
        network.run(node, ["tc", *words])
