"""Conversion of BraTS 2021 beside nnU-Net's own script, on the same phantom cases at full size. Prints ratios.

nnU-Net's side is its Dataset137_BraTS21 script as installed (only the folder in it is replaced), followed by its
integrity check: the script alone checks nothing but the label's values. Our conversion checks every byte and voxel.
All sides run as commands of their own, one after the other, in turn; the numbers are wall and CPU time of a command
with everything it starts.

    python benchmarks/convert_brats2021.py --cases 40 --rounds 5
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nnunet_ext.phantoms import write_phantoms

SHAPE = (155, 240, 240)
FEW = 8  # cases of the run that shows what starting up costs
CHECK = """
from pathlib import Path
import sys
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
if __name__ == "__main__":
    verify_dataset_integrity(sys.argv[1], int(sys.argv[2]))
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--source", type=Path, help="phantoms that were written before (layout folder)")
    parser.add_argument("--work", type=Path, help="folder for everything that is written (default: a temporary one)")
    return parser.parse_args()


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - start
    if run.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def nnunet_script(source: Path, target: Path) -> Path:
    """nnU-Net's own script with our folder in place of its author's."""
    spec = importlib.util.find_spec("nnunetv2.dataset_conversion.Dataset137_BraTS21")
    if spec is None or spec.origin is None:
        sys.exit("nnU-Net's BraTS 2021 script was not found")
    text = Path(spec.origin).read_text(encoding="utf-8")
    changed, number = re.subn(r"brats_data_dir = '.*'", f"brats_data_dir = {str(source)!r}", text)
    if number != 1:
        sys.exit("nnU-Net's BraTS 2021 script has changed")
    target.write_text(changed, encoding="utf-8")
    return target


def commands(source: Path, work: Path, processes: int) -> dict[str, tuple[list[str], Path]]:
    """The four sides: command and folder for nnUNet_raw."""
    raw = {name: work / "raw" / name for name in ("nnunet", "link", "copy")}
    for folder in raw.values():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    check = work / "check.py"
    check.write_text(CHECK, encoding="utf-8")
    script = nnunet_script(source, work / "script.py")
    ours = [sys.executable, "-m", "nnunet_ext", "convert", "brats2021", "-d", "137", "-i", str(source)]
    ours += ["-np", str(processes), "--link"]
    return {
        "script": ([sys.executable, str(script)], raw["nnunet"]),
        "check": (
            [sys.executable, str(check), str(raw["nnunet"] / "Dataset137_BraTS2021"), str(processes)],
            raw["nnunet"],
        ),
        "ours, linked": ([*ours, "hard"], raw["link"]),
        "ours, copied": ([*ours, "copy"], raw["copy"]),
    }


def measure(source: Path, work: Path, processes: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1")
    times: dict[str, list[tuple[float, float]]] = {}
    for turn in range(rounds + 1):
        for name, (command, raw) in commands(source, work, processes).items():
            measured = timed(command, os.environ | threads | {"nnUNet_raw": str(raw)})
            if turn:  # the first turn fills the file cache
                times.setdefault(name, []).append(measured)
    return times


def print_ratios(times: dict[str, list[tuple[float, float]]], title: str) -> None:
    print(f"{title}: how many times as long as ours (above 1: ours is faster); median, lowest and highest round")
    for ours in ("ours, linked", "ours, copied"):
        for name, theirs in (("script + check", ("script", "check")), ("script alone", ("script",))):
            for kind, column in (("wall", 0), ("cpu", 1)):
                ratios = [
                    sum(times[part][turn][column] for part in theirs) / times[ours][turn][column]
                    for turn in range(len(times[ours]))
                ]
                spread = f"({min(ratios):.2f} - {max(ratios):.2f})"
                print(f"  {name:<14} / {ours:<12} {kind:<4} {statistics.median(ratios):.2f}  {spread}")


def main() -> None:
    args = arguments()
    work = args.work or Path(tempfile.mkdtemp(prefix="convert_brats2021_"))
    work.mkdir(parents=True, exist_ok=True)
    download = args.source or write_phantoms(
        "brats2021", work / "download", cases=args.cases, seed=0, shape=SHAPE, processes=args.processes
    )
    (source,) = (path for path in download.iterdir() if path.is_dir())
    cases = sorted(source.iterdir())
    few = work / "few"
    shutil.rmtree(few, ignore_errors=True)
    few.mkdir()
    for case in cases[:FEW]:
        (few / case.name).symlink_to(case.resolve())

    times = measure(source, work, args.processes, args.rounds)
    start = measure(few, work, args.processes, args.rounds)
    shutil.rmtree(work / "raw" if args.work else work)

    print(f"{len(cases)} cases, {args.processes} processes, {args.rounds} rounds in turn")
    print(f"median seconds of the whole command, and of each further case (the difference to {FEW} cases)")
    further: dict[str, list[tuple[float, float]]] = {}
    for name, measured in times.items():
        further[name] = [
            ((all_wall - few_wall) / (len(cases) - FEW), (all_cpu - few_cpu) / (len(cases) - FEW))
            for (all_wall, all_cpu), (few_wall, few_cpu) in zip(measured, start[name], strict=True)
        ]
        wall, cpu = (statistics.median(column) for column in zip(*measured, strict=True))
        case_wall, case_cpu = (statistics.median(column) for column in zip(*further[name], strict=True))
        print(f"  {name:<13} wall {wall:6.2f}  cpu {cpu:6.2f}   a case: wall {case_wall:.3f}  cpu {case_cpu:.3f}")
    print_ratios(times, "whole commands")
    print_ratios(further, "each further case, without start-up")


if __name__ == "__main__":
    main()
