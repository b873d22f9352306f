"""Other teams than ours (`team: driver:`): what of a scenario means nothing there, and what both ends speak.

Pure. A bond has no records, no agent and no NIC that holds a connection: steps, conditions, measurements and keys about
those are refused, a line each.
"""

from collections.abc import Iterator

from scenarios import conditions
from scenarios.expect import Expectation
from scenarios.schema import Scenario
from scenarios.steps import AnyStep, Kill, Wait, nic_of
from scenarios.vocabulary import NIC, RUN
from topologies.model import Bond

Complaint = tuple[tuple[str | int, ...], str]

KEYS = ("driver", "lacp", "lacp_rate")
"""Of `team`, those that other teams have as well."""
OF_OURS = (
    *("adapter_failure", "adapter_return", "remove_nic", "add_nic", "offload", "reload", "upload"),
    "check_records",
)
"""Steps about the agent, its NICs, its records."""
OF_LAGS = ("rehash", "set_switch", "take_out", "take_back")
"""Steps about the switch's choice of a member."""
_WORDS_OF_OURS = {
    "traffic": (
        *("moves", "offloads", "uploads", "reloads", "causes", "collateral", "longest_move_ms", "each_move"),
        *("lost", "stranded", "refused", "refusals", "offloaded_share", "host_segments_while_offloaded", "strays"),
        "first_byte_after_fault_ms",
    ),
    "nic": tuple(word for word in NIC if not word.startswith(("frames_", "bytes_"))),
    "switch": (),
    "run": tuple(word for word in RUN if word not in ("bring_up_ms", "tear_down_ms", "faults")),
    "command": (),
}
"""Measurements that only our agent, engines and frame path can tell of, by what they are of."""
_EACH_OF_OURS = ("moves", "reloads", "offloaded_share")
_CONDITIONS_OF_OURS = ("offloaded", "uploaded", "moved", "reloaded", *conditions.OF_NIC)


def bond_of(scenario: Scenario) -> Bond | None:
    """The bond that the server has; None: our team."""
    driver, team = scenario.team.driver, scenario.team
    if driver == "offload":
        return None
    lacp = team.lacp
    if driver == "ovs_balance_tcp" and lacp == "off":
        lacp = "active"
    return Bond(driver, lacp, team.lacp_rate)


def switch_lacp(scenario: Scenario) -> str:
    """What the switch speaks on the team's links; balance-tcp wants LACP, asked for or not."""
    implied = scenario.team.driver == "ovs_balance_tcp" and scenario.network.lacp == "off"
    return "active" if implied else scenario.network.lacp


def has_lag(scenario: Scenario) -> bool:
    """Whether the switch hashes over the links; with active-backup it must learn which one is in use."""
    return scenario.team.driver != "ovs_active_backup"


def complaints(scenario: Scenario) -> Iterator[Complaint]:
    """What makes no sense with another team than ours; nothing where it is ours."""
    driver, network = scenario.team.driver, scenario.network
    if driver == "offload":
        return
    for key in sorted(scenario.team.model_fields_set - {*KEYS}):
        yield ("team", key), f"is of our team; with `driver: {driver}` there is {', '.join(KEYS)}"
    if driver == "ovs_active_backup" and network.lacp != "off":
        yield ("network", "lacp"), f"`driver: {driver}` uses one link at a time, and speaks no LACP"
    for key in ("probe", "swapped"):
        if getattr(network, key):
            yield ("network", key), f"`driver: {driver}` does not answer; leave it out"
    for name, service in scenario.services.items():
        yield from _service(driver, ("services", name), service.app, service.listen)
        if service.offload is not None:
            yield ("services", name, "offload"), f"`driver: {driver}` offloads nothing"
    for index, step in enumerate(scenario.timeline):
        if reason := _step(step, driver, len(scenario.traffic)):
            yield ("timeline", index), f"{reason} with `driver: {driver}`"


def measurable(driver: str, expectation: Expectation, subjects: dict[str, str]) -> str:
    """Why an expectation can never be measured with that team; empty when it can."""
    if driver == "offload":
        return ""
    for named in expectation.names.values():
        for subject, word, *more in named.paths:
            kind = subjects.get(subject, "traffic")
            if word in _WORDS_OF_OURS[kind] or (word == "each" and more[0] in _EACH_OF_OURS):
                return f"`{'.'.join((subject, word, *more))}` is not known with `driver: {driver}`: it is of our team"
    return ""


def _service(driver: str, place: tuple[str, ...], app: str, listen: int) -> Iterator[Complaint]:
    host, _, port = app.rpartition(":")
    if app != "builtin" and (int(port) != listen or host in ("localhost", "::1") or host.startswith("127.")):
        reason = f"with `driver: {driver}` nothing stands before an application: it listens at the team's own address"
        yield (*place, "app"), f"{reason}, port {listen}"


def _step(step: AnyStep, driver: str, traffics: int) -> str:
    if step.do in OF_OURS:
        return f"`{step.do}` makes no sense"
    if step.do in OF_LAGS and driver == "ovs_active_backup":
        return f"`{step.do}` makes no sense: the switch has no LAG"
    if isinstance(step, Kill) and step.process not in ("controller", "switch"):
        return f"there is no `{step.process}` to kill"
    if isinstance(step, Wait) and conditions.parse(step.until).word in _CONDITIONS_OF_OURS:
        return f"`{step.until}` is never told"
    written = nic_of(step) or ""
    if "(" in written and traffics > 1:
        return f"`{written}` is the busiest wire's NIC, which may be any traffic's: keep one traffic"
    return ""
