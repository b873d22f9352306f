"""The bench: reads scenarios, runs them in a sandbox, measures what happened and judges it.

It starts the controller and the host agent as processes and talks to them over local sockets; it imports
neither. It imports `topologies`, which makes the network.
"""
