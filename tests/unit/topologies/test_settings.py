"""The scripts that set up the namespaces: what must be in them for the network to behave."""

import subprocess
from pathlib import Path

from topologies import settings, shaping
from topologies.shapes import figure_1, two_teams

TOPOLOGY = figure_1(nics=2, clients=1, rate_bps=200_000_000)


def test_every_link_is_made_in_its_final_namespaces() -> None:
    """One line per veth pair; the switch's ends stay where the switch is, in one group."""
    pids = {name: 100 + index for index, name in enumerate(TOPOLOGY.nodes)}
    lines = settings.links(TOPOLOGY, pids).splitlines()
    assert len(lines) == 1 + 2 * 2 + 1
    assert any("name team0 " in line and line.count("netns 100") == 2 for line in lines)
    wire = next(line for line in lines if "s1-nic1" in line)
    assert "netns 102 type veth peer" in wire
    assert wire.endswith(f"group {settings.SWITCH_PORTS}")


def test_sysctls_come_before_a_link_is_up() -> None:
    """A link that is up before its address mode is set has sent its first frames already."""
    for script in settings.scripts(TOPOLOGY).values():
        assert script.index("addr_gen_mode") < script.index(" up\n")


def test_offloads_end_at_the_switch() -> None:
    """Both ends of every link to the switch; the buses and the team keep theirs."""
    scripts = settings.scripts(TOPOLOGY)
    assert "ethtool -K wire tx off" in scripts["nic0"]
    assert "ethtool -K eth0 tx off" in scripts["c1"]
    assert "ethtool" not in scripts["server"]
    assert settings.switch_side(TOPOLOGY).count("tx off") == 3


def test_a_connection_of_a_nic_may_not_fill_its_queue() -> None:
    """Its own and another's context fit into the queue of the slowest link that has one of its size."""
    assert f"echo {settings.OUTPUT_BYTES} >ipv4/tcp_limit_output_bytes" in settings.scripts(TOPOLOGY)["nic0"]
    assert shaping.queue_bytes(1) >= settings.OUTPUT_BYTES


def test_frames_are_received_by_hash_but_on_the_loopback(tmp_path: Path) -> None:
    masks = {device: tmp_path / device / "queues/rx-0/rps_cpus" for device in ("lo", "nic0-wire", "nic0-bus")}
    for mask in masks.values():
        mask.parent.mkdir(parents=True)
        mask.write_text("0\n")
    script = settings.in_order(2).replace("/sys/class/net", str(tmp_path))
    subprocess.run(["sh", "-ec", script], check=True)
    assert {device: mask.read_text() for device, mask in masks.items()} == {
        "lo": "0\n",
        "nic0-wire": "3\n",
        "nic0-bus": "3\n",
    }


def test_rates_are_on_both_ends_of_wires_only() -> None:
    """And nowhere without a rate."""
    scripts = settings.scripts(TOPOLOGY)
    assert "class replace dev wire parent 1: classid 1:1 htb rate 200000000bit" in scripts["nic1"]
    assert "htb" not in scripts["c1"]
    switch = settings.switch_side(TOPOLOGY)
    assert switch.count("htb rate") == 2
    assert "dev s1-c1 root" not in switch
    free = figure_1(nics=2, clients=1)
    assert "tc -batch" not in settings.switch_side(free) + settings.scripts(free)["nic0"]


def test_each_wire_has_its_own_rate() -> None:
    """Also where the others have none."""
    topology = figure_1(nics=2, clients=1, rates={"nic1": 50_000_000})
    scripts = settings.scripts(topology)
    assert "htb" not in scripts["nic0"]
    assert "htb rate 50000000bit" in scripts["nic1"]
    assert settings.switch_side(topology).count("htb rate") == 1


def test_two_teams_have_devices_and_networks_of_their_own() -> None:
    """In the server, in the NICs, and at the clients."""
    topology = two_teams(nics=1, clients=1)
    scripts = settings.scripts(topology)
    for line in ("10.0.0.1/24 dev team0", "10.0.1.1/24 dev team1", "fd00:0:0:1::1/64 dev team1"):
        assert f"address add {line}" in scripts["server"]
    assert "address add 10.0.1.1/32 dev lo" in scripts["nic1"]
    assert "10.0.0.1/32" not in scripts["nic1"]
    for line in ("10.0.0.11/24 dev eth0", "10.0.1.11/24 dev eth0", "fd00:0:0:1::11/64 dev eth0"):
        assert f"address add {line}" in scripts["c1"]
    pids = {name: 100 + index for index, name in enumerate(topology.nodes)}
    links = settings.links(topology, pids)
    assert topology.more_teams[0].mac in links
    assert links.count("name team") == 4


def test_the_bridge_is_asked_for_in_full() -> None:
    """Every port with its number, secure, OpenFlow 1.3, hands off the queues."""
    args = settings.bridge(TOPOLOGY, TOPOLOGY.switch, "netdev")
    for word in ("datapath_type=netdev", "protocols=OpenFlow13", "fail_mode=secure", "type=linux-noop"):
        assert word in args
    numbers = [word.partition("=")[2] for word in args if word.startswith("ofport_request=")]
    assert numbers == ["1", "2", "3"]
    assert args.count("qos=@ours") == 3
