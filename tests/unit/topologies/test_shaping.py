"""How links send: at their rate, with their delay, and with what may wait; also while frames wait already."""

import pytest

from topologies import shaping
from topologies.model import TopologyError


@pytest.mark.parametrize(
    ("rate", "burst", "queue"),
    [
        (10_000_000, 15_140, 131_072),  # floors: ten frames, two segment trains
        (200_000_000, 25_000, 1_250_000),  # 1 ms and 50 ms
        (10_000_000_000, 1_250_000, 16_777_216),  # the cap of what may wait
    ],
)
def test_burst_and_queue_follow_the_rate(rate: int, burst: int, queue: int) -> None:
    """From 10 Mbit/s to 10 Gbit/s."""
    assert (shaping.burst_bytes(rate), shaping.queue_bytes(rate)) == (burst, queue)


def test_a_live_link_is_reshaped() -> None:
    """HTB's class and its queue change under the frames; a tree is planted only where there was none."""
    slow, fast, free = shaping.Shape(10_000_000), shaping.Shape(200_000_000), shaping.Shape()
    assert not any("root" in line for line in shaping.reshaped("wire", slow, fast))
    planted = shaping.reshaped("wire", free, slow)
    assert planted[0] == "qdisc replace dev wire root handle 1: htb default 1"
    assert "htb rate 10000000bit" in planted[1]
    assert shaping.reshaped("wire", slow, free) == ["qdisc delete dev wire root"]


def test_a_delay_takes_the_place_of_the_queue() -> None:
    """Below the rate where there is one, else at the root; afterwards the queue is as it was."""
    late = shaping.Shape(10_000_000, 0.01, 0.001)
    built = shaping.Shape(10_000_000)
    queue = shaping.reshaped("wire", built, late)[-1]
    assert queue == "qdisc replace dev wire parent 1:1 handle 20: netem delay 10000us 1000us limit 100000"
    assert shaping.reshaped("wire", late, built)[-1].endswith("parent 1:1 handle 10: bfifo limit 131072b")
    assert (
        "root handle 20: netem delay 10000us" in shaping.reshaped("eth0", shaping.Shape(), shaping.Shape(None, 0.01))[0]
    )
    for wrong in ((-1.0, 0.0), (60.0, 0.0), (0.01, 0.02)):
        with pytest.raises(TopologyError, match=r"delay|jitter"):
            shaping.Shape(None, *wrong)
