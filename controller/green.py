"""Prepares eventlet, on which Ryu runs. Import eventlet from here, so that this comes before any import of
Ryu.
"""

from __future__ import annotations

import os
import warnings

# Eventlet's own resolver costs 100 ms at start, and nothing here resolves names.
os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # eventlet's deprecation notice: Ryu needs it all the same
    import eventlet
    import eventlet.wsgi
    from eventlet.green import socket as green_socket

# Ryu 4.34 imports this name, which eventlet dropped after 0.30; nothing here serves HTTP.
eventlet.wsgi.ALREADY_HANDLED = object()

__all__ = ["eventlet", "green_socket"]
