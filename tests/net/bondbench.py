"""A run in which Open vSwitch is the other end of the team by itself: its own bond, its own LACP, no controller.

c1, c2 ── s1: OVS, standalone ── bond0 ═══ nic0 … nic2 ── server: the host agent
"""

import json
import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

from scenarios import configs, local
from scenarios.bench import Bench
from scenarios.events import Emitter
from scenarios.load import load_file
from scenarios.play import Play
from topologies import sandbox

UNHEARD_S = 40.0
"""Until a passive end has heard Open vSwitch even if it heard nothing of what that said first, as on a busy machine."""


class BondBench(Bench):
    def up_with(self, mode: str) -> None:
        """mode: of OVS's bond, balance-tcp or balance-slb."""
        self.cast.start_nursery()
        sandbox.OpenVSwitch(self.run_dir).start()
        self.network.start()
        self.cast.build()
        self.cast.start_applications()
        self.cast.start_clients()
        self.await_(lambda: not self.children.running("bpf"), "the BPF programs to be built")
        self.cast.start_engines()
        for who in self.cast.engines():
            self.await_event(who, "ready")
        self.cast.start_agents()
        self.await_event("agent", "ready")
        # Behind the agent: OVS speaks for three seconds when a bond is made, and then, unheard, every 30 only.
        ports = [nic.switch_port for nic in self.topology.nics]
        words = ["--", "set", "bridge", "s1", "fail_mode=standalone"]
        for port in ports:
            words += ["--", "del-port", "s1", port]
        words += ["--", "add-bond", "s1", "bond0", *ports, f"bond_mode={mode}", "lacp=active"]
        words += ["other_config:lacp-time=fast", "--", "--id=@ours", "create", "qos", "type=linux-noop"]
        self.network.run("s1", ["ovs-vsctl", *words, "--", "set", "port", "bond0", "qos=@ours"])
        for nic in self.topology.nics:
            heard = partial(self._seen.__contains__, (nic.name, "active in its team"))
            self.await_(heard, f"{nic.name} to be active in its team", UNHEARD_S)
        self.await_(lambda: len(self.enabled()) == len(ports), "all members of OVS's bond to be enabled")
        # An end that has said three things within a second says the next one later.
        self.await_(lambda: self.told() == len(ports), "Open vSwitch to hear that all of our members distribute")
        for name in self.scenario.services:
            self.await_event(f"app-{name}", "ready")
        for name in self.scenario.traffic:
            self.await_event(f"client-{name}", "ready")

    def appctl(self, *words: str) -> str:
        return self.network.run("s1", ["ovs-appctl", *words]).stdout

    def enabled(self) -> list[str]:
        """The NICs that OVS's bond uses."""
        shown = self.appctl("bond/show", "bond0").splitlines()
        lines = [line.split() for line in shown if line.startswith(("member ", "slave "))]
        return [words[1].rstrip(":").removeprefix("s1-") for words in lines if words[2] == "enabled"]

    def told(self) -> int:
        """Of how many members OVS has heard that our end distributes."""
        return len(re.findall(r"partner state:[a-z ]* distributing", self.appctl("lacp/show", "bond0")))

    def ends(self) -> dict[str, Any]:
        """What both ends say."""
        ours = local.ask(self.agent(), {"do": "lacp"})
        return {"ours": ours, "theirs": self.appctl("lacp/show", "bond0"), "enabled": self.enabled()}


def main() -> None:
    file, out, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    emit = Emitter("runner", os.open(out / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
    bench = BondBench(load_file(file), sandbox.RUN_DIR, out, emit)
    emit("topology", **configs.described(bench.topology))
    try:
        bench.up_with(mode)
        emit("up")
        first = bench.ends()
        Play(bench).run()
        bench.await_(bench.settled, "both ends to tell")
        last = bench.ends()
    finally:
        emit("stopping")
        bench.down()
    print(json.dumps({"first": first, "last": last}))


if __name__ == "__main__":
    main()
