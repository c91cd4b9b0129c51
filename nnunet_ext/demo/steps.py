"""The demo as data: title of each step, how long it takes on two quiet cores, what a user would type, what runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from nnunet_ext.demo import pictures, workers
from nnunet_ext.demo.settings import CONFIGURATIONS, DATASET, PLANS, TRAINING_ID, UNSEEN_ID, Settings
from nnunet_ext.demo.status_line import StatusLine
from nnunet_ext.demo.workspace import StepFailed, Workspace, run_commands

Command = list[str]
INSIDE = "in a process of the demo, which saves starting Python and torch anew"


@dataclass(frozen=True)
class Demo:
    """What every step needs."""

    workspace: Workspace
    settings: Settings
    workers: ProcessPoolExecutor
    status: StatusLine


@dataclass(frozen=True)
class Step:
    """One row of the table.

    Attributes:
        title: for the status line.
        seconds: expected on two quiet cores.
        commands: what a user would type in the demo's folder, in order.
        run: does it.
        note: how ``run`` differs from typing the commands.
        parts: into how many equal parts the status line divides it.
    """

    title: str
    seconds: float
    commands: Callable[[Workspace, Settings], list[Command]]
    run: Callable[[Demo], None]
    note: str = ""
    parts: Callable[[Settings], int] = lambda settings: 1


def _phantom_commands(workspace: Workspace, settings: Settings) -> list[Command]:
    size = " ".join(map(str, settings.shape))
    # Two seeds that no other demo shares.
    return [
        f"nnunet_ext phantom {DATASET} -o download/{folder} --cases {cases} --seed {seed} --shape {size}".split()
        for folder, cases, seed in (
            ("training", settings.cases, 2 * workspace.seed),
            ("unseen", settings.unseen, 2 * workspace.seed + 1),
        )
    ]


def _convert_commands(workspace: Workspace, settings: Settings) -> list[Command]:
    return [
        f"nnunet_ext convert {DATASET} -i download/training -d {TRAINING_ID} --splits {settings.folds}".split(),
        # Outside nnUNet_raw: phantoms of two seeds bear the same names, and the converter would rightly warn of it.
        f"nnunet_ext convert {DATASET} -i download/unseen -d {UNSEEN_ID} --splits 0 -o unseen".split(),
    ]


def _plan_commands(workspace: Workspace, settings: Settings) -> list[Command]:
    return [f"nnUNetv2_plan_and_preprocess -d {TRAINING_ID} --verify_dataset_integrity".split()]


def _model(workspace: Workspace, settings: Settings) -> str:
    return f"-tr {settings.trainer(workspace.seed)} -p {PLANS}"


def _folds(settings: Settings) -> str:
    return "-f " + " ".join(map(str, range(settings.folds)))


def _train_commands(workspace: Workspace, settings: Settings) -> list[Command]:
    model = _model(workspace, settings)
    return [f"nnUNetv2_train {TRAINING_ID} {CONFIGURATIONS[-1]} 0 {model} --npz -device cpu".split()]


def _find_best_commands(workspace: Workspace, settings: Settings) -> list[Command]:
    configurations = " ".join(CONFIGURATIONS)
    choice = f"-c {configurations} {_model(workspace, settings)} {_folds(settings)} -np 1"
    return [f"nnUNetv2_find_best_configuration {TRAINING_ID} {choice}".split()]


def _unseen_folder(workspace: Workspace) -> str:
    (folder,) = (workspace.folder / "unseen").glob(f"Dataset{UNSEEN_ID:03d}_*")
    return f"unseen/{folder.name}"


def _predict_commands(workspace: Workspace, settings: Settings) -> list[Command]:
    images, model = f"{_unseen_folder(workspace)}/imagesTr", _model(workspace, settings)
    return [
        f"nnUNetv2_predict -i {images} -o predictions/{configuration} -d {TRAINING_ID} -c {configuration} {model} "
        f"{_folds(settings)} --save_probabilities -device cpu -npp 0 -nps 0".split()
        for configuration in CONFIGURATIONS
    ]


def _ensemble_commands(workspace: Workspace, settings: Settings) -> list[Command]:
    members = " ".join(f"predictions/{configuration}" for configuration in CONFIGURATIONS)
    return [f"nnUNetv2_ensemble -i {members} -o predictions/ensemble -np 1".split()]


def _postprocessing_commands(workspace: Workspace, settings: Settings) -> list[Command]:
    best = workspace.inference_information()["best_model_or_ensemble"]
    rule, plans = (Path(best[key]).relative_to(workspace.folder) for key in ("postprocessing_file", "some_plans_file"))
    return [
        "nnUNetv2_apply_postprocessing -i predictions/ensemble -o predictions/postprocessed "
        f"-pp_pkl_file {rule} -plans_json {plans} -np 1".split()
    ]


def _no_commands(workspace: Workspace, settings: Settings) -> list[Command]:
    return []


def _side_by_side(commands: Callable[[Workspace, Settings], list[Command]]) -> Callable[[Demo], None]:
    def run(demo: Demo) -> None:
        run_commands(demo.workspace, commands(demo.workspace, demo.settings))

    return run


def _in_workers(commands: Callable[[Workspace, Settings], list[Command]]) -> Callable[[Demo], None]:
    def run(demo: Demo) -> None:
        folder = str(demo.workspace.folder)
        calls = [
            demo.workers.submit(workers.run_entry_point, command, folder)
            for command in commands(demo.workspace, demo.settings)
        ]
        _wait(calls, demo)

    return run


def _plan(demo: Demo) -> None:
    _wait([demo.workers.submit(workers.plan_and_preprocess, demo.settings)], demo)


def _train(demo: Demo) -> None:
    (stock,) = _train_commands(demo.workspace, demo.settings)
    _wait(workers.submit_trainings(demo.workers, demo.workspace, demo.settings, stock), demo)


def _wait(jobs: Sequence, demo: Demo) -> None:
    try:
        for job in as_completed(jobs):
            job.result()
            demo.status.part_done()
    except BrokenProcessPool as error:
        raise StepFailed("a process of the demo was killed, perhaps for want of memory") from error
    finally:
        for job in jobs:
            job.cancel()


def _evaluate(demo: Demo) -> None:
    pictures.evaluate_and_draw(demo.workspace, demo.settings, _unseen_folder(demo.workspace))


STEPS: tuple[Step, ...] = (
    Step("write synthetic downloads", 2, _phantom_commands, _side_by_side(_phantom_commands)),
    Step("convert them to nnU-Net's raw format", 3, _convert_commands, _side_by_side(_convert_commands)),
    Step(
        "plan and preprocess",
        6,
        _plan_commands,
        _plan,
        f"{INSIDE}: the fingerprint draws 1e5 intensities instead of 1e8, and small plans for a CPU are written beside "
        f"nnU-Net's own, as {PLANS}",
    ),
    Step(
        "train",
        105,
        _train_commands,
        _train,
        f"this one by the command; every other fold and configuration {INSIDE}",
        parts=lambda settings: settings.folds * len(CONFIGURATIONS),
    ),
    Step("find the best configuration", 2, _find_best_commands, _in_workers(_find_best_commands), INSIDE),
    Step(
        "predict unseen phantoms",
        16,
        _predict_commands,
        _in_workers(_predict_commands),
        INSIDE,
        parts=lambda settings: len(CONFIGURATIONS),
    ),
    Step("ensemble both models", 1, _ensemble_commands, _in_workers(_ensemble_commands), INSIDE),
    Step("apply postprocessing", 1, _postprocessing_commands, _in_workers(_postprocessing_commands), INSIDE),
    Step("evaluate and draw", 3, _no_commands, _evaluate),
)
