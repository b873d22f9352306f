"""What is set in each namespace of a network, as text for `ip`, `tc`, `ethtool` and /proc/sys.

Decides addresses, routes, sysctls and offloads; how links send is shaping.py's. Pure: it writes scripts, network.py
runs them. One script per namespace, because starting a program for each setting is what makes building a network slow.
"""

from collections.abc import Iterable

from topologies import shaping
from topologies.model import PREFIX4, PREFIX6, Client, Nic, Router, Switch, Topology

# No address of the kernel's own making, no duplicate address detection, no router discovery, and no filter
# that would drop a frame because it came in by another interface than the answer leaves by.
_QUIET4 = {"rp_filter": 0, "accept_redirects": 0, "send_redirects": 0}
_QUIET6 = {"addr_gen_mode": 1, "accept_dad": 0, "dad_transmits": 0, "accept_ra": 0, "autoconf": 0}
# A NIC asks for nobody's link-layer address: a connection brings its neighbour along. With no solicitations
# allowed, a missing neighbour is an error at once instead of an ARP request on the wire.
_NO_SOLICITATION = {"mcast_solicit": 0, "ucast_solicit": 0, "app_solicit": 0}

_HOP4, _HOP6, _HOP_MAC = "169.254.0.1", "fe80::1", "02:00:00:00:00:fe"

INITIAL_WINDOW = 1024
"""Segments that a NIC's TCP may send at first. A context carries no congestion window, and what was in flight
on a link that died must go out again whole: the peer may already acknowledge the last of it, and an
acknowledgement of what was not yet sent is dropped (net/ipv4/tcp_input.c, tcp_ack)."""

OUTPUT_BYTES = 128 * 1024
"""What one connection of a NIC may have waiting at the wire; twice as much when it sends again. TCP's own limit follows
the pacing rate, and a restored socket has none yet: it puts whole contexts into the queue of a slow link at once, loses
the rest there before the wire, and sends that again in a circle (net/ipv4/tcp_output.c, tcp_small_queue_check)."""

WIRE_INDEX = 5000
"""The interface index of every node's end of a link to the switch, larger than any at the switch. Were both
ends' indexes equal by chance, each in its own namespace, the kernel would take the device for a physical one
and tell of a lost carrier up to a second late (net/core/link_watch.c, linkwatch_urgent_event)."""

TO_CHANNELS = 100
"""The server's routing table for what applications answer, and the place of the rule that leads there."""

SWITCH_PORTS = 77
"""The interface group of the switch's ends of links. A group is deleted at once, which saves much time."""


def links(topology: Topology, pids: dict[str, int]) -> str:
    """Every veth pair of the network, each end made in its own namespace: input for `ip -batch`.

    pids: by node, a process whose network namespace is the node's.
    """

    def pair(first: str, mac: str, node: str, second: str, mac2: str, node2: str | None, index: int = 0) -> str:
        # Without a node the second end stays here, in the namespace where the switches are.
        where = f" netns {pids[node2]}" if node2 else f" group {SWITCH_PORTS}"
        if node2 is None:
            first = f"{first} index {WIRE_INDEX + index}"
        one, two = f"name {first} address {mac}", f"name {second} address {mac2}"
        return f"link add {one} netns {pids[node]} type veth peer {two}{where}"

    lines = []
    for team in topology.teams:
        for nic in team.nics if topology.bond else ():
            own = (nic.name, nic.own_mac, topology.server)
            lines.append(pair(*own, nic.switch_port, nic.switch_port_mac, None, index=nic.index))
        if topology.bond:
            continue
        lines.append(pair(team.name, team.mac, topology.server, team.peer, team.peer_mac, topology.server))
        for nic in team.nics:
            lines.append(pair(nic.bus, team.mac, nic.name, nic.server_bus, nic.server_bus_mac, topology.server))
            lines.append(pair(nic.wire, team.mac, nic.name, nic.switch_port, nic.switch_port_mac, None))
    for client in topology.clients:
        end = (client.switch_port, client.switch_port_mac, client.switch if client.routed else None)
        lines.append(pair(client.interface, client.mac, client.name, *end))
    if router := topology.router:
        end = (router.switch_port, router.switch_port_mac, None)
        lines.append(pair(router.interface, router.mac(), router.name, *end))
    for uplink in topology.uplinks:
        one, two = (f"name {port.device} address {port.mac} group {SWITCH_PORTS}" for port in uplink.ports)
        lines.append(f"link add {one} type veth peer {two}")
    return _lines(lines)


def switch_side(topology: Topology) -> str:
    """The shell script for the switches' namespace; its IP stack stays out of what Open vSwitch forwards."""
    ports = [port.device for port in topology.ports]
    shaped = {nic.switch_port: topology.rate_of(nic) for nic in topology.nics}
    return _script(
        sysctls=_conf("ipv6", ["default", *ports], {"disable_ipv6": 1}),
        ip=[f"link set {port} up" for port in ports],
        tx_off=ports,
        tc=shaping.rates(shaped),
    )


def server(topology: Topology) -> str:
    """The shell script for the server: each team's virtual NIC has its addresses, the buses have none."""
    if topology.bond:
        return _bonded(topology)
    devices = [name for team in topology.teams for name in (team.name, team.peer)]
    devices += [nic.server_bus for nic in topology.nics]
    return _script(
        sysctls=_quiet(devices, {"arp_ignore": 1}),
        ip=[
            "link set lo up",
            *(line for team in topology.teams for line in _addresses(team.name, team.ip4, PREFIX4, team.ip6, PREFIX6)),
            *(f"link set {name} up" for name in devices),
            *(_defaults(topology.router.ip4, topology.router.ip6, topology.team.name) if topology.router else ()),
        ],
        more=to_channels(),
    )


def _bonded(topology: Topology) -> str:
    """The same for a server whose NICs another team bonds: they are up, and who bonds them comes later."""
    names = [nic.name for nic in topology.nics]
    return _script(
        sysctls=_quiet(names, {"arp_ignore": 1}),
        ip=["link set lo up", *(f"link set {name} up" for name in names)],
        tx_off=names,
        tc=shaping.rates({nic.name: topology.rate_of(nic) for nic in topology.nics}),
    )


def to_channels() -> list[str]:
    """Shell lines: what applications on the loopback answer stays in the server, whoever it is for.

    They speak to the clients' own addresses (host_agent/listener.py); without this, that would leave by team0.
    """
    rule = f"iif lo lookup {TO_CHANNELS} pref {TO_CHANNELS}"
    return [
        "ip -batch - <<'END'",
        f"rule add from 127.0.0.0/8 {rule}",
        f"route add local default dev lo table {TO_CHANNELS}",
        f"route add local ::/0 dev lo table {TO_CHANNELS}",
        "END",
        f"ip -6 rule add from ::1 {rule}",
    ]


def nic(topology: Topology, one: Nic) -> str:
    """The shell script for a NIC: its TCP can use the team's addresses, and it says nothing on its own.

    The addresses sit on `lo`, where they serve TCP just as well, but are never answered for by ARP
    (arp_ignore) or by neighbour discovery, and need no multicast report on the wire.
    """
    team = topology.team_of(one.name)
    return _script(
        sysctls=[
            *_quiet([one.wire, one.bus], {"arp_ignore": 8}),
            *(
                line
                for family in ("ipv4", "ipv6")
                for line in _conf(family, [one.wire, one.bus], _NO_SOLICITATION, kind="neigh")
            ),
            f"echo {OUTPUT_BYTES} >ipv4/tcp_limit_output_bytes",
        ],
        ip=[
            "link set lo up",
            *_addresses("lo", team.ip4, 32, team.ip6, 128),
            f"link set {one.bus} up",
            f"link set {one.wire} up",
            # One made-up next hop for every peer: the true one travels with each connection's context, and
            # the NIC's steering writes it into the frame. So no peer's address need be resolved in a NIC.
            *(f"neigh replace {hop} lladdr {_HOP_MAC} dev {one.wire} nud permanent" for hop in (_HOP4, _HOP6)),
            f"route replace default via {_HOP4} dev {one.wire} onlink initcwnd {INITIAL_WINDOW}",
            f"route replace ::/0 via {_HOP6} dev {one.wire} onlink initcwnd {INITIAL_WINDOW}",
        ],
        tx_off=[one.wire],
        tc=shaping.rates({one.wire: topology.rate_of(one)}),
    )


def client(topology: Topology, one: Client) -> str:
    """The shell script for a client."""
    towards = range(1 if one.routed else len(topology.teams))
    return _script(
        sysctls=_quiet([one.interface], {}),
        ip=[
            "link set lo up",
            *(
                line
                for k in towards
                for line in _addresses(one.interface, one.ip4_towards(k), PREFIX4, one.ip6_towards(k), PREFIX6)
            ),
            f"link set {one.interface} up",
            *(_defaults(one.gateway4, one.gateway6, one.interface) if one.routed else ()),
        ],
        tx_off=[one.interface],
    )


def router(topology: Topology, one: Router) -> str:
    """The shell script for a router: an address in the team's network, and one in each client's."""
    ports = [one.interface, *(client.switch_port for client in topology.clients)]
    return _script(
        sysctls=[
            *_quiet(ports, {}),
            *_conf("ipv4", ["all"], {"forwarding": 1}),
            *_conf("ipv6", ["all", "default", *ports], {"forwarding": 1}),
        ],
        ip=[
            "link set lo up",
            *_addresses(one.interface, one.ip4, PREFIX4, one.ip6, PREFIX6),
            *(
                line
                for client in topology.clients
                for line in _addresses(client.switch_port, client.gateway4, PREFIX4, client.gateway6, PREFIX6)
            ),
            # It asks for a neighbour of somebody else's packet in the name of its link-local address, or not at all.
            *(f"address add {_HOP6}/64 dev {port} nodad" for port in ports),
            *(f"link set {port} up" for port in ports),
        ],
        tx_off=ports,
    )


def router_mac(one: Router, mac: str, announce: bool) -> str:
    """The shell script that gives a router another MAC in the team's network.

    announce: it says so at once, by a gratuitous ARP and an unsolicited neighbour advertisement.
    """
    told = int(announce)
    return _script(
        sysctls=[
            *_conf("ipv4", [one.interface], {"arp_notify": told}),
            *_conf("ipv6", [one.interface], {"ndisc_notify": told}),
        ],
        ip=[f"link set {one.interface} address {mac}"],
    )


def scripts(topology: Topology) -> dict[str, str]:
    """The shell script of every node, by its name; the switches' is `switch_side`."""
    routers = [topology.router] if topology.router else []
    return {
        topology.server: server(topology),
        **({} if topology.bond else {one.name: nic(topology, one) for one in topology.nics}),
        **{one.name: client(topology, one) for one in topology.clients},
        **{one.name: router(topology, one) for one in routers},
    }


def in_order(cpus: int) -> str:
    """Shell lines for any namespace: all frames of one connection are received on one CPU, by hash.

    A veth device hands a frame to the CPU that happens to send it; a queueing discipline sends from several
    in turn, and the frames overtake each other: four in five came out of order on two CPUs, a tenth was sent
    again. The loopback has none, and waking another CPU for each frame costs more than the frame.
    """
    mask = f"{(1 << min(cpus, 32)) - 1:x}"
    every, loopback = (f"/sys/class/net/{device}/queues/rx-0/rps_cpus" for device in ("*", "lo"))
    return f"for queue in {every}; do echo {mask} >$queue; done; echo 0 >{loopback}\n"


def bridge(topology: Topology, switch: Switch, datapath: str) -> list[str]:
    """The arguments of `ovs-vsctl` that make a bridge and its ports. datapath: netdev or system."""
    name = switch.name
    args = ["--", "--if-exists", "del-br", name, "--", "add-br", name, "--", "set", "bridge", name]
    args += [
        f"datapath_type={datapath}",
        "protocols=OpenFlow13",
        # Without a controller the switch forwards nothing, rather than learn on its own and hide that.
        "fail_mode=secure",
        f"other-config:datapath-id={switch.dpid:016x}",
        f'other-config:hwaddr="{switch.mac}"',
        "other-config:disable-in-band=true",
        f"other-config:dp-desc={name}",
    ]
    # Left alone, Open vSwitch deletes the queueing discipline of every port it is given. This type means:
    # hands off.
    args += ["--", "--id=@ours", "create", "qos", "type=linux-noop"]
    for port in topology.ports_of(name):
        device = port.device
        args += ["--", "add-port", name, device, "--", "set", "interface", device, f"ofport_request={port.number}"]
        args += ["--", "set", "port", device, "qos=@ours"]
    return args


def controller(switch: Switch, host: str, port: int) -> list[str]:
    """The arguments of `ovs-vsctl` that point a bridge to its controller."""
    ours, target = f"@c{switch.dpid}", f'target="tcp:{host}:{port}"'
    return [
        *("--", f"--id={ours}", "create", "controller", target, "connection_mode=out-of-band", "max_backoff=1000"),
        *("--", "set", "bridge", switch.name, f"controller={ours}"),
    ]


def _defaults(gateway4: str, gateway6: str, interface: str) -> list[str]:
    return [
        f"route replace default via {gateway4} dev {interface}",
        f"route replace ::/0 via {gateway6} dev {interface}",
    ]


def _addresses(interface: str, ip4: str, prefix4: int, ip6: str, prefix6: int) -> list[str]:
    return [
        f"address add {ip4}/{prefix4} dev {interface}",
        f"address add {ip6}/{prefix6} dev {interface} nodad",
    ]


def _quiet(interfaces: list[str], extra4: dict[str, int]) -> list[str]:
    return [
        *_conf("ipv4", ["all", "default", *interfaces], _QUIET4 | extra4),
        *_conf("ipv6", ["all", "default", *interfaces], _QUIET6),
    ]


def _conf(family: str, names: Iterable[str], values: dict[str, int], kind: str = "conf") -> list[str]:
    """Shell lines that write sysctls. `echo` is a builtin: no process each, as `sysctl` would be."""
    return [f"echo {value} >{family}/{kind}/{name}/{key}" for name in names for key, value in values.items()]


def _script(
    sysctls: list[str], ip: list[str], tx_off: Iterable[str] = (), tc: Iterable[str] = (), more: Iterable[str] = ()
) -> str:
    """A shell script that stops at the first error. sysctls first: they must hold when a link comes up."""
    script = ["set -e", "cd /proc/sys/net", *sysctls, "ip -batch - <<'END'", *ip, "END", *more]
    # Open vSwitch's user-space datapath takes frames as they are; a checksum left to the hardware is never
    # made.
    script += [f"ethtool -K {name} tx off tso off >/dev/null" for name in tx_off]
    if tc := list(tc):
        script += ["tc -batch - <<'END'", *tc, "END"]
    return _lines(script)


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
