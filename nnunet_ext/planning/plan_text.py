"""Plans as text to read, and the commands to type next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_preprocessed

from nnunet_ext.families import trainers_of
from nnunet_ext.planning import make_plans
from nnunet_ext.planning.plan_facts import PlanFacts
from nnunet_ext.planning.plans_file import OURS
from nnunet_ext.planning.table import render
from nnunet_ext.shown import command, joined, printable

# A training with small plans is a trial: minutes on a core, on one fold.
_TRIAL = "_5epochs_20its_5vits"


def as_text(facts: PlanFacts, written: bool) -> str:
    """The table of estimates, the file of the plans if it was written, and which preprocessed data they use."""
    plans, lines = facts.plans, []
    if written:
        folder = Path(nnUNet_preprocessed) / plans["dataset_name"]
        lines.append(f"plans: {folder / plans['plans_name']}.json")
    for row in facts.rows:
        data = plans["configurations"][row.configuration].get("data_identifier")
        if data is None:
            continue
        state = "to be preprocessed" if row.configuration in facts.missing else "there already"
        shared = ", shared with nnUNetPlans" if data.startswith("nnUNetPlans_") else ""
        lines.append(f"data of {row.configuration}: {data}{shared}, {state}")
    bound = [row.configuration for row in facts.rows if row.bound_by_dataset]
    if bound and "small" not in plans[OURS]:
        lines.append(
            f"{joined(bound)}: patch and batch are as large as nnU-Net plans them for so small a dataset; plans for a "
            "larger GPU are the same"
        )
    return "\n".join([render(facts.rows, facts.seconds), *map(printable, lines)])


def next_commands(facts: PlanFacts, dataset_id: int, processes: int, preprocessed: bool) -> str:
    """The stock commands to type next.

    Args:
        facts: of the plans.
        dataset_id: their dataset.
        processes: of preprocessing.
        preprocessed: whether what was missing is there by now.
    """
    name = facts.plans["plans_name"]
    lines = ["next:"]
    if facts.missing and not preprocessed:
        missing = ("nnUNetv2_preprocess", "-d", dataset_id, "-plans_name", name, "-c", *facts.missing)
        lines.append(f"  {command([*missing, '-np', processes])}")
    small = "small" in facts.plans[OURS]
    model = ("-p", name, *_trainer_option(facts.plans, _TRIAL if small else ""))
    train = (*model, "-device", "cpu") if small else (*model, "--npz")
    names = [row.configuration for row in facts.rows]
    lines += [f"  {command(['nnUNetv2_train', dataset_id, each, 0, *train])}" for each in names]
    if not small:
        lines.append("  (folds 0 to 4)")
    # a cascade also wants the segmentations of its previous stage
    first = next((name for name in reversed(names) if name != make_plans.CASCADE), names[-1])
    predict = ("nnUNetv2_predict", "-i", "IMAGES", "-o", "OUT", "-d", dataset_id, "-c", first)
    trial = ("-f", 0, "-device", "cpu") if small else ()
    lines.append(f"  {command([*predict, *model, *trial])}")
    return "\n".join(lines)


def _trainer_option(plans: dict[str, Any], suffixes: str) -> tuple[str, ...]:
    """Ours, where the network has a trainer; the stock trainer builds what the plans name."""
    named = plans[OURS].get("trainer")
    if not named:
        # a published network is what no plans change
        row = next((row for row in trainers_of(plans[OURS]["network"]) if not row.published), None)
        named = "nnUNetTrainer" if row is None else row.name
    if named == "nnUNetTrainer":  # which knows no suffixes
        return ()
    return "-tr", f"{named}{suffixes}"
