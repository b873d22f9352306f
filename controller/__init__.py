"""The switch side of teambed: learns MACs, hashes connections over the members of a LAG, repairs it when a
port dies.

Pure: hashing, lag, pipeline, switch, config. Shells: openflow and app (Ryu), api (unix socket), events
(stdout). It never imports host_agent or topologies, and never tells anybody but its own API which member it
will choose.
"""
