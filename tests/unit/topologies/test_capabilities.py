"""Every probe answers, whoever asks and whatever is missing; what is missing comes with a remedy."""

from pathlib import Path

import pytest

from topologies import capabilities


def test_every_capability_answers() -> None:
    """With or without root: a name, a detail of one line, a remedy exactly when it is missing."""
    found = capabilities.probe()
    assert tuple(one.name for one in found) == capabilities.NAMES
    for one in found:
        assert one.detail
        assert "\n" not in one.detail + one.remedy
        assert bool(one.remedy) != one.ok


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH with everything but tc: tc is missing, and so is what rests on it, for that reason."""
    for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for program in Path(folder).iterdir():
            link = tmp_path / program.name
            if program.name != "tc" and not link.is_symlink():
                link.symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    by_name = {one.name: one for one in capabilities.probe()}
    assert not by_name["tc"].ok
    assert by_name["tc"].detail == "'tc' is not on PATH"
    assert by_name["tc"].remedy == "apt-get install iproute2"
    for name in ("htb", "clsact"):
        assert not by_name[name].ok
        assert by_name[name].detail == "'tc' is not on PATH"
    assert "tc" in [one.name for one in capabilities.missing()]
    assert [one.name for one in capabilities.missing(["tc", "bpffs"])] == ["tc"]


def test_nothing_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty PATH breaks no probe."""
    monkeypatch.setenv("PATH", "/nonexistent")
    lacking = {one.name for one in capabilities.missing()}
    assert {"ip", "tc", "unshare", "ethtool", "mnexec", "ovs-vswitchd", "namespaces", "veth"} <= lacking


def test_missing_asks_only_for_what_is_required() -> None:
    """Optional capabilities are no reason to refuse, unless a scenario asks for them."""
    optional = {one.name for one in capabilities.probe() if not one.required}
    assert optional == set(capabilities.OPTIONAL)
    programs = {"tcpdump", "nginx", "iperf3", "curl", "tshark", "chromium"}
    assert optional == programs | {"netem", "bonding", "ovs_kernel", "link_tracing"}
    assert not optional & {one.name for one in capabilities.missing()}


def test_an_unknown_name_is_refused() -> None:
    """A slip in a scenario's needs is not taken for something present."""
    with pytest.raises(KeyError, match="no capability 'warp'"):
        capabilities.missing(["warp"])
