"""What an ending means: fine, refused in one line, or a fault."""

from __future__ import annotations

import re

from child import Ending

PEAK_BYTES = 1_500_000_000
#: what an input may come to, the good ones first
GOOD = ("done", "refused in one line")
FAULTS = (
    *("trace", "hang", "crash", "wrong exit", "not one line", "file outside", "peak over 1.5 GB", "left behind"),
    *("unforeseen", "library warning"),
)
_ARGPARSE = re.compile(r"nnunet_ext( \S+)?: error: .")
#: a dry run lists its errors among the other findings
_LISTED = re.compile(r"^error +[A-Z]+[0-9]+: ", re.MULTILINE)
_WARNING = re.compile(r"\S*\.py:\d+: \w*Warning|\S*Warning: ")


def verdict(verb: str, ending: Ending, outside: list[str], left: list[str]) -> tuple[str, str]:
    """The class of an ending, and the words that show it."""
    # A child ends without the clean-up of an interpreter, of which the tracker of its pools then speaks.
    lines = [line for line in re.split(r"[\r\n]+", ending.err) if line.strip() and "resource_tracker" not in line]
    warned = [line for line in lines if _WARNING.match(line)]
    last = lines[-1].strip() if lines else ""
    good, told = _ended(verb, ending, last)
    if good not in GOOD:
        return good, told
    if outside:
        return "file outside", ", ".join(outside[:3])
    if ending.peak > PEAK_BYTES:
        return "peak over 1.5 GB", f"{ending.peak / 1e9:.2f} GB: {told}"
    if left:
        return "left behind", ", ".join(left[:3])
    if "report this line" in last:
        return "unforeseen", last
    if warned:
        return "library warning", warned[0]
    return good, told


def _ended(verb: str, ending: Ending, last: str) -> tuple[str, str]:
    if ending.code is None:
        return "hang", last
    if ending.code < 0:
        return "crash", f"signal {-ending.code}; {last}"
    if "Traceback (most recent call last)" in ending.err + ending.out:
        return "trace", last
    if ending.code == 0 or (verb == "doctor" and ending.code == 1):
        return "done", ""
    if ending.code != 2:
        return "wrong exit", f"{ending.code}; {last}"
    if not last and _LISTED.search(ending.out):
        return "refused in one line", ""
    if not last.startswith("error") and not _ARGPARSE.match(last) and not ending.out.startswith("usage:"):
        return "not one line", last
    if not last.isprintable():
        return "not one line", ascii(last)
    return "refused in one line", last
