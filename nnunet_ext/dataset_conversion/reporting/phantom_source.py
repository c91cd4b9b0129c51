"""Whether a source is a synthetic download of ours, and which findings then say nothing but that it is a small one.

``nnunet_ext phantom`` leaves a hidden file in the folder that it writes. Real downloads have none, so nothing here
touches them; and only what is printed changes: records and reports hold every finding.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from nnunet_ext.dataset_conversion.checks import Finding

MARK = ".nnunet_ext_phantom.json"


def mark(expected: Sequence[str]) -> bytes:
    """The content of the hidden file.

    Args:
        expected: codes of findings that every phantom of this dataset has for its size, or as the real download has.
    """
    return (json.dumps({"expected_findings": list(expected)}) + "\n").encode()


def expected_codes(sources: Iterable[Path]) -> frozenset[str]:
    """Codes of findings that need not be told of these sources: none, unless all of them are phantoms."""
    found = [_marked(source) for source in sources]
    if not found or any(codes is None for codes in found):
        return frozenset()
    return frozenset().union(*(codes or () for codes in found))


def number_of_marks(sources: Iterable[Path]) -> int:
    """How many of the files that were skipped as hidden are such marks."""
    return sum((source / MARK).is_file() for source in sources)


def _marked(source: Path) -> frozenset[str] | None:
    """Of a folder, or of an archive or folder in it; None where the source is no phantom."""
    for folder in (source, *source.absolute().parents[:2]):
        try:
            content = json.loads((folder / MARK).read_text(encoding="utf-8"))
            return frozenset(map(str, content["expected_findings"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def worth_telling(findings: Iterable[Finding], sources: Iterable[Path]) -> list[Finding]:
    """The findings without the warnings that a phantom is bound to have."""
    expected = expected_codes(sources)
    return [finding for finding in findings if finding.severity != "warning" or finding.code not in expected]
