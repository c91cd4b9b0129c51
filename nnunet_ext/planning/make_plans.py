"""What ``nnunet_ext plan`` does: fingerprint, plans, and preprocessing of what is not there."""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from torch import nn

from nnunet_ext.errors import UserError, reason_of
from nnunet_ext.files import MAX_JSON_BYTES, read_regular_file
from nnunet_ext.planning import PLANNERS, fingerprint
from nnunet_ext.planning.dataset_files import check_dataset_files
from nnunet_ext.planning.planner import CONFIGURATIONS, NetworkPlanner
from nnunet_ext.planning.plans_file import OURS, counts_more_than_is_kept, read_plans, refuse_foreign_classes
from nnunet_ext.planning.plans_name import default_name
from nnunet_ext.planning.preprocessed_data import missing_cases, require_cases_alone
from nnunet_ext.shown import printable

CASCADE = "3d_cascade_fullres"


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        dataset_name: folder name.
        network_name, network, optimizer: name as listed, class, and what trains it.
        target: GB of GPU memory.
        plans_name: given by the user, or None for ``default_name``.
        processes: worker processes.
        spacing: instead of the one nnU-Net chooses, for 3d_fullres.
        configurations: that are asked for; empty: all.
        options, trainer: of a trainer's variant, where one was named.
        small: small plans, to try things out without a GPU.
    """

    dataset_name: str
    network_name: str
    network: type[nn.Module]
    optimizer: str
    target: float
    plans_name: str | None
    processes: int
    spacing: tuple[float, ...] | None = None
    configurations: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    trainer: str = ""
    small: bool = False

    @property
    def name(self) -> str:
        return self.plans_name or default_name(self.network_name, self.target, self.options, self.small)


def check(wanted: Wanted, trust: bool = False) -> None:
    """Refuse what cannot work before anything is written.

    Args:
        wanted: what is asked for.
        trust: import whatever classes the configurations name that a user added to plans of that name, and read
            whatever files a dataset.json lists.

    Raises:
        UserError: a target or name that cannot be; plans of that name for something else; splits that differ; no raw
            data.
    """
    check_target(wanted.target)
    if wanted.spacing and not all(0 < edge < math.inf for edge in wanted.spacing):
        raise UserError(
            "-overwrite_target_spacing needs three lengths above 0", remedy="give millimetres, slices first"
        )
    unknown = [name for name in wanted.configurations if name not in CONFIGURATIONS]
    if unknown:
        raise UserError(
            f"nnU-Net plans no configuration {unknown[0]}", remedy=f"choose from {', '.join(CONFIGURATIONS)}"
        )
    if wanted.name in {planner.plans_name for planner in PLANNERS}:
        raise UserError(
            f"{wanted.name} are the plans of nnU-Net's own planner",
            remedy="give another name with -overwrite_plans_name",
        )
    if not wanted.name.isidentifier() or "__" in wanted.name:
        raise UserError(
            f"'{wanted.name}' cannot name plans",
            remedy="use letters, digits and single underscores, beginning with a letter",
        )
    preprocessed = Path(nnUNet_preprocessed) / wanted.dataset_name
    check_dataset_files(Path(nnUNet_raw) / wanted.dataset_name, preprocessed, trust)
    file = preprocessed / f"{wanted.name}.json"
    if file.exists():
        existing = read_plans(file)
        if not trust:
            refuse_foreign_classes(existing, file)
        made = existing.get(OURS, {})
        asked = (wanted.network_name, wanted.target, dict(wanted.options), wanted.small)
        found = (made.get("network"), made.get("gpu_memory_target_in_gb"), made.get("options", {}), "small" in made)
        same = found == asked
        if same and not wanted.small and counts_more_than_is_kept(existing) and wanted.plans_name is None:
            raise UserError(
                f"{wanted.name} was made when {wanted.network_name} kept more memory in training; new plans may "
                "differ, and trainings on it could not be continued",
                file=file,
                remedy=f"keep it and give the new plans a name, such as -overwrite_plans_name {wanted.name}_new, or "
                f"replace it with -overwrite_plans_name {wanted.name}",
            )
        if not same and (wanted.plans_name is None or not made):
            raise UserError(
                f"plans of the name {wanted.name} exist for something else",
                file=file,
                remedy="give another name with -overwrite_plans_name",
            )


def check_target(target: float) -> None:
    """
    Raises:
        UserError: not a number of GB above 0.
    """
    if not 0 < target < math.inf:
        raise UserError(f"-gpu_memory_target {target:g} is not a number of GB", remedy="give for example 24")


def make_plans(wanted: Wanted, say: Callable[[str], None]) -> dict[str, Any]:
    """Fingerprint if it is missing, and plans. Returns the plans, which are written."""
    name = wanted.dataset_name
    if not (Path(nnUNet_preprocessed) / name / fingerprint.FILE).is_file():
        say(f"{name} has no fingerprint yet: reading all training cases once")
        try:
            fingerprint.extract_if_missing(name, wanted.processes)
        except (OSError, RuntimeError) as error:  # of a reader of images, or of nnU-Net that finds none
            _refuse_full_disk(error, name)
            raise UserError(
                f"the images cannot be read: {reason_of(error)}",
                file=Path(nnUNet_raw) / name,
                remedy="'nnUNetv2_plan_and_preprocess --verify_dataset_integrity' looks at every case",
            ) from error
    say(f"planning {wanted.network_name} " + ("small" if wanted.small else f"for {wanted.target:g} GB"))
    try:
        planner = NetworkPlanner(
            name,
            wanted.target,
            plans_name=wanted.name,
            overwrite_target_spacing=wanted.spacing,
            network=wanted.network,
            network_name=wanted.network_name,
            optimizer=wanted.optimizer,
            options=wanted.options,
            trainer=wanted.trainer,
            small=wanted.small,
        )
    # nnU-Net compares the splits of raw and preprocessed folder, and says no more
    except (AssertionError, IndexError) as error:
        raise UserError(
            "its folds differ from those of the raw dataset",
            file=Path(nnUNet_preprocessed) / name / "splits_final.json",
            remedy="remove it to take those of the raw dataset, or copy it there",
        ) from error
    try:
        return planner.plan_experiment()
    except (OSError, RuntimeError) as error:  # such as of nnU-Net's readers, which look at an image
        _refuse_full_disk(error, name)
        raise UserError(f"{name} cannot be planned: {reason_of(error)}", file=Path(nnUNet_raw) / name) from error


@contextmanager
def nothing_written(dataset_name: str) -> Iterator[None]:
    """For a dry run: nnU-Net works on a copy of the dataset's small files, in a temporary folder."""
    variable = nnUNet_preprocessed.env_var_name
    before = os.environ[variable]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, dataset_name)
        folder.mkdir()
        for file in (Path(before) / dataset_name).glob("*.json"):
            (folder / file.name).write_bytes(read_regular_file(file, MAX_JSON_BYTES))
        os.environ[variable] = temporary
        try:
            yield
        finally:
            os.environ[variable] = before


def to_preprocess(plans: dict[str, Any], cases: Sequence[str], configurations: Sequence[str]) -> list[str]:
    """The configurations whose data is missing or incomplete."""
    folder = Path(nnUNet_preprocessed) / plans["dataset_name"]
    return [
        name
        for name in configurations
        if name != CASCADE and missing_cases(folder / plans["configurations"][name]["data_identifier"], cases)
    ]


def preprocess(
    dataset_id: int,
    plans: Mapping[str, Any],
    configurations: Sequence[str],
    processes: int,
    say: Callable[[str], None],
) -> None:
    """nnU-Net's own preprocessing of these configurations, with its progress bars and without the plans it prints. It
    removes what their folders hold.

    Raises:
        UserError: one of the folders holds something else than preprocessed cases.
    """
    require_own_data(plans, configurations)
    for number, name in enumerate(configurations, start=1):
        say(f"preprocessing {printable(name)} ({number} of {len(configurations)})")
        with redirect_stdout(StringIO()):
            try:
                preprocess_dataset(dataset_id, plans["plans_name"], [name], [processes])
            except (OSError, RuntimeError) as error:  # of a worker: blosc2 names no cause
                folder = Path(nnUNet_preprocessed) / plans["dataset_name"]
                _refuse_full_disk(error, folder.name)
                free = f"{shutil.disk_usage(folder).free / 2**20:.0f} MiB are free there"
                raise UserError(
                    f"nnU-Net's preprocessing of {name} fails: {reason_of(error)}",
                    file=folder,
                    remedy=f"look at disk ({free}) and memory, then plan again; fewer workers (-np) need less memory",
                ) from error


def _refuse_full_disk(error: BaseException, dataset_name: str) -> None:
    """
    Raises:
        UserError: the error is that of a full disk.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        folder = Path(nnUNet_preprocessed) / dataset_name
        raise UserError("the disk is full", file=folder, remedy="free some space, then plan again") from error


def require_own_data(plans: Mapping[str, Any], configurations: Sequence[str]) -> None:
    """Look at the folders that preprocessing will remove: nnU-Net removes what plans name, whatever it holds.

    Raises:
        UserError: one of them holds something else than preprocessed cases, or is not of these plans.
    """
    usual = tuple(f"{name}_" for name in (plans["plans_name"], "nnUNetPlans"))
    for name in configurations:
        identifier = plans["configurations"][name]["data_identifier"]
        folder = Path(nnUNet_preprocessed) / plans["dataset_name"] / identifier
        require_cases_alone(folder, identifier.startswith(usual))
