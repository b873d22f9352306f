"""A network that is up has the addresses, ports, routes, rates and the silence that its model promises."""

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from topologies.sandbox import Sandbox

pytestmark = pytest.mark.net

START = """
    from topologies.commands import NetworkError
    from topologies.network import Network
    switch = sandbox.OpenVSwitch()
    switch.start()
    def up(**words):
        net = Network(figure_1(**words), sandbox.RUN_DIR)
        net.start()
        return net
    def forward():
        subprocess.run(["ovs-ofctl", "-O", "OpenFlow13", "add-flow", "s1", "actions=normal"], check=True)
    def say(**facts):
        print(json.dumps(facts), flush=True)
    def lines(net, node, *argv):
        return net.run(node, argv).stdout.splitlines()
    def until(holds):
        deadline = time.monotonic() + 5
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.005)
"""
Start = Callable[..., Sandbox]


def told(in_sandbox: Start, code: str) -> dict[str, Any]:
    """Runs code that ends with say(…), and returns what it said."""
    return said_by(in_sandbox("if True:\n" + START + code))


def said_by(one: Sandbox, within_s: float = 60.0) -> Any:
    """The JSON document in a sandbox's last line, once it has ended well."""
    out, said = one.communicate(timeout=within_s)
    assert one.returncode == 0, said.decode()[-3000:]
    return json.loads(out.splitlines()[-1])


def test_ports_have_the_numbers_of_the_model(in_sandbox: Start) -> None:
    """Sixteen NICs, many clients: every port_no is the one asked for, and the bridge speaks OpenFlow 1.3."""
    answer = told(
        in_sandbox,
        """
    net = up(nics=16, clients=24)
    shown = lines(net, "s1", "ovs-ofctl", "-O", "OpenFlow13", "show", "s1")
    names = [line.strip().partition(": addr")[0].rstrip(")") for line in shown if ": addr" in line]
    ports = dict(name.split("(") for name in names)
    bridge = lines(net, "s1", "ovs-vsctl", "get", "bridge", "s1", "fail_mode", "protocols", "datapath_id")
    say(ports=ports, bridge=bridge, expected={str(end.port_no): end.switch_port for end in net.topology.ends})
    """,
    )
    answer["ports"].pop("LOCAL")
    assert answer["ports"] == answer["expected"]
    assert [word.strip('"[]') for word in answer["bridge"]] == ["secure", "OpenFlow13", "0000000000000001"]


def test_a_nic_has_the_teams_addresses_and_says_nothing(in_sandbox: Start) -> None:
    """Same MAC and address everywhere, default routes by the wire, no frame of the NIC's own making."""
    answer = told(
        in_sandbox,
        """
    net = up()
    forward()
    # Clients ask for the team's address, over both families: nobody steers here, so nobody may answer.
    for node, argv in {"c1": ["ping", "-c1", "-W1", "10.0.0.1"],
                       "c2": ["ping", "-6", "-c1", "-W1", "fd00::1"]}.items():
        try:
            net.run(node, argv)
        except NetworkError:
            pass
    def sent(node, interface):
        return int(net.run(node, ["cat", f"/sys/class/net/{interface}/statistics/tx_packets"]).stdout)
    nics = {}
    for nic in net.topology.nics:
        nics[nic.name] = {
            "macs": lines(net, nic.name, "cat", "/sys/class/net/wire/address", "/sys/class/net/bus/address"),
            "routes": [line for family in ("-4", "-6")
                       for line in lines(net, nic.name, "ip", family, "route", "show", "default")],
            "sent": [sent(nic.name, "wire"), sent(nic.name, "bus")],
        }
    say(nics=nics, clients=[sent("c1", "eth0"), sent("c2", "eth0")],
        buses=lines(net, "server", "sh", "-c", "ip -o addr show up | grep -c bus || true"))
    """,
    )
    for nic in answer["nics"].values():
        assert nic["macs"] == ["02:00:00:00:00:01"] * 2
        assert [" dev wire " in route for route in nic["routes"]] == [True, True]
        assert nic["sent"] == [0, 0]
    assert all(answer["clients"])  # they did ask
    assert answer["buses"] == ["0"]


def test_a_wire_that_comes_back_is_as_before(in_sandbox: Start) -> None:
    """link_down takes the NIC's carrier, link_up gives it back; addresses, routes, rates are unchanged."""
    answer = told(
        in_sandbox,
        """
    net = up(rate_bps=100_000_000)
    def carrier():
        return net.run("nic1", ["cat", "/sys/class/net/wire/carrier"]).stdout.strip()
    def state():
        shown = "ip -4 route; ip -6 route; ip -o address; tc qdisc show dev wire"
        return lines(net, "nic1", "sh", "-c", shown)
    before = state()
    net.link_down("nic1")
    until(lambda: carrier() == "0")
    down = state()
    others = [lines(net, name, "cat", "/sys/class/net/wire/carrier")[0] for name in ("nic0", "nic2")]
    net.link_up("nic1")
    until(lambda: carrier() == "1")
    say(before=before, down=down, after=state(), others=others)
    """,
    )
    assert answer["after"] == answer["before"]
    assert any("linkdown" in line for line in answer["down"])
    assert answer["others"] == ["1", "1"]
    routes = [line for line in answer["after"] if line.startswith("default") and " dev wire " in line]
    assert len(routes) == 2


def test_a_rate_holds_in_both_directions(in_sandbox: Start) -> None:
    """HTB at both ends of each wire, which Open vSwitch leaves alone, also when it gets a controller."""
    answer = told(
        in_sandbox,
        """
    net = up(nics=2, rate_bps=200_000_000)
    net.connect_controller("127.0.0.1", 6653)
    ends = {"nic0": ("nic0", "wire"), "nic1": ("nic1", "wire"), "s1-nic0": ("s1", "s1-nic0"),
            "s1-nic1": ("s1", "s1-nic1")}
    say(classes={key: lines(net, node, "tc", "class", "show", "dev", name)
                 for key, (node, name) in ends.items()},
        client=lines(net, "s1", "tc", "class", "show", "dev", "s1-c1"),
        controller=lines(net, "s1", "ovs-vsctl", "get-controller", "s1"),
        kernel=lines(net, "s1", "sh", "-c", "dmesg | grep -i quantum || true"))
    """,
    )
    for shown in answer["classes"].values():
        assert [" rate 200Mbit ceil 200Mbit " in line for line in shown] == [True]
    assert answer["client"] == []
    assert answer["controller"] == ["tcp:127.0.0.1:6653"]
    assert answer["kernel"] == []


def test_every_wire_holds_its_own_rate(in_sandbox: Start) -> None:
    """NICs of different speeds in one team."""
    answer = told(
        in_sandbox,
        """
    net = up(nics=3, clients=1, rates={"nic0": 20_000_000, "nic2": 300_000_000})
    say(classes={nic.name: [lines(net, nic.name, "tc", "class", "show", "dev", "wire"),
                            lines(net, "s1", "tc", "class", "show", "dev", nic.switch_port)]
                 for nic in net.topology.nics})
    """,
    )
    for name, rate in (("nic0", " rate 20Mbit "), ("nic2", " rate 300Mbit ")):
        assert all(rate in ends[0] for ends in answer["classes"][name])
    assert answer["classes"]["nic1"] == [[], []]


def test_an_adapter_fails_whole_and_comes_back(in_sandbox: Start) -> None:
    """Wire and bus lose their carrier, nobody else's does; afterwards both have it, and no steering is left."""
    answer = told(
        in_sandbox,
        """
    net = up()
    def carriers():
        return {name: [net.run(name, ["cat", f"/sys/class/net/{one}/carrier"]).stdout.strip()
                       for one in ("wire", "bus")] for name in ("nic0", "nic1", "nic2")}
    net.run("nic1", ["tc", "qdisc", "add", "dev", "wire", "clsact"])
    net.adapter_failure("nic1")
    until(lambda: carriers()["nic1"] == ["0", "0"])
    down = carriers()
    net.adapter_replace("nic1")
    left = lines(net, "nic1", "tc", "qdisc", "show", "dev", "wire")
    net.adapter_return("nic1")
    until(lambda: carriers()["nic1"] == ["1", "1"])
    say(down=down, left=left)
    """,
    )
    assert answer["down"] == {"nic0": ["1", "1"], "nic1": ["0", "0"], "nic2": ["1", "1"]}
    assert not any("clsact" in line for line in answer["left"])


def test_all_links_at_once(in_sandbox: Start) -> None:
    """Every wire, no client's link."""
    answer = told(
        in_sandbox,
        """
    net = up(nics=16, clients=1)
    def carriers():
        return [net.run(nic.name, ["cat", "/sys/class/net/wire/carrier"]).stdout.strip() for nic in net.topology.nics]
    net.all_links_down()
    until(lambda: set(carriers()) == {"0"})
    client = lines(net, "c1", "cat", "/sys/class/net/eth0/carrier")
    net.all_links_up()
    until(lambda: set(carriers()) == {"1"})
    say(client=client)
    """,
    )
    assert answer == {"client": ["1"]}


def test_the_sockets_of_a_node(in_sandbox: Start) -> None:
    """Both families, of that node's namespace and of no other."""
    answer = told(
        in_sandbox,
        """
    net = up(nics=1)
    code = "import socket, time; a = socket.create_server((%r, 5001), family=%d)"
    code += "; print('up', flush=True); time.sleep(60)"
    for host, family in (("10.0.0.11", 2), ("fd00::11", 10)):
        one = net.popen("c1", [sys.executable, "-c", code % (host, family)], stdout=subprocess.PIPE)
        one.stdout.readline()
    say(c1=net.sockets("c1").count(":1389 "), c2=net.sockets("c2").count(":1389 "))
    """,
    )
    assert answer == {"c1": 2, "c2": 0}


def test_two_teams_on_one_server(in_sandbox: Start) -> None:
    """Each with its device and network; clients reach the server's addresses by neither until NICs forward."""
    answer = told(
        in_sandbox,
        """
    from topologies.shapes import two_teams
    net = Network(two_teams(nics=2, clients=1), sandbox.RUN_DIR)
    net.start()
    say(routes={node: lines(net, node, "ip", "-4", "route") for node in ("server", "c1")},
        macs=[lines(net, "server", "cat", f"/sys/class/net/{name}/address")[0] for name in ("team0", "team1")],
        nics=[lines(net, nic.name, "cat", "/sys/class/net/wire/address")[0] for nic in net.topology.nics],
        ports=len(lines(net, "s1", "ovs-vsctl", "list-ports", "s1")))
    """,
    )
    assert [line.split()[:3] for line in answer["routes"]["server"]] == [
        ["10.0.0.0/24", "dev", "team0"],
        ["10.0.1.0/24", "dev", "team1"],
    ]
    assert [line.split()[0] for line in answer["routes"]["c1"]] == ["10.0.0.0/24", "10.0.1.0/24"]
    assert answer["nics"] == [answer["macs"][0]] * 2 + [answer["macs"][1]] * 2
    assert answer["macs"][0] != answer["macs"][1]
    assert answer["ports"] == 5


TRANSFER = """
import socket, sys, threading
family, host, size = int(sys.argv[1]), sys.argv[2], 8_000_000
if sys.argv[3] == "listen":
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.bind((host, 5000)); one.listen(); print("listening", flush=True)
        peer, _ = one.accept()
        left = size
        while left and (data := peer.recv(65536)):
            left -= len(data)
        peer.sendall(b"%d" % left)
else:
    with socket.create_connection((host, 5000), timeout=10) as one:
        one.sendall(b"x" * size)
        print(one.recv(10).decode())
"""


def test_tcp_crosses_the_switch_in_both_families(in_sandbox: Start) -> None:
    """Eight megabytes between clients: fails where a checksum is left to hardware that is not there."""
    answer = told(
        in_sandbox,
        f"""
    code = {TRANSFER!r}
    net = up()
    forward()
    left = []
    for family, host in (("2", "10.0.0.12"), ("10", "fd00::12")):
        program = [sys.executable, "-c", code, family, host]
        server = net.popen("c2", [*program, "listen"], stdout=subprocess.PIPE)
        server.stdout.readline()
        left.append(net.run("c1", [*program, "send"]).stdout.strip())
        assert server.wait(5) == 0
    say(left=left)
    """,
    )
    assert answer["left"] == ["0", "0"]


def test_processes_in_nodes(in_sandbox: Start) -> None:
    """The pid is the program's own, descriptors and environment arrive, stop() ends it; errors are a line."""
    answer = told(
        in_sandbox,
        """
    net = up(nics=1, clients=1)
    read, write = os.pipe()
    code = "import os, sys; os.write(int(sys.argv[1]), os.environ['WORD'].encode()); print(os.getpid())"
    one = net.popen("c1", [sys.executable, "-c", code, str(write)], stdout=subprocess.PIPE,
                    env={**os.environ, "WORD": "hello"}, pass_fds=(write,))
    out = one.communicate()[0]
    errors = []
    for node, argv in (("c9", ["true"]), ("c1", ["false"]), ("c1", ["no-such-program"])):
        try:
            net.run(node, argv)
        except NetworkError as error:
            errors.append(str(error))
    last = net.popen("nic0", ["sleep", "1000"])
    net.stop()
    say(pid=int(out) == one.pid, word=os.read(read, 99).decode(), errors=errors, ended=last.returncode)
    """,
    )
    assert answer["pid"] is True
    assert answer["word"] == "hello"
    assert answer["ended"] == -9
    assert answer["errors"][0] == "no node 'c9'; there are server, nic0, c1, s1"
    assert answer["errors"][1] == "c1: false: exit status 1"
    assert "no-such-program" in answer["errors"][2]
    assert all("\n" not in error for error in answer["errors"])


def test_a_second_network_in_the_same_sandbox(in_sandbox: Start) -> None:
    """After stop() the names are free again, and starting twice is refused."""
    answer = told(
        in_sandbox,
        """
    net = up()
    try:
        net.start()
    except NetworkError as error:
        said = str(error)
    net.stop()
    net.stop()
    net.start()
    say(said=said, links=len(lines(net, "s1", "ip", "-o", "link")))
    """,
    )
    assert answer == {"said": "the network is up already", "links": 8}


def test_a_node_is_ended_whose_shell_has_no_process_group_yet(in_sandbox: Start) -> None:
    """As when the bring-up is interrupted a moment after it was started."""
    ended = told(
        in_sandbox,
        """
    from topologies import network
    node = network._Node("c1")
    node.shell = young = subprocess.Popen(["sleep", "60"])
    node.terminate()
    say(status=young.wait(10))
    """,
    )
    assert ended == {"status": -signal.SIGKILL}
