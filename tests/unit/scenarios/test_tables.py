"""What the live shell shows: the right rows, in columns, with numbers that name connections."""

from scenarios.tables import groups, records, table, team

ONE = {"src": "10.0.0.11", "sport": 40000, "dst": "10.0.0.1", "dport": 80}
SIX = {"src": "fd00::11", "sport": 40001, "dst": "fd00::1", "dport": 80}


def record(connection, nic="nic0", offloaded=True, size=0):
    return {**connection, "nic": nic, "offloaded": offloaded, "epoch": 1, "strays": 0, "bytes": size, "bytes_out": 0}


def test_columns_stand_below_each_other():
    assert table([("a", "bb"), (100, 2)]) == ["a    bb", "100  2"]


def test_a_team_shows_links_and_what_each_nic_holds():
    nics = [
        {"nic": "nic0", "link": True, "member": True, "engine": True, "active": True},
        {"nic": "nic1", "link": False, "member": True, "engine": False, "active": False},
    ]
    lines = team(nics, [record(ONE), record(SIX, "nic1", offloaded=False)], {"nic0": (1.5e6, 2e8)})
    assert lines[1].split() == ["nic0", "up", "yes", "yes", "yes", "1", "1.5", "200.0"]
    assert lines[2].split() == ["nic1", "DOWN", "yes", "no", "no", "0", "0.0", "0.0"]
    assert lines[3] == "records: 2, of connections on the host: 1"


def test_records_are_numbered_and_the_busiest_keep_their_numbers():
    found = [record(ONE, size=1), record(SIX, "nic1", offloaded=False, size=2_000_000)]
    lines = records(found, {("10.0.0.11", 40000, "10.0.0.1", 80): "download"})
    assert lines[1].split()[:6] == ["1", "10.0.0.11:40000", "10.0.0.1:80", "download", "nic0", "nic0"]
    assert lines[2].split()[:4] == ["2", "[fd00::11]:40001", "[fd00::1]:80", "host"]
    busiest = records(found, {}, most=1)
    assert busiest[1].startswith("2")
    assert busiest[2] == "and 1 more"
    assert records([], {}) == ["no records"]


def test_groups_show_where_buckets_lead():
    lag = {"members": [1, 2], "active": [1], "drained": [2], "buckets": [1, 1, 1], "hash": "layer2", "seed": 3}
    lines = groups("s1", {"team0": lag | {"rebalance": "modulo"}}, {1: "nic0", 2: "nic1"})
    assert lines[0] == "s1 team0: layer2, modulo, seed 3"
    assert lines[1].split() == ["port", "1", "nic0", "active", "3", "of", "3", "buckets"]
    assert lines[2].split() == ["port", "2", "nic1", "drained", "0", "of", "3", "buckets"]
