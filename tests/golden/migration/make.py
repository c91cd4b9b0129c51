"""Writes the files beside it anew, with the version of the plugin that Python imports: see README.md.

    python make.py FOLDER

Every command is printed as it runs. Places of this machine become ``@SOURCE@`` in what is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Before nnU-Net and torch are imported: they read these once.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "nnUNet_def_n_proc": "1",
    "nnUNet_n_proc_DA": "1",
    "MPLBACKEND": "Agg",
}

SOURCE = "@SOURCE@"
TRAINER = "nnUNetTrainerCFNet_2epochs_1its_1vits_NoMirroring_seed1"
PLANS = "nnUNetCFNetPlansTiny"
BRATS = "Dataset137_BraTS2021"
UNSEEN = "BraTS2021_00008"

PHANTOMS = {
    "brats2021": "--cases 5 --shape 16 20 20",
    "busi": "--cases 6 --shape 1 24 28 --layout zip",
    "kvasir-seg": "--cases 6 --shape 1 24 28 --layout zip",
    "lgg": "--cases 3 --shape 12 16 16 --layout zip --no-quirks",
}
CONVERSIONS = {
    "brats2021": "-d 137 --splits 2",
    "busi": "-d 138 --splits 2 --resize 20x16 --rgb-norm 0_1",
    "kvasir-seg": "-d 139 --splits 2",
    "lgg": "-d 140 --splits 2 --as 3d",
}
#: whose versions are noted; those of isal and Pillow decide the bytes of compressed files
PACKAGES = ("nnunet_ext", "nnunetv2", "torch", "numpy", "isal", "Pillow")
#: data sets of which half a conversion is kept too -> cases finished when it was killed
HALF = {"brats2021": 2, "busi": 3, "lgg": 1}
#: file name of plans -> options of 'nnunet_ext plan'; None: nnU-Net's own
PLANNED = {
    "nnUNetPlans": None,
    "nnUNetCFNetPlans": "-a CFNet",
    "nnUNetCFFormerPlans": "-a CFFormer",
    "nnUNetCFFormerBasePlans_11G": "-tr nnUNetTrainerCFFormer_base -gpu_memory_target 11",
    "nnUNetCFFormerCNNOnlyPlans": "-tr nnUNetTrainerCFFormer_CNNOnly -overwrite_plans_name nnUNetCFFormerCNNOnlyPlans",
}
#: file name of plans -> who trains on them
TRAINED_BY = {
    "nnUNetPlans": ("nnUNetTrainerCFNet", "nnUNetTrainerCFFormer"),
    "nnUNetCFNetPlans": ("nnUNetTrainerCFNet",),
    "nnUNetCFFormerPlans": ("nnUNetTrainerCFFormer",),
    "nnUNetCFFormerBasePlans_11G": ("nnUNetTrainerCFFormer_base",),
    "nnUNetCFFormerCNNOnlyPlans": ("nnUNetTrainerCFFormer_CNNOnly",),
}


class Killed(BaseException):
    """Ends a conversion or a training like a signal: nothing catches it."""


def command(line: str, **environment: str) -> None:
    """A console command, run beside this Python."""
    show(line)
    name, *arguments = line.split()
    script = Path(sys.executable).parent / name
    subprocess.run(
        [script, *arguments], env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    ).check_returncode()


def show(line: str) -> None:
    """A command as a user would type it."""
    print("$ " + line.replace(f"{Path.cwd()}/", ""), flush=True)


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        work = Path(name).resolve()
        for part in ("raw", "preprocessed", "results"):
            (work / part).mkdir()
            os.environ[f"nnUNet_{part}"] = str(work / part)
        os.chdir(work)
        import nnunet_ext

        print(f"nnunet_ext {nnunet_ext.__version__} of {Path(nnunet_ext.__file__).parent}")
        write_json(out / "made_with.json", {name: version(name) for name in PACKAGES})
        for dataset in CONVERSIONS:
            conversion(dataset, out / "conversions" / dataset)
        plans(out / "plans")
        training(out / "training")


# --- conversions -----------------------------------------------------------------------------------------------------


def conversion(dataset: str, out: Path) -> None:
    """``download/``, ``finished/`` and, for some, ``half/``; what the submission of the labels is."""
    options = CONVERSIONS[dataset]
    download = out / "download"
    command(f"nnunet_ext phantom {dataset} -o download_{dataset} {PHANTOMS[dataset]}")
    shutil.copytree(f"download_{dataset}", download)
    # The whole path: findings in the journal begin with the source as it was typed.
    convert = f"nnunet_ext convert {dataset} -i {Path.cwd()}/download_{dataset} -np 1 {options}"
    if dataset in HALF:
        show(f"{convert} -o half  # killed after {HALF[dataset]} cases")
        with killed_after(HALF[dataset]), contextlib.suppress(Killed), contextlib.redirect_stdout(io.StringIO()):
            from nnunet_ext.cli import main as nnunet_ext

            sys.argv = f"{convert} -o half".split()
            nnunet_ext(sys.argv[1:])
        keep(dataset, next(Path("half").glob("Dataset*")), out / "half")
        shutil.rmtree("half")
    command(convert)
    (folder,) = Path("raw").glob(f"Dataset{options.split()[1]}_*")
    keep(dataset, folder, out / "finished")
    for part in ("labelsTr", "labelsTs"):
        if (folder / part).is_dir():
            shutil.copytree(folder / part, f"labels_{dataset}", dirs_exist_ok=True)
    partial = " --partial" if (folder / "labelsTs").is_dir() else ""
    command(
        f"nnunet_ext to-submission {dataset} -d {options.split()[1]} -i labels_{dataset} -o submission_{dataset}"
        + partial
    )
    write_json(out / "submission.json", digests(Path(f"submission_{dataset}")))


@contextlib.contextmanager
def killed_after(cases: int) -> Any:
    """The process dies while it notes the next case as finished: half of the line has reached the disk."""
    from nnunet_ext.dataset_conversion.output.journal import Journal

    original, done = Journal.add, []

    def add(self: Journal, case: Any, result: Any) -> None:
        original(self, case, result)
        done.append(case.id)
        if len(done) > cases:
            self.close()
            whole = self._path.read_bytes()
            last = len(whole.splitlines(keepends=True)[-1])
            self._path.write_bytes(whole[: len(whole) - last // 2])
            raise Killed

    Journal.add = add
    try:
        yield
    finally:
        Journal.add = original


def keep(dataset: str, folder: Path, out: Path) -> None:
    """A copy of a conversion without the files that are hard links into the download, which are listed instead."""
    download = Path(f"download_{dataset}")
    inodes = {file.stat().st_ino: file.relative_to(download).as_posix() for file in files(download)}
    links = {}
    for file in files(folder):
        name = file.relative_to(folder).as_posix()
        if file.stat().st_ino in inodes:
            links[name] = inodes[file.stat().st_ino]
            continue
        (out / folder.name / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, out / folder.name / name)
    if links:
        write_json(out / "hard_links.json", links)
    for file in (out / folder.name / "provenance.json", out / folder.name / ".convert.jsonl"):
        if file.is_file():
            text = file.read_text(encoding="utf-8").replace(str(download.resolve()), SOURCE)
            text = text.replace(str(Path(sys.executable).parent) + os.sep, "")
            assert tempfile.gettempdir() not in text
            file.write_text(text, encoding="utf-8")


def digests(folder: Path) -> dict[str, str]:
    """File name -> shape, type and sha256 of its values. Of pictures the values are whether a pixel is above 127, so
    that the loss of a JPEG does not count."""
    import nibabel
    import numpy as np
    from PIL import Image

    found = {}
    for file in files(folder):
        if file.name.endswith((".nii", ".nii.gz")):
            values = np.asarray(nibabel.load(file).dataobj)
        else:
            with Image.open(file) as picture:
                values = np.asarray(picture.convert("L")) > 127
        data = np.ascontiguousarray(values).tobytes()
        shape = "x".join(map(str, values.shape))
        found[file.name] = f"{shape} {values.dtype} {hashlib.sha256(data).hexdigest()}"
    return found


# --- plans and networks ----------------------------------------------------------------------------------------------


def plans(out: Path) -> None:
    """The JSON files of a preprocessed folder, and what networks built from the plans are made of."""
    command("nnUNetv2_plan_and_preprocess -d 137 -c 2d -np 1 -npfp 1 --verify_dataset_integrity")
    for options in filter(None, PLANNED.values()):
        command(f"nnunet_ext plan -d 137 {options} --no_pp -np 1")
    folder = Path("preprocessed") / BRATS
    out.mkdir(parents=True)
    for name in ("dataset", "dataset_fingerprint", *PLANNED):
        shutil.copy(folder / f"{name}.json", out)
    networks = {}
    for name, trainers in TRAINED_BY.items():
        content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for configuration in content["configurations"]:
            for trainer in trainers:
                networks[f"{name} {configuration} {trainer}"] = weights(content, configuration, trainer)
    write_json(out.parent / "networks.json", networks)


def weights(content: dict[str, Any], configuration: str, trainer: str) -> str:
    """Fingerprint of the keys and shapes of the state dict of the network that a trainer builds."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_ext.trainers.registry import resolve

    manager = PlansManager(content)
    network = resolve(trainer).build_network_architecture(manager, manager.get_configuration(configuration), 4, 3, True)
    return fingerprint(network.state_dict())


def fingerprint(state_dict: dict[str, Any]) -> str:
    """sha256 of keys and shapes, in the order of the keys' names."""
    shapes = sorted((key, list(tensor.shape)) for key, tensor in state_dict.items())
    return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()


# --- a training ------------------------------------------------------------------------------------------------------


def training(out: Path) -> None:
    """A model folder: fold 0 is finished, fold 1 was killed after its first epoch. What fold 0 predicts."""
    import numpy as np
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    folder = Path("preprocessed") / BRATS
    content = json.loads((folder / "nnUNetCFNetPlans.json").read_text(encoding="utf-8"))
    content["plans_name"] = PLANS
    for configuration in content["configurations"].values():
        configuration["batch_size"] = 2
        configuration["architecture"]["arch_kwargs"] |= {
            "features_per_stage": [8, 8, 16],
            "n_conv_per_stage": [1, 1, 1],
            "n_conv_per_stage_decoder": [1, 1],
        }
    (folder / f"{PLANS}.json").write_text(json.dumps(content, indent=4), encoding="utf-8")
    model = f"-tr {TRAINER} -p {PLANS}"
    command(f"nnUNetv2_train 137 2d 0 {model} -device cpu", nnUNet_n_proc_DA="0")

    show(f"nnUNetv2_train 137 2d 1 {model} -device cpu  # killed after its first epoch")
    os.environ["nnUNet_n_proc_DA"] = "0"
    torch.set_num_threads(1)
    trainer = get_trainer_from_args("137", "2d", 1, TRAINER, PLANS, device=torch.device("cpu"))
    end = trainer.on_epoch_end

    def end_and_die() -> None:
        end()
        raise Killed

    trainer.on_epoch_end = end_and_die
    with contextlib.suppress(Killed), contextlib.redirect_stdout(io.StringIO()):
        trainer.run_training()

    results = Path("results") / BRATS / f"{TRAINER}__{PLANS}__2d"
    for name in (
        "plans.json",
        "dataset.json",
        "dataset_fingerprint.json",
        "fold_0/checkpoint_final.pth",
        "fold_1/checkpoint_latest.pth",
    ):
        (out / results.name / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(results / name, out / results.name / name)

    Path("unseen").mkdir()
    for image in sorted((Path("raw") / BRATS / "imagesTr").glob(f"{UNSEEN}_*")):
        shutil.copy(image, "unseen")
    command(
        f"nnunet_ext predict -i unseen -o predicted -d 137 -c 2d -f 0 {model} --save_probabilities -device cpu "
        "-npp 0 -nps 0"
    )
    with np.load(f"predicted/{UNSEEN}.npz") as predicted:
        np.savez_compressed(out / "predicted.npz", probabilities=predicted["probabilities"].astype(np.float16))
    with zipfile.ZipFile(out / results.name / "fold_1" / "checkpoint_latest.pth") as archive:
        assert not any(str(Path.cwd()).encode() in archive.read(name) for name in archive.namelist())


# --- files -----------------------------------------------------------------------------------------------------------


def files(folder: Path) -> list[Path]:
    """All files below a folder, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def write_json(file: Path, content: Any) -> None:
    """Indented, one entry a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
