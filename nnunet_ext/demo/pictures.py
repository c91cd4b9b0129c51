"""The last step: Dice of every model on the unseen phantoms, one overlay and the training curves."""

from __future__ import annotations

import pandas as pd

from nnunet_ext.demo.settings import CONFIGURATIONS, PLANS, Settings
from nnunet_ext.demo.verdict import ENSEMBLE, POLICY, POSTPROCESSED
from nnunet_ext.demo.workspace import Workspace
from nnunet_ext.evaluation.evaluate import evaluate_folder
from nnunet_ext.evaluation.label_folders import load_dataset_json
from nnunet_ext.report.case_view import load_view, worst_median_best
from nnunet_ext.report.curves import read_model, write_training_curves
from nnunet_ext.report.overlay import write_overlay
from nnunet_ext.report.scores_csv import read_scores, write_scores

PREDICTIONS = {**{name: name for name in CONFIGURATIONS}, ENSEMBLE: "ensemble", POSTPROCESSED: "postprocessed"}
# Edema shows on FLAIR, the enhancing rim on T1 after contrast.
SHOWN_CHANNELS = ("FLAIR", "T1ce")


def evaluate_and_draw(workspace: Workspace, settings: Settings, unseen: str) -> None:
    """Write ``dice.csv`` (models, cases, regions, policies, means), ``overlay.png`` and ``training_curves.png``.

    Args:
        workspace: with the predictions in it.
        settings: of the trainings.
        unseen: folder of the unseen dataset below the workspace.
    """
    raw = workspace.folder / unseen
    dataset = load_dataset_json(raw / "dataset.json")
    references = raw / "labelsTr"
    folders = {model: workspace.folder / "predictions" / folder for model, folder in PREDICTIONS.items()}
    tables = {model: evaluate_folder(folder, references, dataset) for model, folder in folders.items()}
    write_scores(tables, workspace.folder / "dice.csv")
    chosen = {model: table[table["policy"] == POLICY] for model, table in tables.items() if model != POSTPROCESSED}
    channels = {name: int(number) for number, name in dataset["channel_names"].items()}
    views = [
        load_view(
            f"{rank}: {case}",
            case,
            images={
                name: raw / "imagesTr" / f"{case}_{channels[name]:04d}{dataset['file_ending']}"
                for name in SHOWN_CHANNELS
            },
            references=references,
            predictions={model: folders[model] for model in chosen},
            tables=chosen,
            dataset=dataset,
        )
        for rank, case in worst_median_best(chosen[ENSEMBLE]).items()
    ]
    write_overlay(
        views,
        dataset,
        workspace.folder / "overlay.png",
        f"{len(chosen[ENSEMBLE]['case'].unique())} unseen phantoms: worst, median and best case of the ensemble",
    )
    trainer = settings.trainer(workspace.seed)
    models = {
        configuration: read_model(workspace.results() / f"{trainer}__{PLANS}__{configuration}")
        for configuration in CONFIGURATIONS
    }
    write_training_curves(models, workspace.folder / "training_curves.png", trainer)


def read_tables(workspace: Workspace) -> dict[str, pd.DataFrame]:
    """The rows of cases of ``dice.csv``, by model: what the verdict judges is what the file says."""
    return read_scores(workspace.folder / "dice.csv")
