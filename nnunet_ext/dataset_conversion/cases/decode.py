"""Pictures of a case as arrays, with the checks that all forms made of pictures share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.cases.coverage import foreground_findings, full_pictures
from nnunet_ext.dataset_conversion.cases.labels import binarise, check_threshold, relabel
from nnunet_ext.dataset_conversion.checks import errors
from nnunet_ext.dataset_conversion.find.sources import read
from nnunet_ext.dataset_conversion.formats import pictures
from nnunet_ext.dataset_conversion.formats.sizes import picture_file_too_large, picture_too_large
from nnunet_ext.dataset_conversion.tasks import CaseResult, Task
from nnunet_ext.dataset_conversion.writing import sha256
from nnunet_ext.errors import UserError


def read_pictures(task: Task, role: str, result: CaseResult) -> np.ndarray | None:
    """All pictures of a role: (Z, Y, X, 3) for images, (Z, Y, X) of 0 and 255 for masks, None after an error.

    Args:
        task: the case.
        role: which of its files.
        result: takes the findings, the sources and the type of the masks.
    """
    name = task.case.name
    threshold = task.target.labels.threshold
    arrays: list[np.ndarray] = []
    brightest = 0
    full: list[str] = []
    files = task.case.files[role]
    for file in files:
        try:
            data = _read_bounded(task, file, len(files), result)
            if data is None:
                continue
            if role == task.dataset.label:
                pixels, findings = pictures.mask(data, name, file.shown)
                result.label_dtype = result.label_dtype or pictures.stored_type(data)
                if threshold is not None:
                    brightest = max(brightest, int(pixels.max()))
                    pixels, found = binarise(pixels, threshold, name, file.shown)
                    findings += found
                if pixels.all():
                    full.append(file.shown)
            else:
                pixels, findings = pictures.colour(data, name, file.shown)
        except UserError as error:
            task.fail(result, error)
            continue
        result.add(findings, task.policy)
        result.sources.append({"role": role, "path": file.path, "size": len(data), "sha256": sha256(data)})
        if arrays and pixels.shape != arrays[0].shape:
            code = "GEO02" if role == task.dataset.label else "GEO01"
            shapes = f"{pixels.shape[:2]}, others {arrays[0].shape[:2]} (y, x)"
            task.note(result, code, f"{name}: {file.name} has shape {shapes}", file.shown)
            continue
        arrays.append(pixels)
    if threshold is not None and role == task.dataset.label:
        result.add(check_threshold(brightest, threshold, name, task.case.files[role][0].shown), task.policy)
    result.add(full_pictures(full, len(files), name), task.policy)
    return None if result.failed or not arrays else np.stack(arrays)


def _read_bounded(task: Task, file: SourceFile, count: int, result: CaseResult) -> bytes | None:
    """A file whose picture is not too large to be decoded; None after the finding that it is.

    Raises:
        UserError: it cannot be read.
    """
    case = task.case.name
    found = task.policy.apply(picture_file_too_large(file.size, case, file.shown))
    data = None
    if not errors(found):
        data = read(file)
        found += task.policy.apply(picture_too_large(pictures.size_of(data, file.shown), count, case, file.shown))
    result.findings += found
    return None if errors(found) else data


def map_masks(task: Task, images: np.ndarray, masks: np.ndarray, result: CaseResult) -> np.ndarray | None:
    """Masks with our values; None after an error.

    Args:
        task: the case.
        images: (Z, Y, X, 3), which the masks must fit.
        masks: (Z, Y, X) source values.
        result: takes the findings and the number of pixels of each class.
    """
    name, file = task.case.name, task.case.files[task.dataset.label][0].shown
    if images.shape[:3] != masks.shape:
        message = f"{name}: masks have shape {masks.shape[1:]}, images {images.shape[1:3]} (y, x)"
        task.note(result, "GEO02", message, file)
        return None
    mapped, result.voxels, findings = relabel(masks.reshape(-1), task.target.labels, name, file)
    if task.dataset.normal and (task.case.stratum or "").casefold() == task.dataset.normal:
        findings = [replace(found, severity="info") if found.code == "LAB02" else found for found in findings]
    if mapped is not None:
        mapped = mapped.reshape(masks.shape)
        findings = [*findings, *foreground_findings(mapped, name, file)]
    result.add(findings, task.policy)
    return mapped


def resize_case(
    task: Task, images: np.ndarray, masks: np.ndarray | None, result: CaseResult
) -> tuple[np.ndarray, np.ndarray | None]:
    """Images (Z, Y, X, 3) and masks (Z, Y, X) in the size that the user asked for; the old one is recorded.

    A class that is lost on the way is LAB02.
    """
    if task.resize is None or (images.shape[2], images.shape[1]) == task.resize:
        return images, masks
    result.resized_from, result.shape[:2] = list(result.shape), list(task.resize)
    images = np.stack([pictures.resize(image, task.resize, "area") for image in images])
    if masks is None:
        return images, None
    masks = np.stack([pictures.resize(mask, task.resize, "nearest") for mask in masks])
    before = result.voxels
    result.voxels = {value: int(np.count_nonzero(masks == value)) for value in before}
    lost = [task.target.labels.classes[value] for value, count in before.items() if count and not result.voxels[value]]
    if lost:
        size = "x".join(map(str, task.resize))
        message = f"{task.case.name}: nothing is left of {', '.join(lost)} at {size}"
        file = task.case.files[task.dataset.label][0].shown
        task.note(result, "LAB02", message, file, "give a larger --resize")
    return images, masks
