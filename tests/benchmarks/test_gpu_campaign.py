"""The campaign for a GPU (benchmarks/gpu) at toy size on the CPU: rows of every part, limits, what failures leave."""

from __future__ import annotations

import csv
import importlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from nnunet_ext.errors import UserError
from nnunet_ext.families import FAMILIES, NETWORKS

GPU = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"
PARTS = ("smoke", "memory", "steps", "commands", "learning")


@pytest.fixture
def of(monkeypatch: pytest.MonkeyPatch, single_thread: None) -> Callable[[str], ModuleType]:
    """``of("table")``: a module of the campaign, whose scripts import each other from their own folder."""
    monkeypatch.syspath_prepend(str(GPU))
    return importlib.import_module


@pytest.fixture
def begin(of: Callable[[str], ModuleType], tmp_path: Path) -> Callable[..., Any]:
    """``begin("smoke", limit=60)``: a toy run of a part in this process."""

    def begin(part: str, limit: float = 300, *more: str) -> Any:
        out, work = str(tmp_path / "out"), str(tmp_path / "work")
        return of("campaign").begin(part, limit, [out, "--toy", "--device", "cpu", "--work", work, *more])

    return begin


@pytest.fixture
def rows(of: Callable[[str], ModuleType]) -> Callable[[Any], list[dict[str, str]]]:
    """The rows of a run, all of whose numbers are finite."""

    def read(run: Any) -> list[dict[str, str]]:
        found = of("table").read(run.table.file)
        assert all(math.isfinite(float(row["value"])) for row in found if row["value"])
        return found

    return read


def quantities(rows: list[dict[str, str]], subject: str, setting: str) -> set[str]:
    return {row["quantity"] for row in rows if row["subject"] == subject and row["setting"] == setting}


def failed(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row for row in rows if row["unit"] == "check" and row["value"] == "0"]


# --- rows, limits, failures ---


def test_rows_are_whole_after_a_kill_in_the_middle(tmp_path, of) -> None:
    file = tmp_path / "rows.csv"
    writer = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from table import Table\n"
        "table = Table(Path(sys.argv[2]), 'memory'); table.begin(); number = 0\n"
        "while True: table.add('network', 'a, \"b\"', 'quantity', number, 'GB', 'x' * 500); number += 1"
    )
    process = subprocess.Popen([sys.executable, "-c", writer, str(GPU), str(file)])
    until(lambda: file.is_file() and file.stat().st_size > 20_000)
    process.kill()
    process.wait()
    values = [float(row["value"]) for row in of("table").read(file)]
    assert values == list(range(len(values)))
    assert len(values) > 30


def test_half_a_line_of_a_killed_writer_spoils_no_other(tmp_path, of) -> None:
    table = of("table").Table(tmp_path / "rows.csv", "memory")
    table.begin()
    table.add("network", "", "first", 1, "GB")
    with table.file.open("a") as stream:
        stream.write("memory,network,,sec")
    table.add("network", "", "third", 3, "GB")
    assert [row["quantity"] for row in of("table").read(table.file)] == ["first", "third"]


def test_a_failing_measurement_is_a_row_and_an_exit_code(begin, rows) -> None:
    run = begin("memory")

    def fails() -> None:
        raise RuntimeError("CUDA error: an illegal address\nand much more")

    assert run.measure("CFNet", "64^3", fails, "train", 1) is None
    assert run.measure("CFNet", "96^3", lambda: 7, "train", 0) == 7
    (row,) = rows(run)
    assert (row["subject"], row["setting"], row["value"], row["unit"]) == ("CFNet", "64^3", "0", "check")
    assert row["note"] == "RuntimeError: CUDA error: an illegal address"
    assert run.exit_code() == 1


def test_a_number_that_is_none_fails(begin, rows) -> None:
    run = begin("memory")
    run.measure("CFNet", "64^3", lambda: run.table.add("CFNet", "64^3", "loss", float("nan"), ""), "train", 1)
    assert [row["note"] for row in failed(rows(run))] == ["ValueError: loss is nan"]


def test_what_does_not_fit_any_more_is_a_row_and_is_not_begun(begin, rows) -> None:
    run = begin("memory", 10)
    begun: list[str] = []
    run.measure("CFNet", "64^3", lambda: begun.append("short"), "train", 1)
    run.measure("CFNet", "96^3", lambda: begun.append("long"), "compile", 60)
    run.took("train", 30)  # the kind turns out to take longer than guessed
    run.measure("CFNet", "128^3", lambda: begun.append("third"), "train", 1)
    assert begun == ["short"]
    assert [(row["setting"], row["unit"]) for row in rows(run)] == [("96^3", "skipped"), ("128^3", "skipped")]
    assert "it takes about 60" in rows(run)[0]["note"]
    assert run.exit_code() == 0


def test_a_network_that_refuses_a_plan_is_left_out(begin, rows) -> None:
    run = begin("smoke")

    def refuses() -> None:
        raise UserError("CFNet needs 2 image channels")

    run.measure("CFNet", "64^3", refuses, "step", 1)
    assert [row["unit"] for row in rows(run)] == ["skipped"]


def test_a_share_of_the_time_is_one_of_what_is_left(begin) -> None:
    run = begin("steps", 100)
    left = run.left()
    with run.share(0.5):
        assert run.left() == pytest.approx(left / 2, abs=1)
    assert run.left() == pytest.approx(left, abs=1)


def test_a_part_that_runs_again_replaces_its_rows_alone(begin, rows) -> None:
    for _ in range(2):
        for part in ("smoke", "memory"):
            begin(part).table.text("device", "", part)
    assert [row["part"] for row in rows(begin("steps"))] == ["smoke", "memory"]


def test_processes_end_at_their_limit_with_what_they_started(tmp_path) -> None:
    script = tmp_path / "hang.py"
    script.write_text(
        "import os, subprocess, sys, time\n"
        f"sys.path.insert(0, {str(GPU)!r})\n"
        "def probe(): pass\n"
        "def hang(file):\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    open(file, 'w').write(str(child.pid)); time.sleep(600)\n"
        "def breaks(): raise RuntimeError('gone')\n"
        "if __name__ == '__main__':\n"
        "    import children; children.PRELOADED = ()\n"
        "    some = children.Children(probe)\n"
        f"    print(some.call(hang, ({str(tmp_path / 'pid')!r},), seconds=1), some.call(breaks), flush=True)\n"
        "    anew = children.Children(breaks)\n"
        "    print(anew.context.get_start_method(), flush=True)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == ["None 1", "processes cannot be forked here: each one starts anew", "spawn"]
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text())


# --- what is measured ---


def test_networks_and_trainers_come_from_the_tables(of) -> None:
    subjects = of("subjects")
    measured = [subject.name for subject in subjects.networks()]
    assert measured[:2] == ["PlainConvUNet", "ResEnc M"]
    classes = [NETWORKS[name].class_path for name in measured[2:]]
    assert sorted(classes) == sorted({row.class_path for row in NETWORKS.values()}), "one network of every class"
    assert [subject.name for subject in subjects.families()] == [family.networks[0].name for family in FAMILIES]
    trainers = [trainer for _, trainer in subjects.trainers()]
    assert trainers[0] == "nnUNetTrainer"
    assert len(trainers) == 1 + len(FAMILIES)
    assert not any(trainer.endswith("_paper") for trainer in trainers)


@pytest.mark.parametrize(
    ("name", "plan", "parameters"),
    [
        ("PlainConvUNet", "brats", 31_199_796),
        ("ResEnc M", "brats", 102_353_972),
        ("PlainConvUNet", "pictures", 46_325_134),
        ("ResEnc M", "pictures", 140_017_614),
    ],
)
def test_plans_are_nnunets_default_ones(of, name, plan, parameters) -> None:
    import torch

    subjects = of("subjects")
    plan = {"brats": subjects.brats(128), "pictures": subjects.pictures()}[plan]
    subject = next(subject for subject in subjects.networks() if subject.name == name)
    with torch.device("meta"):
        network = of("building").build(subject, plan)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


# --- the parts, piece by piece ---


@pytest.fixture
def plain(of) -> Any:
    return of("subjects").networks()[0]


def test_smoke_compares_outputs_and_steps_in_every_precision(begin, of, plain, rows, monkeypatch) -> None:
    smoke, run = of("smoke"), begin("smoke")
    for plans in ("compared_plans", "trained_plans"):
        monkeypatch.setattr(smoke, plans, lambda toy: [of("subjects").pictures(2, toy)])
    smoke.check_network(run, plain)
    found = rows(run)
    for precision in ("fp32", "fp16", "bf16"):
        expected = {"output error", "output as on the CPU", "loss", "forward, backward and step"}
        assert quantities(found, "PlainConvUNet", f"16x16 toy {precision}") == expected
    assert not failed(found)


def test_smoke_finds_outputs_that_differ_and_steps_that_change_nothing(begin, of, plain, rows, monkeypatch) -> None:
    smoke, run = of("smoke"), begin("smoke")
    monkeypatch.setattr(smoke, "BOUNDS", dict.fromkeys(smoke.BOUNDS, -1.0))
    monkeypatch.setattr(of("training"), "LEARNING_RATE", 0.0)
    plan = smoke.compared_plans(True)[1]
    smoke.compare(run, plain, plan)
    smoke.step(run, plain, plan, "fp32")
    assert [row["quantity"] for row in failed(rows(run))] == ["output as on the CPU"] * 3 + [
        "forward, backward and step"
    ]
    assert failed(rows(run))[-1]["note"] == "no weight changed"


def test_doctor_passes_or_tells_its_problems(begin, of, rows) -> None:
    run = begin("smoke")
    of("smoke").check_doctor(run, 0, "ok")
    of("smoke").check_doctor(run, 1, "  PROBLEM no torch\n  ok\n")
    assert [row["note"] for row in failed(rows(run))] == ["PROBLEM no torch"]


def test_memory_measures_training_and_a_tile_beside_what_is_computed(begin, of, plain, rows, monkeypatch) -> None:
    memory, run = of("memory"), begin("memory")
    monkeypatch.setattr(memory, "plans", lambda toy: [of("subjects").brats(8, toy=toy)])
    memory.measure_network(run, plain, None)
    memory.write_fit(run)
    found = rows(run)
    assert not failed(found)
    for setting in ("8^3 toy eager", "8^3 toy tile"):
        expected = {"computed", "allocated", "reserved", "process", "context"}
        assert quantities(found, "PlainConvUNet", setting) == expected
    assert quantities(found, "constant", "eager") == {"OVERHEAD", "largest residual"}


def test_the_constant_is_the_mean_difference_in_the_words_of_the_planner(of) -> None:
    fit = of("fit")
    points = [fit.Point("PlainConvUNet", "128^3", 2, 5.0, 7.0), fit.Point("CFNet", "64^3", 2, 1.0, 4.0)]
    assert fit.fitted(points).constant == pytest.approx(2.5)
    assert fit.fitted(points).residuals == pytest.approx((-0.5, 0.5))
    text = fit.as_comment(points, [0.4, 0.5, 0.7], "some card")
    assert text.splitlines()[2:7] == [
        "# Measured on some card:",
        "#",
        "#   network        patch, batch   computed  measured  difference",
        "#   PlainConvUNet  128^3, 2           5.00      7.00        2.00",
        "#   CFNet          64^3, 2            1.00      4.00        3.00",
    ]
    constants: dict[str, float] = {"GB": 1.0}
    exec(text, constants)
    assert (constants["OVERHEAD"], constants["CONTEXT"], constants["UNCERTAINTY"]) == (2.5, 0.5, 0.5)


def test_steps_give_times_ratios_and_speeds_and_leave_out_what_fails(begin, of, plain, rows, monkeypatch) -> None:
    steps, run = of("steps"), begin("steps")
    wrong = type(plain)("Wrong", "nowhere:Nothing")
    greedy = type(plain)("Greedy", plain.class_path, image_channels=99)
    monkeypatch.setattr(steps, "networks", lambda: [plain, wrong, greedy])
    monkeypatch.setattr(steps, "variants", list)
    product = steps.matrix_product(run, "bf16")
    steps.eager(run, steps.plans(True)[1], "bf16", product)
    found = rows(run)
    assert quantities(found, "matrix product", "64x64x64 bf16") == {"speed"}
    expected = {"step", "time / PlainConvUNet", "speed", "share of the matrix product"}
    assert quantities(found, "PlainConvUNet", "16x16 toy bf16 eager") == expected
    assert [row["subject"] for row in failed(found)] == ["Wrong"]
    assert [(row["subject"], row["unit"]) for row in found if row["subject"] == "Greedy"] == [("Greedy", "skipped")]


def test_variants_are_the_networks_with_everything_kept_and_with_the_channels_last(of) -> None:
    torch = pytest.importorskip("torch")
    subjects, training = of("subjects"), of("training")
    plan = subjects.brats(8, toy=True)
    found = {subject.name: subject for subject in subjects.variants()}
    assert {"CFNet, all kept", "CFNet, channels last", "CFFormer, all kept"} <= found.keys()

    def made(name: str) -> Any:
        return training.training_of(found[name], plan, torch.device("cpu"), "fp32")

    kept, last = made("CFNet, all kept"), made("CFNet, channels last")
    assert not any(getattr(module, "recompute", False) for module in kept.network.modules())
    assert any(getattr(module, "recompute", False) for module in last.network.modules())
    assert last.image.is_contiguous(memory_format=torch.channels_last_3d)
    weights = [parameter for parameter in last.network.parameters() if parameter.ndim == 5 and min(parameter.shape) > 1]
    assert all(weight.is_contiguous(memory_format=torch.channels_last_3d) for weight in weights)
    assert weights
    for one in (kept, last):
        assert torch.isfinite(one.step())


def test_steps_compare_attentions_and_leave_out_absent_ones(begin, of, rows, monkeypatch) -> None:
    steps, run = of("steps"), begin("steps")
    monkeypatch.setattr(steps, "TOY_SHAPES", steps.TOY_SHAPES[:1])
    steps.attentions(run)
    found = rows(run)
    name = steps.TOY_SHAPES[0].name
    for kind in ("forward", "step"):
        assert {f"{kind}, fused / written out", f"{kind}, fused"} <= quantities(found, "windowed attention", name)
    assert not failed(found)
    assert [row["unit"] for row in found if row["subject"] == "progressive attention"] == ["skipped"]


class Talk(list):
    """The end of a pipe on which everything that is sent can be read, and ``answers`` come back."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self._answers = list(answers)

    def recv(self) -> Any:
        return self._answers.pop(0)

    send = list.append


def test_a_compiled_training_waits_to_be_timed_and_tells_why_it_fails(begin, of, plain, monkeypatch) -> None:
    compiled, steps = of("compiled"), of("steps")
    monkeypatch.setattr(steps, "plans", lambda toy: [of("subjects").pictures(2, toy)])
    (job, *_) = steps.compile_jobs(begin("steps"))
    talk = Talk(job, "go")
    compiled.serve(talk)
    ready, result = talk
    assert ready == "ready"
    assert len(result.steps) == job.rounds
    assert all(map(math.isfinite, [result.compile_seconds, *result.steps]))
    wrong = type(job)(type(plain)("Wrong", "nowhere:Nothing"), *list(vars(job).values())[1:])
    talk = Talk(wrong)
    compiled.serve(talk)
    assert talk == ["ModuleNotFoundError: No module named 'nowhere'"]


class Waiter:
    """The end of a pipe whose other end never answers."""

    def send(self, _: Any) -> None: ...

    def poll(self, seconds: float) -> bool:
        return False


def test_a_compile_that_does_not_end_is_a_row(begin, of, rows, monkeypatch) -> None:
    compiled, steps, run = of("compiled"), of("steps"), begin("steps")
    killed: list[Any] = []
    monkeypatch.setattr(compiled, "kill", killed.append)
    monkeypatch.setattr(compiled, "cores", lambda: 1)
    children = SimpleNamespace(context=SimpleNamespace(Pipe=lambda: (Waiter(), None)), start=lambda *_: "process")
    jobs = steps.compile_jobs(run)
    steps.compiled(run, jobs, compiled.Compilers(children, len(jobs)), {})
    assert [row["subject"] for row in failed(rows(run))] == [job.subject.name for job in jobs]
    assert "did not compile within" in failed(rows(run))[0]["note"]
    assert len(killed) >= len(jobs)


class FakeRunner:
    """Commands that end as they are told to, and leave files."""

    def __init__(self, run: Any, codes: dict[str, int], output: str = "") -> None:
        self.run, self.plans, self.device = run, "smallPlans", "cpu"
        self._codes, self._output = codes, output
        self.asked: list[list[str]] = []

    def command(self, words: list[str], log: Path, **_: Any) -> Any:
        self.asked.append(words)
        key = next((key for key in ("--c", "--val") if key in words), words[0])
        code = self._codes.get(key, 0)
        return SimpleNamespace(code=code, output=self._output, why="" if code == 0 else f"exit code {code}")


@pytest.mark.parametrize(
    ("codes", "output", "where", "why"),
    [
        ({"nnUNetv2_train": 0}, "", "nnUNetv2_train, killed", "it was to be killed in its last epoch: it ended well"),
        ({"nnUNetv2_train": -9, "--c": 3}, "", "nnUNetv2_train --c", "exit code 3"),
        ({"nnUNetv2_train": -9}, "now: Epoch 0\nEpoch 1\n", "nnUNetv2_train --c", "it went on with epochs [0, 1]"),
        ({"nnUNetv2_train": -9}, "Epoch 1\ntrain_loss nan\n", "nnUNetv2_train --c", "its losses are [nan]"),
        ({"nnUNetv2_train": -9, "--val": 1}, "Epoch 1\ntrain_loss 0.5\n", "nnUNetv2_train --val --npz", "exit code 1"),
    ],
)
def test_a_chain_of_commands_stops_where_one_is_wrong(begin, of, plain, rows, codes, output, where, why) -> None:
    run = begin("commands")
    trainer = "nnUNetTrainer_2epochs_2its_2vits"
    fold = run.work / "nnUNet_results" / "Dataset901_X" / f"{trainer}__smallPlans__3d_fullres" / "fold_0"
    fold.mkdir(parents=True)
    for name in ("checkpoint_latest.pth", "checkpoint_final.pth"):
        (fold / name).touch()
    runner = FakeRunner(run, codes, output)
    of("chain").chain(runner, plain, "nnUNetTrainer", 901, "3d_fullres")
    (row,) = failed(rows(run))
    assert (row["setting"], row["note"].startswith(why)) == (where, True), row
    assert rows(run)[-1]["unit"] == "skipped"


def test_plans_for_a_gpu_and_too_little_memory_are_read_from_what_commands_print(begin, of, plain, rows) -> None:
    commands, entry, run = of("commands"), of("entry"), begin("commands")
    folder = run.work / "nnUNet_preprocessed" / "Dataset901_X"
    folder.mkdir(parents=True)
    plans = '{"configurations": {"3d_fullres": {"patch_size": [8, 8, 8], "batch_size": 2}}}'
    (folder / "nnUNetPlainConvUNetPlans_budget8.json").write_text(plans)
    output = f'Epoch 0\n{entry.PEAK}{{"allocated": 5.0, "reserved": 6.0}}\n'
    advice = "UserError: out of memory at patch [8], batch 2: CUDA. - For plans that fit: nnunet_ext plan -d 901 -a X"

    class Runner(commands.CommandRunner):
        def command(self, words: list[str], log: Path, **how: Any) -> Any:
            little = how.get("allowed_gb") == commands.TOO_LITTLE
            return of("command_runner").Ended(1, advice, 1.0) if little else of("command_runner").Ended(0, output, 1.0)

    runner = Runner(run, None, "smallPlans")
    commands.budget(runner, plain, "nnUNetTrainer", 8)
    commands.out_of_memory(runner, plain, "nnUNetTrainer")
    found = rows(run)
    assert not failed(found)
    shares = {row["quantity"]: float(row["value"]) for row in found if row["quantity"].startswith("share")}
    assert shares == {"share allocated": 0.625, "share reserved": 0.75}
    assert quantities(found, "PlainConvUNet", "too little memory") == {"ends in our advice"}
    with pytest.raises(ValueError, match="printed no peak"):
        entry.read_peak("nothing")


def test_jobs_share_the_memory_and_a_failing_one_is_a_row(begin, of, rows) -> None:
    jobs, run = of("jobs"), begin("commands")
    now: list[float] = []
    most: list[float] = []

    def job(name: str, memory: float, seconds: float = 1, fails: bool = False) -> Any:
        def call() -> None:
            now.append(memory)
            most.append(sum(now))
            time.sleep(0.1)
            now.remove(memory)
            if fails:
                raise RuntimeError("broken")

        return jobs.Job(name, "chain", memory, seconds, call)

    some = [job("a", 6), job("b", 6, fails=True), job("c", 3), job("large", 60), job("late", 1, seconds=1e6)]
    jobs.run_jobs(some, run, memory=10, at_once=4)
    assert max(most) <= 10
    assert len(most) == 3
    assert [row["subject"] for row in failed(rows(run))] == ["b"]
    assert {row["subject"] for row in rows(run) if row["unit"] == "skipped"} == {"large", "late"}


def test_learning_writes_curves_epoch_by_epoch_and_drops_a_trainer_that_fails(
    begin, of, rows, nnunet_folders, write_preprocessed_dataset, monkeypatch
) -> None:
    learning, run = of("learning"), begin("learning")
    write_preprocessed_dataset(nnunet_folders.preprocessed, "Dataset501_Toy")
    monkeypatch.setattr(learning, "ID", 501)
    monkeypatch.setattr(learning, "PLANS", "smallPlans")
    monkeypatch.setattr(learning, "PUBLISHED", {2: 0.9})
    monkeypatch.setattr(learning.MetaLogger, "plot_progress_png", lambda *_: None)
    good = learning.Learner(run, "nnUNetTrainerCFNet_3epochs_1its_1vits")
    bad = SimpleNamespace(name="bad", epoch=1, train_an_epoch=lambda: 1 / 0)
    learning.learn_in_rounds(run, [good, bad], rounds=2)
    good.end()
    found = rows(run)
    assert [row["note"] for row in failed(found)] == ["ZeroDivisionError: division by zero"]
    assert quantities(found, good.name, "epoch 1") == {"pseudo Dice", "training loss", "epoch"}
    assert quantities(found, good.name, "epoch 2") == {
        "pseudo Dice",
        "training loss",
        "epoch",
        "pseudo Dice - published",
    }
    with (run.out / "curves.csv").open() as stream:
        curves = list(csv.DictReader(stream))
    assert [(line["trainer"], line["epoch"]) for line in curves] == [(good.name, "1"), (good.name, "2")]
    assert all(math.isfinite(float(line[key])) for line in curves for key in learning.COLUMNS[3:])
    assert len(curves[0]["pseudo_dice_per_class"].split()) == 2


def test_learning_without_data_is_a_row(begin, of, rows, monkeypatch, tmp_path) -> None:
    learning, run = of("learning"), begin("learning")
    run.toy = False
    monkeypatch.setattr(learning, "DATA", tmp_path / "nothing")
    assert learning.prepare(run, None) is False
    assert [(row["subject"], row["unit"]) for row in rows(run)] == [("Hippocampus", "skipped")]
    assert run.exit_code() == 0


# --- the whole ---


def test_the_summary_names_failures_and_constants_and_sets_the_exit_code(begin, of, tmp_path) -> None:
    run = begin("memory")
    of("machine").write_facts(run.table.file, "cpu")
    for edge, process in ((64, 3.0), (96, 4.0)):
        for quantity, value in (("computed", edge / 64), ("process", process), ("context", 0.5)):
            run.table.add("CFNet", f"{edge}^3 eager", quantity, value, "GB")
    good = of("summary").summary(of("table").read(run.table.file))
    assert "## Failed" not in good
    assert re.search(r"^OVERHEAD = 2\.25 \* GB$", good, flags=re.MULTILINE)
    run.table.check("CFNet", "128^3", "measured", False, "OutOfMemoryError: no")
    done = subprocess.run([sys.executable, str(GPU / "summary.py"), str(run.out)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "- memory, CFNet, 128^3: measured: OutOfMemoryError: no" in done.stdout
    assert (run.out / "summary.md").read_text() == done.stdout.removesuffix("\n")


def run_campaign(*arguments: object, python: str = sys.executable, **options: Any) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(GPU / "run.sh"), *map(str, arguments)]
    environment = {**os.environ, "PYTHON": python}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)


def test_a_part_that_is_ended_from_outside_is_a_row_and_the_next_one_follows(tmp_path, of) -> None:
    fake = tmp_path / "python"
    fake.write_text(
        f'#!/bin/sh\ncase "$1" in */smoke.py) exit 137;; */learning.py) exit 0;; esac\nexec {sys.executable} "$@"\n'
    )
    fake.chmod(0o755)
    done = run_campaign(tmp_path / "out", "smoke", "learning", "--toy", "--device", "cpu", python=str(fake))
    assert done.returncode == 1
    assert "== learning" in done.stdout
    (row,) = of("table").read(tmp_path / "out" / "rows.csv")
    assert (row["part"], row["value"]) == ("smoke", "0")
    assert "137" in row["note"]


@pytest.mark.parametrize("arguments", [["OUT", "smok"], ["OUT", "--tiny"], []])
def test_a_mistyped_call_does_nothing(tmp_path, arguments) -> None:
    done = run_campaign(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_whole_campaign_at_toy_size(tmp_path, of) -> None:
    out = tmp_path / "out"
    done = run_campaign(out, "--toy", "--device", "cpu", "--limit", "1800", timeout=1900)
    rows = of("table").read(out / "rows.csv")
    assert done.returncode == 0, [*failed(rows), done.stdout[-3000:]]
    assert {row["part"] for row in rows} == {"machine", *PARTS}
    listed = of("subjects").listed()
    names = {"PlainConvUNet", "ResEnc M", *(row.name for row in listed)}
    for part in ("smoke", "memory", "steps"):
        assert names <= {row["subject"] for row in rows if row["part"] == part}
    kept = {f"{row.name}, all kept" for row in listed if "recompute" in row.options}
    compiled = [row for row in rows if row["quantity"] == "until the first step"]
    assert {row["subject"] for row in compiled} == names | kept
    budgets = {row["setting"].partition(", budget ")[2] for row in compiled}
    assert budgets == {"", "0.9", "0.7", "0.5"}
    trainers = {trainer for _, trainer in of("subjects").trainers()}
    for command in ("nnUNetv2_train, killed", "nnUNetv2_train --c", "nnUNetv2_train --val --npz", "nnUNetv2_predict"):
        assert {row["subject"] for row in rows if row["setting"] == command and row["unit"] == "check"} == trainers
    assert any(row["setting"] == "plans for 24 GB" and row["quantity"] == "share reserved" for row in rows)
    assert any(row["part"] == "learning" and row["quantity"] == "pseudo Dice" for row in rows)
    files = [file for file in out.rglob("*") if file.is_file()]
    assert {file.name for file in files} == {"rows.csv", "summary.md", "curves.csv", *(f"{part}.log" for part in PARTS)}
    assert all(file.stat().st_size < 16 * 2**20 for file in files)


@pytest.mark.slow
def test_a_part_keeps_its_limit_and_leaves_whole_rows(tmp_path, of) -> None:
    begun = time.monotonic()
    done = run_campaign(tmp_path / "out", "commands", "--toy", "--device", "cpu", "--limit", "30", timeout=200)
    assert (
        time.monotonic() - begun < 30 + 5 + 5 + 20
    )  # the limit, until the signals, and starting Python for the summary
    assert done.returncode in (0, 1)
    assert of("table").read(tmp_path / "out" / "rows.csv")


@pytest.mark.slow
def test_a_part_that_is_killed_leaves_whole_rows_and_no_process(tmp_path, of) -> None:
    file = tmp_path / "out" / "rows.csv"
    arguments = [tmp_path / "out", "--toy", "--device", "cpu", "--limit", "600", "--work", tmp_path / "work"]
    environment = {**os.environ, "PYTHONPATH": str(GPU.parents[1])}
    command = [sys.executable, str(GPU / "smoke.py"), *map(str, arguments)]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    until(lambda: file.is_file() and len(of("table").read(file)) > 12, seconds=300)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    read = of("table").read(file)
    assert len(file.read_text().splitlines()) == len(read) + 1
    until(lambda: not running(str(tmp_path / "work")))


def running(words: str) -> bool:
    """Whether a process has these words in its command line."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if words in (folder / "cmdline").read_text():
                return True
        except OSError:
            continue
    return False


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it did not come to pass"
        time.sleep(0.05)


def test_bash_reads_the_script() -> None:
    assert shutil.which("bash")
    subprocess.run(["bash", "-n", str(GPU / "run.sh")], check=True)
