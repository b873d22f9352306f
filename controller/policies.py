"""Hash policies, by Linux bonding's names: which parts of a frame decide the member that it leaves by.

    layer2      the source's MAC.
    layer2+3    IP: both addresses, and the last 16 bits of the source's MAC. Else as layer2.
    layer3+4    IP: both addresses, the protocol, and the ports of TCP, UDP and SCTP. Else both MACs, the type
                and the VLAN.
    src-ip      IP: the source's address. Else as layer2.
    symmetric   As layer3+4, but the ports of UDP do not count.

A fragment has no ports, the first one neither: all fragments of a datagram leave by one member, perhaps another
than the unfragmented frames of their connection. The same goes for protocols without ports.

What Linux does (xmit_hash_policy), and where this differs, since the switch's hash must run in Open vSwitch's
data plane with nothing but what Nicira's `multipath` can hash:

* Linux XORs the fields and takes the remainder. Here they go through lookup3 or MurmurHash3, so that addresses
  with a common step spread too. It is the fields that agree, not the member chosen for a certain connection.
* Linux' layer2 has both MACs' last bytes and the type. No set of Nicira's has MACs alone but the source's; all
  frames of a LAG go to the same few MACs, and the type would only send a host's ARP, IPv4 and IPv6 apart.
* Linux' layer2+3 has both MACs' last bytes with both addresses. Here the source's MAC takes the place of the
  upper 16 bits of the destination's address while the hash is computed: what is left of that address still tells
  the team's addresses apart. The frame itself is not changed. A peer whose router's MAC changes is hashed anew.
* layer3+4 in Linux XORs source and destination, as here: both ways of a TCP connection hash alike. `symmetric`
  (not one of Linux' names; nor is src-ip) promises it for all protocols: an answer over UDP may come from
  another port than the one asked.
* A VLAN tag counts in layer3+4 and symmetric, for frames that are not IP.

The seed (0 to 65535; Linux has none) begins every hash. Pure: it names what `pipeline` installs and predicts it.
"""

from __future__ import annotations

from typing import NamedTuple

from controller.hashing import FIELDS, IPV4, IPV6, Frame

OTHER = 0
"""In a policy: frames of any type that has no recipe of its own."""
BORROWED_BITS = 16


class Recipe(NamedTuple):
    """`fields` is one of `hashing.FIELDS`; `with_mac` lends the destination's address the source's MAC."""

    fields: str
    with_mac: bool = False


POLICIES: dict[str, dict[int, Recipe]] = {
    "layer2": {OTHER: Recipe("eth_src")},
    "layer2+3": {
        IPV4: Recipe("symmetric_l3", with_mac=True),
        IPV6: Recipe("symmetric_l3", with_mac=True),
        OTHER: Recipe("eth_src"),
    },
    "layer3+4": {OTHER: Recipe("symmetric_l3l4+udp")},
    "src-ip": {IPV4: Recipe("nw_src"), IPV6: Recipe("nw_src"), OTHER: Recipe("eth_src")},
    "symmetric": {OTHER: Recipe("symmetric_l3l4")},
}

NEEDS_MAC = ("layer2", "layer2+3")
"""Policies whose choice cannot be told from addresses and ports alone."""


def frame_hash(policy: str, frame: Frame, seed: int) -> int:
    """The 32-bit hash that decides the frame's bucket: its remainder by the number of buckets."""
    recipes = POLICIES[policy]
    recipe = recipes.get(frame.eth_type, recipes[OTHER])
    if recipe.with_mac:
        borrowed = BORROWED_BITS // 8
        frame = frame._replace(dst=frame.eth_src[-borrowed:] + frame.dst[borrowed:])
    return FIELDS[recipe.fields](frame, seed)
