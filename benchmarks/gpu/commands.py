"""Part 4: nnU-Net's own commands on the GPU, from phantoms to predictions, for one trainer a family; plans for GPUs of
several sizes, trained within that much memory; and what a training says that finds too little.

Run by run.sh.
"""

from __future__ import annotations

import campaign  # first: its clock starts before torch is imported

import json  # isort: skip
import os
import sys
from functools import partial
from pathlib import Path

from chain import chain
from children import Children, end_orderly_on_termination
from command_runner import AUGMENTATION, CommandRunner
from entry import read_peak
from jobs import Job, run_jobs
from machine import memory_gb, write_facts
from subjects import STOCK_TRAINER, Subject, trainers

LIMIT = 150
ID, NAME = 901, "brats2021"
# As large as BraTS after cropping, so that nnU-Net's default patch is 128^3.
SHAPE, TOY_SHAPE = "138 170 140", "24 32 32"
CASES, FOLDS = 5, 3
# Planners let a batch hold at most a twentieth of the dataset. Five phantoms say that they are as many as BraTS has,
# so that memory and not their number decides.
TRAINING_CASES = 369
TARGETS = (8, 24, 40)
CONFIGURATION = "3d_fullres"
# of a training with its processes of augmentation
CORES_EACH = AUGMENTATION
# GB that weights and CUDA's context fit into, but no step of a training
TOO_LITTLE = 1.5


def prepare(runner: CommandRunner) -> bool:
    """Phantoms, conversion, both planners' plans, preprocessing. False if one failed."""
    run, log = runner.run, runner.run.work / "prepare.log"
    shape = TOY_SHAPE if run.toy else SHAPE
    processes = "1" if run.toy else str(CASES)
    steps = {
        "phantom": f"nnunet_ext phantom {NAME} -o download --cases {CASES} --shape {shape}",
        "convert": f"nnunet_ext convert {NAME} -i download -d {ID} --splits {FOLDS} -np {processes}",
        # before nnU-Net's planner: ours extracts the fingerprint in a tenth of the time, and both use it
        "nnunet_ext plan": f"nnunet_ext plan -d {ID} -a PlainConvUNet -c {CONFIGURATION} --no_pp -np {processes}",
        "nnUNetv2_plan_experiment": f"nnUNetv2_plan_experiment -d {ID}",
        "nnUNetv2_preprocess": f"nnUNetv2_preprocess -d {ID} -c {CONFIGURATION} -np {processes}",
    }
    for name, words in steps.items():
        if not run.begins("dataset", name, name, 5):
            return False
        if not runner.checked("dataset", name, words.split(), log):
            return False
        if name == "convert" and not run.toy:
            pretend_many_cases(run.work / "nnUNet_raw")
    if run.toy:
        write_small_plans(run.work / "nnUNet_preprocessed", runner.plans)
    return True


def pretend_many_cases(raw: Path) -> None:
    (file,) = raw.glob(f"Dataset{ID}_*/dataset.json")
    description = json.loads(file.read_text(encoding="utf-8"))
    description["numTraining"] = TRAINING_CASES
    file.write_text(json.dumps(description, indent=4), encoding="utf-8")


def write_small_plans(preprocessed: Path, name: str) -> None:
    """For the CPU: plans like the demo's."""
    from nnunet_ext.planning.small_plans import small_plans

    (file,) = preprocessed.glob(f"Dataset{ID}_*/nnUNetPlans.json")
    small = small_plans(
        json.loads(file.read_text(encoding="utf-8")),
        name,
        patch_size={CONFIGURATION: (16, 16, 16)},
        batch_size={CONFIGURATION: 2},
        features=(8, 16, 32),
        convolutions=1,
    )
    file.with_name(f"{name}.json").write_text(json.dumps(small, indent=4), encoding="utf-8")


def budget(runner: CommandRunner, subject: Subject, trainer: str, target: int) -> None:
    """Plans for a GPU of this size, and a short training that PyTorch gives no more than that to."""
    run, setting = runner.run, f"plans for {target} GB"
    log = run.work / f"{subject.name}_{target}.log"
    plans = f"nnUNet{subject.name}Plans_budget{target}"
    words = f"nnunet_ext plan -d {ID} -a {subject.name} -gpu_memory_target {target} -overwrite_plans_name {plans}"
    if not runner.checked(subject.name, setting, f"{words} -c {CONFIGURATION} --no_pp".split(), log):
        return
    short = f"{trainer}_1epochs_{1 if run.toy else 4}its_1vits"
    words = f"nnUNetv2_train {ID} {CONFIGURATION} 0 -tr {short} -p {plans} -device {runner.device}"
    done = runner.command(words.split(), log, allowed_gb=float(target))
    run.table.check(subject.name, setting, "trains within it", done.code == 0, done.said)
    if done.code is None:
        return
    (file,) = (run.work / "nnUNet_preprocessed").glob(f"Dataset{ID}_*/{plans}.json")
    chosen = json.loads(file.read_text(encoding="utf-8"))["configurations"][CONFIGURATION]
    note = f"patch {'x'.join(map(str, chosen['patch_size']))}, batch {chosen['batch_size']}"
    for what, peak in read_peak(done.output).items():
        run.table.add(subject.name, setting, f"share {what}", peak / target, "", note)


def out_of_memory(runner: CommandRunner, subject: Subject, trainer: str) -> None:
    """A training that finds too little memory ends with the command that helps."""
    run = runner.run
    words = f"nnUNetv2_train {ID} {CONFIGURATION} 0 -tr {trainer}_1epochs_1its_1vits -p {runner.plans}"
    bounds = {"allowed_gb": TOO_LITTLE, "out_of_memory": runner.device == "cpu"}
    log = run.work / f"{subject.name}_little.log"
    done = runner.command([*words.split(), "-device", runner.device], log, **bounds)
    # processes of augmentation may speak after the training
    advice = [line for line in done.output.splitlines() if "UserError: out of memory at patch" in line]
    advised = done.code == 1 and any("nnunet_ext plan -d" in line for line in advice)
    said = advice[-1] if advice else done.said
    run.table.check(subject.name, "too little memory", "ends in our advice", advised, said)


def jobs_of(runner: CommandRunner) -> list[Job]:
    """In order of importance: every trainer's chain of commands, too little memory, plans by the size of the GPU."""
    run, listed = runner.run, trainers()
    families = [(subject, trainer) for subject, trainer in listed if trainer != STOCK_TRAINER]
    budgets = [(s, t, target) for target in TARGETS for s, t in families + listed[:1]]
    if run.toy:
        budgets = [(*families[0], TARGETS[0]), (*listed[0], TARGETS[1])]
    return [
        *(
            Job(
                trainer, "chain", 12, 20 if run.toy else 40, partial(chain, runner, subject, trainer, ID, CONFIGURATION)
            )
            for subject, trainer in listed
        ),
        *(
            Job(subject.name, "too little memory", 3, 12, partial(out_of_memory, runner, subject, trainer))
            for subject, trainer in families
        ),
        *(
            Job(
                s.name,
                f"plans for {target} GB",
                target + 1.0,
                10 if run.toy else 20,
                partial(budget, runner, s, trainer, target),
            )
            for s, trainer, target in budgets
        ),
    ]


def main() -> int:
    end_orderly_on_termination()
    run = campaign.begin("commands", LIMIT)
    campaign.own_folders(run)
    os.environ["nnUNet_def_n_proc"] = "1" if run.toy else "2"
    children = Children(write_facts, (run.table.file, run.device), server=True)
    runner = CommandRunner(run, children, "nnUNetPlansToy" if run.toy else "nnUNetPlans")
    jobs = jobs_of(runner)
    run.steps = 5 + len(jobs)
    if prepare(runner):
        at_once = max(1, campaign.cores() // (1 if run.toy else CORES_EACH))
        cuda = run.device == "cuda"
        run_jobs(jobs, run, 0.95 * memory_gb(run.table.file) if cuda else sum(job.memory for job in jobs), at_once)
    else:
        run.table.skip("trainers", "", "there is no dataset to train on")
    return run.exit_code()


if __name__ == "__main__":
    sys.exit(main())
