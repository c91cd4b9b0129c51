"""From predicted and measured memory to the constants of ``nnunet_ext/planning/gpu.py``, as they stand there."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from table import Row


@dataclass(frozen=True)
class Point:
    """One training, in GB.

    Attributes:
        network, patch, batch: as in the table of ``planning/gpu.py``.
        computed: estimate without its constant.
        measured: what the process holds of the GPU.
    """

    network: str
    patch: str
    batch: int
    computed: float
    measured: float

    @property
    def difference(self) -> float:
        return self.measured - self.computed


@dataclass(frozen=True)
class Fit:
    """The constant that fits best, and how far it is off."""

    constant: float
    residuals: tuple[float, ...]

    @property
    def largest_residual(self) -> float:
        return max(abs(residual) for residual in self.residuals)


def fitted(points: Sequence[Point]) -> Fit:
    """Least squares: of one constant that is the mean of the differences.

    Raises:
        ValueError: there are no points.
    """
    if not points:
        raise ValueError("nothing was measured that a constant could be fitted to")
    constant = statistics.fmean(point.difference for point in points)
    return Fit(constant, tuple(point.difference - constant for point in points))


def measured_points(rows: list[Row]) -> tuple[list[Point], list[float]]:
    """The eager trainings of the table, and what CUDA's context took in each."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row["part"] == "memory" and row["unit"] == "GB" and row["setting"].endswith(" eager"):
            key = (row["subject"], row["setting"].removesuffix(" eager"))
            values.setdefault(key, {})[row["quantity"]] = float(row["value"])
    whole = {key: found for key, found in values.items() if {"computed", "process"} <= set(found)}
    return (
        [
            Point(name, patch, 2, found["computed"], found["process"])  # the batch of every plan here
            for (name, patch), found in whole.items()
        ],
        [found["context"] for found in whole.values()],
    )


def as_comment(points: Sequence[Point], contexts: Sequence[float], card: str) -> str:
    """The lines that replace those above ``OVERHEAD``, ``CONTEXT`` and ``UNCERTAINTY``.

    Args:
        points: eager trainings.
        contexts: GB of each process beyond what PyTorch reserved.
        card: name of the GPU and versions.
    """
    fit = fitted(points)
    width = max(len(point.network) for point in points)
    lines = [
        "# CUDA context, cuDNN's workspace, loss and fragmentation: the constant that fits the memory of a process",
        "# that trains with nnU-Net's settings, float16, eager (least squares), with the rest of the sum computed.",
        f"# Measured on {card}:",
        "#",
        f"#   {'network':{width}}  patch, batch   computed  measured  difference",
        *(
            f"#   {point.network:{width}}  {f'{point.patch}, {point.batch}':12} {point.computed:10.2f} "
            f"{point.measured:9.2f} {point.difference:11.2f}"
            for point in points
        ),
        "#",
        f"# Residuals are up to {fit.largest_residual:.2f} GB.",
        f"OVERHEAD = {fit.constant:.2f} * GB",
    ]
    if contexts:
        spread = f"measured, {min(contexts):.2f} to {max(contexts):.2f}"
        lines += [
            "# The part of it that CUDA's context takes in a process, which PyTorch's own counters do not show",
            f"# ({spread} GB).",
            f"CONTEXT = {statistics.median(contexts):.2f} * GB",
        ]
    lines.append(f"UNCERTAINTY = {fit.largest_residual:.1f} * GB")
    return "\n".join(lines)
