"""A restarted agent makes room for the records that lead strays to a NIC."""

from host_agent.connection import Connection
from host_agent.decision import Record
from host_agent.plain_records import PlainRecords
from host_agent.restart import _put_right

ONE, TWO, THREE = (Connection("10.0.0.11", port, "10.0.0.1", 8080) for port in (1, 2, 3))


def test_a_record_of_a_nic_s_connection_takes_the_place_of_one_that_can_be_made_anew() -> None:
    records = PlainRecords(2)
    records.put(ONE, Record(0, packets=9))
    records.put(TWO, Record(1, offloaded=True))
    _put_right(records, THREE, Record(1, offloaded=True))
    assert dict(records.all()) == {TWO: Record(1, offloaded=True), THREE: Record(1, offloaded=True)}
