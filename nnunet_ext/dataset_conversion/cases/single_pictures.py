"""Form ``picture``: a case of one colour picture and its masks becomes one PNG and one PNG label.

A PNG that is 8-bit RGB already is linked or copied as it is; everything else is decoded. Several masks are united.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.cases.decode import map_masks, read_pictures, resize_case
from nnunet_ext.dataset_conversion.cases.image_checks import note_constant, note_digest, unpublished_shape
from nnunet_ext.dataset_conversion.cases.outputs import keep_file, write_picture
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.find.sources import read
from nnunet_ext.dataset_conversion.formats import pictures
from nnunet_ext.dataset_conversion.tasks import CaseResult, Task
from nnunet_ext.dataset_conversion.writing import Files, link_is_expected
from nnunet_ext.errors import UserError

# What a PNG needs at most, as a multiple of the JPEG it is decoded from (9 was measured on Kvasir-SEG), and of a PNG.
_GROWTH = {"jpg": 10.0, "jpeg": 10.0, "png": 1.2}
_PNG_HEADER = 26


def plan(task: Task) -> tuple[Task, list[Finding]]:
    """Decide what becomes of a picture, by the first bytes of its file."""
    case = task.case
    file = case.files[task.dataset.images[0].role][0]
    path = task.image_path(case.id, 0)
    try:
        keep = task.resize is None and _is_plain(file)
    except UserError as error:
        return task, [Finding.of(error, case.name)]
    linked = keep and file.linkable and link_is_expected(file.location, Path(task.folder), task.link)
    how = "link" if linked else "copy" if keep else "decode" if task.resize is None else "resize"
    operations = [(how, path)]
    if task.dataset.label in case.files:
        operations.append(("relabel", task.label_path(case.id)))
    growth = 1.0 if keep else _GROWTH.get(file.name.rsplit(".", 1)[-1].lower(), 2.0)
    size = 0 if linked else int(growth * file.size)
    return replace(task, details=keep, operations=tuple(operations), bytes_to_write=size), []


def _is_plain(file: SourceFile) -> bool:
    """Whether a file is a PNG of 8-bit RGB, by its header."""
    if not file.name.lower().endswith(".png"):
        return False
    header = read(file, _PNG_HEADER)
    return header.startswith(b"\x89PNG\r\n\x1a\n") and header[24:] == b"\x08\x02"


def run(task: Task) -> CaseResult:
    """Check a picture and its masks and write both."""
    case, dataset = task.case, task.dataset
    result = CaseResult(case.id)
    image = read_pictures(task, dataset.images[0].role, result)
    masks = read_pictures(task, dataset.label, result) if dataset.label in case.files else None
    if image is None or result.failed:
        return result
    result.shape, result.spacing = [image.shape[2], image.shape[1]], [1.0, 1.0]
    _check_picture(task, image[0], result)
    mapped = None
    if masks is not None:
        mapped = map_masks(task, image, _united(task, masks, result), result)
    if result.failed:
        return result
    resized, mapped = resize_case(task, image, mapped, result)
    if result.failed:
        return result
    with Files(Path(task.folder)) as files:
        if mapped is not None:
            write_picture(files, result, task.label_path(case.id), "relabel", mapped[0])
            # The way back leads to the first mask: the others are part of it.
            result.source_labels = {case.id: [case.files[dataset.label][0].path]}
        if task.details:
            role = dataset.images[0].role
            source = next(source for source in result.sources if source["role"] == role)
            keep_file(files, result, task.image_path(case.id, 0), case.files[role][0], task.link, source)
        else:
            operation = "resize" if resized is not image else "decode"
            write_picture(files, result, task.image_path(case.id, 0), operation, resized[0])
        files.commit()
    result.outputs = [case.id]
    return result


def _united(task: Task, masks: np.ndarray, result: CaseResult) -> np.ndarray:
    """All masks as one: (1, Y, X)."""
    if len(masks) > 1:
        name, file = task.case.name, task.case.files[task.dataset.label][0].shown
        task.note(result, "LAB07", f"{name}: {len(masks)} masks united", file)
    united: np.ndarray = masks.max(axis=0, keepdims=True)
    return united


def _check_picture(task: Task, pixels: np.ndarray, result: CaseResult) -> None:
    """A constant picture, a size other than published, and what is needed to find duplicates."""
    case = task.case
    file = case.files[task.dataset.images[0].role][0].shown
    constant = pixels.min() == pixels.max()
    note_digest(result, pixels, constant)
    if constant:
        note_constant(task, result, "the picture", pixels.min(), file)
    elif task.dataset.near_duplicates is not None:
        result.fingerprint = pictures.difference_hash(pixels)
    if case.published_shape:
        text = "has {found} pixels, the download's table says {published}"
        result.add(unpublished_shape(case, text, result.shape, case.published_shape, file), task.policy)
