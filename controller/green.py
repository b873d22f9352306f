"""Prepares eventlet, on which Ryu runs. Import eventlet from here, so that this comes before any import of
Ryu.
"""

from __future__ import annotations

import os
import sys
import warnings
from types import SimpleNamespace
from typing import Any

# Eventlet's own resolver costs 100 ms at start, and nothing here resolves names.
os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # eventlet's deprecation notice: Ryu needs it all the same
    import eventlet
    from eventlet.green import socket as green_socket

# What Ryu imports and nothing here uses, a third of its time to import: its web server (which also asks for a name that
# eventlet dropped after 0.30), routing protocols within TCP, and distutils, which here means all of setuptools.
_UNUSED: dict[str, Any] = {
    "ryu.app.wsgi": SimpleNamespace(),
    "ryu.lib.packet.bgp": SimpleNamespace(BGPMessage=None),
    "ryu.lib.packet.zebra": SimpleNamespace(ZebraMessage=None),
    "distutils.version": SimpleNamespace(LooseVersion=str),
}
for _name, _stand_in in _UNUSED.items():
    sys.modules.setdefault(_name, _stand_in).__dict__.update(vars(_stand_in))

__all__ = ["eventlet", "green_socket"]
