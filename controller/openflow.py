"""Puts plain flows on the wire: OpenFlow 1.3 with Nicira's extensions. Decides nothing and sends nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import controller.green  # noqa: F401  # isort: skip  (before Ryu)
from ryu.ofproto import nicira_ext, ofproto_v1_3, ofproto_v1_3_parser

from controller.pipeline import Action, Actions, Change

OFP_VERSION = ofproto_v1_3.OFP_VERSION
_WHOLE_REGISTER = nicira_ext.ofs_nbits(0, 31)
_SYMMETRIC_L3L4_UDP = 3  # nx_hash_fields of Open vSwitch's nicira-ext.h; Ryu knows the first two only
_ETHERNET_HEADER = 14  # all that the controller wants to see of a frame


def encode(datapath: Any, changes: Iterable[Change]) -> bytearray:
    """All flow-mods as one piece, to be sent with one write. `datapath` only numbers them."""
    buffer = bytearray()
    for change in changes:
        buffer += _serialised(datapath, _flow_mod(datapath, change))
    return buffer


def encode_wipe(datapath: Any) -> bytearray:
    """Remove every flow of every table."""
    message = ofproto_v1_3_parser.OFPFlowMod(
        datapath,
        table_id=ofproto_v1_3.OFPTT_ALL,
        command=ofproto_v1_3.OFPFC_DELETE,
        out_port=ofproto_v1_3.OFPP_ANY,
        out_group=ofproto_v1_3.OFPG_ANY,
    )
    return _serialised(datapath, message)


def encode_barrier(datapath: Any) -> tuple[bytearray, int]:
    """A barrier request and its transaction id, by which the reply is known."""
    message = ofproto_v1_3_parser.OFPBarrierRequest(datapath)
    return _serialised(datapath, message), message.xid


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


def _flow_mod(datapath: Any, change: Change) -> Any:
    command = ofproto_v1_3.OFPFC_DELETE if change.wide else ofproto_v1_3.OFPFC_DELETE_STRICT
    instructions: list[Any] = []
    if change.actions is not None:
        command, instructions = ofproto_v1_3.OFPFC_ADD, _instructions(change.actions)
    return ofproto_v1_3_parser.OFPFlowMod(
        datapath,
        table_id=change.key.table,
        priority=change.key.priority,
        match=ofproto_v1_3_parser.OFPMatch(**dict(change.key.match)),
        command=command,
        instructions=instructions,
        out_port=ofproto_v1_3.OFPP_ANY,
        out_group=ofproto_v1_3.OFPG_ANY,
    )


def _instructions(actions: Actions) -> list[Any]:
    apply = ofproto_v1_3.OFPIT_APPLY_ACTIONS
    return [ofproto_v1_3_parser.OFPInstructionActions(apply, [_action(action) for action in actions])]


def _action(action: Action) -> Any:
    parser = ofproto_v1_3_parser
    match action:
        case ("output", int(port)):
            return parser.OFPActionOutput(port, 0)
        case ("controller",):
            return parser.OFPActionOutput(ofproto_v1_3.OFPP_CONTROLLER, _ETHERNET_HEADER)
        case ("load", str(register), int(value)):
            return parser.NXActionRegLoad(ofs_nbits=_WHOLE_REGISTER, dst=register, value=value)
        case ("resubmit", int(table)):
            return parser.NXActionResubmitTable(in_port=ofproto_v1_3.OFPP_IN_PORT & 0xFFFF, table_id=table)
        case ("multipath", int(basis), int(links)):
            return parser.NXActionMultipath(
                fields=_SYMMETRIC_L3L4_UDP,
                basis=basis,
                algorithm=nicira_ext.NX_MP_ALG_MODULO_N,
                max_link=links - 1,  # the wire carries the highest link, not their number
                arg=0,
                ofs_nbits=_WHOLE_REGISTER,
                dst="reg0",
            )
    raise ValueError(f"no such action: {action}")
