"""Arguments of our commands: right ones with one changed, dropped, doubled or added."""

from __future__ import annotations

import random

from odd_values import TEXTS, shown

_NUMBERS = (
    "0",
    "-1",
    "1",
    "2",
    "1e3",
    "1.5",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "1000",
    "999",
    "99999999999999999999",
    "²",
    "٣",
)
_WORDS = (
    *(
        "auto",
        "brats2021",
        "busi",
        "BraTS2021",
        "lgg",
        "os",
        "torch",
        "sys",
        "nnUNetTrainer",
        "nnUNetTrainerCFNet_paper",
    ),
    *(
        "nnUNetTrainerCFNet_1epochs_1epochs",
        "nnUNetTrainerCFNet_²epochs",
        "nnUNetTrainerCFNet_-1epochs",
        "CFNet",
        "cfnet",
    ),
    *(
        "CFNet_",
        "nnUNetPlans",
        "../nnUNetPlans",
        "2d",
        "3d_fullres",
        "3d_lowres",
        "3d_cascade_fullres",
        "224x224",
        "8x",
    ),
    *(
        "0x0",
        "99999x99999",
        "LAB01",
        "ARC01",
        "ALL",
        "GZ01,GZ02",
        "Dataset137_BraTS2021",
        "Dataset137",
        "Dataset137___x",
    ),
    *("nnUNetTrainerCFNet_999999999999epochs", "nnUNetTrainerCFNet_seed-1", "nnUNetTrainerCFFormer_base_tiny", "\n"),
    *("--", "-h", "--version", "--json", "--dry-run", "--strict", "--as", "3d", "--with-normal", "-np", "--restart"),
)


def mutate(argv: list[str], places: list[str], rng: random.Random) -> tuple[list[str], str]:
    """The arguments with one or two changes, and what they are; ``places`` are files and folders of the box.

    Values of ``-np`` stay small: many processes are what the user then asks for.
    """
    argv, told = list(argv), []
    for _ in range(rng.choice((1, 1, 1, 2))):
        how = rng.choice(("change", "change", "change", "change", "drop", "double", "add", "join", "number"))
        at = rng.randrange(1, len(argv)) if len(argv) > 1 else 0
        value = rng.choice((rng.choice(TEXTS), rng.choice(_NUMBERS), rng.choice(_WORDS), rng.choice(places)))
        value = value.replace("\0", "").encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
        if how == "number":
            value = rng.choice(_NUMBERS)
        if at == 0 or how in ("add", "number"):
            argv.insert(at + 1, value)
        elif how == "change":
            argv[at] = value
        elif how == "drop":
            del argv[at]
        elif how == "double":
            argv.insert(at, argv[at])
        elif how == "join":
            argv[at : at + 2] = ["=".join([*argv[at : at + 1], value])]
        told.append(f"{how} at {at}: {shown(value)}")
    for at, word in enumerate(argv[:-1]):
        if word == "-np" and len(argv[at + 1]) > 1 and argv[at + 1].isdecimal() and argv[at + 1].isascii():
            argv[at + 1] = "1"
    return argv, "; ".join(told)
