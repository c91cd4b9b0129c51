"""Forms ``slices`` and ``stack``: a patient of numbered pictures becomes one PNG a slice, or one NIfTI file a channel.

A patient is read, checked and written as a whole, since a slice alone tells neither a gap nor a replaced channel.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from nnunet_ext.dataset_conversion.case import slice_id
from nnunet_ext.dataset_conversion.cases.decode import map_masks, read_pictures, resize_case
from nnunet_ext.dataset_conversion.cases.image_checks import identical_images, note_constant, note_digest
from nnunet_ext.dataset_conversion.cases.outputs import write_content, write_picture
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.formats import gz, nifti
from nnunet_ext.dataset_conversion.tasks import CaseResult, Task
from nnunet_ext.dataset_conversion.writing import Files

# What writing is expected to need, as a share of the uncompressed pictures (0.5 was measured on MR slices), with room.
_SHARE = 0.8


def plan(task: Task) -> tuple[Task, list[Finding]]:
    """Decide what a patient becomes. The pictures themselves are read later: a TIFF has no header at its beginning."""
    case = task.case
    if task.target.form == "slices":
        identifiers = [slice_id(case.id, number) for number in case.numbers]
        operations = [
            ("decode" if task.resize is None else "resize", task.image_path(identifier, 0))
            for identifier in identifiers
        ]
    else:
        identifiers = [case.id]
        operations = [("stack", task.image_path(case.id, channel)) for channel in range(len(task.dataset.channels))]
    operations += [("relabel", task.label_path(identifier)) for identifier in identifiers]
    size = int(_SHARE * sum(file.size for _, file in case.all_files))
    findings = []
    if task.target.spacing is not None:
        spacing = "x".join(f"{size:g}" for size in task.target.spacing)
        findings.append(Finding("GEO08", f"{case.name}: the source has no spacing; {spacing} mm is written", case.name))
    return replace(task, operations=tuple(operations), bytes_to_write=size), findings


def run(task: Task) -> CaseResult:
    """Check a patient and write all files."""
    case, dataset = task.case, task.dataset
    result = CaseResult(case.id)
    role = dataset.images[0].role
    images = read_pictures(task, role, result)
    masks = read_pictures(task, dataset.label, result) if dataset.label in case.files else None
    if images is None or result.failed:
        return result
    result.shape = [images.shape[2], images.shape[1], images.shape[0]]
    result.spacing = list(task.target.spacing or (1.0, 1.0))
    _check_channels(task, images, result)
    if masks is not None:
        masks = map_masks(task, images, masks, result)
    if result.failed:
        return result
    images, masks = resize_case(task, images, masks, result)
    if result.failed:
        return result
    with Files(Path(task.folder)) as files:
        write = _write_slices if task.target.form == "slices" else _write_stack
        write(task, images, masks, files, result)
        files.commit()
    return result


def _check_channels(task: Task, images: np.ndarray, result: CaseResult) -> None:
    """Constant channels, and channels that are copies of one another (measured over the whole patient)."""
    channels = task.dataset.channels
    file = task.case.files[task.dataset.images[0].role][0].shown
    for channel, title in enumerate(channels):
        values = images[..., channel]
        constant = values.min() == values.max()
        note_digest(result, values, constant)
        if constant:
            note_constant(task, result, title, values.min(), file)
    equal = [
        (first, second)
        for first, second in combinations(range(len(channels)), 2)
        if np.array_equal(images[..., first], images[..., second])
    ]
    sets: list[set[int]] = []
    for first, second in equal:
        known = next((one for one in sets if first in one or second in one), None)
        if known is None:
            sets.append({first, second})
        else:
            known |= {first, second}
    result.equal_channels = [[channels[channel] for channel in sorted(one)] for one in sets]
    result.add(_compare_with_publication(task, result, file), task.policy)


def _compare_with_publication(task: Task, result: CaseResult, file: str) -> list[Finding]:
    """Copies that the publisher is known to have made are an info; any difference from that list is a warning."""
    name = task.case.name
    found = [" = ".join(names) for names in result.equal_channels]
    if task.dataset.equal_channels is None:
        return [identical_images(name, text, file) for text in found]
    # File names are matched without regard to the case of their letters, so names of cases are as well.
    known = {case.casefold(): channels for case, channels in task.dataset.equal_channels().items()}
    expected = set(known.get(name.casefold(), ()))
    measured = {channel for names in result.equal_channels for channel in names}
    # The list names the replaced channels, the measurement the copied one as well.
    agrees = measured > expected and len(measured) == len(expected) + 1 if expected else not measured
    if agrees:
        return [identical_images(name, f"{text}, as known", file, "info") for text in found]
    listed = ", ".join(sorted(expected)) or "none"
    text = f"equal channels are {'; '.join(found) or 'none'}, known to be replaced are {listed}"
    return [identical_images(name, text, file)]


def _write_slices(task: Task, images: np.ndarray, masks: np.ndarray | None, files: Files, result: CaseResult) -> None:
    sources = task.case.files.get(task.dataset.label, ())
    for index, number in enumerate(task.case.numbers):
        identifier = slice_id(task.case.id, number)
        if masks is not None:
            if task.drop_empty_slices and not masks[index].any():
                continue
            write_picture(files, result, task.label_path(identifier), "relabel", masks[index])
            result.source_labels[identifier] = [sources[index].path]
        operation = "resize" if result.resized_from else "decode"
        write_picture(files, result, task.image_path(identifier, 0), operation, images[index])
        result.outputs.append(identifier)


def _write_stack(task: Task, images: np.ndarray, masks: np.ndarray | None, files: Files, result: CaseResult) -> None:
    identifier = task.case.id
    shape = (images.shape[2], images.shape[1], images.shape[0])
    header = nifti.new_header(shape, task.target.spacing or (1.0, 1.0, 1.0), "|u1")
    if masks is not None:
        body = header + masks.tobytes()
        write_content(files, result, task.label_path(identifier), "relabel", gz.compress(body), body)
        result.source_labels[identifier] = [file.path for file in task.case.files[task.dataset.label]]
    for channel in range(images.shape[3]):
        body = header + np.ascontiguousarray(images[..., channel]).tobytes()
        write_content(files, result, task.image_path(identifier, channel), "stack", gz.compress(body), body)
    result.outputs = [identifier]
