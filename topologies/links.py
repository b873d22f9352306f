"""What can happen to the links of a network that is up: they go down; eat, damage or delay frames; change their rate.

Decides which ends of which links a fault touches; which instructions and settings it takes is impair.py's and
shaping.py's. Knows no Mininet: network.py gives it the nodes.
"""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from topologies import capabilities, impair, shaping, xdp
from topologies.commands import NetworkError, run, run_together
from topologies.model import Client, Nic, Team, Topology, TopologyError, checked_rate

Direction = Literal["both", "to_nic", "from_nic"]
_End = tuple[str, str]
"""A node, the switch included, and its interface."""


class Links(ABC):
    """The links of a network. Methods raise TopologyError for what does not exist, NetworkError for what fails."""

    def __init__(self, topology: Topology, run_dir: Path) -> None:
        """run_dir: as given to sandbox.enter(); it has a BPF file system."""
        self.topology = topology
        self.run_dir = run_dir
        self._shapes: dict[str, shaping.Shape] = {}
        """By node, where its link is not as it was built."""
        self._cut: set[str] = set()
        """Ports of switches whose links were taken down, one by one."""
        self._dead: set[str] = set()
        """Switches that are down, with all their ports."""

    @abstractmethod
    def inside(self, node: str) -> list[str]:
        """The words before a command that make it run in a node. Raises NetworkError."""

    def link_down(self, nic_name: str) -> None:
        """Takes the carrier from a NIC's wire, at the switch's end."""
        self._cut_links([self.topology.nic(nic_name)])

    def link_up(self, nic_name: str) -> None:
        """Gives the carrier back; where the switch is down, once it is up again."""
        self._join_links([self.topology.nic(nic_name)])

    def all_links_down(self) -> None:
        """Takes the carrier from every NIC's wire in one go."""
        self._cut_links(self.topology.nics)

    def all_links_up(self) -> None:
        """Gives every wire its carrier back."""
        self._join_links(self.topology.nics)

    def adapter_failure(self, nic_name: str) -> None:
        """Takes the carrier from a NIC's wire and from its bus at the same time, as when the adapter dies or is
        pulled out."""
        self._set_adapter(nic_name, "down")

    def adapter_replace(self, nic_name: str) -> None:
        """Makes a failed adapter as it was when new: no steering is left in it."""
        nic = self.topology.nic(nic_name)
        for name in (nic.wire, nic.bus):
            # It has none when nothing was ever attached there.
            subprocess.run([*self.inside(nic_name), "tc", "qdisc", "del", "dev", name, "clsact"], capture_output=True)

    def adapter_return(self, nic_name: str) -> None:
        """Wire and bus are there again."""
        self._set_adapter(nic_name, "up")

    def black_hole(self, nic_name: str, direction: Direction = "both") -> None:
        """The wire eats every frame towards the NIC, from it, or both; its carrier stays."""
        near, far = self._ends(self.topology.nic(nic_name))
        ends = {"both": [near, far], "to_nic": [near], "from_nic": [far]}
        if direction not in ends:
            raise TopologyError(f"a black hole's direction is {', '.join(ends)}, not {direction!r}")
        self._impair(ends[direction], 1.0, 0.0)

    def silence_host(self, team: Team, silent: bool) -> None:
        """The server's own TCP sends nothing from the team's addresses, or does again; what comes in is heard."""
        do = "add" if silent else "del"
        for family, ip in (("-4", team.ip4), ("-6", team.ip6)):
            words = ["ip", family, "rule", do, "pref", "1", "from", ip, "blackhole"]
            run([*self.inside(self.topology.server), *words], f"silencing {self.topology.server}")

    def impair(
        self, node: str, loss: float = 0.0, corrupt: float = 0.0, delay_s: float = 0.0, jitter_s: float = 0.0
    ) -> None:
        """The link of a NIC or a client, in each direction, loses a share `loss` of all frames, turns a bit in a share
        `corrupt`, and takes `delay_s` longer, give or take `jitter_s`. What was there before ends."""
        end = self._end(node)
        shape = shaping.Shape(self._shape(end).rate_bps, delay_s, jitter_s)
        if shape.delay_s and (lacking := capabilities.missing(["netem"])):
            raise NetworkError(f"{node}: this machine has no netem ({lacking[0].detail}): {lacking[0].remedy}")
        self._impair(self._ends(end), loss, corrupt)
        self._set_shape(end, shape)

    def heal(self, node: str) -> None:
        """The link of a NIC or a client carries every frame again, unchanged and at once."""
        self.impair(node)

    def set_rate(self, nic_name: str, rate_bps: int) -> None:
        """Bits per second on a NIC's wire from now on, in both directions."""
        nic = self.topology.nic(nic_name)
        shape = self._shape(nic)
        self._set_shape(nic, shaping.Shape(checked_rate(rate_bps), shape.delay_s, shape.jitter_s))

    def _end(self, node: str) -> Nic | Client:
        topology = self.topology
        for end in topology.ends:
            if end.name == node:
                return end
        raise TopologyError(f"no NIC and no client {node!r}; there are {', '.join(e.name for e in topology.ends)}")

    def _ends(self, end: Nic | Client) -> tuple[_End, _End]:
        """The end of a link at its node, and that at the switch."""
        near = self.topology.wire_end(end) if isinstance(end, Nic) else (end.name, end.interface)
        return near, (end.switch, end.switch_port)

    def _impair(self, ends: Sequence[_End], loss: float, corrupt: float) -> None:
        """At the ends where frames arrive; a program takes the place of the one that is there.

        The device itself runs the program: generic XDP passes over what a NIC forwards from its bus, for the kernel
        marks what tc redirects.
        """
        pinned = self.run_dir / "bpf" / "impair"
        try:
            xdp.pin(impair.program(loss, corrupt), pinned)
            for node, interface in ends:
                lines = [f"link set dev {interface} xdpdrv off"]
                if loss or corrupt:
                    lines.append(f"link set dev {interface} xdpdrv pinned {pinned}")
                text = "".join(f"{line}\n" for line in lines)
                run([*self.inside(node), "ip", "-batch", "-"], f"impairing {interface} of {node}", stdin=text)
        except xdp.XdpError as error:
            raise NetworkError(f"impairing {ends[0][0]}: {error}") from None
        finally:
            pinned.unlink(missing_ok=True)  # an attached program stays without it

    def _shape(self, end: Nic | Client) -> shaping.Shape:
        built = shaping.Shape(self.topology.rate_of(end) if isinstance(end, Nic) else None)
        return self._shapes.get(end.name, built)

    def _set_shape(self, end: Nic | Client, shape: shaping.Shape) -> None:
        before = self._shape(end)
        if shape == before:
            return
        for node, interface in self._ends(end):
            lines = "".join(f"{line}\n" for line in shaping.reshaped(interface, before, shape))
            run([*self.inside(node), "tc", "-batch", "-"], f"shaping {interface} of {node}", stdin=lines)
        self._shapes[end.name] = shape

    def _cut_links(self, nics: Iterable[Nic]) -> None:
        ports = [nic.switch_port for nic in nics]
        self._cut.update(ports)
        self._set_ports(ports, "down")

    def _join_links(self, nics: Iterable[Nic]) -> None:
        nics = list(nics)
        self._cut.difference_update(nic.switch_port for nic in nics)
        self._set_ports([nic.switch_port for nic in nics if nic.switch not in self._dead], "up")

    def _set_ports(self, ports: Iterable[str], state: str) -> None:
        """In the namespace of the switches, in one go."""
        lines = "".join(f"link set {port} {state}\n" for port in ports)
        run(["ip", "-batch", "-"], f"setting links {state}", stdin=lines)

    def _set_adapter(self, nic_name: str, state: str) -> None:
        """Both ends at once: one program is started for each, and neither waits for the other."""
        topology = self.topology
        nic = topology.nic(nic_name)
        ends = {topology.server: nic.server_bus}
        if state == "down":
            self._cut.add(nic.switch_port)
        else:
            self._cut.discard(nic.switch_port)
        if nic.switch not in self._dead:
            ends[nic.switch] = nic.switch_port
        commands = {node: [*self.inside(node), "ip", "link", "set", end, state] for node, end in ends.items()}
        run_together(commands, {}, f"setting {nic_name} {state} at")
