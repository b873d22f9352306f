"""The counters of the switch's ports: read now and then, told when they have changed."""

from scenarios.ports import EVERY_S, Ports, parse

TEXT = """\
Inter-|   Receive                                       |  Transmit
 face |bytes packets errs drop fifo frame compressed mcast|bytes packets errs drop fifo colls carrier compressed
    lo:    0    0    0    0    0     0     0         0        0       0    0    0    0     0       0          0
s1-nic0: 2121776 1428    0   0     0     0     0         0    52117     788    0    0    0     0       0          0
s1-nic10:   1    2    0    0    0     0     0         0        3       4    0    0    0     0       0          0
"""


def test_the_kernels_table():
    assert parse(TEXT, {"s1-nic0", "s1-nic9"}) == {"s1-nic0": (2121776, 1428, 52117, 788)}


def test_only_what_has_changed_is_told(tmp_path):
    file = tmp_path / "dev"
    file.write_text(TEXT)
    ports = Ports({"s1-nic0", "s1-nic10"}, file)
    assert ports.look(1.0).keys() == {"s1-nic0", "s1-nic10"}
    file.write_text(TEXT.replace("1428", "1429"))
    assert ports.look(1.0 + EVERY_S / 2) == {}
    assert ports.look(1.0 + EVERY_S / 2, at_once=True) == {"s1-nic0": (2121776, 1429, 52117, 788)}
    assert ports.look(1.0 + 2 * EVERY_S) == {}
    assert round(ports.over, 6) == round(1.5 * EVERY_S, 6)
