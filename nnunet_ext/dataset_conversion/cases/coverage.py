"""Labels that are foreground where they should not be: everywhere, mostly, or mostly in most cases."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.tasks import CaseResult

# From this share on a label is mostly foreground, which few lesions are and inverted masks are.
_MOSTLY = 2 / 3
# A lesion lies inside of its picture; of an inverted mask, nearly the whole edge is foreground.
_EDGE = 0.9


def foreground_findings(mapped: np.ndarray, case: str, file: str) -> list[Finding]:
    """LAB08 for a label that is foreground everywhere, LAB09 for one that mostly is.

    Args:
        mapped: our values, (Z, Y, X).
        case, file: for messages.
    """
    share = np.count_nonzero(mapped) / mapped.size
    if share == 1:
        return [Finding("LAB08", f"{case}: the label is foreground everywhere", case, file, _look("it"))]
    if share < _MOSTLY:
        return []
    edges = (mapped[:, 0], mapped[:, -1], mapped[:, :, 0], mapped[:, :, -1])
    edge = sum(np.count_nonzero(part) for part in edges) / sum(part.size for part in edges)
    text = f"{case}: {_percent(share)} of the label are foreground, of its edge {_percent(edge)}"
    if edge < _EDGE:
        return [Finding("LAB09", text, case, file, severity="info")]
    return [Finding("LAB09", f"{text}; is it inverted?", case, file, _look("it"))]


def full_pictures(names: list[str], count: int, case: str) -> list[Finding]:
    """LAB08 for those of several masks of a case that are foreground everywhere; where all are, the case tells it."""
    if not names or len(names) == count:
        return []
    text = f"{case}: {len(names)} of {count} masks are foreground everywhere"
    return [Finding("LAB08", text, case, names[0], _look("them"))]


def mostly_foreground(results: Iterable[CaseResult]) -> list[Finding]:
    """LAB10 where more than half of the labels of a dataset are mostly foreground."""
    shares = [
        sum(result.voxels.values()) / math.prod(result.shape) for result in results if result.voxels and result.shape
    ]
    high = sum(share >= _MOSTLY for share in shares)
    if len(shares) < 2 or 2 * high <= len(shares):
        return []
    text = f"{high} of {len(shares)} labels are mostly foreground; are all of them inverted?"
    return [Finding("LAB10", text, remedy=f"{_look('some of them')}; inverted masks must be inverted before")]


def _percent(share: float) -> str:
    """Rounded down, so that 100 % means all."""
    return f"{math.floor(100 * share)} %"


def _look(what: str) -> str:
    return f"look at {what} beside the image"
