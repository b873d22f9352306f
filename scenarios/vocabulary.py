"""The measurements there are: their names, kinds and meaning.

Pure data. `measure` fills these in, `expect` checks expectations against them when a scenario is loaded. What is
measured, a subject, is a traffic, a NIC, a switch or the run itself; it stands before the dot.
In JSON a duration is called `longest_stall_ms` and a rate `goodput_mbit`, so that a number there has its unit
in its name; an expectation may say either that, with a bare number, or `longest_stall <= 2s`.
"""

from typing import Literal

Kind = Literal["truth", "count", "size", "duration", "rate", "number", "text"]

TRAFFIC: dict[str, tuple[Kind, str]] = {
    "intact": (
        "truth",
        "every byte asked for arrived once, in order, unchanged: counts and SHA-256 of both ends agree;"
        " of many connections: all of them; of a command: it ended with exit status 0",
    ),
    "exit_status": ("count", "of a command: what it ended with"),
    "took_ms": ("duration", "of a command: from its start to its end"),
    "bytes": ("size", "bytes delivered to the client and to the application"),
    "goodput_mbit": ("rate", "delivered bits over the time from the connection's start to its end"),
    "resets": (
        "count",
        "RST segments of this connection that passed the client's interface, either way; less those by which a client "
        "whose server closed first answers a late acknowledgement, when it has everything and is gone",
    ),
    "connections": ("count", "connections that came about"),
    "broken": ("count", "connections that ended with an error at the client, or never came about"),
    "lost": ("count", "connections whose context was lost, as the agent named them"),
    "stranded": ("count", "connections that were left on a NIC because no NIC had a link"),
    "refused": ("count", "moves that did not take place"),
    "moves": ("count", "moves between engines of any kind"),
    "offloads": ("count", "moves from the host stack to a NIC"),
    "uploads": ("count", "moves from a NIC to the host stack"),
    "reloads": ("count", "moves from a NIC to another NIC"),
    "longest_stall_ms": ("duration", "the longest time without a delivered byte, at the receiving end"),
    "first_byte_after_fault_ms": (
        "duration",
        "from a fault of the network to the first new byte behind the move that it made necessary, the longest over"
        " all faults; of what it has not moved, behind the agent's knowing of it",
    ),
    "longest_move_ms": ("duration", "the longest move, from the hold to the release"),
    "collateral": ("count", "reloads to where the switch sends a connection now, though the link it had was fine"),
    "retransmits": ("count", "segments sent again by either end"),
    "client_retransmits": ("count", "segments sent again by the client"),
    "server_retransmits": ("count", "segments sent again by the server's end, host stack and NICs"),
    "client_out_of_order": ("count", "segments that reached the client ahead of an earlier one, by its TCP's count"),
    "client_duplicates": (
        "count",
        "segments that the client's TCP dropped: sent again in vain, a probe after a move, or overtaken by what a new"
        " socket sent on another link, as their timestamps show; until it has read the server's FIN",
    ),
    "offloaded_share": ("number", "share of the connection's lifetime during which a NIC owned it, 0 to 1"),
    "host_segments_while_offloaded": (
        "count",
        "segments the host's TCP stack saw while a NIC owned the connection",
    ),
    "strays": ("count", "frames of the offloaded connection that arrived on a NIC that does not own it"),
}

EACH: dict[str, tuple[Kind, str]] = {
    "intact": ("truth", "as above"),
    "bytes": ("size", "bytes that the client sent and received"),
    "goodput_mbit": ("rate", "those over the time from the connection's start to its end"),
    "longest_stall_ms": ("duration", "the longest time without a delivered byte, at the client"),
    "client_retransmits": ("count", "as above"),
    "server_retransmits": ("count", "as above"),
    "client_out_of_order": ("count", "as above"),
    "client_duplicates": ("count", "as above"),
    "resets": ("count", "as above"),
    "moves": ("count", "as above"),
    "reloads": ("count", "as above"),
    "offloaded_share": ("number", "as above"),
}
"""`NAME.each.WORD` is a list: one value for each connection of a traffic, in the order of their ends."""

EACH_MOVE: dict[str, tuple[Kind, str]] = {
    "detect_ms": ("duration", "from the fault to the agent's knowing of it; faults only"),
    "wait_ms": ("duration", "from then to the hold: other connections' moves; faults only"),
    "hold_ms": ("duration", "to steer its frames into the queue"),
    "save_ms": ("duration", "to freeze it and read its context"),
    "restore_ms": ("duration", "to make a socket of the context in the new place"),
    "release_ms": ("duration", "to repoint the record and let the held frames go"),
    "first_byte_ms": ("duration", "from the release to the next new byte at the receiving end; single connections"),
    "total_ms": ("duration", "from the hold to the release"),
}
"""`NAME.each_move.WORD` is a list: one value for each move in which it is known, in order."""

LISTS: dict[str, dict[str, tuple[Kind, str]]] = {
    "": {
        "stalls_ms": ("duration", "times without a byte, of 5 ms and more; of a single connection"),
        "responses_ms": ("duration", "of `requests`: from each one's first byte to its answer's last, at the client"),
    },
    "each": EACH,
    "each_move": EACH_MOVE,
}
"""Measurements of a traffic that are lists of such values: `NAME.stalls`, `NAME.each.WORD`, `NAME.each_move.WORD`."""

NIC: dict[str, tuple[Kind, str]] = {
    "frames_in": ("count", "frames that its wire brought, by the switch's port"),
    "frames_out": ("count", "frames that it sent on its wire, by the switch's port"),
    "bytes_in": ("size", "bytes of those that came in, with their headers"),
    "bytes_out": ("size", "bytes of those that went out, with their headers"),
    "most_offloaded": ("count", "connections that it held at once, at most"),
    "arrivals": ("count", "moves of a connection onto it"),
    "departures": ("count", "moves of a connection away from it"),
    "block_404": ("count", "frames for which a record was made (Figure 4, 402 to 404)"),
    "block_408": ("count", "frames that came by the NIC of their record (406 to 408)"),
    "block_412": ("count", "frames that came by another NIC, not offloaded (410 to 412)"),
    "block_414": ("count", "frames that came by another NIC than their owner (410 to 414): strays"),
    "forwarded": ("count", "frames that came by it and were sent on to the NIC that owns the connection"),
    "held": ("count", "frames that came by it while their connection was on the move"),
    "own_frames_in": ("count", "frames from its wire that went to its own TCP"),
    "own_frames_out": ("count", "frames that its own TCP sent"),
    "silenced": ("count", "frames of its own TCP about a connection that it does not hold; they were dropped"),
}
"""`nic0.WORD`."""

SWITCH: dict[str, tuple[Kind, str]] = {
    "frames_to_members": ("count", "frames sent to NICs"),
    "frames_from_members": ("count", "frames received from NICs"),
    "busiest_share": ("number", "the busiest NIC's share of the frames sent to NICs, 0 to 1"),
    "choices": ("count", "how often the members or buckets of a LAG changed with live traffic"),
    "moved": ("number", "share of the hash buckets that got another member, summed over all such changes"),
    "had_to_move": ("number", "of those, the share whose member was lost"),
    "met": ("count", "how often a controller has met it: the first time, and after each restart of either"),
    "rewritten": ("count", "flows and groups that were not as they should be when it was met again"),
    "collateral_ratio": ("number", "share of the moved buckets whose member was fine, 0 to 1; 0 when none moved"),
}
"""`s1.WORD`."""

CAUSES = ("policy", "link_down", "link_up", "stray", "command", "drain", "rebalance", "urgent_data", "low_memory")
"""`NAME.causes.CAUSE` counts the moves with that cause."""

FEATURES = ("ipv4", "ipv6", "timestamps", "sack")
REFUSALS = ("full", *(f"feature_{one}" for one in FEATURES), "fault", "context", "kernel", "other")
"""`NAME.refusals.REASON` counts the refused moves with that reason."""

TABLES = {"causes": (CAUSES, "cause of a move"), "refusals": (REFUSALS, "reason of a refusal")}
"""Measurements that are tables of counts: their words, and what a word is called."""

RUN: dict[str, tuple[Kind, str]] = {
    "bring_up_ms": ("duration", "from the call to the first traffic"),
    "tear_down_ms": ("duration", "from the last traffic to the end of the last process"),
    "record_checks": ("count", "how often records were compared with sockets (step check_records)"),
    "records_compared": ("count", "live connections that were looked at, in all checks"),
    "record_differences": (
        "count",
        "records that did not agree with the sockets that existed, and sockets without a record, in all checks",
    ),
    "agent_rebuilt_ms": ("duration", "from a restart of the agent until it had its records again, the longest"),
    "blocks_traced": ("count", "how many of the four ends of Figure 4 frames were told to have met (`trace`)"),
    "floods": ("count", "SYN floods that an agent saw in its records"),
    "neighbour_changes": ("count", "how often NICs were told of a neighbour's new MAC"),
    "path_changes": ("count", "how often engines were told of a path's new MTU"),
    "aged": ("count", "records that were removed for their age"),
    "miswired": ("count", "NICs that LACP found connected to another aggregate than their team"),
    "faults": ("count", "faults of the network: links cut, adapters lost"),
    "longest_detection_ms": ("duration", "from a fault to the agent's knowing of it, the longest"),
    "host_tcp_segments_after_offload": (
        "count",
        "segments that the server's own TCP received after the last offload, by the kernel's count (Tcp InSegs)",
    ),
}

COMMAND: dict[str, tuple[Kind, str]] = {
    "exit_status": ("count", "what it ended with"),
    "output": ("text", "what it printed: its words, with one space between two; of much, the last 1,000 characters"),
}
"""Of a step `run` that has a name: `NAME.WORD`."""

SUBJECTS: dict[str, dict[str, tuple[Kind, str]]] = {
    "traffic": TRAFFIC,
    "nic": NIC,
    "switch": SWITCH,
    "run": RUN,
    "command": COMMAND,
}
"""What can stand before the dot, and the words behind it."""

SUFFIXES: dict[Kind, str] = {"duration": "_ms", "rate": "_mbit"}


def resolve(names: dict[str, tuple[Kind, str]], word: str) -> tuple[str, Kind] | None:
    """A word of an expectation → (the measurement's name, the kind its value has there), None when unknown.

    `longest_stall` is a duration and wants `2s`; `longest_stall_ms` is a plain number of milliseconds.
    """
    if word in names:
        kind = names[word][0]
        return word, ("number" if kind in SUFFIXES else kind)
    for kind, suffix in SUFFIXES.items():
        if word + suffix in names and names[word + suffix][0] == kind:
            return word + suffix, kind
    return None
