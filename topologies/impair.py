"""A link that loses and damages frames: an XDP program, as the kernel's own instructions, with its rates in them.

Decides which frames are eaten, and which bit of a damaged one is turned. Pure: xdp.py loads and attaches it.

At XDP on the receiving end, and not at tc: Open vSwitch reads its ports through packet sockets, which see a frame
before tc's ingress does, and on the sending end a frame may still be a train of forty that nobody has cut yet. XDP
comes before all of them, and sees what was on the wire, frame by frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from topologies.model import TopologyError

_DROP, _PASS = 1, 2  # linux/bpf.h, enum xdp_action
_ETHERNET = 14
"""A damaged frame still reaches its station: its addresses stay, and something behind them is wrong."""
_BIT = 8
"""Of TCP's flags it is PSH. RST, which no stack would believe, would still be counted where frames are only watched."""
_LOST = (0x0806, 0x8809)
"""ARP and LACP have no checksum, and would believe a wrong bit: with a neighbour's address that nobody has, no frame
gets there for half a minute. Ethernet's own check keeps such frames away; here a damaged one is lost, tagged or not."""
_VLAN, _HEADERS = 0x8100, 18
_LARGEST = 2047
"""The farthest byte behind the Ethernet header that is damaged: the verifier wants a bound."""

_Line = tuple[int, int, int, int | str, int]
"""Operation, destination and source register, offset (or the label to jump to), immediate; see linux/bpf.h."""


def checked(share: float, what: str) -> float:
    """A share of frames, from 0 to 1. Raises TopologyError."""
    if not 0 <= share <= 1:
        raise TopologyError(f"{what} is a share of the frames, from 0 to 1, not {share:g}")
    return share


def program(loss: float, corrupt: float) -> bytes:
    """The instructions that drop a share `loss` of all frames and turn one bit in a share `corrupt` of the others
    (of ARP and LACP, drop that share as well).

    Raises TopologyError for what is no share. Which frames it hits is the kernel's random choice, anew each run.
    """
    lines: list[_Line | str] = [
        _move(6, 1),  # r6: the frame's struct xdp_md
        *_draw(checked(loss, "loss"), otherwise="kept"),
        "lost",
        *_verdict(_DROP),
        "kept",
        *_draw(checked(corrupt, "corruption"), otherwise="pass"),
        _RANDOM,
        (_LOAD_WORD, 2, 6, 0, 0),  # r2: where the frame begins
        (_LOAD_WORD, 3, 6, 4, 0),  # r3: its end
        _move(4, 2),
        (_ADD, 4, 0, 0, _HEADERS),
        (_JUMP_IF_ABOVE_REGISTER, 4, 3, "pass", 0),
        (_LOAD_HALF, 1, 2, 12, 0),  # r1: EtherType, behind a tag if there is one
        (_JUMP_IF_NOT_EQUAL, 1, 0, "untagged", _as_read(_VLAN)),
        (_LOAD_HALF, 1, 2, 16, 0),
        "untagged",
        *((_JUMP_IF_EQUAL, 1, 0, "lost", _as_read(kind)) for kind in _LOST),
        (_ADD, 2, 0, 0, _ETHERNET),
        _move(4, 3),
        (_SUBTRACT_REGISTER, 4, 2, 0, 0),  # r4: the length behind the Ethernet header
        (_JUMP_IF_NOT_POSITIVE, 4, 0, "pass", 0),
        (_MODULO_REGISTER, 0, 4, 0, 0),
        (_AND, 0, 0, 0, _LARGEST),
        (_ADD_REGISTER, 2, 0, 0, 0),  # r2: the byte
        _move(4, 2),
        (_ADD, 4, 0, 0, 1),
        (_JUMP_IF_ABOVE_REGISTER, 4, 3, "pass", 0),
        (_LOAD_BYTE, 1, 2, 0, 0),
        (_XOR, 1, 0, 0, _BIT),
        (_STORE_BYTE, 2, 1, 0, 0),
        "pass",
        *_verdict(_PASS),
    ]
    return _assemble(lines)


_LOAD_HALF, _JUMP_IF_EQUAL, _JUMP_IF_NOT_EQUAL = 0x69, 0x15, 0x55
_LOAD_WORD, _LOAD_BYTE, _STORE_BYTE, _LOAD_WIDE = 0x61, 0x71, 0x73, 0x18
_ADD, _ADD_REGISTER, _SUBTRACT_REGISTER, _AND, _XOR, _MODULO_REGISTER = 0x07, 0x0F, 0x1F, 0x57, 0xA7, 0x9F
_MOVE, _MOVE_REGISTER, _CALL, _EXIT = 0xB7, 0xBF, 0x85, 0x95
_JUMP_IF_ABOVE_REGISTER, _JUMP_IF_NOT_BELOW_REGISTER, _JUMP_IF_NOT_POSITIVE = 0x2D, 0x3D, 0xD5
_RANDOM: _Line = (_CALL, 0, 0, 0, 7)  # r0: bpf_get_prandom_u32()


def _move(to: int, register: int) -> _Line:
    return (_MOVE_REGISTER, to, register, 0, 0)


def _draw(share: float, otherwise: str) -> list[_Line]:
    """Goes on with that probability, else to the label. In 64 bits, so that 1 means always."""
    limit = round(share * 2**32)
    return [
        _RANDOM,
        (_LOAD_WIDE, 7, 0, 0, limit & 0xFFFFFFFF),
        (0, 0, 0, 0, limit >> 32),
        (_JUMP_IF_NOT_BELOW_REGISTER, 0, 7, otherwise, 0),
    ]


def _as_read(ethertype: int) -> int:
    """The number that two bytes of a frame are to this machine."""
    number: int = struct.unpack("=H", struct.pack("!H", ethertype))[0]
    return number


def _verdict(action: int) -> list[_Line]:
    return [(_MOVE, 0, 0, 0, action), (_EXIT, 0, 0, 0, 0)]


def _assemble(lines: Iterable[_Line | str]) -> bytes:
    """Instructions as the kernel takes them; a jump counts from the instruction behind it to its label."""
    labels: dict[str, int] = {}
    code: list[_Line] = []
    for line in lines:
        if isinstance(line, str):
            labels[line] = len(code)
        else:
            code.append(line)
    return b"".join(
        struct.pack(
            "=BBhI", operation, source << 4 | to, labels[where] - at - 1 if isinstance(where, str) else where, value
        )
        for at, (operation, to, source, where, value) in enumerate(code)
    )
