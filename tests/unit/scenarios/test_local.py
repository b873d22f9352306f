"""Asking a process over its socket: an answer, or one line with who did not give it."""

import socket
import threading

import pytest

from scenarios.local import LocalError, ask


@pytest.fixture
def answering(tmp_path):
    """Serves one connection at agent.sock with a fixed answer; returns the path."""

    def serve(answer: bytes | None):
        path = tmp_path / "agent.sock"
        listener = socket.create_server(str(path), family=socket.AF_UNIX)

        def one() -> None:
            sock, _ = listener.accept()
            with sock, sock.makefile("rb") as lines:
                lines.readline()
                if answer is not None:
                    sock.sendall(answer)
                    return
                lines.readline()  # until the other end gives up

        threading.Thread(target=one, daemon=True).start()
        return path

    return serve


def test_an_answer(answering):
    assert ask(answering(b'{"ok": true, "records": [1]}\n'), {"do": "records"})["records"] == [1]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b'{"ok": false, "error": "no such NIC"}\n', "agent: no such NIC"),
        (b"", "agent: closed without an answer to `records`"),
        (b"nonsense\n", "agent: no answer to `records`: Expecting value"),
        (None, "agent: no answer to `records` within 0.1 s"),
    ],
)
def test_no_answer(answering, answer, said):
    with pytest.raises(LocalError) as error:
        ask(answering(answer), {"do": "records"}, deadline_s=0.1 if answer is None else 5.0)
    assert str(error.value).startswith(said)


def test_nobody_there(tmp_path):
    with pytest.raises(LocalError, match=r"agent: no answer to `records`: .*No such file or directory"):
        ask(tmp_path / "agent.sock", {"do": "records"})
