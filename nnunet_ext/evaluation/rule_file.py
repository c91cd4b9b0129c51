"""A rule on a small region as a file, and a folder of predictions to which it is applied."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_ext import __version__
from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.images import read_label_map
from nnunet_ext.evaluation.label_folders import case_files
from nnunet_ext.evaluation.small_region import Found, Rule
from nnunet_ext.files import MAX_JSON_BYTES, read_regular_file, write_atomically
from nnunet_ext.forms import between, count, list_of, one_of, read_document, record, text
from nnunet_ext.progress import with_progress

KIND = "small region"
#: value of a label, which 16 bits hold
MOST_LABEL = 32767
_FORM = record(
    {
        "kind": one_of((KIND,)),
        "region": text,
        "labels": list_of(between(0, MOST_LABEL), nonempty=True, at_most=1000),
        "replacement": between(0, MOST_LABEL),
        "threshold": count,
        "file_ending": text,
    },
    {"version": text},
)


def write_rule(file: Path, rule: Rule, found: Found, file_ending: str, model: str) -> None:
    """Write a rule with what it was found on.

    Raises:
        OSError: the file cannot be written.
    """
    content = {
        "kind": KIND,
        "version": __version__,
        "model": model,
        "region": rule.region,
        "labels": list(rule.labels),
        "replacement": rule.replacement,
        "threshold": rule.threshold,
        "file_ending": file_ending,
        "cases": found.cases,
        "changed": found.changed,
        "Dice_brats_before": found.before,
        "Dice_brats_after": found.after,
    }
    with write_atomically(file) as stream:
        stream.write((json.dumps(content, indent=2) + "\n").encode())


def read_rule(file: Path) -> tuple[Rule, str]:
    """The rule of a file, and the ending of the label maps that it is for.

    Raises:
        UserError: there is none, or it has another form.
    """
    try:
        content: Mapping[str, Any] = read_document(
            file, _FORM, "a rule of 'nnunet_ext postprocess'", "find it anew with 'nnunet_ext postprocess -d ID'"
        )
    except FileNotFoundError:
        raise UserError(
            "there is no such rule", file=file, remedy="find it with 'nnunet_ext postprocess -d ID'"
        ) from None
    rule = Rule(content["region"], tuple(content["labels"]), content["replacement"], content["threshold"])
    return rule, content["file_ending"]


def apply_rule(rule: Rule, file_ending: str, predictions: Path, output: Path) -> int:
    """Write every label map of a folder with the rule applied; returns how many it changed. The others are copied as
    they are, and so are dataset.json and plans.json.

    Args:
        predictions: folder of label maps.
        output: new folder; it appears when all is written.

    Raises:
        UserError: no label map is there, one cannot be read, or the output exists.
        OSError: the output cannot be written.
    """
    cases = case_files(predictions, file_ending)
    if not cases:
        raise UserError(
            f"no *{file_ending} file is there", file=predictions, remedy="give the folder of the predictions"
        )
    if output.exists() or output.is_symlink():
        raise UserError("the output exists", file=output, remedy="give -o a new folder")
    beside = output.with_name(f".{output.name}.{os.getpid()}.part")
    beside.mkdir(parents=True)
    changed = 0
    try:
        for file in with_progress(cases.values(), "postprocess", len(cases)):
            changed += _apply_to(rule, file, beside / file.name)
        for name in ("dataset.json", "plans.json"):
            if (predictions / name).is_file():
                (beside / name).write_bytes(read_regular_file(predictions / name, MAX_JSON_BYTES))
        beside.rename(output)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return changed


def _apply_to(rule: Rule, file: Path, target: Path) -> bool:
    labels, _ = read_label_map(file)
    if rule.replacement > np.iinfo(labels.dtype).max:
        raise UserError(f"the file cannot hold the label {rule.replacement} of the rule", file=file)
    after = rule.applied(labels)
    if after is labels:
        shutil.copyfile(file, target)
        return False
    before = sitk.ReadImage(str(file))
    image = sitk.GetImageFromArray(after.astype(sitk.GetArrayViewFromImage(before).dtype, copy=False))
    image.CopyInformation(before)
    for key in before.GetMetaDataKeys():
        image.SetMetaData(key, before.GetMetaData(key))
    sitk.WriteImage(image, str(target), useCompression=True)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(target)))
    if not np.array_equal(written, after):
        raise UserError("the file ending does not keep these labels", file=target, remedy="convert them to NIfTI")
    return True
