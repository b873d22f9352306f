"""Puts plain flows and groups on the wire, and reads them back: OpenFlow 1.3 with Nicira's extensions. Decides
nothing and sends nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import controller.green  # noqa: F401  # isort: skip  (before Ryu)
from ryu.ofproto import nicira_ext, ofproto_v1_3, ofproto_v1_3_parser

from controller.pipeline import GROUP, Action, Actions, Change, Key, Rules, Value, match

OFP_VERSION = ofproto_v1_3.OFP_VERSION
_WHOLE_REGISTER = nicira_ext.ofs_nbits(0, 31)
# nx_hash_fields of Open vSwitch's nicira-ext.h; Ryu knows the first two only
_HASH_FIELDS = {"eth_src": 0, "symmetric_l3l4": 2, "symmetric_l3l4+udp": 3, "nw_src": 4, "symmetric_l3": 6}
_HASH_NAMES = {number: name for name, number in _HASH_FIELDS.items()}
_ADD_OR_MODIFY = 0x8000  # Open vSwitch's own group command
_IN_PORT = ofproto_v1_3.OFPP_IN_PORT & 0xFFFF
_ETHERNET_HEADER = 14  # all that the controller wants to see of most frames


def encode(datapath: Any, changes: Iterable[Change], cookie: int = 0) -> bytearray:
    """All messages as one piece, to be sent with one write. `datapath` only numbers them."""
    buffer = bytearray()
    for change in changes:
        build = _group_mod if change.key.table == GROUP else _flow_mod
        buffer += _serialised(datapath, build(datapath, change, cookie))
    return buffer


def encode_wipe(datapath: Any) -> bytearray:
    """Remove every flow of every table, and every group."""
    flows = ofproto_v1_3_parser.OFPFlowMod(
        datapath,
        table_id=ofproto_v1_3.OFPTT_ALL,
        command=ofproto_v1_3.OFPFC_DELETE,
        out_port=ofproto_v1_3.OFPP_ANY,
        out_group=ofproto_v1_3.OFPG_ANY,
    )
    groups = ofproto_v1_3_parser.OFPGroupMod(datapath, ofproto_v1_3.OFPGC_DELETE, 0, ofproto_v1_3.OFPG_ALL)
    return _serialised(datapath, flows) + _serialised(datapath, groups)


def encode_frames(datapath: Any, frames: Iterable[tuple[int, bytes]]) -> bytearray:
    """Frames of this controller's own, each to go out of a port."""
    buffer = bytearray()
    for port, data in frames:
        message = ofproto_v1_3_parser.OFPPacketOut(
            datapath,
            buffer_id=ofproto_v1_3.OFP_NO_BUFFER,
            in_port=ofproto_v1_3.OFPP_CONTROLLER,
            actions=[ofproto_v1_3_parser.OFPActionOutput(port, 0)],
            data=data,
        )
        buffer += _serialised(datapath, message)
    return buffer


def encode_barrier(datapath: Any) -> tuple[bytearray, int]:
    """A barrier request and its transaction id, by which the reply is known."""
    message = ofproto_v1_3_parser.OFPBarrierRequest(datapath)
    return _serialised(datapath, message), message.xid


def encode_question(datapath: Any, what: str) -> tuple[bytearray, int]:
    """Ask for "flows", "groups" or "counters" (of all ports), and by which transaction id the reply is known."""
    parser = ofproto_v1_3_parser
    question = {
        "flows": lambda: parser.OFPFlowStatsRequest(datapath),
        "groups": lambda: parser.OFPGroupDescStatsRequest(datapath),
        "counters": lambda: parser.OFPPortStatsRequest(datapath),
    }[what]()
    return _serialised(datapath, question), question.xid


def decode_flow(stats: Any) -> tuple[Key, Actions] | None:
    """A flow as `pipeline` would write it, or None when this controller writes no such flow."""
    actions = [action for inst in stats.instructions for action in getattr(inst, "actions", [None])]
    try:
        fields = {name.removesuffix("_nxm"): _plain(name, value) for name, value in stats.match.items()}
        return Key(stats.table_id, stats.priority, match(**fields)), tuple(map(_read_action, actions))
    except ValueError:
        return None


def decode_group(desc: Any) -> tuple[Key, Actions] | None:
    """A group as `pipeline` would write it, or None."""
    if desc.type != ofproto_v1_3.OFPGT_FF:
        return None
    try:
        buckets = [("bucket", one.watch_port, tuple(map(_read_action, one.actions))) for one in desc.buckets]
    except ValueError:
        return None
    return Key(GROUP, desc.group_id, ()), tuple(buckets)


def decode(flows: Iterable[Any], groups: Iterable[Any], cookie: int) -> Rules | None:
    """Everything that is in the switch, or None if something there was not made with this cookie."""
    rules: Rules = {}
    for stats in flows:
        if stats.cookie != cookie or (flow := decode_flow(stats)) is None:
            return None
        rules[flow[0]] = flow[1]
    for desc in groups:
        if (group := decode_group(desc)) is None:
            return None
        rules[group[0]] = group[1]
    return rules


def port_is_up(desc: Any) -> bool:
    """Whether a port description says that frames can pass."""
    down = desc.state & ofproto_v1_3.OFPPS_LINK_DOWN or desc.config & ofproto_v1_3.OFPPC_PORT_DOWN
    return not down


def is_real_port(number: int) -> bool:
    """False for the switch's own local port and other reserved numbers."""
    return 0 < number <= int(ofproto_v1_3.OFPP_MAX)


def _serialised(datapath: Any, message: Any) -> bytearray:
    datapath.set_xid(message)
    message.serialize()
    buffer: bytearray = message.buf
    return buffer


def _flow_mod(datapath: Any, change: Change, cookie: int) -> Any:
    command = ofproto_v1_3.OFPFC_DELETE if change.wide else ofproto_v1_3.OFPFC_DELETE_STRICT
    instructions: list[Any] = []
    if change.actions is not None:
        command, instructions = ofproto_v1_3.OFPFC_ADD, _instructions(change.actions)
    return ofproto_v1_3_parser.OFPFlowMod(
        datapath,
        cookie=cookie,
        table_id=change.key.table,
        priority=change.key.priority,
        match=ofproto_v1_3_parser.OFPMatch(**dict(change.key.match)),
        command=command,
        instructions=instructions,
        out_port=ofproto_v1_3.OFPP_ANY,
        out_group=ofproto_v1_3.OFPG_ANY,
    )


def _group_mod(datapath: Any, change: Change, _cookie: int) -> Any:
    parser, number = ofproto_v1_3_parser, change.key.priority
    if change.actions is None:
        return parser.OFPGroupMod(datapath, ofproto_v1_3.OFPGC_DELETE, ofproto_v1_3.OFPGT_FF, number)
    buckets = [
        parser.OFPBucket(watch_port=watch, watch_group=ofproto_v1_3.OFPG_ANY, actions=[_action(one) for one in actions])
        for _, watch, actions in change.actions
    ]
    return parser.OFPGroupMod(datapath, _ADD_OR_MODIFY, ofproto_v1_3.OFPGT_FF, number, buckets)


def _instructions(actions: Actions) -> list[Any]:
    apply = ofproto_v1_3.OFPIT_APPLY_ACTIONS
    return [ofproto_v1_3_parser.OFPInstructionActions(apply, [_action(action) for action in actions])]


def _action(action: Action) -> Any:
    parser = ofproto_v1_3_parser
    match action:
        case ("output", int(port)):
            return parser.OFPActionOutput(port, 0)
        case ("group", int(number)):
            return parser.OFPActionGroup(number)
        case ("controller",):
            return parser.OFPActionOutput(ofproto_v1_3.OFPP_CONTROLLER, _ETHERNET_HEADER)
        case ("controller", "whole"):
            return parser.OFPActionOutput(ofproto_v1_3.OFPP_CONTROLLER, ofproto_v1_3.OFPCML_NO_BUFFER)
        case ("load", str(register), int(value)):
            return parser.NXActionRegLoad(ofs_nbits=_WHOLE_REGISTER, dst=register, value=value)
        case ("move", str(field), int(at), str(other), int(to), int(bits)):
            return parser.NXActionRegMove(src_field=field, dst_field=other, n_bits=bits, src_ofs=at, dst_ofs=to)
        case ("resubmit", int(table)):
            return parser.NXActionResubmitTable(in_port=_IN_PORT, table_id=table)
        case ("multipath", str(fields), int(basis), int(links)):
            return parser.NXActionMultipath(
                fields=_HASH_FIELDS[fields],
                basis=basis,
                algorithm=nicira_ext.NX_MP_ALG_MODULO_N,
                max_link=links - 1,  # the wire carries the highest link, not their number
                arg=0,
                ofs_nbits=_WHOLE_REGISTER,
                dst="reg0",
            )
    raise ValueError(f"no such action: {action}")


def _read_action(action: Any) -> Action:
    parser = ofproto_v1_3_parser
    match action:
        case parser.OFPActionOutput(port=ofproto_v1_3.OFPP_CONTROLLER, max_len=length):
            return ("controller",) if length == _ETHERNET_HEADER else ("controller", "whole")
        case parser.OFPActionOutput(port=port):
            return ("output", port)
        case parser.OFPActionGroup(group_id=number):
            return ("group", number)
        case parser.NXActionRegLoad(dst=register, value=value):
            return ("load", register, value)
        case parser.NXActionRegMove(src_field=field, dst_field=other, n_bits=bits, src_ofs=at, dst_ofs=to):
            return ("move", field.removesuffix("_nxm"), at, other.removesuffix("_nxm"), to, bits)
        case parser.NXActionResubmitTable(table_id=table):
            return ("resubmit", table)
        case parser.NXActionMultipath(fields=fields, basis=basis, max_link=highest) if fields in _HASH_NAMES:
            return ("multipath", _HASH_NAMES[fields], basis, highest + 1)
    raise ValueError("not an action of this controller's")


def _plain(name: str, value: Any) -> Value:
    if name.startswith(("ipv4_", "ipv6_")) and isinstance(value, str):
        return str(ipaddress.ip_address(value))  # one spelling, Python's
    plain: Value = value
    return plain


def readable(what: str, item: Any) -> dict[str, Any]:
    """One item of an answer to a question, for people and for JSON."""
    if what == "counters":
        names = ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_dropped", "tx_dropped")
        return {"port": item.port_no, **{name: getattr(item, name) for name in names}}
    if what == "groups":
        group = decode_group(item)
        return {"group": item.group_id, "buckets": list(group[1]) if group else str(item.buckets)}
    flow = decode_flow(item)
    count = {"packets": item.packet_count, "bytes": item.byte_count}
    if flow is None:
        return {"table": item.table_id, "priority": item.priority, "match": str(item.match), "actions": "?", **count}
    key, actions = flow
    return {**key._asdict(), "match": dict(key.match), "actions": list(actions), **count}
