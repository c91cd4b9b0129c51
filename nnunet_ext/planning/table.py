"""Estimates as a table to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnunet_ext.planning import gpu
from nnunet_ext.planning.estimate import Estimate
from nnunet_ext.shown import printable, text_table

NOTE = (
    "GB are 1e9 bytes; training and prediction are estimates for a GPU under autocast without torch.compile, good to "
    f"about {gpu.UNCERTAINTY / gpu.GB:.1f} GB, not measured on this machine"
)


def render(rows: Sequence[Estimate], seconds: Mapping[int, float] | None = None) -> str:
    """One line an estimate.

    Args:
        rows: estimates.
        seconds: number of the row -> seconds of an epoch, where a GPU measured them.
    """
    known = any(row.available is not None for row in rows)
    heads = ["network", "configuration", "patch", "batch", "stages", "parameters", "G mult-adds", "kept fp32 GB",
             "kept autocast GB", "training GB", "prediction GB"]  # fmt: skip
    heads += ["fits", "largest batch"] if known else []
    heads += ["s an epoch"] if seconds else []
    table = [heads]
    for number, row in enumerate(rows):
        cells = [
            row.network,
            row.configuration,
            " x ".join(map(str, row.patch_size)),
            str(row.batch_size),
            str(row.stages),
            f"{row.parameters / 1e6:.1f} M",
            f"{row.multiply_adds / 1e9:.1f}",
            *(f"{size / gpu.GB:.2f}" for size in (row.kept_float32, row.kept_autocast)),
            *(f"{size / gpu.GB:.1f}" for size in (row.training_bytes, row.prediction_bytes)),
        ]
        if known:
            cells += ["-" if row.fits is None else "yes" if row.fits else "NO"]
            cells += [_largest_batch(row)]
        if seconds:
            cells += [f"{seconds[number]:.0f}" if number in seconds else "-"]
        table.append(cells)
    return f"{text_table(table, right=range(3, len(heads)))}\n{NOTE}"


def _largest_batch(row: Estimate) -> str:
    """The batch that would fit, up to what nnU-Net would plan for the dataset or what is planned."""
    if row.largest_batch is None:
        return "-"
    most = max(row.batch_size, row.batch_of_dataset or row.largest_batch)
    return f"more than {most}" if row.largest_batch > most else str(row.largest_batch)


def render_parts(rows: Sequence[Estimate]) -> str:
    """What each part of a network keeps for a batch under autocast."""
    lines = ["kept by part, autocast, GB:"]
    for row in rows:
        parts = ", ".join(f"{name} {size / gpu.GB:.2f}" for name, size in row.parts.items())
        lines.append(printable(f"  {row.network} {row.configuration}: {parts}"))
    return "\n".join(lines)
