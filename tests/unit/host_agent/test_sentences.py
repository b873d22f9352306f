"""Each sentence of the method on requests, Figure 4, faults, ends and ageing, and what shows it: tests and scenarios.

Not a test of the software but of its tests: what is named here must exist, so that nothing loses its proof unnoticed.
`library/NAME` is a scenario, which tests/net runs; all else is a test function.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

DECISION, POLICY, AGEING, RELOAD, REBUILD, FLOOD = (
    f"tests/unit/host_agent/test_{name}.py" for name in ("decision", "policy", "ageing", "reload", "rebuild", "flood")
)
FIGURE_4, STEERING, RECORDS, ENGINE, HOLD, MATRIX = (
    f"tests/kernel/test_{name}.py"
    for name in ("figure_4", "steering", "records", "context_engine", "hold", "context_matrix")
)

SENTENCES: dict[str, tuple[str, ...]] = {
    # -- offload requests
    "A request is made per connection, by a number of bytes": (
        f"{DECISION}::test_due_when_both_directions_together_reach_the_threshold",
        "library/link_failover",
    ),
    "or of seconds": (f"{DECISION}::test_due_by_age_at_the_first_frame_from_then_on", "library/offload_by_time"),
    "by service": (f"{RECORDS}::test_a_service_has_its_own_threshold", "library/by_service"),
    "never": (f"{POLICY}::test_threshold", "library/host_stack"),
    "at once": ("library/at_once",),
    "or by explicit command: offload, upload, reload, to a named or any NIC": ("library/commands",),
    "A record exists: the connection goes to its NIC, and the flag is set to 1": (
        f"{RELOAD}::test_the_order_of_the_steps",
        "library/commands",
    ),
    "No record: it goes to an arbitrary NIC of the team": (
        "tests/unit/host_agent/test_custody.py::test_a_connection_without_a_record_is_offloaded_to_any_nic",
        "library/offload_without_record",
    ),
    "whose choice is pluggable: round robin, least loaded, by hash": (
        f"{POLICY}::test_round_robin",
        f"{POLICY}::test_least_loaded",
        f"{POLICY}::test_by_hash_one_connection_has_one_nic_and_all_nics_have_connections",
        "library/choice",
        "library/choice_by_hash",
    ),
    "and if it was the wrong one, the first frame corrects it": (
        f"{POLICY}::test_a_stray_is_the_switchs_new_choice",
        "library/offload_without_record",
    ),
    "If possible: a NIC with a full table refuses with a reason": (f"{ENGINE}::test_full", "library/capacity"),
    "one without the needed feature": (f"{ENGINE}::test_refused_for_a_reason_and_thawed", "library/features"),
    "and one in a fault": (f"{ENGINE}::test_refused_for_a_reason_and_thawed",),
    "The connection stays on the host": (f"{RELOAD}::test_refused_by_all_the_old_engine_thaws", "library/capacity"),
    "and is tried again later": (
        "tests/unit/host_agent/test_custody.py::test_a_refused_offload_is_tried_again_later",
        "library/at_once",
    ),
    # -- Figure 4
    "402, 404: no record; one is made with the receiving NIC, not offloaded, and the frame passes up": (
        f"{DECISION}::test_402_404_no_record_makes_one_with_the_receiving_nic_and_passes_up",
        f"{FIGURE_4}::test_block",
        "library/trace",
    ),
    "406, 408: the record's NIC is this NIC; it passes up": (
        f"{DECISION}::test_406_408_the_same_nic_passes_up",
        f"{FIGURE_4}::test_block",
        "library/trace",
    ),
    "410, 412: another NIC, not offloaded; it passes up, and the NIC is learned": (
        f"{DECISION}::test_410_412_another_nic_not_offloaded_passes_up_and_is_learnt",
        f"{FIGURE_4}::test_block",
        "library/trace",
    ),
    "410, 414: another NIC, offloaded; it is forwarded to the owner, and the connection is reloaded": (
        f"{DECISION}::test_410_414_another_nic_offloaded_is_forwarded_to_the_owner_and_told",
        f"{FIGURE_4}::test_block",
        f"{STEERING}::test_an_offloaded_connection_goes_to_its_owner_and_never_up",
        "library/rehash",
    ),
    "Blocks are counted per NIC": (f"{FIGURE_4}::test_the_program_decides_as_the_text",),
    "and traced when asked for": (f"{RECORDS}::test_a_trace_tells_the_block_of_every_frame", "library/trace"),
    "The reload follows after a settable number of frames": (
        f"{DECISION}::test_414_the_reload_may_wait_for_a_number_of_frames",
        "library/reload_after",
    ),
    "or a time": (f"{DECISION}::test_414_or_for_a_time_since_the_first",),
    "Late frames after a move cause no ping-pong: epoch": (f"{POLICY}::test_a_report_of_another_epoch_is_old",),
    "hold-down": (f"{POLICY}::test_late_frames_by_the_nic_it_just_left_are_no_new_choice",),
    "and only segments in the window are evidence": (f"{POLICY}::test_an_old_segment_is_no_evidence",),
    "and they reset nothing": (f"{HOLD}::test_a_frame_that_came_too_late_for_its_release_is_not_kept",),
    "Frames of a connection on the move wait, and go to its new owner in order": (
        f"{STEERING}::test_held_frames_go_in_order_to_whoever_owns_the_connection_then",
    ),
    # -- faults
    "Link loss: records of that NIC that are not offloaded are removed, offloaded connections are reloaded": (
        f"{POLICY}::test_a_dead_link_removes_what_the_host_holds_and_reloads_what_was_offloaded",
        "library/link_failover",
    ),
    "or uploaded to the host": (f"{POLICY}::test_by_policy_it_uploads_what_was_offloaded", "library/upload_on_fault"),
    "or rest in the host until a frame shows the switch's choice": ("library/on_first_packet",),
    "What was in flight is sent again at once": (f"{POLICY}::test_in_flight_is_lost_for_a_while_after_a_fault",),
    "Adapter failure: each lost connection is named, the others go on": (
        f"{POLICY}::test_an_adapter_failure_loses_what_it_held_and_nothing_else",
        "library/adapter_failure",
    ),
    "and its peer is reset through a surviving NIC": (
        "tests/unit/host_agent/test_farewell.py::test_probe",
        "library/adapter_failure",
    ),
    "A link flaps": ("library/link_flap",),
    "All links go down and come back": (
        f"{POLICY}::test_without_a_survivor_they_are_stranded_where_they_are",
        f"{POLICY}::test_a_link_that_returns_takes_up_the_stranded",
        "library/all_links_down",
    ),
    "A second fault comes during a reload": ("library/second_fault",),
    "A link returns, and nothing moves": (f"{POLICY}::test_without_rebalance_a_returned_link_gets_nothing",),
    "or it gets its share": (f"{POLICY}::test_with_rebalance_a_returned_link_gets_its_share", "library/fail_back"),
    "A NIC is added": ("library/add_nic",),
    "or removed, and drained first": (f"{POLICY}::test_a_nic_that_leaves_is_drained_first", "library/remove_nic"),
    "The agent dies, and its successor rebuilds what it knew": (
        f"{REBUILD}::test_died_before_the_new_engine_had_it",
        "library/agent_restart",
    ),
    # -- neighbour and path
    "A neighbour's new MAC is told to every NIC": (
        f"{STEERING}::test_what_a_frame_teaches_is_told_once",
        "tests/unit/host_agent/test_paths.py::test_the_table_tells_of_all_that_used_the_old_mac",
        "library/neighbour_change",
        "library/router_mac_unannounced",
    ),
    "and a path's new MTU": (
        "tests/kernel/test_context_options.py::test_a_router_finds_a_segment_too_big",
        "library/path_mtu",
    ),
    # -- FIN and RST
    "An RST removes the record": (f"{DECISION}::test_an_rst_ends_the_record_of_a_connection_of_the_host",),
    "for an offloaded connection its owner judges it": (
        f"{DECISION}::test_an_rst_for_an_offloaded_connection_is_its_owners_to_judge",
        f"{AGEING}::test_an_rst_that_its_owner_did_not_believe_costs_nothing",
    ),
    "A FIN removes it once the connection is really done": (
        f"{DECISION}::test_a_connection_is_done_when_both_fins_are_acknowledged",
        f"{DECISION}::test_half_closed_is_not_done_however_much_follows",
        f"{AGEING}::test_a_closed_connection_lingers_for_its_last_segments",
    ),
    "A half-closed connection moves": (f"{MATRIX}::test_half_closed", "library/half_closed"),
    "Late segments are answered by the right stack, never with a stray RST": (
        f"{ENGINE}::test_a_late_segment_after_the_end",
        f"{STEERING}::test_once_both_streams_have_ended_no_rst_gets_out",
        f"{DECISION}::test_behind_both_ends_the_host_says_no_rst",
        "tests/unit/host_agent/test_reload.py::test_the_host_learns_which_streams_have_ended_at_a_nic",
        f"{DECISION}::test_late_segments_of_a_closed_connection_go_where_it_was",
    ),
    "A new connection that re-uses an old identifier works": (
        f"{DECISION}::test_a_syn_that_uses_a_closed_connections_identifier_again_begins_a_new_record",
        f"{STEERING}::test_a_syn_that_reuses_an_identifier_belongs_to_the_host_with_all_that_follows",
        f"{ENGINE}::test_an_identifier_that_is_used_again_is_no_matter_to_a_nic_in_time_wait",
    ),
    # -- ageing and room
    "A record without frames for a settable time is removed": (
        f"{AGEING}::test_a_record_without_frames_for_the_settable_time_is_removed",
    ),
    "of an offloaded connection by its NIC's own activity": (
        f"{AGEING}::test_an_offloaded_connection_is_judged_by_its_nics_own_activity",
        "library/ageing",
    ),
    "which is uploaded first": (
        f"{AGEING}::test_an_idle_offloaded_connection_goes_to_the_host_before_its_record_may_go",
        "library/ageing",
    ),
    "When the records are full, those of connections that are not offloaded give way, offloaded ones never": (
        f"{AGEING}::test_closed_ones_give_way_first_then_the_quietest_and_offloaded_ones_never",
        f"{RECORDS}::test_when_the_records_are_full_a_new_connection_passes_up_without_one",
        "library/records_full",
    ),
    "Floods are detected from records": (
        f"{FLOOD}::test_a_flood_begins_goes_on_and_is_over",
        "library/syn_flood",
    ),
    "Records are kept by somebody else, and provided on demand": (
        f"{RECORDS}::test_plain_records_are_full_in_the_same_way",
        f"{FIGURE_4}::test_the_program_decides_as_the_text",
    ),
}


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("proof", sorted({proof for proofs in SENTENCES.values() for proof in proofs}))
def test_what_proves_a_sentence_exists(proof: str) -> None:
    if proof.startswith("library/"):
        assert (ROOT / "scenarios" / f"{proof}.yaml").is_file()
    else:
        file, _, name = proof.partition("::")
        assert name in functions(file)


def test_no_sentence_goes_without() -> None:
    assert all(SENTENCES.values())
