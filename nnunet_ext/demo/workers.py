"""nnU-Net's work inside processes of the demo.

They call what nnU-Net's own commands call and leave the same files, but start Python and torch twice instead of fifteen
times. Three things are substituted in these processes, never in the user's: nnU-Net's spawned process pools become
threads, it finds one core where it asks for the number of threads, and its progress.png, a second of drawing, is drawn
once a training instead of once an epoch.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from importlib.metadata import entry_points
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from nnunet_ext.demo.settings import CONFIGURATIONS, PLANS, TRAINING_ID, Settings
from nnunet_ext.demo.workspace import StepFailed, Workspace, executable
from nnunet_ext.files import read_json
from nnunet_ext.folders import PREPROCESSED, RAW, default_processes
from nnunet_ext.shown import command as line_of

# nnU-Net draws 1e8 intensities for its fingerprint; they matter for CT alone and cost 5 GB of memory and half a minute.
INTENSITIES = 1e5
STOCK_PLANS = "nnUNetPlans"


class _Threads:
    """Stands in for a spawn context."""

    Pool = staticmethod(ThreadPool)


def start_worker(environment: Mapping[str, str], log: str) -> None:
    """First thing in a worker process: environment, output to the log, threads instead of spawned pools, one core."""
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    os.close(descriptor)
    original = multiprocessing.get_context

    def threads_for_spawn(method: str | None = None) -> Any:
        return _Threads if method == "spawn" else original(method)

    multiprocessing.get_context = threads_for_spawn
    multiprocessing.cpu_count = lambda: 1


def open_workers(workspace: Workspace) -> ProcessPoolExecutor:
    """As many single-threaded processes as the machine has cores, four at most."""
    return ProcessPoolExecutor(
        max_workers=default_processes(max_processes=4),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
        initargs=(workspace.environment(), str(workspace.log)),
    )


def plan_and_preprocess(settings: Settings) -> None:
    """What ``nnUNetv2_plan_and_preprocess --verify_dataset_integrity`` does, and the small plans beside its own."""
    import torch
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiment_dataset, preprocess_dataset
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
    from nnunetv2.utilities import utils
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    from nnunet_ext.planning.small_plans import small_plans

    torch.set_num_threads(1)
    utils.Pool = ThreadPool  # forks a dozen processes to list the files of a folder
    name = maybe_convert_to_dataset_name(TRAINING_ID)
    verify_dataset_integrity(str(Path(os.environ[RAW], name)), 1)
    extractor = DatasetFingerprintExtractor(TRAINING_ID, 1)
    extractor.num_foreground_voxels_for_intensitystats = INTENSITIES
    extractor.run(overwrite_existing=True)
    # nnU-Net's planner asks torch for as many threads as there are augmentation processes; 0 is refused there.
    augmentation_processes = os.environ["nnUNet_n_proc_DA"]
    os.environ["nnUNet_n_proc_DA"] = "1"
    try:
        plan_experiment_dataset(TRAINING_ID)
    finally:
        os.environ["nnUNet_n_proc_DA"] = augmentation_processes
    preprocess_dataset(TRAINING_ID, STOCK_PLANS, CONFIGURATIONS, (1,) * len(CONFIGURATIONS), False)
    folder = Path(os.environ[PREPROCESSED], name)
    plans = read_json(folder / f"{STOCK_PLANS}.json")
    small = small_plans(
        plans,
        PLANS,
        patch_size=settings.patch_size,
        batch_size=settings.batch_size,
        features=settings.features,
        convolutions=settings.convolutions,
    )
    (folder / f"{PLANS}.json").write_text(json.dumps(small, indent=4), encoding="utf-8")


def train_here(trainer: str, configuration: str, fold: int) -> None:
    """What ``nnUNetv2_train ID CONFIGURATION FOLD -tr TRAINER -p PLANS --npz -device cpu`` does."""
    import torch
    from nnunetv2.run.run_training import run_training
    from nnunetv2.training.logging.nnunet_logger import MetaLogger

    torch.set_num_threads(1)
    original = MetaLogger.plot_progress_png
    draw: list[Callable[[], None]] = [lambda: None]

    def keep_for_the_end(logger: MetaLogger, folder: str) -> None:
        draw[0] = lambda: original(logger, folder)

    MetaLogger.plot_progress_png = keep_for_the_end
    try:
        run_training(
            str(TRAINING_ID),
            configuration,
            fold,
            trainer,
            PLANS,
            export_validation_probabilities=True,
            device=torch.device("cpu"),
        )
        draw[0]()
    finally:
        MetaLogger.plot_progress_png = original


def run_entry_point(command: Sequence[str], folder: str) -> None:
    """A console command of nnU-Net, called as its script calls it, in the folder given.

    Raises:
        StepFailed: the command does not understand its arguments.
    """
    print(f"\n$ {line_of(command)}", flush=True)
    (script,) = entry_points(group="console_scripts", name=command[0])
    arguments, sys.argv = sys.argv, list(command)
    before = Path.cwd()
    os.chdir(folder)
    try:
        script.load()()
    except SystemExit as end:
        if end.code:
            raise StepFailed(f"'{line_of(command)}' ended with exit code {end.code}") from end
    finally:
        os.chdir(before)
        sys.argv = arguments


def train_by_command(command: Sequence[str], folder: str) -> None:
    """The stock command in a process of its own; its output goes where this worker's goes.

    Raises:
        StepFailed: it ended with an error.
    """
    done = subprocess.run([*executable(command[0]), *command[1:]], cwd=folder, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise StepFailed(f"'{line_of(command)}' ended with exit code {done.returncode}")


def submit_trainings(
    workers: ProcessPoolExecutor, workspace: Workspace, settings: Settings, command: Sequence[str]
) -> list[Future]:
    """All trainings; the first of the last configuration (3D, the longest) through ``command``, the stock one."""
    trainer = settings.trainer(workspace.seed)
    jobs = [workers.submit(train_by_command, command, str(workspace.folder))]
    for configuration in reversed(CONFIGURATIONS):
        for fold in range(settings.folds):
            if (configuration, fold) != (CONFIGURATIONS[-1], 0):
                jobs.append(workers.submit(train_here, trainer, configuration, fold))
    return jobs
