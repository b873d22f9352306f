"""The application sees the client's own address and port, not the relay's; its answers come back to the relay.

client ── veth ── team0 │ host engine's listener ── lo ── application on 127.0.0.1 and ::1
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from host_agent.connection import Connection
from host_agent.listener import Listener, Service
from tests.kernel.world import Namespace
from tests.turned import TurnedLoop
from topologies import settings

pytestmark = pytest.mark.kernel

FAMILIES = {
    socket.AF_INET: ("127.0.0.1", "10.0.0.1", "10.0.0.11"),
    socket.AF_INET6: ("::1", "fd00::1", "fd00::11"),
}
"""Where the application listens, the team's address, the client's."""


@pytest.fixture(params=FAMILIES, ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> socket.AddressFamily:
    """Either IP."""
    return socket.AddressFamily(request.param)


@pytest.fixture
def server() -> Iterator[tuple[Namespace, Namespace]]:
    """Server and client, joined by one veth pair, the server with its routes to channels."""
    one, other = Namespace("server", []), Namespace("client", [])
    with one.inside():
        there = f"/proc/{os.getpid()}/fd/{other.handle}"
        lines = [f"ip link add team0 type veth peer name eth0 netns {there}", *_up("team0", 1), *settings.to_channels()]
        subprocess.run(["sh", "-e"], input="\n".join(lines) + "\n", text=True, check=True)
    with other.inside():
        subprocess.run(["sh", "-e"], input="\n".join(_up("eth0", 2)) + "\n", text=True, check=True)
    yield one, other
    one.close()
    other.close()


def _up(device: str, end: int) -> list[str]:
    addresses = [addresses[end] for addresses in FAMILIES.values()]
    # Nobody has that address. Without `nodad` none can bind to it before the kernel has come round to seeing that.
    adds = [
        f"ip address add {one}/{'64' if ':' in one else '24'} dev {device}{' nodad' * (':' in one)}"
        for one in addresses
    ]
    return [*adds, f"ip link set {device} up"]


class Bench:
    """A listener whose accepted sockets are kept, and its application."""

    def __init__(self, family: socket.AddressFamily, where: str = "localhost:8080"):
        self.here, self.team, self.peer = FAMILIES[family]
        self.application = socket.create_server((self.here, 8080), family=family)
        self.application.settimeout(5)
        self.accepted: list[tuple[Connection, socket.socket, socket.socket]] = []
        self.loop = TurnedLoop()
        Listener("host", Service.parse(f"web:80={where}"), [self.team], self.loop, self._take)

    def _take(self, connection: Connection, tcp: socket.socket, channel: socket.socket, _service: str) -> None:
        self.accepted.append((connection, tcp, channel))


def connect(server: Namespace, client: Namespace, bench: Bench, port: int = 0) -> socket.socket:
    """A connection of the client to the team, once the listener has joined it to the application."""
    with client.inside():
        family = socket.AF_INET6 if ":" in bench.team else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((bench.peer, port))
        made.settimeout(5)
        made.connect((bench.team, 80))
    before, deadline = len(bench.accepted), time.monotonic() + 5
    while len(bench.accepted) == before:
        assert time.monotonic() < deadline
        with server.inside():
            bench.loop.turn()
    return made


def test_the_application_sees_the_client(server: tuple[Namespace, Namespace], family: socket.AddressFamily) -> None:
    """Address and port; bytes pass both ways, also more than any window."""
    one, other = server
    with one.inside():
        bench = Bench(family)
    made = connect(one, other, bench)
    seen, peer = bench.application.accept()
    assert peer[:2] == made.getsockname()[:2]
    _, _, channel = bench.accepted[0]
    channel.sendall(b"request")
    assert seen.recv(100) == b"request"
    seen.setblocking(False)
    sent = seen.send(b"x" * 1_000_000)
    channel.settimeout(5)
    while sent:
        sent -= len(channel.recv(1 << 20))


def test_one_port_of_a_client_may_be_used_again(
    server: tuple[Namespace, Namespace], family: socket.AddressFamily
) -> None:
    """When the connection before has ended, even while its channel is in TIME-WAIT."""
    one, other = server
    with one.inside():
        bench = Bench(family)
    for _ in range(2):
        made = connect(one, other, bench, 40_000)
        seen, peer = bench.application.accept()
        assert peer[1] == 40_000
        _, tcp, channel = bench.accepted[-1]
        seen.close()
        made.close()
        tcp.close()
        channel.close()
        with other.inside():
            subprocess.run(["ss", "-K", "state", "time-wait"], capture_output=True)


def test_an_application_of_the_other_family_is_served_all_the_same(server: tuple[Namespace, Namespace]) -> None:
    """An IPv6 client of an application that has only IPv4: it sees the relay."""
    one, other = server
    with one.inside():
        bench = Bench(socket.AF_INET6, "127.0.0.1:8081")
        only4 = socket.create_server(("127.0.0.1", 8081))
    connect(one, other, bench)
    only4.settimeout(5)
    _, peer = only4.accept()
    assert peer[0] == "127.0.0.1"
