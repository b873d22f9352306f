"""How an interface sends: its rate, its delay, and how much may wait for them; as lines for `tc -batch`.

Decides queues and their sizes. Pure: links.py and network.py run the lines.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from topologies.model import TopologyError

QUEUE_SECONDS = 0.05
MIN_QUEUE_BYTES = 128 * 1024
MAX_QUEUE_BYTES = 16 * 1024 * 1024
MAX_DELAY_SECONDS = 10.0
DELAYED_FRAMES = 100_000
"""On their way at once on a link with a delay: 1 Gbit/s of full frames for more than a second."""


def burst_bytes(rate_bps: int) -> int:
    """How much HTB sends at once: what the rate carries in 1 ms, to pace well, but at least ten frames."""
    return max(rate_bps // 8 // 1000, 10 * 1514)


def queue_bytes(rate_bps: int) -> int:
    """How much may wait at a shaped link: 50 ms at its rate, within 128 KiB and 16 MiB.

    In time rather than packets, so that the worst delay is the same at 10 Mbit/s as at 10 Gbit/s; in bytes,
    because one packet here may be a segment train of 64 KiB or a single frame. The floor lets two such trains
    in at a low rate.
    """
    return int(min(max(rate_bps / 8 * QUEUE_SECONDS, MIN_QUEUE_BYTES), MAX_QUEUE_BYTES))


@dataclass(frozen=True)
class Shape:
    """How a link sends, in each direction: bits per second, None: as fast as it goes; and how much later."""

    rate_bps: int | None = None
    delay_s: float = 0.0
    jitter_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what no link does."""
        if not 0 <= self.delay_s <= MAX_DELAY_SECONDS:
            raise TopologyError(f"a link's delay is 0 to {MAX_DELAY_SECONDS:g} s, not {self.delay_s:g} s")
        if not 0 <= self.jitter_s <= self.delay_s:
            raise TopologyError(f"a link's jitter is at most its delay of {self.delay_s:g} s, not {self.jitter_s:g} s")


def reshaped(name: str, old: Shape, new: Shape) -> list[str]:
    """Lines for `tc -batch` that change how an interface sends while frames wait in it."""
    if new.rate_bps is None:
        queue = _queue(new)
        return [f"qdisc replace dev {name} root {queue}" if queue else f"qdisc delete dev {name} root"]
    # HTB itself cannot be replaced by another of its kind, only its class can.
    tree = [] if old.rate_bps is not None else [f"qdisc replace dev {name} root handle 1: htb default 1"]
    return [*tree, _rate_class(name, new.rate_bps), f"qdisc replace dev {name} parent 1:1 {_queue(new)}"]


def rates(wanted: Mapping[str, int | None]) -> list[str]:
    """Lines for `tc -batch` that hold each interface to its rate, where it has one."""
    return [
        line
        for name, rate_bps in wanted.items()
        if rate_bps is not None
        for line in reshaped(name, Shape(), Shape(rate_bps))
    ]


def _rate_class(name: str, rate_bps: int) -> str:
    burst = burst_bytes(rate_bps)
    # The quantum only shares a link among classes and there is one; left alone, the kernel derives it from the
    # rate and warns.
    return (
        f"class replace dev {name} parent 1: classid 1:1 htb rate {rate_bps}bit ceil {rate_bps}bit"
        f" burst {burst}b cburst {burst}b quantum 1514"
    )


def _queue(shape: Shape) -> str:
    """Where frames wait, if anywhere."""
    if shape.delay_s:
        delay, jitter = round(shape.delay_s * 1e6), round(shape.jitter_s * 1e6)
        return f"handle 20: netem delay {delay}us {jitter}us limit {DELAYED_FRAMES}"
    return f"handle 10: bfifo limit {queue_bytes(shape.rate_bps)}b" if shape.rate_bps is not None else ""
