"""The measurements there are: their names, kinds and meaning.

Pure data. `measure` fills these in, `expect` checks expectations against them when a scenario is loaded.
In JSON a duration is called `longest_stall_ms` and a rate `goodput_mbit`, so that a number there has its unit
in its name; an expectation may say either that, with a bare number, or `longest_stall <= 2s`.
"""

from typing import Literal

Kind = Literal["truth", "count", "size", "duration", "rate", "number"]

TRAFFIC: dict[str, tuple[Kind, str]] = {
    "intact": (
        "truth",
        "every byte asked for arrived once, in order, unchanged: counts and SHA-256 of both ends agree;"
        " of many connections: all of them",
    ),
    "bytes": ("size", "bytes delivered to the client and to the application"),
    "goodput_mbit": ("rate", "delivered bits over the time from the connection's start to its end"),
    "resets": ("count", "RST segments of this connection that passed the client's interface, either way"),
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
    "longest_move_ms": ("duration", "the longest move, from the hold to the release"),
    "retransmits": ("count", "segments sent again by either end"),
    "client_retransmits": ("count", "segments sent again by the client"),
    "offloaded_share": ("number", "share of the connection's lifetime during which a NIC owned it, 0 to 1"),
    "host_segments_while_offloaded": (
        "count",
        "segments the host's TCP stack saw while a NIC owned the connection",
    ),
    "strays": ("count", "frames of the offloaded connection that arrived on a NIC that does not own it"),
}

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
    "aged": ("count", "records that were removed for their age"),
    "host_tcp_segments_after_offload": (
        "count",
        "segments that the server's own TCP received after the last offload, by the kernel's count (Tcp InSegs)",
    ),
}

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
