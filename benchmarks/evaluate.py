"""How long evaluating a case takes beside nnU-Net's own evaluation, on phantoms of the size of BraTS (240 x 240 x 155).

Each case is written once, as nnU-Net keeps it, and then measured by all sides in turn, in one process and one thread:

    nnU-Net           nnunetv2's compute_metrics: Dice and IoU alone
    nnunet_ext        what a worker of 'nnunet_ext evaluate' does: Dice, IoU, HD95 (pooled) and NSD at 1 and 2 mm
    ... Dice alone    the same with --metrics Dice IoU
    surface-distance  DeepMind's package, if installed: Dice, HD95 of surface elements, NSD at 1 and 2 mm
    MONAI             if installed: Dice, HD95 (max-directed), NSD at 1 and 2 mm

The last two read the files as the first does. Printed: seconds a case, the median ratio to nnU-Net and its range, and
how much memory the process took at most after every case.

    python benchmarks/evaluate.py [--cases 5] [--repeats 3] [--seed 0] [--error 1]
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from tqdm import tqdm

from nnunet_ext.evaluation.columns import choose_columns
from nnunet_ext.evaluation.measure import Task, measure
from nnunet_ext.phantoms import make_case

SHAPE = (155, 240, 240)
REGIONS = {"whole tumor": (1, 2, 3), "tumor core": (2, 3), "enhancing tumor": (3,)}
TOLERANCES = (1.0, 2.0)
Side = Callable[[Path, Path], object]


def label_maps(seed: int, error: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A prediction and its reference, (Z, Y, X): the prediction is the reference, bent by ``error`` mm."""
    rng = np.random.default_rng([21, seed])
    _, label = make_case(rng, SHAPE)
    reference = np.array([0, 2, 1, 0, 3], dtype=np.uint8)[label]
    box = tuple(slice(max(0, axis.min() - 8), axis.max() + 9) for axis in np.nonzero(reference))
    inside = reference[box]
    where = np.indices(inside.shape).astype(float)
    for axis in where:
        bend = gaussian_filter(rng.standard_normal(inside.shape), 5)
        axis += error * bend / bend.std()
    prediction = np.zeros_like(reference)
    prediction[box] = map_coordinates(inside, where, order=0)
    return prediction, reference


def write_case(folder: Path, seed: int, error: float) -> tuple[Path, Path]:
    files = folder / f"prediction_{seed}.nii.gz", folder / f"reference_{seed}.nii.gz"
    for file, labels in zip(files, label_maps(seed, error), strict=True):
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(file))
    return files


def ours(metrics: list[str]) -> Side:
    columns = choose_columns(metrics)
    known = frozenset(range(4))

    def side(prediction: Path, reference: Path) -> object:
        outcome = measure(Task("case", prediction, reference, REGIONS, None, known, columns))
        assert not outcome.problem, outcome.problem
        return outcome

    return side


def nnunet() -> Side:
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    reader = SimpleITKIO()
    return lambda prediction, reference: compute_metrics(
        str(reference), str(prediction), reader, list(REGIONS.values())
    )


def masks(prediction: Path, reference: Path) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    labels = [sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in (prediction, reference)]
    return [(np.isin(labels[0], values), np.isin(labels[1], values)) for values in REGIONS.values()]


def surface_distance() -> Side:
    import surface_distance as package

    def side(prediction: Path, reference: Path) -> object:
        scores = []
        for predicted, known in masks(prediction, reference):
            distances = package.compute_surface_distances(known, predicted, (1.0, 1.0, 1.0))
            scores.append(package.compute_dice_coefficient(known, predicted))
            scores.append(package.compute_robust_hausdorff(distances, 95))
            scores += [package.compute_surface_dice_at_tolerance(distances, tolerance) for tolerance in TOLERANCES]
        return scores

    return side


def monai() -> Side:
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

    def side(prediction: Path, reference: Path) -> object:
        pairs = masks(prediction, reference)
        predicted, known = (torch.from_numpy(np.stack([pair[side] for pair in pairs])[None]) for side in (0, 1))
        scores = [
            compute_dice(predicted, known),
            compute_hausdorff_distance(predicted, known, include_background=True, percentile=95),
        ]
        for tolerance in TOLERANCES:
            limits = [tolerance] * len(pairs)
            scores.append(compute_surface_dice(predicted, known, limits, include_background=True))
        return scores

    return side


def sides() -> dict[str, Side]:
    found = {"nnU-Net": nnunet(), "nnunet_ext": ours(["Dice", "IoU", "HD95", "NSD"])}
    found["... Dice alone"] = ours(["Dice", "IoU"])
    for name, module, make in (
        ("surface-distance", "surface_distance", surface_distance),
        ("MONAI", "monai", monai),
    ):
        if importlib.util.find_spec(module) is not None:
            found[name] = make()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="of each case; the fastest counts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--error", type=float, default=1.0, help="mm by which predictions are off, root mean square along each axis"
    )
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    compared = sides()
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    memory = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in tqdm(range(args.seed, args.seed + args.cases), "cases"):
            files = write_case(Path(folder), seed, args.error)
            best = dict.fromkeys(compared, float("inf"))
            for _ in range(args.repeats):
                for name, side in compared.items():
                    start = time.perf_counter()
                    side(*files)
                    best[name] = min(best[name], time.perf_counter() - start)
            for name, time_taken in best.items():
                seconds[name].append(time_taken)
            for file in files:
                file.unlink()
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    print(f"{args.cases} cases, predictions off by {args.error:g} mm, fastest of {args.repeats}")
    print("| side | s a case | ratio to nnU-Net, median (range) |")
    print("|---|---|---|")
    for name, taken in seconds.items():
        ratios = [each / base for each, base in zip(taken, seconds["nnU-Net"], strict=True)]
        middle = statistics.median(ratios)
        print(f"| {name} | {statistics.median(taken):.2f} | {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")
    print(f"memory at most: {memory[0]} MiB after the first case, {memory[-1]} MiB after the last")
    return 0


if __name__ == "__main__":
    sys.exit(main())
