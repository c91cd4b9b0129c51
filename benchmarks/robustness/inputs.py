"""From a seed and a number to an input: a subject in the box, one thing mutated, and the arguments of a command."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import archive_mutations
import argument_mutations
import gzip_mutations
import json_mutations
import name_mutations
import nifti_mutations
import picture_mutations
import table_mutations
from box import DOWNLOAD, OUT, PREDICTIONS, PREPROCESSED, RAW, RESULTS, TABLES, Box
from subjects import DATASET_ID, DATASETS, convert_arguments, folder_of

BRATS = ("brats2021", "brats2020", "brats2019")
PICTURES = ("busi", "kvasir-seg", "lgg")
#: kind -> how many of 2,000
WEIGHTS = {
    "NIfTI": 320,
    "gzip": 200,
    "archives": 320,
    "pictures": 320,
    "tables": 160,
    "JSON": 280,
    "names": 200,
    "arguments": 200,
}


@dataclass(frozen=True)
class Input:
    """One input, ready to be tried.

    Attributes:
        number, kind, told: which it is and what was mutated.
        argv: arguments of ``nnunet_ext``.
        allowed: what the command may write to.
    """

    number: int
    kind: str
    told: str
    argv: Sequence[str]
    allowed: Sequence[Path]


Made = tuple[str, list[str]]


def kind_of(seed: int, number: int) -> str:
    return random.Random(f"kind {seed} {number}").choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))[0]


def make(box: Box, seed: int, number: int, prepare: Callable[[str], None], only: Sequence[str] = ()) -> Input:
    """Fills the box with input ``number`` of a seed. ``only`` keeps to some kinds."""
    kind = kind_of(seed, number)
    if only and kind not in only:
        kind = only[number % len(only)]
    rng = random.Random(f"input {seed} {number}")

    def fill(subject: str) -> None:
        prepare(subject)
        box.fill(subject)

    told, argv = _KINDS[kind](box, rng, fill)
    return Input(number, kind, told, argv, _allowed(box, kind, argv))


def _allowed(box: Box, kind: str, argv: Sequence[str]) -> list[Path]:
    verb = argv[0] if argv else ""
    if kind == "arguments":
        # Where a changed argument leads is what the user asks for: no command reads and writes at one place, though.
        return [box.here / OUT, box.here / RAW, *(box.here / "cwd" / word for word in argv if word)]
    if verb == "convert":
        return [] if "--dry-run" in argv else [box.here / RAW]
    return [box.here / OUT] if verb in ("to-submission", "overlay", "phantom") else []


# --- files below the box ---------------------------------------------------------------------------------------------


def _files(folder: Path, *endings: str) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name.lower().endswith(endings))
    return sorted(path for path in found if not path.name.startswith("."))


def _write(path: Path, data: bytes) -> None:
    path.unlink()  # images of a dataset may be hard links to the download
    path.write_bytes(data)


def _convert(box: Box, rng: random.Random, dataset: str, *more: str) -> list[str]:
    argv = convert_arguments(box, dataset)
    if rng.random() < 0.12:
        argv[1] = "auto"
    if rng.random() < 0.08:
        more = (*more, "--dry-run")
    return [*argv, *more]


def _to_submission(box: Box, dataset: str) -> list[str]:
    number, predictions = str(DATASET_ID[dataset]), os.fspath(box.here / PREDICTIONS)
    return ["to-submission", dataset, "-d", number, "-i", predictions, "-o", os.fspath(box.here / OUT / "submission")]


def _overlay(box: Box) -> list[str]:
    folder = folder_of(box)
    argv = ["overlay", "-i", folder / "imagesTr", "-r", folder / "labelsTr", "-p", box.here / PREDICTIONS]
    return [*map(os.fspath, argv), "-o", os.fspath(box.here / OUT / "picture.png")]


def _planned(rng: random.Random) -> list[str]:
    """A command that reads a planned dataset."""
    slow = ["plan", "-d", "137", "-a", "CFNet", "--small", "--dry-run"]
    doctor = ["doctor", "-d", "137", "-tr", "nnUNetTrainerCFNet"]
    estimate = ["estimate", "-d", "137", "-p", "nnUNetPlans", "-tr", "nnUNetTrainer", "-c", "2d"]
    ours = ["estimate", "-d", "137", "-p", "nnUNetCFNetPlans", "-tr", "nnUNetTrainerCFNet", "-gpu_memory_target", "8"]
    return rng.choice((doctor, doctor, [*doctor, "--files"], estimate, estimate, estimate, ours, ours, slow))


# --- one function a kind ---------------------------------------------------------------------------------------------


def _nifti(box: Box, rng: random.Random, fill: Callable[[str], None]) -> Made:
    return _volume(box, rng, fill, lambda data: _inside(data, rng))


def _inside(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A volume mutated; compressed again if it was."""
    if data[:2] != b"\x1f\x8b":
        return nifti_mutations.mutate(data, rng)
    changed, told = nifti_mutations.mutate(gzip.decompress(data), rng)
    return gzip.compress(changed, 1, mtime=0), told


def _gzip(box: Box, rng: random.Random, fill: Callable[[str], None]) -> Made:
    return _volume(box, rng, fill, lambda data: _stream(data, rng))


def _stream(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """The compressed file mutated; one that is not compressed is so first."""
    return gzip_mutations.mutate(data if data[:2] == b"\x1f\x8b" else gzip.compress(data, 1, mtime=0), rng)


def _volume(
    box: Box, rng: random.Random, fill: Callable[[str], None], mutate: Callable[[bytes], tuple[bytes, str]]
) -> Made:
    use = rng.choice(("convert",) * 35 + ("to-submission",) * 8 + ("overlay",) * 10 + ("plan",))
    if use == "convert":
        dataset = rng.choice(BRATS)
        fill(dataset)
        places, argv = [box.here / DOWNLOAD], _convert(box, rng, dataset)
    elif use == "plan":
        fill("planned")
        places, argv = [folder_of(box)], ["plan", "-d", "137", "-a", "CFNet", "--small", "--dry-run"]
        # Without a fingerprint the images are read.
        (box.here / PREPROCESSED / folder_of(box).name / "dataset_fingerprint.json").unlink()
    else:
        fill("finished:brats2021")
        places = [box.here / PREDICTIONS]
        argv = _to_submission(box, "brats2021") if use == "to-submission" else _overlay(box)
        if use == "overlay":
            places += [folder_of(box)]
    path = rng.choice(_files(rng.choice(places), ".nii.gz", ".nii"))
    data, told = mutate(path.read_bytes())
    _write(path, data)
    return f"{path.name}: {told}", argv


def _archives(box: Box, rng: random.Random, fill: Callable[[str], None]) -> Made:
    dataset = rng.choice((*DATASETS, "brats2021"))
    fill(dataset)
    download = box.here / DOWNLOAD
    files = {
        path.relative_to(download).as_posix(): path.read_bytes()
        for path in sorted(download.rglob("*"))
        if path.is_file()
    }
    name, data, told = archive_mutations.mutate(files, rng, os.fspath(box.top))
    where = rng.choice(("itself", "itself", "in a folder", "beside the data"))
    argv = _convert(box, rng, dataset)
    if where == "beside the data":
        place = download / name
    else:
        place = box.here / "packed" / name
        place.parent.mkdir()
        argv[argv.index("-i") + 1] = os.fspath(place if where == "itself" else place.parent)
    place.write_bytes(data)
    return f"{told}; {where}", argv


def _pictures(box: Box, rng: random.Random, fill: Callable[[str], None]) -> Made:
    dataset = rng.choice(PICTURES)
    use = rng.choice(("convert",) * 6 + ("to-submission", "overlay"))
    if use != "convert" and dataset in ("busi", "lgg"):
        fill(f"finished:{dataset}")
        places = [box.here / PREDICTIONS] if use == "to-submission" else [box.here / PREDICTIONS, folder_of(box)]
        argv = _to_submission(box, dataset) if use == "to-submission" else _overlay(box)
    else:
        fill(dataset)
        places = [box.here / DOWNLOAD]
        more = rng.choice(((), (), ("--resize", "24x20"), ("--rgb-norm", "0_1"), ("--as", "3d")))
        if dataset != "lgg" and "--as" in more:
            more = ("--strict",)
        argv = _convert(box, rng, dataset, *more)
    path = rng.choice(_files(rng.choice(places), ".png", ".jpg", ".tif"))
    data, told = picture_mutations.mutate(path.read_bytes(), path.name, rng)
    _write(path, data)
    return f"{path.name}: {told}", argv


def _case_names(box: Box) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in (folder_of(box) / "labelsTr").iterdir())


def _tables(box: Box, rng: random.Random, fill: Callable[[str], None]) -> Made:
    if rng.random() < 0.4:
        dataset = rng.choice(("brats2021", "busi"))
        fill(f"finished:{dataset}")
        cases = _case_names(box)
        argv = _convert(box, rng, dataset, "--groups", os.fspath(box.here / TABLES / "groups.csv"), "--restart")
        path = box.here / TABLES / "groups.csv"
        path.write_text("case,group\n" + "".join(f"{case},{number // 2}\n" for number, case in enumerate(cases)))
    else:
        dataset = rng.choice(("brats2019", "brats2020"))
        fill(dataset)
        argv = _convert(box, rng, dataset)
        path = rng.choice(_files(box.here / DOWNLOAD, ".csv"))
    data, told = table_mutations.mutate(path.read_bytes(), rng)
    path.write_bytes(data)
    return f"{path.name}: {told}", argv


def _json(box: Box, rng: random.Random, fill: Callable[[str], None]) -> Made:
    use = rng.choice(
        (
            "splits",
            "splits",
            "dataset",
            "plans",
            "plans",
            "fingerprint",
            "record",
            "record",
            "journal",
            "model",
            "boxes",
        )
    )
    if use == "splits":
        dataset = rng.choice(("brats2021", "busi", "lgg"))
        fill(f"finished:{dataset}")
        path = box.here / TABLES / "splits.json"
        path.write_bytes((folder_of(box) / "splits_final.json").read_bytes())
        argv = convert_arguments(box, dataset)
        argv[argv.index("--splits") + 1] = os.fspath(path)
        argv += ["--restart"]
    elif use == "record":
        dataset = rng.choice(("brats2021", "busi", "lgg"))
        fill(f"finished:{dataset}")
        path = folder_of(box) / rng.choice(("provenance.json", "provenance.json", "dataset.json", "splits_final.json"))
        number = str(DATASET_ID[dataset])
        argv = rng.choice(
            (
                _to_submission(box, dataset),
                convert_arguments(box, dataset),
                ["doctor", "-d", number, "--files", "-tr", "os"],
            )
        )
        if rng.random() < 0.2:
            argv = _overlay(box)
    elif use == "journal":
        fill("half:brats2021")
        path = folder_of(box) / rng.choice((".convert.jsonl", ".convert.jsonl", "provenance.json"))
        argv = convert_arguments(box, "brats2021")
    elif use == "boxes":
        fill("kvasir-seg")
        path = _files(box.here / DOWNLOAD, ".json")[0]
        argv = _convert(box, rng, "kvasir-seg")
    else:
        fill("planned")
        folder, argv = box.here / PREPROCESSED / folder_of(box).name, _planned(rng)
        path = {
            "dataset": rng.choice((folder, folder_of(box))) / "dataset.json",
            "plans": folder / rng.choice(("nnUNetPlans.json", "nnUNetCFNetPlans.json")),
            "fingerprint": folder / "dataset_fingerprint.json",
            "model": rng.choice(_files(box.here / RESULTS, ".json")),
        }[use]
        if use == "model":
            argv = ["doctor", "-d", "137", "-tr", "nnUNetTrainerCFNet"]
    data, told = json_mutations.mutate(path.read_bytes(), rng)
    _write(path, data)
    return f"{path.name}: {told}", argv


def _names(box: Box, rng: random.Random, fill: Callable[[str], None]) -> Made:
    use = rng.choice(("download",) * 6 + ("predictions", "predictions", "raw", "raw", "half", "planned", "planned"))
    if use == "download":
        dataset = rng.choice(DATASETS)
        fill(dataset)
        place, argv = box.here / DOWNLOAD, _convert(box, rng, dataset)
    elif use == "half":
        fill("half:brats2021")
        place, argv = box.here / RAW, convert_arguments(box, "brats2021")
    elif use == "planned":
        fill("planned")
        place, argv = box.here / rng.choice((PREPROCESSED, RESULTS, RAW)), _planned(rng)
    else:
        dataset = rng.choice(("brats2021", "busi", "lgg"))
        fill(f"finished:{dataset}")
        if use == "raw":
            number = str(DATASET_ID[dataset])
            place = box.here / RAW
            argv = rng.choice(
                (
                    _to_submission(box, dataset),
                    convert_arguments(box, dataset),
                    ["doctor", "-d", number, "--files"],
                    _overlay(box),
                )
            )
        else:
            place, argv = box.here / PREDICTIONS, rng.choice((_to_submission(box, dataset), _overlay(box)))
    return name_mutations.mutate(place, rng, box.outside), argv


def _arguments(box: Box, rng: random.Random, fill: Callable[[str], None]) -> Made:
    verb = rng.choice(
        ("convert",) * 4
        + ("to-submission", "overlay", "phantom", "phantom", "info", "list", "estimate", "plan", "doctor")
    )
    if verb == "convert":
        dataset = rng.choice(DATASETS)
        fill(dataset)
        argv = _convert(box, rng, dataset, "--limit", "2", "--link", "copy")
    elif verb in ("to-submission", "overlay"):
        fill("finished:brats2021")
        argv = _to_submission(box, "brats2021") if verb == "to-submission" else _overlay(box)
    else:
        fill("planned")
        argv = {
            "phantom": ["phantom", "busi", "-o", os.fspath(box.here / OUT / "new"), "--cases", "2", "--seed", "1"],
            "info": ["info", rng.choice(("brats2021", "CFNet", "nnUNetTrainerCFNet_paper"))],
            "list": ["list", rng.choice(("trainers", "networks", "datasets", "planners"))],
            "estimate": ["estimate", "-d", "137", "-tr", "nnUNetTrainerCFNet", "-p", "nnUNetCFNetPlans", "-c", "2d"],
            "plan": ["plan", "-d", "137", "-a", "CFNet", "--small", "-c", "2d", "--dry-run"],
            "doctor": ["doctor", "-d", "137", "-tr", "nnUNetTrainerCFNet", "--json"],
        }[verb]
    places = [box.here / name for name in (DOWNLOAD, RAW, PREDICTIONS, TABLES, "absent", "cwd")]
    places += [box.outside, Path("/dev/null"), box.here / OUT / "new.png"]
    argv, told = argument_mutations.mutate(argv, [*map(os.fspath, places), ""], rng)
    # The root of the machine is not the box: reading or filling it tells nothing.
    return told, [os.fspath(box.here / "absent") if word in ("/", "\\", "~") else word for word in argv]


_KINDS: dict[str, Callable[[Box, random.Random, Callable[[str], None]], Made]] = {
    "NIfTI": _nifti,
    "gzip": _gzip,
    "archives": _archives,
    "pictures": _pictures,
    "tables": _tables,
    "JSON": _json,
    "names": _names,
    "arguments": _arguments,
}


def described(box: Box, made: Input) -> str:
    """One line of JSON: which input this is, without the path of this machine."""
    return json.dumps(
        {
            "number": made.number,
            "kind": made.kind,
            "mutation": box.shown(made.told),
            "arguments": [box.shown(word)[:200] for word in made.argv],
        }
    )
