"""What version 0.1.0 at 8666cb9 wrote is still read, gone on with and used: plans, a model, conversions.

The files and how they were made: ``tests/golden/migration/README.md``.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from nnunet_ext.cli import main
from nnunet_ext.dataset_conversion.output import verify
from nnunet_ext.errors import UserError

MIGRATION = Path(__file__).parent / "golden" / "migration"
SOURCE = "@SOURCE@"  # stands for the place of the download in what was kept
BRATS = "Dataset137_BraTS2021"

#: data set -> what was typed after 'nnunet_ext convert NAME -i DOWNLOAD'
CONVERSIONS = {
    "brats2021": "-d 137 --splits 2",
    "busi": "-d 138 --splits 2 --resize 20x16 --rgb-norm 0_1",
    "kvasir-seg": "-d 139 --splits 2",
    "lgg": "-d 140 --splits 2 --as 3d",
}
#: data set -> cases that the conversion had finished when it was killed
HALF = {"brats2021": 2, "busi": 3, "lgg": 1}
#: "PLANS CONFIGURATION TRAINER" -> fingerprint of the network's keys and shapes
NETWORKS: dict[str, str] = json.loads((MIGRATION / "networks.json").read_text(encoding="utf-8"))
PLANS = sorted({name.split()[0] for name in NETWORKS})

TRAINER = "nnUNetTrainerCFNet_2epochs_1its_1vits_NoMirroring_seed1"
TINY = "nnUNetCFNetPlansTiny"
MODEL = f"{TRAINER}__{TINY}__2d"
UNSEEN = "BraTS2021_00008"  # the case whose prediction is kept; fold 0 was not trained on it
#: sha256 of keys and shapes of both checkpoints' weights
WEIGHTS = "b2f8f94bd552144e4df50775e82bc4662c77900e1dbe1957a5c670f58c07c8b5"


# --- helpers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placed:
    """A kept conversion in this test's own folders, as it was on the machine that wrote it."""

    dataset: str
    download: Path
    folder: Path

    def convert(self, *more: str) -> list[str]:
        """The command line that made it."""
        return [
            "convert",
            self.dataset,
            "-i",
            str(self.download),
            "-np",
            "1",
            *CONVERSIONS[self.dataset].split(),
            *more,
        ]


@pytest.fixture
def place(tmp_path: Path, nnunet_folders: Any) -> Callable[..., Placed]:
    """``place("busi", "finished")``: the download, and the conversion in ``nnUNet_raw`` with its hard links."""

    def put(dataset: str, state: str) -> Placed:
        kept = MIGRATION / "conversions" / dataset
        download = Path(shutil.copytree(kept / "download", tmp_path / "download"))
        (folder,) = (kept / state).glob("Dataset*")
        placed = Placed(dataset, download, Path(shutil.copytree(folder, nnunet_folders.raw / folder.name)))
        links = kept / state / "hard_links.json"
        for name, source in (json.loads(links.read_text(encoding="utf-8")) if links.is_file() else {}).items():
            (placed.folder / name).parent.mkdir(exist_ok=True)
            os.link(download / source, placed.folder / name)
        for record in (placed.folder / "provenance.json", placed.folder / ".convert.jsonl"):
            if record.is_file():
                text = record.read_text(encoding="utf-8").replace(SOURCE, json.dumps(str(download.resolve()))[1:-1])
                record.write_text(text, encoding="utf-8")
        return placed

    return put


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``command("convert", ...)``: our console command in this process; its output, once it has ended well."""

    def run(*arguments: Any) -> str:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == 0, err or out
        return out

    return run


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Path -> time of change and content of every file below."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def record_without(data: bytes, sizes: bool) -> bytes:
    """A record of a conversion without what the run and the versions decide, without its options (which are compared
    by their own rule) and, if told, without the sizes of compressed files."""
    record = json.loads(data)
    for key in ("run", "options", "nnunet_ext", "nnunetv2"):
        del record[key]
    for case in record["cases"] if sizes else ():
        for file in case["files"]:
            if file["of"] == "content":
                del file["size"]
    return json.dumps(record).encode()


def converted(folder: Path, decoded: bool) -> dict[str, bytes]:
    """Every file of a conversion by relative name, without what the run and the versions decide; of the report, whose
    words are for people, the headings alone. With ``decoded`` what compressed files hold instead of their bytes."""
    found = {}
    for name, (_, data) in tree(folder).items():
        if name == "provenance.json":
            data = record_without(data, sizes=decoded)
        elif name == "dataset.json":
            description = json.loads(data)
            del description["converted_by"], description["nnunet_ext"]["version"]
            data = json.dumps(description).encode()
        elif name == "report.md":
            data = b"\n".join(line for line in data.splitlines() if line.startswith(b"## "))
        elif decoded and name.endswith(".gz"):
            data = gzip.decompress(data)
        elif decoded and name.endswith(".png"):
            with Image.open(folder / name) as picture:
                data = np.asarray(picture).tobytes()
        found[name] = data
    return found


def compresses_alike() -> bool:
    """Whether gzip files and pictures are compressed here by what compressed the kept ones."""
    made_with = json.loads((MIGRATION / "made_with.json").read_text(encoding="utf-8"))
    try:
        return all(version(name) == made_with[name] for name in ("isal", "Pillow"))
    except PackageNotFoundError:
        return False


def digests(folder: Path) -> dict[str, str]:
    """File name -> shape, type and sha256 of its values; of pictures, whether a pixel is above 127."""
    found = {}
    for file in sorted(folder.iterdir()):
        if file.name.endswith(".nii.gz"):
            values = np.asarray(nibabel.load(file).dataobj)
        else:
            with Image.open(file) as picture:
                values = np.asarray(picture.convert("L")) > 127
        shape, data = "x".join(map(str, values.shape)), np.ascontiguousarray(values).tobytes()
        found[file.name] = f"{shape} {values.dtype} {hashlib.sha256(data).hexdigest()}"
    return found


def fingerprint(state_dict: dict[str, Any]) -> str:
    """sha256 of keys and shapes, in the order of the keys' names."""
    shapes = sorted((key, list(tensor.shape)) for key, tensor in state_dict.items())
    return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()


# --- conversions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", CONVERSIONS)
def test_a_finished_conversion_is_found_done_and_every_file_verifies(place, command, dataset) -> None:
    placed = place(dataset, "finished")
    before = tree(placed.folder)
    assert "everything was there already; nothing was done" in command(*placed.convert())
    assert tree(placed.folder) == before
    assert verify.changed_files(placed.folder) == []


@pytest.mark.parametrize("dataset", CONVERSIONS)
def test_labels_handed_in_as_predictions_become_the_submission_that_was_written_then(
    place, command, tmp_path, dataset
) -> None:
    placed = place(dataset, "finished")
    predictions = tmp_path / "predictions"
    for part in ("labelsTr", "labelsTs"):
        if (placed.folder / part).is_dir():
            shutil.copytree(placed.folder / part, predictions, dirs_exist_ok=True)
    number = CONVERSIONS[dataset].split()[1]
    command("to-submission", dataset, "-d", number, "-i", predictions, "-o", tmp_path / "submission", "--partial")
    expected = json.loads((MIGRATION / "conversions" / dataset / "submission.json").read_text(encoding="utf-8"))
    assert digests(tmp_path / "submission") == expected


@pytest.mark.parametrize("dataset", HALF)
def test_a_half_conversion_goes_on_to_what_the_finished_one_is(place, command, dataset) -> None:
    placed = place(dataset, "half")
    done = {name for name in tree(placed.folder) if name.startswith(("imagesTr", "labelsTr"))}
    (finished,) = (MIGRATION / "conversions" / dataset / "finished").glob("Dataset*")
    document = json.loads(command(*placed.convert("--json")))
    assert document["complete"]
    assert document["resumed"] == HALF[dataset]
    assert done < set(tree(placed.folder))
    links = finished.parent / "hard_links.json"
    linked = json.loads(links.read_text(encoding="utf-8")) if links.is_file() else {}
    for decoded in (True, False) if compresses_alike() else (True,):
        ours, theirs = converted(placed.folder, decoded), converted(finished, decoded)
        assert ours.keys() - linked.keys() == theirs.keys()
        assert linked.keys() <= ours.keys()
        for name in theirs:
            assert ours[name] == theirs[name], name
    for name, source in linked.items():
        assert (placed.folder / name).samefile(placed.download / source)
    assert verify.changed_files(placed.folder) == []
    now, then = (
        json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["options"]
        for folder in (placed.folder, finished)
    )
    assert now == {name: then[name] for name in now}, "an option of today was another one then"
    # Records of that time held the choices of all datasets.
    assert now.keys() >= then.keys() - {"as", "only_tumour_slices", "official_split", "with_normal"}


# --- plans and networks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PLANS, TINY])
def test_plans_are_read_and_name_no_foreign_class(name) -> None:
    from nnunet_ext.planning.plans_file import foreign_classes, read_plans

    file = MIGRATION / "training" / MODEL / "plans.json" if name == TINY else MIGRATION / "plans" / f"{name}.json"
    plans = read_plans(file)
    assert plans["plans_name"] == name
    assert foreign_classes(plans) == []


@pytest.fixture
def planned(nnunet_folders: Any) -> Path:
    """The preprocessed folder with the kept plans, description and fingerprint."""
    return Path(shutil.copytree(MIGRATION / "plans", nnunet_folders.preprocessed / BRATS))


@pytest.mark.parametrize("configuration", ["2d", pytest.param("3d_fullres", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PLANS)
def test_trainers_are_estimated_on_the_plans_of_then(planned, command, single_thread, name, configuration) -> None:
    trainers = sorted({network.split()[2] for network in NETWORKS if network.split()[:2] == [name, configuration]})
    options = ["-d", 137, "-p", name, "-c", configuration, "-gpu_memory_target", 8, "--json"]
    rows = json.loads(command("estimate", *options, "-tr", *trainers))
    assert [(row["network"], row["configuration"]) for row in rows] == [(name, configuration) for name in trainers]
    assert all(row["parameters"] > 0 and row["training_bytes"] > 0 and row["fits"] for row in rows)


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_built_from_plans_have_the_weights_they_had(network, single_thread) -> None:
    import torch
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_ext.planning.plans_file import read_plans
    from nnunet_ext.trainers.registry import resolve

    name, configuration, trainer = network.split()
    plans = PlansManager(read_plans(MIGRATION / "plans" / f"{name}.json"))
    manager = plans.get_configuration(configuration)
    built = resolve(trainer).build_network_architecture(plans, manager, 4, 3, False).eval()
    assert fingerprint(built.state_dict()) == NETWORKS[network], "a checkpoint of then cannot be loaded any more"
    with torch.no_grad():
        logits = built(torch.zeros(1, 4, *manager.patch_size))
    assert logits.shape == (1, 3, *manager.patch_size)


@pytest.mark.parametrize(
    ("name", "trainer", "target"),
    [
        ("nnUNetCFNetPlans", "nnUNetTrainerCFNet", 8.0),
        ("nnUNetCFFormerPlans", "nnUNetTrainerCFFormer", 8.0),
        ("nnUNetCFFormerBasePlans_11G", "nnUNetTrainerCFFormer_base", 11.0),
    ],
)
def test_planning_the_same_again_replaces_the_plans_only_by_name(place, planned, name, trainer, target) -> None:
    """Since then the networks keep less, so that new plans may be larger."""
    from nnunet_ext.planning import make_plans
    from nnunet_ext.trainers.estimates import network_to_plan

    place("brats2021", "finished")  # planning needs the raw data set
    network = network_to_plan(None, trainer)
    wanted = make_plans.Wanted(dataset_name=BRATS, **network, target=target, plans_name=None, processes=1)
    assert wanted.name == name
    with pytest.raises(UserError, match="kept more memory in training"):
        make_plans.check(wanted)
    make_plans.check(replace(wanted, plans_name=name))


# --- a model ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(nnunet_folders: Any) -> Path:
    """The kept model folder among this test's results: fold 0 is finished, fold 1 had trained one epoch of two."""
    return Path(shutil.copytree(MIGRATION / "training" / MODEL, nnunet_folders.results / BRATS / MODEL))


@pytest.mark.parametrize("file", ["fold_0/checkpoint_final.pth", "fold_1/checkpoint_latest.pth"])
def test_a_checkpoint_is_read_without_running_it_and_fits_the_network_of_its_trainer(model, single_thread, file):
    import torch
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_ext.trainers import checkpoints
    from nnunet_ext.trainers.registry import resolve

    content = checkpoints.read(model / file, torch.device("cpu"))
    assert fingerprint(content["network_weights"]) == WEIGHTS, "the kept file was changed"
    trainer = resolve(content["trainer_name"])
    plans = PlansManager(content["init_args"]["plans"])
    network = trainer.build_network_architecture(plans, plans.get_configuration("2d"), 4, 3, True)
    assert fingerprint(network.state_dict()) == WEIGHTS, "a weight was renamed or reshaped: old models no longer load"
    checkpoints.load_weights(network, content, model / file)


@pytest.fixture
def prediction(place: Callable[..., Placed], model: Path, tmp_path: Path) -> list[str]:
    """Arguments of the prediction of one case by fold 0, into ``tmp_path/out``."""
    images = tmp_path / "images"
    images.mkdir()
    for image in (place("brats2021", "finished").folder / "imagesTr").glob(f"{UNSEEN}_*"):
        shutil.copy(image, images)
    options = f"-d 137 -c 2d -f 0 -tr {TRAINER} -p {TINY} --save_probabilities -device cpu -npp 0 -nps 0"
    return ["-i", str(images), "-o", str(tmp_path / "out"), *options.split()]


def check_that_it_predicted_the_same(out: Path) -> None:
    """The kept probabilities are those of then in half precision."""
    with np.load(out / f"{UNSEEN}.npz") as ours, np.load(MIGRATION / "training" / "predicted.npz") as theirs:
        np.testing.assert_allclose(ours["probabilities"], theirs["probabilities"], rtol=0, atol=5e-3)
    assert (out / f"{UNSEEN}.nii.gz").is_file()


def test_the_finished_fold_predicts_what_it_predicted(
    prediction, command, single_thread, monkeypatch, tmp_path
) -> None:
    import torch

    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # nnU-Net would take all for the rest of the process
    command("predict", *prediction)
    check_that_it_predicted_the_same(tmp_path / "out")


@pytest.mark.slow
def test_the_stock_command_predicts_what_it_predicted(prediction, run_nnunet, nnunet_folders, tmp_path) -> None:
    run_nnunet(["nnUNetv2_predict", *prediction], nnunet_folders.environment())
    check_that_it_predicted_the_same(tmp_path / "out")


@pytest.fixture
def preprocessed(
    place: Callable[..., Placed], model: Path, nnunet_folders: Any, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The data of the 2d plans, preprocessed by nnU-Net from the kept conversion, in threads."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset

    placed = place("brats2021", "finished")
    folder = nnunet_folders.preprocessed / BRATS
    folder.mkdir()
    shutil.copy(model / "plans.json", folder / f"{TINY}.json")
    for file in ("dataset.json", "splits_final.json"):
        shutil.copy(placed.folder / file, folder)
    shutil.copy(model / "dataset_fingerprint.json", folder)
    with monkeypatch.context() as patched:
        patched.setattr(multiprocessing, "get_context", lambda *_: SimpleNamespace(Pool=ThreadPool))
        preprocess_dataset(137, TINY, ["2d"], [1])
    return folder


def check_that_it_went_on(fold: Path, before: dict[str, Any]) -> None:
    """Fold 1 is finished, and its first epoch is the one that was trained then."""
    import torch

    after = torch.load(fold / "checkpoint_final.pth", weights_only=True)
    assert (before["current_epoch"], after["current_epoch"]) == (1, 2)
    for name in ("train_losses", "val_losses", "lrs"):
        assert len(after["logging"][name]) == 2
        assert after["logging"][name][:1] == before["logging"][name]
    assert fingerprint(after["network_weights"]) == WEIGHTS
    assert not (fold / "checkpoint_latest.pth").exists()


def test_the_unfinished_fold_goes_on_to_its_end(preprocessed, model, single_thread, monkeypatch) -> None:
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
    from nnunetv2.training.logging.nnunet_logger import MetaLogger

    monkeypatch.setattr(MetaLogger, "plot_progress_png", lambda *_: None)
    before = torch.load(model / "fold_1" / "checkpoint_latest.pth", weights_only=True)
    trainer = get_trainer_from_args("137", "2d", 1, TRAINER, TINY, True, device=torch.device("cpu"))
    maybe_load_checkpoint(trainer, True, False, None)
    assert trainer.current_epoch == 1
    trainer.run_training()
    check_that_it_went_on(model / "fold_1", before)


@pytest.mark.slow
def test_the_unfinished_fold_goes_on_with_the_stock_command_and_c(
    preprocessed, model, run_nnunet, nnunet_folders
) -> None:
    import torch

    before = torch.load(model / "fold_1" / "checkpoint_latest.pth", weights_only=True)
    line = f"nnUNetv2_train 137 2d 1 -tr {TRAINER} -p {TINY} -device cpu --c"
    done = run_nnunet(line.split(), nnunet_folders.environment())
    assert "Training done." in done.stdout
    check_that_it_went_on(model / "fold_1", before)
    assert (model / "fold_1" / "validation" / "summary.json").is_file()
