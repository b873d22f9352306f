"""The instructions that lose and damage frames, executed here by a small interpreter."""

import random
import struct
from collections.abc import Callable

import pytest

from topologies import impair
from topologies.model import TopologyError

DROP, PASS = 1, 2
FRAME = bytes(range(200, 256)) + bytes(8)  # 64 bytes
BASE = 1 << 20
_JUMPS: dict[int, Callable[[int, int, int], bool]] = {
    0x2D: lambda a, b, _: a > b,
    0x3D: lambda a, b, _: a >= b,
    0xD5: lambda a, _, k: _signed(a) <= k,
    0x15: lambda a, _, k: a == k,
    0x55: lambda a, _, k: a != k,
}
_SUMS: dict[int, Callable[[int, int, int], int]] = {
    0x07: lambda a, _, k: a + k,
    0x0F: lambda a, b, _: a + b,
    0x1F: lambda a, b, _: a - b,
    0x57: lambda a, _, k: a & k,
    0xA7: lambda a, _, k: a ^ k,
    0x9F: lambda a, b, _: a % b,
    0xB7: lambda _a, _b, k: k,
    0xBF: lambda _a, b, _k: b,
}


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def execute(program: bytes, frame: bytes, draws: list[int]) -> tuple[int, bytes]:
    """The verdict and the frame afterwards. `draws` are the random numbers, in order."""
    code = [struct.unpack_from("=BBhI", program, at) for at in range(0, len(program), 8)]
    registers, memory, at = [0] * 11, bytearray(frame), 0
    while True:
        operation, both, where, value = code[at]
        to, source = both & 15, both >> 4
        at += 1
        if operation == 0x95:
            return registers[0], bytes(memory)
        if operation == 0x85:
            assert value == 7
            registers[0] = draws.pop(0)
        elif operation == 0x18:
            registers[to] = value | code[at][3] << 32
            at += 1
        elif operation == 0x61:
            registers[to] = BASE + {0: 0, 4: len(frame)}[where]
        elif operation == 0x69:
            (registers[to],) = struct.unpack_from("=H", memory, registers[source] - BASE + where)
        elif operation == 0x71:
            registers[to] = memory[registers[source] - BASE]
        elif operation == 0x73:
            memory[registers[to] - BASE] = registers[source]
        elif operation in _JUMPS:
            at += where if _JUMPS[operation](registers[to], registers[source], value) else 0
        else:
            registers[to] = _SUMS[operation](registers[to], registers[source], value) % 2**64


def test_each_share_has_its_frames() -> None:
    """The random number is 32 bits wide; a share of it is lost, and of the rest a share is damaged."""
    program = impair.program(0.25, 0.5)
    quarter, half = 2**30, 2**31
    assert execute(program, FRAME, [quarter - 1]) == (DROP, FRAME)
    assert execute(program, FRAME, [quarter, half]) == (PASS, FRAME)
    verdict, damaged = execute(program, FRAME, [quarter, half - 1, 3])
    assert verdict == PASS
    assert damaged == FRAME[:17] + bytes([FRAME[17] ^ 8]) + FRAME[18:]


def test_all_and_none() -> None:
    """A share of 1 spares no frame, one of 0 touches none, whatever is drawn."""
    for draw in (0, 2**32 - 1):
        assert execute(impair.program(1, 0), FRAME, [draw])[0] == DROP
        assert execute(impair.program(0, 0), FRAME, [draw, draw]) == (PASS, FRAME)
        assert execute(impair.program(0, 1), FRAME, [draw, draw, 0])[1] != FRAME


def test_one_bit_behind_the_ethernet_header() -> None:
    """Wherever it is, and however long the frame; what has no room for a tag is no frame, and stays as it is."""
    rng = random.Random(1)
    program, hit = impair.program(0, 1), set()
    for _ in range(500):
        frame = rng.randbytes(rng.choice((18, 42, 60, 1514)))
        _, damaged = execute(program, frame, [0, 0, rng.randrange(2**32)])
        (at,) = [at for at, (one, other) in enumerate(zip(frame, damaged, strict=True)) if one != other]
        assert at >= 14
        assert (frame[at] ^ damaged[at]).bit_count() == 1
        hit.add(at)
    assert max(hit) > 1400
    assert execute(program, bytes(17), [0, 0, 5]) == (PASS, bytes(17))


@pytest.mark.parametrize("tag", [b"", bytes.fromhex("81000064")])
@pytest.mark.parametrize("kind", ["0806", "8809"])
def test_what_has_no_checksum_is_lost_instead(kind: str, tag: bytes) -> None:
    """ARP and LACP would believe a wrong bit. Who is not to be damaged arrives."""
    frame = FRAME[:12] + tag + bytes.fromhex(kind) + FRAME[14:]
    program = impair.program(0, 0.5)
    assert execute(program, frame, [0, 2**31 - 1, 3])[0] == DROP
    assert execute(program, frame, [0, 2**31]) == (PASS, frame)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(share: float) -> None:
    """In one line that says what a share is."""
    for shares in ((share, 0.0), (0.0, share)):
        with pytest.raises(TopologyError, match="from 0 to 1"):
            impair.program(*shares)
