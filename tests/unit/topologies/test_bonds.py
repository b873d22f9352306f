"""Other teams than ours, as text."""

from dataclasses import replace

import pytest

from topologies import bonds, settings
from topologies.model import Bond, Topology, TopologyError
from topologies.shapes import figure_1, routed, two_switches

SHOWN = """\
---- bond0 ----
bond_mode: active-backup

member nic0: enabled
  active member
  may_enable: true

member nic1: disabled
  may_enable: false

member nic2: enabled
"""


def bonded(driver: str, lacp: str = "off", nics: int = 3) -> Topology:
    return replace(figure_1(nics, 2, 200_000_000), bond=Bond(driver, lacp))


def test_enabled_members_are_counted() -> None:
    assert bonds.usable(SHOWN) == 2
    assert bonds.usable("") == 0


@pytest.mark.parametrize(
    ("driver", "mode"), [("ovs_active_backup", "active-backup"), ("ovs_balance_tcp", "balance-tcp")]
)
def test_the_bridge_has_the_bond_and_the_teams_device(driver: str, mode: str) -> None:
    topology = bonded(driver, "active")
    words = bonds.ovs(topology, topology.bond or Bond(""))
    at = words.index("add-bond")
    assert words[at : at + 7] == ["add-bond", "team", "bond0", "nic0", "nic1", "nic2", f"bond_mode={mode}"]
    assert "lacp=active" in words
    assert words[-1] == 'mac="02:00:00:00:00:01"'


def test_one_nic_is_a_port_for_a_bond_has_two() -> None:
    topology = bonded("ovs_active_backup", nics=1)
    words = bonds.ovs(topology, topology.bond or Bond(""))
    assert "add-bond" not in words
    assert words[words.index("add-port") + 2] == "nic0"


def test_linux_has_lacp_or_a_static_lag() -> None:
    made = {lacp: bonds.linux(bonded("linux_bonding", lacp), Bond("linux_bonding", lacp)) for lacp in ("off", "active")}
    assert "mode balance-xor miimon 100" in made["off"][0]
    assert "mode 802.3ad lacp_rate fast lacp_active on miimon 100" in made["active"][0]
    assert made["off"][-1] == "link set nic2 master team0"


def test_links_end_in_the_server_and_every_index_there_differs() -> None:
    text = settings.links(bonded("ovs_balance_tcp"), {"server": 7, "c1": 8, "c2": 9})
    assert "team0" not in text
    assert [line.split()[3:8] for line in text.splitlines() if "nic" in line] == [
        [f"nic{k}", "index", str(5000 + k), "address", f"02:00:00:00:08:0{k}"] for k in range(3)
    ]
    scripts = settings.scripts(bonded("ovs_balance_tcp"))
    assert set(scripts) == {"server", "c1", "c2"}
    assert scripts["server"].count("htb rate 200000000bit") == 3


def test_behind_a_router_the_bond_has_a_way_out() -> None:
    topology = replace(routed(2, 1), bond=Bond("ovs_active_backup"))
    assert "route replace default via 10.0.0.254 dev team0" in bonds.addresses(topology)


def test_two_switches_are_for_our_team() -> None:
    with pytest.raises(TopologyError, match="at one switch"):
        replace(two_switches(), bond=Bond("ovs_active_backup"))
