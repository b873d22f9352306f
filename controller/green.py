"""Prepares eventlet, on which Ryu runs. Import eventlet from here, so that this comes before any import of
Ryu.
"""

from __future__ import annotations

import os
import warnings

import controller.spared  # noqa: F401

# Eventlet's own resolver costs 100 ms at start, and nothing here resolves names.
os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # eventlet's deprecation notice: Ryu needs it all the same
    import eventlet
    from eventlet.green import socket as green_socket

__all__ = ["eventlet", "green_socket"]
