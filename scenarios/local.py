"""Asks a process of the run over its unix socket: one line of JSON out, one in. Decides nothing."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class LocalError(Exception):
    """No answer, or the answer was no: one line with who said it."""


def ask(path: Path, request: Mapping[str, object], deadline_s: float = 5.0) -> dict[str, Any]:
    """The answer to `request` from the process that listens at `path`. Raises LocalError."""
    who = path.stem
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(deadline_s)
            sock.connect(str(path))
            sock.sendall(json.dumps(dict(request)).encode() + b"\n")
            with sock.makefile("rb") as lines:
                answer = json.loads(lines.readline() or b"null")
    except TimeoutError:
        raise LocalError(f"{who}: no answer to `{request.get('do')}` within {deadline_s:g} s") from None
    except (OSError, ValueError) as error:
        raise LocalError(f"{who}: no answer to `{request.get('do')}`: {error}") from None
    if not isinstance(answer, dict):
        raise LocalError(f"{who}: closed without an answer to `{request.get('do')}`")
    if not answer.get("ok"):
        raise LocalError(f"{who}: {answer.get('error', 'refused without a reason')}")
    return answer
