"""The switch side of teambed: learns MACs, hashes connections over the members of a LAG, repairs it when a
port dies.

Pure, from a frame's fields to what is sent: hashing, policies, rebalance, lag, pipeline, holddown, recover,
switch; lacpdu, lacp, probe, aggregator and lacp_text (which links may carry frames); tracking (several switches).
Shells: openflow and app (Ryu), link (one switch's connection), commands and api (unix socket), revalidate
(Open vSwitch's control socket), config, events (stdout).
It never imports host_agent or topologies, and never tells anybody but its own API which member it will choose.
"""
