"""Spares Mininet an import. Decides nothing; to be imported before Mininet.

Mininet compares Open vSwitch's version by distutils, in what network.py leaves out. In a virtual environment distutils
means all of setuptools, and from Python 3.12 on there is no other: that takes longer to import than Mininet itself.
"""

import sys
from types import SimpleNamespace
from typing import Any

_stand_in: Any = sys.modules.setdefault("distutils.version", SimpleNamespace())  # type: ignore[arg-type]
_stand_in.__dict__.setdefault("StrictVersion", str)
