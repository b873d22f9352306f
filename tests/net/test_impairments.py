"""A black hole, loss, damage and a new rate, seen with real frames, each told by its number."""

from typing import Any

import pytest

from tests.net.test_network import Start, said_by

pytestmark = pytest.mark.net

FRAMES = 4000

START = f"""
    from topologies import capabilities
    from topologies.commands import NetworkError
    from topologies.network import Network
    sandbox.OpenVSwitch().start()
    net = Network(figure_1(nics=2, clients=2, rate_bps=RATE), sandbox.RUN_DIR)
    net.start()
    subprocess.run(["ovs-ofctl", "-O", "OpenFlow13", "add-flow", "s1", "actions=flood"], check=True)
    HEAD = bytes.fromhex("ffffffffffff" + "020000000101" + "88b5")
    LISTEN = '''
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
s.bind((sys.argv[1], 0x88b5))
print("listening", flush=True)
good = bad = 0
while (data := s.recv(2048)[14:]) != b"done" * 20:
    if len(data) == 80: continue  # a last one, damaged
    if data == data[:4] * (len(data) // 4): good += 1
    else: bad += 1
print(good, bad, flush=True)
'''
    SEND = '''
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
head = bytes.fromhex("ffffffffffff" + "020000000101" + "88b5")
for n in range(int(sys.argv[2])):
    s.send(head + n.to_bytes(4, "big") * int(sys.argv[3]))
'''
    END = SEND.replace('n.to_bytes(4, "big")', 'b"done"')
    def heard(sender, interface, receiver, other, frames={FRAMES}, words=120):
        '''What arrives at the receiver: frames that are whole, frames that are not; None: nothing at all.'''
        ear = net.popen(receiver, [sys.executable, "-c", LISTEN, other], stdout=subprocess.PIPE)
        ear.stdout.readline()
        net.run(sender, [sys.executable, "-c", SEND, interface, str(frames), str(words)])
        deadline = time.monotonic() + 2
        while ear.poll() is None:
            if time.monotonic() > deadline:
                ear.kill()
                return None
            net.run(sender, [sys.executable, "-c", END, interface, "40", "20"])
        return [int(word) for word in ear.stdout.readline().split()]
    def towards(nic): return heard("c1", "eth0", nic, "wire")
    def away(nic): return heard(nic, "wire", "c2", "eth0")
"""


def told(in_sandbox: Start, code: str, rate: str = "None") -> dict[str, Any]:
    """Runs code that prints one JSON document."""
    return said_by(in_sandbox("if True:\n" + START.replace("RATE", rate) + code))


def test_a_black_hole_eats_one_direction_or_both_and_the_carrier_stays(in_sandbox: Start) -> None:
    """Every frame, of that NIC only, until it is healed."""
    answer = told(
        in_sandbox,
        """
    told = {}
    for direction in ("to_nic", "from_nic", "both"):
        net.black_hole("nic0", direction)
        carrier = net.run("nic0", ["cat", "/sys/class/net/wire/carrier"]).stdout.strip()
        told[direction] = [towards("nic0"), away("nic0"), towards("nic1"), carrier]
        net.heal("nic0")
    told["healed"] = [towards("nic0"), away("nic0")]
    print(json.dumps(told))
    """,
    )
    whole = [FRAMES, 0]
    assert answer["to_nic"] == [None, whole, whole, "1"]
    assert answer["from_nic"] == [whole, None, whole, "1"]
    assert answer["both"] == [None, None, whole, "1"]
    assert answer["healed"] == [whole, whole]


def test_loss_and_damage_at_their_rates(in_sandbox: Start) -> None:
    """In both directions, of a NIC's link and of a client's; what was asked for last holds."""
    answer = told(
        in_sandbox,
        """
    net.impair("nic0", loss=0.5)
    net.impair("nic0", loss=0.1, corrupt=0.05)
    lossy = [towards("nic0"), away("nic0")]
    net.heal("nic0")
    net.impair("c1", corrupt=0.2)
    print(json.dumps({"nic0": lossy, "c1": towards("nic1")}))
    """,
    )
    for good, bad in answer["nic0"]:
        # Five standard deviations of a binomial distribution.
        assert abs(good + bad - 0.9 * FRAMES) < 5 * (FRAMES * 0.09) ** 0.5
        assert abs(bad - 0.045 * FRAMES) < 5 * (FRAMES * 0.043) ** 0.5
    good, bad = answer["c1"]
    assert good + bad == FRAMES
    assert abs(bad - 0.2 * FRAMES) < 5 * (FRAMES * 0.16) ** 0.5


def test_tcp_drops_what_is_damaged(in_sandbox: Start) -> None:
    """Its checksum is wrong, so a stream arrives whole, by sending again."""
    answer = told(
        in_sandbox,
        """
    code = '''
import hashlib, socket, sys
data = bytes(range(256)) * 8192
if sys.argv[1] == "listen":
    with socket.create_server(("10.0.0.12", 5000)) as one:
        print("listening", flush=True)
        peer, _ = one.accept()
        left = hashlib.sha256()
        while got := peer.recv(65536): left.update(got)
    print(left.hexdigest() == hashlib.sha256(data).hexdigest())
    print([line.split()[-3] for line in open("/proc/net/snmp") if line.startswith("Tcp:")][1])
else:
    with socket.create_connection(("10.0.0.12", 5000), timeout=20) as one: one.sendall(data)
'''
    subprocess.run(["ovs-ofctl", "-O", "OpenFlow13", "add-flow", "s1", "actions=normal"], check=True)
    net.impair("c2", corrupt=0.02)
    server = net.popen("c2", [sys.executable, "-c", code, "listen"], stdout=subprocess.PIPE)
    server.stdout.readline()
    net.run("c1", [sys.executable, "-c", code, "send"])
    intact, errors = server.communicate()[0].decode().split()
    print(json.dumps({"intact": intact, "errors": int(errors)}))
    """,
    )
    assert answer["intact"] == "True"
    assert answer["errors"] > 3


def test_nobody_learns_a_damaged_address(in_sandbox: Start) -> None:
    """ARP has no checksum: a damaged one is lost, or a neighbour could not be reached until it is asked anew."""
    answer = told(
        in_sandbox,
        """
    code = '''
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
mac = bytes.fromhex("020000000299")
for n in map(int, sys.argv[1:]):
    ends = mac + bytes([10, 0, 0, n]) + bytes(6) + bytes([10, 0, 0, 12])
    s.send(bytes([255] * 6) + mac + bytes.fromhex("0806" "0001" "0800" "0604" "0001") + ends)
'''
    def learned():
        found = json.loads(net.run("c2", ["ip", "-j", "neigh", "show", "dev", "eth0"]).stdout)
        return {one["dst"]: one.get("lladdr") for one in found}
    def ask(*who): net.run("c1", [sys.executable, "-c", code, *map(str, who)])
    net.impair("c2", corrupt=0.5)
    ask(*range(100, 220))
    net.heal("c2")
    ask(250)
    deadline = time.monotonic() + 5
    while "10.0.0.250" not in (now := learned()) and time.monotonic() < deadline: pass
    print(json.dumps(now))
    """,
    )
    assert set(answer.values()) == {"02:00:00:00:02:99"}
    assert "10.0.0.250" in answer
    assert abs(len(answer) - 1 - 60) < 5 * 30**0.5  # five standard deviations


def test_a_new_rate_on_a_live_link(in_sandbox: Start) -> None:
    """At both ends, also where there was none; wrong ones are refused and change nothing."""
    code = """
    def classes(nic):
        return [net.run(*at).stdout for at in ((nic, ["tc", "class", "show", "dev", "wire"]),
                                               ("s1", ["tc", "class", "show", "dev", f"s1-{nic}"]))]
    net.set_rate("nic0", 20_000_000)
    errors = []
    for call in (lambda: net.set_rate("nic0", 10), lambda: net.impair("c1", jitter_s=1), lambda: net.heal("c9"),
                 lambda: net.black_hole("nic0", "up"), lambda: net.impair("nic0", loss=2)):
        try:
            call()
        except ValueError as error:
            errors.append(str(error))
    print(json.dumps({"nic0": classes("nic0"), "nic1": classes("nic1"), "errors": errors}))
    """
    for rate in ("None", "100_000_000"):
        answer = told(in_sandbox, code, rate)
        assert all(" rate 20Mbit ceil 20Mbit " in shown for shown in answer["nic0"])
        assert not any("20Mbit" in shown for shown in answer["nic1"])
        assert len(answer["errors"]) == 5


def test_a_burst_waits_in_the_queue_of_its_port(in_sandbox: Start) -> None:
    """The queue's limit is what holds, and no buffer of the switch's own: of 208 KiB, for all ports together."""
    answer = told(
        in_sandbox,
        """
    def arrived():
        return heard("c1", "eth0", "nic0", "wire", frames=400, words=375)
    net.set_rate("nic0", 20_000_000)
    shallow = arrived()
    net.set_rate("nic0", 100_000_000)
    deep = arrived()
    net._open_vswitch.kill_daemon()
    net.restart_switch()
    subprocess.run(["ovs-ofctl", "-O", "OpenFlow13", "add-flow", "s1", "actions=flood"], check=True)
    print(json.dumps({"shallow": shallow, "deep": deep, "again": arrived()}))
    """,
    )
    # Of these frames 128 KiB are 86, and 50 ms of 100 Mbit/s 412; what the link carries meanwhile is on top.
    assert 86 <= answer["shallow"][0] < 300
    assert answer["deep"] == answer["again"] == [400, 0]


def test_a_delay_needs_netem(in_sandbox: Start) -> None:
    """Where the kernel has it frames come later; elsewhere one line says what is missing."""
    answer = told(
        in_sandbox,
        """
    def ping():
        said = net.run("c1", ["ping", "-q", "-c3", "-i0.1", "10.0.0.12"]).stdout
        return float(said.rpartition(" = ")[2].split("/")[1])
    subprocess.run(["ovs-ofctl", "-O", "OpenFlow13", "add-flow", "s1", "actions=normal"], check=True)
    lacking, said, took = bool(capabilities.missing(["netem"])), "", 0.0
    try:
        net.impair("c1", delay_s=0.02)
        took = ping()
        net.heal("c1")
    except NetworkError as error:
        said = str(error)
    print(json.dumps({"lacking": lacking, "said": said, "took": took, "after": ping()}))
    """,
    )
    if answer["lacking"]:
        assert answer["said"].startswith("c1: this machine has no netem")
    else:
        assert 40 <= answer["took"] < 100
    assert answer["after"] < 20
