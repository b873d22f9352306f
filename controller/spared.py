"""Spares Ryu the import of what nothing here uses, a third of its time. To be imported before Ryu."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

# Its web server (which also asks for a name that eventlet dropped after 0.30), routing protocols within TCP, other
# versions of OpenFlow, kinds of settings that it has none of, and distutils, which here means all of setuptools.
_UNUSED: dict[str, Any] = {
    "ryu.app.wsgi": SimpleNamespace(),
    "ryu.lib.packet.bgp": SimpleNamespace(BGPMessage=None),
    "ryu.lib.packet.zebra": SimpleNamespace(ZebraMessage=None),
    **{f"ryu.ofproto.ofproto_v1_{minor}_parser": SimpleNamespace() for minor in (0, 2, 4, 5)},
    "rfc3986": SimpleNamespace(),
    "stevedore": SimpleNamespace(),
    "distutils.version": SimpleNamespace(LooseVersion=str),
}
for _name, _stand_in in _UNUSED.items():
    sys.modules.setdefault(_name, _stand_in).__dict__.update(vars(_stand_in))
