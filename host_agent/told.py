"""What a save tells of one connection: a list in the reply, in the order of docs/verbs.md.

Decides: that order. Never touches: who says it (held.py), who believes it (replies.py).
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Told(NamedTuple):
    """size: bytes of its context. From `cwnd` on: what the context cannot carry."""

    size: int
    state: str
    snd_una: int
    rcv_nxt: int
    retransmits: int
    bytes_in: int
    bytes_out: int
    cwnd: int
    ssthresh: int
    srtt_us: int
    rto_us: int
    out_of_order_segments: int = 0
    out_of_order_memory: int = 0
    ecn: int = 0

    @property
    def counted(self) -> tuple[int, int, int]:
        """In the order of statistics.ADDED."""
        return self.bytes_in, self.bytes_out, self.retransmits

    def not_carried(self) -> str:
        """As JSON; of what there seldom is only what there was."""
        some = f'"cwnd": {self.cwnd}, "ssthresh": {self.ssthresh}, "srtt_us": {self.srtt_us}, "rto_us": {self.rto_us}'
        rest = self[_SELDOM:]
        if any(rest):
            some += "".join(f', "{name}": {n}' for name, n in zip(self._fields[_SELDOM:], rest, strict=True) if n)
        return f"{{{some}}}"


def sound(row: Any) -> bool:
    """Whether this is such a list: text and numbers, each in its place."""
    return isinstance(row, list) and tuple(map(type, row)) == _KINDS and row[0] >= 0


_SELDOM = Told._fields.index("out_of_order_segments")
_KINDS = tuple(str if name == "state" else int for name in Told._fields)
