"""How contexts are to come to life, and how one does.

Decides: whether what was in flight is sent again. Never touches: steering, channels (holding.py).
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field

from host_agent import repair, tcp_info
from host_agent.context import Context

_GOES_OUT = 0.001  # seconds in which TCP's own pacing lets the next bytes go, if it is pacing that they wait for


@dataclass(frozen=True)
class Restoring:
    """As docs/verbs.md has it. resend: what was in flight is lost. probe: ask the peer for its window. wait: carry no
    bytes, and do not ask, before the release, for what the peer answers would have to be held until then. alike: as
    repair.restore() has it, of one request."""

    resend: bool = False
    probe: bool = False
    wait: bool = False
    alike: set[repair.Kind] = field(default_factory=set, repr=False)

    def resumed(self, context: Context) -> socket.socket:
        """A socket that speaks. Raises CannotRestore; none is left then."""
        for attempt in (context.resent(), context) if self.resend else (context,):
            tcp = repair.restore(attempt, self.alike)
            try:
                repair.resume(tcp, attempt, probe=self.probe and not self.wait)
            except repair.CannotRestore:
                repair.silence(tcp)
                raise
            if attempt is context or _sent_again(tcp, context):
                break
            repair.silence(tcp)
        return tcp


def _sent_again(s: socket.socket, c: Context) -> bool:
    """Whether a socket just resumed from c.resent() has sent all that `c` had; awaits it while bytes go out.

    If not, they must be restored as sent: the peer may have all of them, and Linux drops an acknowledgement of what was
    not sent yet, for ever. The first window may be too small, or the wire's queue full: many connections that send
    again at once fill it, and a segment dropped there was never sent (net/ipv4/tcp_output.c, tcp_write_xmit).
    """
    allowed = len(c.unsent) + (c.state.fin_out and not c.fin_sent)
    waits, deadline = tcp_info.unsent(s), time.monotonic() + _GOES_OUT
    while waits > allowed:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0001)
        before, waits = waits, tcp_info.unsent(s)
        if waits < before:  # paced
            deadline = time.monotonic() + _GOES_OUT
    return True
