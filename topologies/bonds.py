"""Other teams than ours, as text for `ovs-vsctl` and `ip`: an Open vSwitch bond, or Linux' own.

    server:  nic0, nic1, … ── bond0 ── bridge `team` ── team0 (internal port: the team's MAC and addresses)     OVS
             nic0, nic1, … ── team0 (the bond itself)                                                           Linux

Decides their settings, which are those that a user gets by asking for the mode and nothing else, but for LACP's fast
rate. Pure: network.py runs them.
"""

from topologies.model import PREFIX4, PREFIX6, Bond, Topology

BRIDGE = "team"
"""The server's bridge, in an Open vSwitch of its own."""
MODES = {"ovs_active_backup": "active-backup", "ovs_balance_tcp": "balance-tcp"}
"""Of Open vSwitch, by driver."""


def ovs(topology: Topology, bond: Bond) -> list[str]:
    """The arguments of `ovs-vsctl` that make the server's bridge and its bond."""
    team = topology.team
    # The switch learns from what comes; a bridge that kept to a controller would forward nothing.
    words = ["--", "add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev", "fail_mode=standalone"]
    words += [f'other-config:hwaddr="{team.mac}"']
    members = [nic.name for nic in topology.nics]
    if len(members) > 1:
        words += ["--", "add-bond", BRIDGE, "bond0", *members, f"bond_mode={MODES[bond.driver]}"]
    else:
        words += ["--", "add-port", BRIDGE, members[0], "--", "set", "port", members[0]]
    words += [f"lacp={bond.lacp}", f"other_config:lacp-time={bond.lacp_rate}"]
    # As at the switch: left alone, Open vSwitch deletes the queueing discipline of its ports.
    port = "bond0" if len(members) > 1 else members[0]
    words += ["--", "--id=@ours", "create", "qos", "type=linux-noop", "--", "set", "port", port, "qos=@ours"]
    words += ["--", "add-port", BRIDGE, team.name, "--", "set", "interface", team.name, "type=internal"]
    return [*words, f'mac="{team.mac}"']


def linux(topology: Topology, bond: Bond) -> list[str]:
    """Lines for `ip -batch` that make Linux' bond: 802.3ad with LACP, else a static LAG (balance-xor)."""
    team, mode = topology.team, "balance-xor"
    if bond.lacp != "off":
        mode = f"802.3ad lacp_rate {bond.lacp_rate} lacp_active {'on' if bond.lacp == 'active' else 'off'}"
    lines = [f"link add {team.name} address {team.mac} type bond mode {mode} miimon 100 xmit_hash_policy layer3+4"]
    for nic in topology.nics:
        lines += [f"link set {nic.name} down", f"link set {nic.name} master {team.name}"]
    return lines


def addresses(topology: Topology) -> list[str]:
    """Lines for `ip -batch`: the bond has the team's addresses and the way to the clients."""
    team, router = topology.team, topology.router
    lines = [
        f"address add {team.ip4}/{PREFIX4} dev {team.name}",
        f"address add {team.ip6}/{PREFIX6} dev {team.name} nodad",
        f"link set {team.name} up",
    ]
    if router:
        lines += [f"route replace default via {router.ip4} dev {team.name}"]
        lines += [f"route replace ::/0 via {router.ip6} dev {team.name}"]
    return lines


def usable(shown: str) -> int:
    """How many members `ovs-appctl bond/show` says are enabled."""
    words = [line.split() for line in shown.splitlines() if line.startswith(("member ", "slave "))]
    return sum(one[2:3] == ["enabled"] for one in words)
