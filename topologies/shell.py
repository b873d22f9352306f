"""Mininet's shell on a network that is up, with words of the caller's own beside Mininet's.

Decides which of Mininet's words make sense here; what the caller's words do is the caller's. Only network.py makes one.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mininet.cli import CLI

Word = Callable[[Sequence[str]], None]
"""Gets the words behind it. Its docstring is its help, `USAGE: what it does`."""

HIDDEN = (
    *("pingall", "pingallfull", "pingpair", "pingpairfull", "iperf", "iperfudp"),
    *("link", "switch", "links", "xterm", "gterm", "x", "py", "px"),
)
"""Mininet's words that would ping NICs, or change links behind the network's back."""


class Shell(CLI):  # type: ignore[misc]
    """Runs until `exit`, `quit` or the end of its input. Ctrl-C ends what a node is doing."""

    prompt = "teambed> "
    doc_header = "Words (help WORD):"
    helpStr = "A node's name and a command run it there: `c1 ping -c 3 server`.\n"

    def __init__(self, net: Any, words: Mapping[str, Word], before: Callable[[], None]) -> None:
        """Runs it. before: called before each line is obeyed."""
        self._words, self._before = dict(words), before
        super().__init__(net, stdin=sys.stdin)

    @classmethod
    def initReadline(cls) -> None:
        """A history for the session, and none of Mininet's in the user's home."""
        try:
            import readline
        except ImportError:
            return
        readline.clear_history()

    def get_names(self) -> list[str]:
        """For help and completion."""
        names = [name for name in dir(type(self)) if name.removeprefix("do_") not in HIDDEN]
        return [*names, *(f"do_{word}" for word in self._words)]

    def onecmd(self, line: str) -> Any:
        """Obey one line; True ends the shell."""
        self._before()
        word, rest, _ = self.parseline(line)
        if word in self._words:
            return self._words[word](rest.split())
        if word in HIDDEN:
            return self.default(line)
        return super().onecmd(line)

    def do_help(self, line: str) -> None:
        """What the words are, and what one does."""
        if line in self._words:
            self.stdout.write(f"{self._words[line].__doc__}\n")
        elif not line:
            width = max(map(len, self._words), default=0)
            for word, act in self._words.items():
                self.stdout.write(f"  {word:{width}}  {(act.__doc__ or '').partition(': ')[2]}\n")
            self.stdout.write(f"  nodes, net, dump, sh, source, exit: Mininet's own\n{self.helpStr}")
        else:
            super().do_help(line)

    def do_source(self, line: str) -> None:
        """FILE: obey the lines of a file."""
        try:
            lines = Path(line).read_text().splitlines()
        except OSError as error:
            self.stdout.write(f"{line}: {error.strerror}\n")
            return
        for one in lines:
            if self.onecmd(one):
                return
