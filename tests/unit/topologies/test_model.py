"""Names, addresses, numbers are those that every other part is told; what cannot be built is refused."""

import dataclasses
import ipaddress

import pytest

from topologies.model import Client, Nic, Team, Topology, TopologyError
from topologies.shapes import SHAPES, figure_1, routed, two_switches, two_teams


def test_figure_1_names_and_addresses() -> None:
    """The network of the method's first figure, as the controller, the agent and scenarios know it."""
    topology = figure_1(nics=3, clients=2)
    assert topology.nodes == ("server", "nic0", "nic1", "nic2", "c1", "c2")
    assert (topology.switch.name, topology.switch.dpid) == ("s1", 1)
    team = topology.team
    assert (team.name, team.peer, team.mac) == ("team0", "team0p", "02:00:00:00:00:01")
    assert (team.ip4, team.ip6) == ("10.0.0.1", "fd00::1")
    nic = topology.nic("nic2")
    assert (nic.wire, nic.bus, nic.server_bus, nic.switch_port, nic.port_no) == (
        *("wire", "bus", "bus2", "s1-nic2"),
        3,
    )
    client = topology.client("c2")
    assert (client.ip4, client.ip6, client.mac) == ("10.0.0.12", "fd00::12", "02:00:00:00:01:02")
    assert (client.switch_port, client.port_no) == ("s1-c2", 5)
    assert topology.rate_bps is None


def test_the_largest_network_has_no_two_alike() -> None:
    """Sixteen NICs and 200 clients: names, ports, MACs and addresses all differ, and all are valid."""
    topology = figure_1(nics=16, clients=200, rate_bps=10_000_000_000)
    ends = topology.ends
    for values in (
        [end.name for end in ends],
        [end.port_no for end in ends],
        [end.switch_port for end in ends],
        [client.ip4 for client in topology.clients] + [topology.team.ip4],
        [client.ip6 for client in topology.clients] + [topology.team.ip6],
        [client.mac for client in topology.clients]
        + [end.switch_port_mac for end in ends]
        + [nic.server_bus_mac for nic in topology.nics]
        + [topology.team.mac, topology.team.peer_mac, topology.switch.mac],
    ):
        assert len(set(values)) == len(values)
    assert [end.port_no for end in ends] == list(range(1, 217))
    for client in topology.clients:
        assert ipaddress.ip_address(client.ip4) in ipaddress.ip_network("10.0.0.0/24")
        assert ipaddress.ip_address(client.ip6) in ipaddress.ip_network("fd00::/64")
        assert len(client.switch_port) <= 15  # IFNAMSIZ, without its end


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"nics": 0}, "a team has 1 to 16 NICs, not 0"),
        ({"nics": 17}, "a team has 1 to 16 NICs, not 17"),
        ({"nics": 10**9}, "a team has 1 to 16 NICs, not 1000000000"),
        ({"clients": 0}, "a network has 1 to 200 clients, not 0"),
        ({"clients": 201}, "a network has 1 to 200 clients, not 201"),
        ({"rate_bps": 999_999}, "a link's rate is 1 Mbit/s to 100 Gbit/s, not 999,999 bit/s"),
        ({"rate_bps": 10**12}, "a link's rate is 1 Mbit/s to 100 Gbit/s, not 1,000,000,000,000 bit/s"),
    ],
)
def test_what_cannot_be_built_is_refused(words: dict[str, int], said: str) -> None:
    """One line, with the bounds in it."""
    with pytest.raises(TopologyError) as refused:
        figure_1(**words)
    assert str(refused.value) == said


def test_a_topology_of_ones_own_is_checked_too() -> None:
    """Not only the shapes: counts, ports and names hold for every Topology."""
    good = figure_1(nics=2, clients=2)
    with pytest.raises(TopologyError, match="1 to 16 NICs"):
        Topology(team=Team(nics=()), switch=good.switch, clients=good.clients)
    with pytest.raises(TopologyError, match="s1-nic0 and s1-c1 share port 1 of s1"):
        dataclasses.replace(good, clients=(Client(1, "s1", port_no=1),))
    with pytest.raises(TopologyError, match="two nodes share a name"):
        dataclasses.replace(good, clients=(Client(1, "s1", 8), Client(1, "s1", 8)))


def test_an_unknown_node_is_named_with_those_that_exist() -> None:
    """A slip in a scenario is told with what would have been right."""
    topology = figure_1(nics=2, clients=2)
    with pytest.raises(TopologyError, match="no NIC 'nic2'; there are nic0, nic1"):
        topology.nic("nic2")
    with pytest.raises(TopologyError, match="no client 'nic0'; there are c1 to c2"):
        topology.client("nic0")


def test_nics_of_different_speeds() -> None:
    """A NIC's own rate goes before the network's; a rate for a NIC that is not there is refused."""
    topology = figure_1(nics=3, rate_bps=100_000_000, rates={"nic1": 10_000_000})
    assert [topology.rate_of(nic) for nic in topology.nics] == [100_000_000, 10_000_000, 100_000_000]
    assert [figure_1(nics=2, rates={"nic0": 10**6}).rate_of(nic) for nic in figure_1(nics=2).nics] == [None, None]
    with pytest.raises(TopologyError, match="no NIC 'nic3'"):
        figure_1(nics=3, rates={"nic3": 10_000_000})
    with pytest.raises(TopologyError, match="a link's rate is 1 Mbit/s to 100 Gbit/s, not 1,000 bit/s"):
        figure_1(nics=3, rates={"nic1": 1000})


def test_two_teams_share_nothing() -> None:
    """Each has a device, a MAC, addresses and a network of its own; clients are in both networks."""
    topology = two_teams(nics=2, clients=2)
    first, second = topology.teams
    assert topology.team is first
    assert first == figure_1(nics=2).team
    assert [nic.name for nic in second.nics] == ["nic2", "nic3"]
    assert (second.name, second.peer, second.ip4, second.ip6) == ("team1", "team1p", "10.0.1.1", "fd00:0:0:1::1")
    assert topology.team_of("nic1") is first
    assert topology.team_of("nic3") is second
    assert [end.port_no for end in topology.ends] == [1, 2, 3, 4, 5, 6]
    client = topology.client("c2")
    assert (client.ip4_towards(1), client.ip6_towards(1)) == ("10.0.1.12", "fd00:0:0:1::12")
    macs = [mac for team in topology.teams for mac in (team.mac, team.peer_mac)]
    macs += [end.switch_port_mac for end in topology.ends] + [nic.server_bus_mac for nic in topology.nics]
    assert len(set(macs)) == len(macs)


def test_teams_of_one_and_of_sixteen() -> None:
    """The smallest and the largest."""
    for count in (1, 16):
        topology = two_teams(nics=count, clients=1)
        assert [len(team.nics) for team in topology.teams] == [count, count]
        assert len({end.port_no for end in topology.ends}) == 2 * count + 1
    with pytest.raises(TopologyError, match="a team has 1 to 16 NICs, not 17"):
        two_teams(nics=17)
    good = figure_1()
    with pytest.raises(TopologyError, match="two teams share a name"):
        dataclasses.replace(good, more_teams=(Team(nics=(Nic(9, "s1"),)),))


def test_shapes_by_name() -> None:
    """What a scenario may write."""
    assert SHAPES["figure_1"] is figure_1
    assert SHAPES["two_teams"] is two_teams
    assert figure_1().nics == tuple(Nic(index, "s1") for index in range(3))


def test_two_switches_act_as_one() -> None:
    """NICs in turn at s1 and s2, clients at the core; a client's frame passes one member at each of two switches."""
    topology = two_switches(nics=4, clients=2)
    assert [switch.name for switch in topology.switches] == ["core", "s1", "s2"]
    assert [(nic.switch, nic.switch_port) for nic in topology.nics[:2]] == [("s1", "s1-nic0"), ("s2", "s2-nic1")]
    assert [(port.number, port.device) for port in topology.ports_of("core")] == [
        *((3, "core-c1"), (4, "core-c2"), (1, "core-s1"), (2, "core-s2"))
    ]
    assert [(port.number, port.device) for port in topology.ports_of("s2")] == [
        *((2, "s2-nic1"), (4, "s2-nic3"), (5, "s2-core"))
    ]
    assert topology.way_to(topology.nic("nic3")) == (("core", 2), ("s2", 4))
    assert figure_1().way_to(Nic(1, "s1")) == (("s1", 2),)
    with pytest.raises(TopologyError, match="no switch 's3'; there is core, s1, s2"):
        topology.ports_of("s3")
    with pytest.raises(TopologyError, match="a team on two switches has 2 to 16 NICs, not 1"):
        two_switches(nics=1)


def test_clients_behind_a_router() -> None:
    """Each in a network of its own, none in the team's; the switch has a port for the router and none for clients."""
    topology = routed(nics=2, clients=200)
    assert topology.nodes[-1] == "r1"
    assert [port.device for port in topology.ports] == ["s1-nic0", "s1-nic1", "s1-r1"]
    team4, team6 = ipaddress.ip_network("10.0.0.0/24"), ipaddress.ip_network("fd00::/64")
    assert topology.router is not None
    assert ipaddress.ip_address(topology.router.ip4) in team4
    networks = set()
    for client in topology.clients:
        for ip, gateway, prefix, team in (
            (client.ip4, client.gateway4, 24, team4),
            (client.ip6, client.gateway6, 64, team6),
        ):
            network = ipaddress.ip_network(f"{ip}/{prefix}", strict=False)
            assert ipaddress.ip_address(gateway) in network
            assert not network.overlaps(team)  # type: ignore[arg-type]
            networks.add(network)
    assert len(networks) == 400


@pytest.mark.parametrize("shape", SHAPES)
def test_no_two_devices_of_any_shape_are_alike(shape: str) -> None:
    """The largest of each: ports, MACs, and names that fit."""
    topology = SHAPES[shape](nics=16, clients=200)
    macs = [port.mac for port in topology.ports] + [client.mac for client in topology.clients]
    macs += [switch.mac for switch in topology.switches] + [nic.server_bus_mac for nic in topology.nics]
    macs += [mac for team in topology.teams for mac in (team.mac, team.peer_mac)]
    macs += [topology.router.mac(1), topology.router.mac(2)] if topology.router else []
    macs += [client.switch_port_mac for client in topology.clients if client.routed]
    assert len(set(macs)) == len(macs)
    devices = [port.device for port in topology.ports] + [client.switch_port for client in topology.clients]
    assert all(len(device) <= 15 for device in devices)
    assert len({(port.switch, port.number) for port in topology.ports}) == len(topology.ports)
