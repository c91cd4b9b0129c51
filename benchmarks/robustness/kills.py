"""Conversions killed with SIGKILL at seeded moments, once to three times in a row, and gone on with.

    python benchmarks/robustness/kills.py --kills 48 --seed 1

Each must end in the bytes of an undisturbed conversion, but for the field ``run`` of ``provenance.json``.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse  # noqa: E402
import json  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

from box import Box, remove  # noqa: E402
from child import Ending, call, warm_up_conversions  # noqa: E402

#: dataset, layout, (z, y, x), further arguments
CONVERSIONS = (
    ("brats2021", "folder", (24, 28, 32), ()),
    ("brats2021", "kaggle", (24, 28, 32), ("--link", "copy")),
    ("brats2021", "zip", (24, 28, 32), ("-np", "2")),
    ("brats2019", None, (24, 28, 32), ()),
    ("busi", None, (1, 60, 80), ()),
    ("kvasir-seg", None, (1, 60, 80), ("--resize", "32x24")),
    ("lgg", None, (16, 24, 24), ()),
    ("lgg", None, (16, 24, 24), ("--as", "3d")),
)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below, without the record of the run and the lock beside the dataset, which names its last holder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".lock":
            data = path.read_bytes()
            if path.name == "provenance.json":
                data = json.dumps({key: value for key, value in json.loads(data).items() if key != "run"}).encode()
            found[os.fspath(path.relative_to(folder))] = data
    return found


def main() -> int:
    """Prints a line a conversion and the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=48, help="at least so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        box = Box(Path(work).resolve())
        os.environ.update(box.environment())
        box.clear()
        warm_up_conversions()
        return _run(box, args.kills, args.seed)


def _run(box: Box, wanted: int, seed: int) -> int:
    references: dict[int, tuple[dict[str, bytes], float]] = {}
    kills = resumed = faults = number = 0
    while kills < wanted:
        which = number % len(CONVERSIONS)
        rng = random.Random(f"kill {seed} {number}")
        if which not in references:
            ending = _phantom(box, which)
            begun = _convert(box, which, "undisturbed", 120)
            if ending.code or begun.code:
                raise SystemExit(ending.err + begun.err)
            references[which] = content(box.here / "undisturbed"), begun.seconds
        expected, seconds = references[which]
        died, times = [], rng.choice((1, 1, 2, 3))
        for _ in range(times):
            moment = rng.uniform(0.02, 1.0) * seconds
            if _convert(box, which, "raw", moment).code is None:
                died.append(f"{moment / seconds:.2f}")
        last = _convert(box, which, "raw", 120)
        same = last.code == 0 and content(box.here / "raw") == expected
        kills, resumed, faults = kills + len(died), resumed + (same and bool(died)), faults + (not same)
        told = "same bytes" if same else f"NOT THE SAME: exit {last.code} {last.err[-300:]}"
        print(
            f"{number} {' '.join(map(str, CONVERSIONS[which][:2]))}: killed at {', '.join(died) or '-'}: {told}",
            flush=True,
        )
        remove(box.here / "raw")
        number += 1
    print(f"{kills} kills of {resumed + faults} conversions, {resumed} resumed to the same bytes, {faults} faults")
    return 1 if faults else 0


def _phantom(box: Box, which: int) -> Ending:
    dataset, layout, shape, _ = CONVERSIONS[which]

    def write() -> int:
        from nnunet_ext.phantoms import write_phantoms

        write_phantoms(dataset, box.here / f"download{which}", cases=6, seed=1, shape=shape, layout=layout)
        return 0

    return call(write, box.here, box.environment(), box.work / "log")


def _convert(box: Box, which: int, output: str, seconds: float) -> Ending:
    """The conversion, killed after so many seconds; its code is then None."""
    dataset, _, _, more = CONVERSIONS[which]
    out = box.here / output
    if output == "undisturbed" and out.exists():
        remove(out)
    source = os.fspath(box.here / f"download{which}")
    argv = ["convert", dataset, "-i", source, "-o", os.fspath(out), "--splits", "2", "-np", "1", *more]

    def run() -> int:
        from nnunet_ext.cli import main as command

        return command(argv)

    return call(run, box.here / "cwd", box.environment(), box.work / "log", seconds)


if __name__ == "__main__":
    sys.exit(main())
