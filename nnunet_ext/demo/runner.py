"""Runs the steps one after the other, says what happens, and ends with the verdict."""

from __future__ import annotations

from pathlib import Path

from nnunet_ext.demo.settings import Settings
from nnunet_ext.demo.status_line import StatusLine
from nnunet_ext.demo.steps import STEPS, Demo
from nnunet_ext.demo.workers import open_workers
from nnunet_ext.demo.workspace import StepFailed, Workspace, open_workspace
from nnunet_ext.shown import command

OWN_DATA = """\
With your own download (the three nnUNet_ folders set to your own places, a GPU at hand):
  nnunet_ext convert brats2021 -i DOWNLOAD -d 137
  nnUNetv2_plan_and_preprocess -d 137 --verify_dataset_integrity
  nnUNetv2_train 137 3d_fullres 0 -tr nnUNetTrainerCFNet --npz      # and 2d; folds 0 to 4
  nnUNetv2_find_best_configuration 137 -c 2d 3d_fullres -tr nnUNetTrainerCFNet
and then what it prints: nnUNetv2_predict, nnUNetv2_ensemble, nnUNetv2_apply_postprocessing."""


def run_demo(folder: Path, seed: int, settings: Settings | None = None) -> int:
    """Run the whole demo. Returns the exit code: 0, or 1 if a step failed or the ensemble is not good enough.

    Args:
        folder: to write, new or empty or of an earlier demo.
        seed: of phantoms and trainings.
        settings: how large; the demo's own if not given.

    Raises:
        UserError: the folder cannot be used.
    """
    settings = settings or Settings()
    workspace = open_workspace(folder, seed)
    print(f"folder: {workspace.folder}")
    print("typed in this folder, with")
    for name, path in workspace.nnunet_folders().items():
        print(f"  export {name}={command([path])}")
    workers = open_workers(workspace)
    try:
        with StatusLine([(step.title, step.seconds) for step in STEPS]) as status:
            demo = Demo(workspace, settings, workers, status)
            for step in STEPS:
                lines = [f"  $ {command(words)}" for words in step.commands(workspace, settings)]
                note = [f"  ({step.note})"] if step.note else []
                status.say("\n".join(["", step.title, *lines, *note]))
                status.begin_step(step.parts(settings))
                step.run(demo)
            elapsed = status.elapsed
    except StepFailed as error:
        print(f"\nFAILED: {error}; what it said is in {workspace.log}, and 'nnunet_ext doctor' checks the installation")
        return 1
    finally:
        workers.shutdown(wait=False, cancel_futures=True)
    return _report(workspace, settings, elapsed)


def _report(workspace: Workspace, settings: Settings, elapsed: float) -> int:
    from nnunet_ext.demo.pictures import read_tables
    from nnunet_ext.demo.verdict import dice_table, failures, render

    dice = dice_table(read_tables(workspace))
    best = workspace.inference_information()["best_model_or_ensemble"]
    chosen = [model["configuration"] for model in best["selected_model_or_models"]]
    print(f"\nMean Dice over {settings.unseen} unseen phantoms, {settings.folds} folds averaged:")
    print(render(dice))
    print(f"nnUNetv2_find_best_configuration chose: {' + '.join(chosen)}")
    print(f"time: {int(elapsed) // 60} min {int(elapsed) % 60} s")
    for name in ("overlay.png", "training_curves.png", "dice.csv"):
        print(f"{name}: {workspace.folder / name}")
    missed = failures(dice)
    print("\n" + ("\n".join(f"FAILED: {line}" for line in missed) if missed else OWN_DATA))
    return 1 if missed else 0
