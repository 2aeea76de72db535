"""Words for people: names out of foreign files made harmless, sizes, lists cut short."""

from __future__ import annotations

from collections.abc import Iterable

AGAIN = "compare its size with the published one and download it again"
"""What to do about a damaged file."""
LONG = 120
"""Letters of a name that are worth showing."""


def printable(text: str) -> str:
    """A text on one line in which nothing steers a terminal or turns its reading around: what is
    not printable becomes its escape, `\\x1b` for instance."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode()
        for each in text
    )


def few(names: Iterable[str], count: int = 3) -> str:
    """The first names of many, sorted, each cut where it is very long."""
    names = sorted(names)
    shown = (name if len(name) <= LONG else f"{name[:LONG]}..." for name in names[:count])
    return ", ".join(shown) + (", ..." if len(names) > count else "")


def size_words(size: int) -> str:
    """Bytes in words."""
    return f"{size / 2**20:,.1f} MiB" if size >= 2**20 else f"{size:,} bytes"


def first_sentence(error: BaseException) -> str:
    """The first sentence of a library's message, without its full stop; the error's name where
    it says nothing."""
    first = (str(error).splitlines() or [""])[0].partition(". ")[0]
    return first[: 2 * LONG].rstrip(".") or type(error).__name__
