"""The network of a scenario as a plain Mininet topology: what `mn` is given to build in the benchmark turnaround.

    mn --custom benchmarks/mn_topology.py --topo figure_1,NICS,CLIENTS …

Decides: nothing. The same nodes and links; no addresses of a team, no rates, no settings.
"""

import mininet.net
from mininet.topo import Topo

# It would raise limits of the whole machine.
mininet.net.fixLimits = lambda: None


class Figure1(Topo):  # type: ignore[misc]
    """A server, its NICs, one switch, clients."""

    def build(self, nics: int = 3, clients: int = 2) -> None:
        switch, server = self.addSwitch("s1"), self.addHost("server")
        for index in range(int(nics)):
            nic = self.addHost(f"nic{index}")
            self.addLink(nic, switch)
            self.addLink(nic, server)
        for index in range(1, int(clients) + 1):
            self.addLink(self.addHost(f"c{index}"), switch)


topos = {"figure_1": Figure1}
