"""Form ``volume``: a case of NIfTI files, one a channel, and one NIfTI label.

Images whose bytes need no change are linked or copied; the label is always written anew. Each file is read and
decompressed once, for the CRC check, the checks of voxels, the checksum and the label map together. Files are handled
one after the other, so that a worker holds one image and the label in memory, never more.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.cases import geometry, volume_files
from nnunet_ext.dataset_conversion.cases.coverage import foreground_findings
from nnunet_ext.dataset_conversion.cases.image_checks import (
    identical_images,
    note_constant,
    note_digest,
    unpublished_shape,
)
from nnunet_ext.dataset_conversion.cases.labels import relabel
from nnunet_ext.dataset_conversion.cases.outputs import keep_file, write_content
from nnunet_ext.dataset_conversion.checks import Finding, errors
from nnunet_ext.dataset_conversion.formats import gz, nifti
from nnunet_ext.dataset_conversion.formats.nifti import Header
from nnunet_ext.dataset_conversion.formats.orientation import axis_letters
from nnunet_ext.dataset_conversion.formats.sizes import volume_too_large
from nnunet_ext.dataset_conversion.tasks import CaseResult, Task
from nnunet_ext.dataset_conversion.writing import Files, link_is_expected, sha256
from nnunet_ext.errors import UserError

# What writing is expected to need, as shares of the uncompressed size; measured on BraTS (0.14 and 0.002), with room.
_IMAGE_SHARE, _LABEL_SHARE = 0.3, 0.01


@dataclass(frozen=True)
class _Job:
    """One file: what its header says, what it becomes, and the new header where one is written."""

    file: SourceFile
    role: str
    header: Header
    path: str
    keep: bool
    new_header: bytes = b""


@dataclass(frozen=True)
class _Jobs:
    images: tuple[_Job, ...]
    label: _Job | None


def plan(task: Task) -> tuple[Task, list[Finding]]:
    """Read the headers of a case and decide what to do with each file.

    Returns:
        The task with its details, and the findings; after an error the task is of no use.
    """
    case, dataset = task.case, task.dataset
    findings: list[Finding] = []
    headers: dict[str, tuple[bytes, Header]] = {}
    for role, files in case.files.items():
        try:
            raw = volume_files.header_bytes(files[0])
            headers[role] = raw, nifti.parse(raw, files[0].shown)
        except UserError as error:
            findings.append(Finding.of(error, case.name))
        else:
            size, shape = headers[role][1].content_size, headers[role][1].shape
            findings += volume_too_large(shape, size, dataset.shape, case.name, files[0].shown)
    if errors(task.policy.apply(findings)):
        return task, findings
    names = [dataset.role_name(image.role) for image in dataset.images]
    first_raw, first = headers[dataset.images[0].role]
    if dataset.shape is not None:
        first_file = case.files[dataset.images[0].role][0].shown
        text = "has shape {found}, published is {published}"
        findings += unpublished_shape(case, text, first.shape, dataset.shape, first_file)
    images = []
    for channel, image in enumerate(dataset.images):
        file, (raw, header) = case.files[image.role][0], headers[image.role]
        found = geometry.compare(first, header, case.name, (names[0], names[channel]), file.shown, label=False)
        findings += found
        rewrite = header.squeezed or bool(found)
        new_header = nifti.rewritten(raw, like=first_raw) if rewrite and not errors(task.policy.apply(found)) else b""
        images.append(
            _Job(
                file,
                image.role,
                header,
                task.image_path(case.id, channel),
                volume_files.is_gz(file) and not rewrite,
                new_header,
            )
        )
    label = None
    if dataset.label in case.files:
        file, (raw, header) = case.files[dataset.label][0], headers[dataset.label]
        findings += geometry.compare(first, header, case.name, (names[0], dataset.label), file.shown, label=True)
        dtype = "|u1" if max(task.target.labels.forward.values()) < 255 else "<u2"
        label = _Job(
            file, dataset.label, header, task.label_path(case.id), False, nifti.rewritten(first_raw, dtype=dtype)
        )
    return _with_operations(task, _Jobs(tuple(images), label)), findings


def _with_operations(task: Task, jobs: _Jobs) -> Task:
    operations, size = [], 0.0
    for job in jobs.images:
        if job.keep:
            linked = job.file.linkable and link_is_expected(job.file.location, Path(task.folder), task.link)
            operations.append(("link" if linked else "copy", job.path))
            size += 0 if linked else job.file.size
        else:
            operations.append(("rewrite header" if job.new_header else "compress", job.path))
            size += _IMAGE_SHARE * job.header.content_size
    if jobs.label is not None:
        operations.append(("relabel", jobs.label.path))
        size += _LABEL_SHARE * jobs.label.header.content_size
    return replace(
        task,
        details=jobs,
        operations=tuple(operations),
        bytes_to_write=int(size),
        orientation=axis_letters(jobs.images[0].header.affine),
    )


def run(task: Task) -> CaseResult:
    """Check every voxel of a case and write its files."""
    jobs: _Jobs = task.details
    result = CaseResult(
        task.case.id, shape=list(jobs.images[0].header.shape), spacing=list(jobs.images[0].header.spacing)
    )
    with Files(Path(task.folder)) as files:
        # The label first: files appear in this order, and nnU-Net takes a case from its images.
        if jobs.label is not None:
            _label(task, jobs.label, files, result)
        for job in jobs.images:
            _image(task, job, files, result)
        if not result.failed:
            _check_equal_images(task, jobs, result)
        if not result.failed:
            files.commit()
            result.outputs = [task.case.id]
    return result


def _image(task: Task, job: _Job, files: Files, result: CaseResult) -> None:
    try:
        stored, content = volume_files.content(job.file, job.header)
    except UserError as error:
        task.fail(result, error)
        return
    result.sources.append(_source(job, stored))
    voxels = nifti.voxels(content, job.header)
    replaced, constant = _check_voxels(task, job, voxels, result)
    note_digest(result, voxels, constant)
    if result.failed:
        return
    if job.keep and replaced is None:
        keep_file(files, result, job.path, job.file, task.link, result.sources[-1], stored)
        return
    header = job.new_header or bytes(content[: job.header.offset])
    if replaced is not None:
        header, voxels = job.new_header or nifti.rewritten(bytes(content[: nifti.HEADER_BYTES])), replaced
    operation = "compress" if replaced is None and not job.new_header else "rewrite"
    del stored  # large files: what is not needed any more makes room
    body = content if operation == "compress" else b"".join((header, voxels.data))
    write_content(files, result, job.path, operation, gz.compress(body), body)


def _source(job: _Job, stored: bytes) -> dict[str, object]:
    return {"role": job.role, "path": job.file.path, "size": len(stored), "sha256": sha256(stored)}


def _check_voxels(task: Task, job: _Job, voxels: np.ndarray, result: CaseResult) -> tuple[np.ndarray | None, bool]:
    """Constant and non-finite images.

    Returns the voxels with 0 for NaN where that is needed, and whether the image is constant.
    """
    name = task.dataset.role_name(job.role)
    # NaN and infinity show in the extremes, so that two passes over integers or floats are enough.
    with np.errstate(invalid="ignore"):
        low, high = voxels.min(), voxels.max()
    replaced = None
    if voxels.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        bad = ~np.isfinite(voxels)
        message = f"{task.case.name}: {name} has {int(bad.sum())} voxels that are NaN or infinite"
        task.note(result, "NAN01", message, job.file.shown, "fetch it again, or --allow NAN01 to set them to 0")
        replaced = np.where(bad, voxels.dtype.type(0), voxels)
        low, high = replaced.min(), replaced.max()
    if low == high:
        note_constant(task, result, name, f"{low:g}", job.file.shown)
    return replaced, bool(low == high)


def _label(task: Task, job: _Job, files: Files, result: CaseResult) -> None:
    try:
        stored, content = volume_files.content(job.file, job.header)
    except UserError as error:
        task.fail(result, error)
        return
    result.sources.append(_source(job, stored))
    header = job.header
    mapped, result.voxels, findings = relabel(
        nifti.voxels(content, header), task.target.labels, task.case.name, job.file.shown, header.slope, header.inter
    )
    if mapped is not None:
        findings = [*findings, *foreground_findings(mapped.reshape(header.shape[::-1]), task.case.name, job.file.shown)]
    result.add(findings, task.policy)
    result.label_dtype = np.dtype(header.dtype).name
    result.source_labels = {task.case.id: [job.file.path]}
    if mapped is None or result.failed:
        return
    del stored, content
    body = b"".join((job.new_header, mapped.data))
    write_content(files, result, job.path, "relabel", gz.compress(body), body)


def _check_equal_images(task: Task, jobs: _Jobs, result: CaseResult) -> None:
    by_digest = defaultdict(list)
    for digest, job in zip(result.digests, jobs.images, strict=True):
        by_digest[digest].append(job)
    for digest, same in by_digest.items():
        if digest and len(same) > 1:
            names = [task.dataset.role_name(job.role) for job in same]
            result.equal_channels.append(names)
            text = f"{' and '.join(names)} are identical"
            result.add([identical_images(task.case.name, text, same[1].file.shown)], task.policy)
