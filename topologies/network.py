"""Makes a topology real with Mininet: nodes, links, the switch, and processes inside the nodes.

The only file that imports Mininet, but for its shell (shell.py). Mininet starts the nodes and keeps the graph;
addresses, routes and rates come from settings.py in one script per namespace. Works in whatever network namespace it
is called in, so call it inside a sandbox only; it needs a running Open vSwitch there (sandbox.OpenVSwitch). Never
cleans up by name.
"""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeAlias

import topologies.no_distutils  # noqa: F401  # isort: skip  (before Mininet)
import mininet.net
from mininet.link import Intf, Link
from mininet.node import Node, OVSSwitch

from topologies import bonds, packet_sockets, settings
from topologies.commands import STEP_SECONDS, NetworkError, run, run_together
from topologies.links import Links
from topologies.model import Bond, Client, Router, Topology, TopologyError
from topologies.sandbox import OpenVSwitch
from topologies.shell import Shell, Word

# Mininet raises limits of the whole machine, not only of its own network. That is not ours to change.
mininet.net.fixLimits = lambda: None

POLL_SECONDS = 0.01

Stream: TypeAlias = int | IO[Any] | None


class Network(Links):
    """A topology with its nodes and links. Build with start(), take down with stop()."""

    def __init__(self, topology: Topology, run_dir: str | os.PathLike[str], datapath: str | None = None) -> None:
        """datapath: Open vSwitch's `netdev` or `system`; None: `system` where the kernel has it."""
        if datapath not in (None, "netdev", "system"):
            raise NetworkError(f"a datapath is netdev or system, not {datapath!r}")
        super().__init__(topology, Path(run_dir))
        self.datapath = datapath or ("system" if Path("/sys/module/openvswitch").exists() else "netdev")
        self.took_ms: dict[str, float] = {}
        """How long each part of start() took, in order."""
        self._open_vswitch = OpenVSwitch(run_dir)
        self._bond_switch = OpenVSwitch(run_dir, "team-ovs", lambda: self.inside(topology.server))
        self._controller: tuple[str, int] | None = None
        self._router_macs = 1
        self._net: Any = None
        self._pids: dict[str, int] = {}
        self._processes: list[subprocess.Popen[Any]] = []

    def start(self, open_vswitch: Callable[[], None] = lambda: None, controller: tuple[str, int] | None = None) -> None:
        """Builds everything; on return all links are up and the switch has its ports, but no flows yet.

        open_vswitch: returns when it runs, and the controller with it; nodes have their links and addresses by then.
        controller: where every switch finds it; None: connect_controller will tell. Raises NetworkError.
        """
        if self._net is not None:
            raise NetworkError("the network is up already")
        if os.geteuid() != 0:
            raise NetworkError("building a network needs root")
        self._controller = controller
        try:
            self._timed("nodes", self._start_nodes)
            self._timed("links", self._make_links)
            self._timed("settings", self._set_up_nodes)
            self._timed("open_vswitch", open_vswitch)
            self._timed("switch", self._start_switch)
            if self.topology.bond:
                self._timed("team", partial(self._start_bond, self.topology.bond))
        except BaseException:
            self.stop()
            raise

    def connect_controller(self, host: str, port: int) -> None:
        """Points every switch to its controller; returns before they have met. Raises NetworkError."""
        self._controller = (host, port)
        words = [word for switch in self.topology.switches for word in settings.controller(switch, host, port)]
        run(["ovs-vsctl", *words], "connecting the controller")

    def popen(
        self,
        node: str,
        argv: Sequence[str],
        *,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Starts a process in a node's namespaces; its pid is that of the program itself.

        In a session of its own, so that Ctrl-C at the terminal reaches the runner alone. The switch's name
        stands for the sandbox itself. Raises NetworkError for an unknown node.
        """
        process = subprocess.Popen(
            [*self.inside(node), *argv],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        self._processes = [one for one in self._processes if one.returncode is None]
        self._processes.append(process)
        return process

    def run(self, node: str, argv: Sequence[str], *, timeout: float = STEP_SECONDS) -> subprocess.CompletedProcess[str]:
        """Runs a command in a node to its end; returns its output, text. Raises NetworkError if it fails."""
        return run([*self.inside(node), *argv], f"{node}: {' '.join(argv)}", timeout=timeout)

    def switch_down(self, name: str) -> None:
        """A switch dies: every link of it loses its carrier; its flows and its controller are gone.

        Raises TopologyError, NetworkError.
        """
        ports = [port.device for port in self.topology.ports_of(name)]
        self._dead.add(name)
        self._set_ports(ports, "down")
        run(["ovs-vsctl", "del-controller", name], f"taking {name} down")
        for what in ("del-flows", "del-groups"):
            run(["ovs-ofctl", "-O", "OpenFlow13", what, name], f"taking {name} down")

    def switch_up(self, name: str) -> None:
        """A switch that died is there again; its links come up when its controller has given it its flows.

        Raises TopologyError, NetworkError.
        """
        ports = [port.device for port in self.topology.ports_of(name)]
        if self._controller is not None:
            switch = next(one for one in self.topology.switches if one.name == name)
            run(["ovs-vsctl", *settings.controller(switch, *self._controller)], f"bringing {name} up")
            self._await_flows(name)
        self._dead.discard(name)
        self._set_ports([port for port in ports if port not in self._cut], "up")

    def kill_switch(self) -> None:
        """Open vSwitch, so every switch, is killed: links stay up and nothing is forwarded. Raises SandboxError."""
        self._open_vswitch.kill_daemon()

    def restart_switch(self) -> None:
        """Open vSwitch is there again, with its bridges and ports, and without flows. Raises SandboxError."""
        self._open_vswitch.start_daemon()
        self._widen()

    def change_router_mac(self, announce: bool = True) -> str:
        """The router has another MAC in the team's network from now on, and says so if it is to; returns it.

        Raises TopologyError where there is no router.
        """
        router = self.topology.router
        if router is None:
            raise TopologyError("there is no router in this network; the shape `routed` has one")
        self._router_macs += 1
        mac = router.mac(self._router_macs)
        script = settings.router_mac(router, mac, announce)
        run([*self.inside(router.name), "sh"], f"changing the MAC of {router.name}", stdin=script)
        return mac

    def sockets(self, node: str) -> str:
        """The node's TCP sockets, IPv4 and then IPv6, as its kernel lists them (proc(5), /proc/net/tcp).

        Raises NetworkError.
        """
        self.inside(node)
        folder = Path("/proc") / (str(self._pids[node]) if node in self._pids else "self") / "net"
        try:
            return (folder / "tcp").read_text() + (folder / "tcp6").read_text()
        except OSError as error:
            raise NetworkError(f"{node}: its sockets cannot be read: {error.strerror}") from None

    def shell(self, words: Mapping[str, Word], before: Callable[[], None]) -> None:
        """Mininet's shell on the terminal, with more words; returns when the user leaves it.

        before: called before each line is obeyed. Raises NetworkError.
        """
        if self._net is None:
            raise NetworkError("the network is not up")
        Shell(self._net, words, before)

    def stop(self) -> None:
        """Ends the processes that popen() started, the nodes, links and bridge. May be called again."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        self._processes.clear()
        net, self._net = self._net, None
        if net is None:
            return
        self._pids.clear()
        net.stop()

    def _start_nodes(self) -> None:
        """A shell in its own namespaces for every node, and the graph that Mininet keeps."""
        topology = self.topology
        net = self._net = mininet.net.Mininet(host=_Node, switch=_Switch, link=_Link, intf=_Intf, controller=None)
        addresses = {topology.server: topology.team.ip4} | {one.name: one.ip4 for one in topology.clients}
        for name in topology.nodes:
            self._pids[name] = net.addHost(name, ip=None, address=addresses.get(name)).pid
        for switch in topology.switches:
            bridge = settings.bridge(topology, switch, self.datapath)
            bridge += settings.controller(switch, *self._controller) if self._controller else []
            net.addSwitch(switch.name, dpid=f"{switch.dpid:x}", bridge=bridge)
        for nic in topology.nics:
            node, wire = topology.wire_end(nic)
            net.addLink(node, nic.switch, port2=nic.port_no, intfName1=wire, intfName2=nic.switch_port)
            if not topology.bond:
                net.addLink(node, topology.server, intfName1=nic.bus, intfName2=nic.server_bus)
        routers = (topology.router,) if topology.router else ()
        ends: tuple[Client | Router, ...] = (*topology.clients, *routers)
        for end in ends:
            names = {"intfName1": end.interface, "intfName2": end.switch_port}
            net.addLink(end.name, end.switch, port2=end.port_no, **names)
        for uplink in topology.uplinks:
            one, two = uplink.ports
            numbers = {"port1": one.number, "port2": two.number}
            net.addLink(one.switch, two.switch, intfName1=one.device, intfName2=two.device, **numbers)
        net.build()
        for node in (*net.hosts, *net.switches):
            node.settle()

    def _make_links(self) -> None:
        run(["ip", "-batch", "-"], "making the links", stdin=settings.links(self.topology, self._pids))

    def _start_switch(self) -> None:
        self._net.start()
        self._widen()

    def _widen(self) -> None:
        if self.datapath == "netdev":
            end = self.topology.router or self.topology.clients[0]
            run(packet_sockets.first_frame(end.switch, end.switch_port), "the switch's first frame")
            packet_sockets.widen(self._open_vswitch.daemon_pid())

    def _start_bond(self, bond: Bond) -> None:
        """The server's NICs become one, by somebody else than us."""
        topology, inside = self.topology, self.inside(self.topology.server)
        lines = bonds.addresses(topology)
        if bond.driver == "linux_bonding":
            lines = [*bonds.linux(topology, bond), *lines]
        else:
            self._bond_switch.start()
            run([*self._bond_switch.words("ovs-vsctl"), *bonds.ovs(topology, bond)], "bonding the server's NICs")
            frame = packet_sockets.first_frame(bonds.BRIDGE, topology.nics[0].name)
            run(self._bond_switch.words(*frame), "the bond's first frame")
            packet_sockets.widen(self._bond_switch.daemon_pid())
        run([*inside, "ip", "-batch", "-"], "addressing the bond", stdin="".join(f"{line}\n" for line in lines))

    def bond_ready(self) -> bool:
        """Whether the bond that has the server's NICs uses all of them, or the one that a single one is."""
        bond, nics = self.topology.bond, self.topology.nics
        if bond is None or bond.driver == "linux_bonding" or len(nics) == 1:
            return True
        return bonds.usable(run(self._bond_switch.words("ovs-appctl", "bond/show", "bond0"), "the bond").stdout) == len(
            nics
        )

    def _await_flows(self, name: str) -> None:
        deadline = time.monotonic() + STEP_SECONDS
        while " flow_count=0" in run(["ovs-ofctl", "-O", "OpenFlow13", "dump-aggregate", name], name).stdout:
            if time.monotonic() > deadline:
                raise NetworkError(f"bringing {name} up: no flow from the controller within {STEP_SECONDS:g} s")
            time.sleep(POLL_SECONDS)

    def _set_up_nodes(self) -> None:
        """The shells of all namespaces are started together."""
        scripts = settings.scripts(self.topology) | {self.topology.switch.name: settings.switch_side(self.topology)}
        order = settings.in_order(os.cpu_count() or 1)
        texts = {node: order + script for node, script in scripts.items()}
        run_together({node: [*self.inside(node), "sh"] for node in texts}, texts)

    def inside(self, node: str) -> list[str]:
        """The words before a command that make it run in a node."""
        pid = self.pid(node)
        return [] if pid is None else ["mnexec", "-a", str(pid)]

    def pid(self, node: str) -> int | None:
        """A process that lives in a node's namespaces; None: the node is a switch, whose namespaces are ours."""
        if self._net is None:
            raise NetworkError("the network is not up")
        switches = [switch.name for switch in self.topology.switches]
        if node in switches:
            return None
        if node not in self._pids:
            raise NetworkError(f"no node {node!r}; there are {', '.join((*self._pids, *switches))}")
        return self._pids[node]

    def _timed(self, part: str, step: Callable[[], None]) -> None:
        began = time.monotonic()
        step()
        self.took_ms[part] = round((time.monotonic() - began) * 1000, 1)


class _Shell:
    """A Mininet node whose shell starts beside those of all others: Mininet itself waits for each before the next."""

    prompt = chr(127)
    _asked: str | None = None
    """What to say to the shell when it is there, as long as nobody has waited for it."""
    _there = False

    def read(self, size: int = 1024) -> Any:
        """At first what Mininet waits for."""
        return super().read(size) if self._there else self.prompt  # type: ignore[misc]

    def cmd(self, *words: str, **options: Any) -> Any:
        """At first it is put off."""
        if self._there:
            return super().cmd(*words, **options)  # type: ignore[misc]
        self._asked = " ".join(words)
        return ""

    def settle(self) -> None:
        """Waits for the shell; its namespaces are there then."""
        self._there = True
        while not self.read().endswith(self.prompt):
            pass
        self.cmd(self._asked)  # type: ignore[arg-type]

    def terminate(self) -> None:
        """Also of a shell whose process group is not there yet."""
        try:
            super().terminate()  # type: ignore[misc]
        except ProcessLookupError:
            self.shell.kill()  # type: ignore[attr-defined]
            self.cleanup()  # type: ignore[attr-defined]


class _Node(_Shell, Node):  # type: ignore[misc]
    """A Mininet node that leaves its settings to settings.py."""

    def config(self, **_params: object) -> dict[str, object]:
        return {}


class _Intf(Intf):  # type: ignore[misc]
    """An interface that Mininet only remembers."""

    def config(self, **_params: object) -> dict[str, object]:
        return {}

    def updateIP(self) -> str | None:
        """What the shell writes in place of the node's name in a command."""
        address: str | None = self.node.params.get("address")
        return address


class _Link(Link):  # type: ignore[misc]
    """A link that is made together with all others, in its final namespaces, and goes with them."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs, fast=True)

    @classmethod
    def makeIntfPair(cls, *_args: object, **_kwargs: object) -> None:
        pass

    def stop(self) -> None:
        pass


class _Switch(_Shell, OVSSwitch):  # type: ignore[misc]
    """A bridge of the sandbox's own Open vSwitch, made in one call, with errors that are told."""

    def __init__(self, name: str, bridge: Sequence[str], **params: object) -> None:
        super().__init__(name, **params)
        self.bridge = list(bridge)

    @classmethod
    def setup(cls) -> None:
        """Mininet asks Open vSwitch for its version here, and ends the program where it does not answer."""

    def start(self, controllers: Sequence[object]) -> None:
        run(["ovs-vsctl", *self.bridge], f"making the bridge {self.name}")

    @classmethod
    def batchStartup(cls, switches: Sequence[Any], run: object = None) -> Sequence[Any]:
        return switches

    @classmethod
    def batchShutdown(cls, switches: Sequence[Any], run: object = None) -> Sequence[Any]:
        """Deletes the bridges with their links. Never raises: what is left goes with the sandbox."""
        for switch in switches:
            # Five seconds at most, should Open vSwitch be gone already.
            subprocess.run(["ovs-vsctl", "-t", "5", "--if-exists", "del-br", switch.name], capture_output=True)
            subprocess.run(["ip", "link", "delete", "group", str(settings.SWITCH_PORTS)], capture_output=True)
            switch.terminate()
        return switches
