"""Trainers side by side: same plans, folds and iterations, on the CPU, one thread each. Prints Dice per fold.

Run, once the dataset is converted and planned:

    python benchmarks/compare_trainers.py -d 535 -c 2d --patch 128 128 --batch 8 --features 16 32 64 128 \\
        --spacing 2 2 -tr nnUNetTrainer_8epochs_50its_5vits nnUNetTrainerCFNet_8epochs_50its_5vits

Small plans are made from nnU-Net's own for this; folds that are finished already are not trained again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
from scipy.stats import wilcoxon

HERE = Path(__file__).parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", dest="dataset", type=int, required=True)
    parser.add_argument("-c", dest="configuration", required=True)
    parser.add_argument("-tr", dest="trainers", nargs="+", required=True)
    parser.add_argument("-f", dest="folds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("-p", dest="plans", default="nnUNetPlansSmall")
    parser.add_argument("--patch", nargs="+", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--features", nargs="+", type=int, required=True)
    parser.add_argument("--spacing", nargs="+", type=float)
    parser.add_argument("--unit", default=r"(.*)", help="cases that share group 1 of this expression count as one")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("-o", dest="table", type=Path, help="also write the table of units here (csv)")
    return parser.parse_args()


def dataset_folder(variable: str, dataset: int) -> Path:
    (folder,) = Path(os.environ[variable]).glob(f"Dataset{dataset:03d}_*")
    return folder


def prepare(args: argparse.Namespace) -> None:
    """Small plans and, where the spacing is another one, their preprocessed data."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset

    from nnunet_ext.planning.small_plans import small_plans

    folder = dataset_folder("nnUNet_preprocessed", args.dataset)
    own = json.loads((folder / "nnUNetPlans.json").read_text(encoding="utf-8"))
    plans = small_plans(
        own,
        args.plans,
        patch_size={args.configuration: args.patch},
        batch_size={args.configuration: args.batch},
        features=args.features,
        spacing={args.configuration: args.spacing} if args.spacing else None,
    )
    file = folder / f"{args.plans}.json"
    if file.exists():  # keep the other configuration
        known = json.loads(file.read_text(encoding="utf-8"))
        plans["configurations"] = {**known["configurations"], **plans["configurations"]}
    file.write_text(json.dumps(plans, indent=4), encoding="utf-8")
    if not (folder / plans["configurations"][args.configuration]["data_identifier"]).is_dir():
        preprocess_dataset(args.dataset, args.plans, (args.configuration,), (args.processes,), False)


def train(dataset: int, configuration: str, plans: str, trainer: str, fold: int) -> float:
    """Seconds of one training with its validation; 0 if it was done already."""
    import torch
    from nnunetv2.run.run_training import run_training

    done = dataset_folder("nnUNet_results", dataset) if any_results(dataset) else None
    if done and (done / f"{trainer}__{plans}__{configuration}" / f"fold_{fold}/validation/summary.json").exists():
        return 0.0
    torch.set_num_threads(1)
    start = time.perf_counter()
    run_training(str(dataset), configuration, fold, trainer, plans, export_validation_probabilities=True,
                 device=torch.device("cpu"))  # fmt: skip
    return time.perf_counter() - start


def any_results(dataset: int) -> bool:
    return any(Path(os.environ["nnUNet_results"]).glob(f"Dataset{dataset:03d}_*"))


def cases(args: argparse.Namespace) -> pd.DataFrame:
    """One row a trainer, fold and unit: Dice, the mean over foreground classes; NaN where all are absent.

    A unit is a case, or with ``--unit`` all cases that share group 1 of the expression, their voxels counted together:
    slices of one patient are no independent observations.
    """
    rows = []
    for trainer in args.trainers:
        model = dataset_folder("nnUNet_results", args.dataset) / f"{trainer}__{args.plans}__{args.configuration}"
        for fold in args.folds:
            summary = json.loads((model / f"fold_{fold}/validation/summary.json").read_text(encoding="utf-8"))
            for case in summary["metric_per_case"]:
                name = Path(case["reference_file"]).name
                found = re.match(args.unit, name)
                for label, metrics in case["metrics"].items():
                    counts = {key: metrics[key] for key in ("TP", "FP", "FN")}
                    rows.append({"trainer": trainer, "fold": fold, "unit": found[1], "label": label, **counts})
    table = pd.DataFrame(rows).groupby(["trainer", "fold", "unit", "label"])[["TP", "FP", "FN"]].sum()
    total = 2 * table["TP"] + table["FP"] + table["FN"]
    dice = (2 * table["TP"] / total.where(total > 0)).rename("dice")
    return dice.groupby(["trainer", "fold", "unit"]).mean().reset_index()


def report(args: argparse.Namespace, table: pd.DataFrame, seconds: dict[str, list[float]]) -> None:
    wide = table.set_index(["fold", "unit", "trainer"])["dice"].unstack("trainer")[args.trainers]
    print(f"\nDice per fold, {args.configuration}, {args.plans}: mean over units, those without foreground left out")
    print(wide.groupby("fold").mean().round(4).to_string())
    for trainer in args.trainers:
        column = wide[trainer]
        print(f"{trainer}: mean {column.mean():.4f}, SD {column.std():.4f}, {column.count()} units, "
              f"{column.isna().sum()} without foreground")  # fmt: skip
    print(
        "seconds a fold (training and validation):",
        {name: [round(s) for s in times] for name, times in seconds.items()},
    )
    both = wide.dropna()
    for other in args.trainers[1:]:
        difference = (both[other] - both[args.trainers[0]]).round(6)
        if (difference != 0).any():
            test = wilcoxon(difference, zero_method="wilcox", method="auto")
            print(f"{other} - {args.trainers[0]}: mean {difference.mean():+.4f} over {len(both)} units, "
                  f"Wilcoxon signed-rank p = {test.pvalue:.3g}")  # fmt: skip


def main() -> None:
    args = arguments()
    os.environ["nnUNet_extTrainer"] = os.pathsep.join(
        filter(None, [str(HERE / "stock_trainers"), os.environ.get("nnUNet_extTrainer")])
    )
    os.environ["nnUNet_n_proc_DA"] = "1"  # planning and preprocessing refuse 0
    prepare(args)
    os.environ["nnUNet_n_proc_DA"] = "0"
    seconds: dict[str, list[float]] = {trainer: [] for trainer in args.trainers}
    with ProcessPoolExecutor(args.processes, mp_context=multiprocessing.get_context("spawn")) as workers:
        jobs = [
            (trainer, workers.submit(train, args.dataset, args.configuration, args.plans, trainer, fold))
            for fold in args.folds
            for trainer in args.trainers
        ]
        for number, (trainer, job) in enumerate(jobs, 1):
            seconds[trainer].append(job.result())
            print(f"{number}/{len(jobs)} trainings done", file=sys.stderr)
    table = cases(args)
    if args.table:
        table.to_csv(args.table, index=False)
    report(args, table, seconds)


if __name__ == "__main__":
    main()
