"""What somebody may have meant by a word that is not there. Pure."""

import difflib
from collections.abc import Sequence


def nearest(word: str, known: Sequence[str]) -> str:
    """`; did you mean X?`, or `; there is X, Y …` when nothing is near."""
    if meant := near(word, known):
        return f"; did you mean `{meant[0]}`?"
    shown = [*known] if len(known) <= 20 else [known[0], "…", known[-1]]
    return f"; there is {', '.join(shown)}" if known else ""


def near(word: str, known: Sequence[str]) -> list[str]:
    """What the word may be a slip for: one, or nothing."""
    # nic7 is not a slip for nic2: where only the number is wrong, all that there is says more.
    return difflib.get_close_matches(word, [one for one in known if _unnumbered(one) != _unnumbered(word)], n=1)


def _unnumbered(word: str) -> str:
    """A word without its numbers."""
    return "".join(letter for letter in word if not letter.isdigit())
