"""Text from files on its way to a screen or a document, where it must look like text and do nothing else."""

from __future__ import annotations

import re
import shlex
import textwrap
import unicodedata
from collections.abc import Container, Iterable, Sequence

# Control and format characters (ESC moves the cursor, right-to-left override turns a name round), unpaired surrogates
# (which cannot be printed), line and paragraph separators.
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
# An underscore inside a word is no markup.
_MARKDOWN = re.compile(r"([\\`*\[\]<>|&]|~(?=~)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the latter are the full-width forms


def printable(text: str, keep: str = "") -> str:
    """The text with every character that moves the cursor, hides or reorders others written as its escape.

    Args:
        text: from anywhere.
        keep: characters that stay as they are, such as a newline between lines of our own.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escape(character) if character not in keep and unicodedata.category(character) in _HIDDEN else character
        for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def abridged(text: str, longest: int = 100) -> str:
    """What somebody typed, in a message that must stay readable however long it is."""
    return text if len(text) <= longest else f"{text[: longest // 2]}... ({len(text)} characters)"


def joined(names: Sequence[str], word: str = "and") -> str:
    """``"a, b and c"``."""
    return f" {word} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def command(words: Iterable[object]) -> str:
    """A line to copy into a shell: every word quoted where it needs it, so that the shell reads it as that word."""
    return " ".join(shlex.quote(printable(str(word))) for word in words)


def text_table(rows: Sequence[Sequence[str]], right: Container[int] = ()) -> str:
    """Rows of cells as lines of text, each column as broad as its longest cell.

    Args:
        rows: cells; the heads come first.
        right: numbers of the columns that end below each other, as figures do; the others begin below each other.
    """
    lines = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def facts_text(head: str, rows: Iterable[tuple[str, str]]) -> str:
    """Titles and texts below a head, long texts broken into lines below each other."""
    indent = " " * 10
    lines = (
        textwrap.fill(
            text,
            110,
            initial_indent=title.ljust(len(indent)),
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for title, text in rows
    )
    return "\n".join([head, *lines])


def markdown(text: str) -> str:
    """Text inside a line or a table cell of Markdown: no markup, no HTML, no line break of its own."""
    return _MARKDOWN.sub(r"\\\1", printable(text))


def csv_cell(value: object) -> object:
    """A cell of a CSV file: hidden characters as escapes, and an apostrophe in front of text that a spreadsheet would
    take for a formula."""
    if isinstance(value, str):
        text = printable(value)
        return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
    return value


def plot_text(text: str) -> str:
    """Text in a figure of matplotlib, which reads mathematics between dollar signs."""
    return printable(text).replace("$", r"\$")
