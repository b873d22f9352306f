"""How contexts are to come to life, and how one does.

Decides: whether what was in flight is sent again. Never touches: steering, channels (holding.py).
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from host_agent import repair
from host_agent.context import Context


class Restoring(NamedTuple):
    """As docs/verbs.md has it. resend: what was in flight is lost. probe: ask the peer for its window. wait: carry no
    bytes, and do not ask, before the release, for what the peer answers would have to be held until then."""

    resend: bool = False
    probe: bool = False
    wait: bool = False

    def resumed(self, context: Context) -> socket.socket:
        """A socket that speaks. Raises CannotRestore; none is left then."""
        for attempt in (context.resent(), context) if self.resend else (context,):
            tcp = repair.restore(attempt)
            try:
                repair.resume(tcp, attempt, probe=self.probe and not self.wait)
            except repair.CannotRestore:
                repair.silence(tcp)
                raise
            if attempt is context or repair.sent_again(tcp, context):
                break
            repair.silence(tcp)
        return tcp
