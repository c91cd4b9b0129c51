"""Checks of images that all forms share: constant images, identical ones, sizes other than the published one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nnunet_ext.dataset_conversion.case import Case
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.formats import gz
from nnunet_ext.dataset_conversion.tasks import CaseResult, Task


def note_digest(result: CaseResult, voxels: np.ndarray, constant: bool) -> None:
    """Add what is needed to find equal images; constant images are equal to no other."""
    result.digests.append("" if constant else gz.digest(np.ascontiguousarray(voxels).reshape(-1)))


def note_constant(task: Task, result: CaseResult, what: str, value: object, file: str) -> None:
    """IMG01: an image, which the message calls ``what``, has one value everywhere."""
    message = f"{task.case.name}: {what} is {value} everywhere"
    task.note(result, "IMG01", message, file, "fetch it again, or --allow IMG01")


def identical_images(case: str, text: str, file: str, severity: str = "") -> Finding:
    """IMG02: images of a case are copies of one another, or other ones are than the publisher is known to have made."""
    return Finding("IMG02", f"{case}: {text}", case, file, severity=severity)


def unpublished_shape(
    case: Case, text: str, found: Sequence[int], published: Sequence[int], file: str
) -> list[Finding]:
    """GEO07 where a shape is not the published one; ``text`` has the fields ``{found}`` and ``{published}``."""
    if tuple(found) == tuple(published):
        return []
    message = text.format(found=size_text(found), published=size_text(published))
    return [Finding("GEO07", f"{case.name} {message}", case.name, file)]


def size_text(sizes: Iterable[object]) -> str:
    """``240x240x155``."""
    return "x".join(map(str, sizes))
