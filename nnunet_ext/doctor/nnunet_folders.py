"""Checks of nnU-Net's three folders and of the settings that make its commands fail late."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from nnunet_ext.doctor.finding import Finding, guarded, note, ok, problem
from nnunet_ext.folders import VARIABLES, nnunet_folder
from nnunet_ext.shown import command, joined

MIN_FREE_GIB = 20


def check_folders() -> Iterator[Finding]:
    """Set, existing, writable, with space; and one dataset name an id."""
    unset = [name for name in VARIABLES if nnunet_folder(name) is None]
    absent = [name for name in VARIABLES if _is_absent(nnunet_folder(name))]
    if unset or absent:
        yield _to_make(unset, absent)
    for name in VARIABLES:
        if name not in (*unset, *absent):
            yield from guarded(_folder(name))
    yield from guarded(_one_name_per_id())
    yield from _settings()


def _is_absent(folder: Path | None) -> bool:
    """Whether the folder is set and nothing is there, so that it can be made."""
    return folder is not None and not os.path.lexists(folder)


def _to_make(unset: Sequence[str], absent: Sequence[str]) -> Finding:
    """One problem and one line to type for all folders that are not set or not there.

    New folders are proposed below the current one, under the names of README.
    """
    said, words = [], []
    if unset:
        said.append(f"{joined(unset)} {'is' if len(unset) == 1 else 'are'} not set")
    if absent:
        named = [f"{name} = {nnunet_folder(name)}" for name in absent]
        said.append(f"{joined(named)} {'does' if len(absent) == 1 else 'do'} not exist")
    own = {name: name.removeprefix("nnUNet_") for name in unset}
    words.append(command(["mkdir", "-p", *own.values(), *(str(nnunet_folder(name)) for name in absent)]))
    if own:
        exported = " ".join(f'{name}="$PWD/{folder}"' for name, folder in own.items())
        words.append(f"export {exported}")
    return problem("; ".join(said), " && ".join(words))


def _folder(name: str) -> Iterator[Finding]:
    """Of a folder that is set, and where something is."""
    folder = nnunet_folder(name)
    assert folder is not None
    if not folder.is_dir():
        yield problem(f"{name} = {folder} is not a folder", f"give {name} the path of a folder that you may write to")
        return
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield problem(
            f"{name} = {folder} is not writable ({error.strerror})", "choose another folder or mend its permissions"
        )
        return
    free = shutil.disk_usage(folder).free / 2**30
    text = f"{name} = {folder}, {free:.0f} GiB free"
    yield ok(text) if free >= MIN_FREE_GIB else note(text, "preprocessed data and checkpoints may not fit")


def _one_name_per_id() -> Iterator[Finding]:
    names: dict[str, set[str]] = defaultdict(set)
    for variable in VARIABLES:
        folder = nnunet_folder(variable)
        if folder is not None and folder.is_dir():
            for dataset in folder.glob("Dataset[0-9][0-9][0-9]*"):
                names[dataset.name[:10]].add(dataset.name)
    for prefix, found in sorted(names.items()):
        if len(found) > 1:
            yield problem(
                f"the id of {prefix} has several names: {', '.join(sorted(found))}; all nnU-Net commands stop at this",
                "rename or remove all but one, in raw, preprocessed and results",
            )


def _settings() -> Iterator[Finding]:
    workers = os.environ.get("nnUNet_n_proc_DA", "")
    if workers == "0":
        yield note(
            "nnUNet_n_proc_DA=0: fine for training, but planning stops with it",
            "unset it for nnUNetv2_plan_and_preprocess",
        )
