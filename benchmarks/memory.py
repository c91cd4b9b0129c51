"""What a measurement of memory costs and how far it is true, and how long planning takes beside nnU-Net's planner.

First table: one sample, deep supervision on, nnU-Net's default widths on small patches. CPU seconds of ``measure``
without data (median of turns, arithmetic not counted); ``kept`` bytes without copies of weights; ``against the CPU``
how far these are off hooks on a real pass there. In bfloat16 the CPU's autocast casts by other lists than CUDA's, which
the measurement follows: a difference there tells of the lists. The networks take turns within one process.

Second table: CPU seconds of planning by ``NetworkPlanner`` for PlainConvUNet beside nnU-Net's ``ExperimentPlanner``, in
turn, for datasets that are a fingerprint only.

Run: python benchmarks/memory.py [--turns 3]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

FOLDERS = tempfile.TemporaryDirectory(prefix="benchmark_memory_")
for _name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):  # before nnU-Net reads them
    os.environ[_name] = str(Path(FOLDERS.name) / _name)
    Path(os.environ[_name]).mkdir()
os.environ["nnUNet_n_proc_DA"] = "1"  # nnU-Net's own estimate divides the threads by it

import torch  # noqa: E402
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet  # noqa: E402
from in_turns import seconds_of  # noqa: E402
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner  # noqa: E402
from torch import nn  # noqa: E402

from nnunet_ext.families import NETWORKS, load  # noqa: E402
from nnunet_ext.planning.memory import measure  # noqa: E402
from nnunet_ext.planning.planner import NetworkPlanner  # noqa: E402

GOAL_PLANNING = 1.0
CHANNELS, CLASSES = 4, 4
# name -> patch, kernels, strides after the first, features
TOPOLOGIES = {
    "2d": ((64, 64), [[3, 3]] * 5, [[2, 2]] * 4, [32, 64, 128, 256, 512]),
    "3d": ((32, 64, 64), [[3, 3, 3]] * 5, [[2, 2, 2]] * 4, [32, 64, 128, 256, 320]),
    "anisotropic": (
        (8, 64, 64),
        [[1, 3, 3]] * 2 + [[3, 3, 3]] * 3,
        [[1, 2, 2]] * 2 + [[2, 2, 2]] * 2,
        [32, 64, 128, 256, 320],
    ),
}
# name -> channels, labels, shape, spacing, cases, size left by cropping, file ending: as of the real datasets
DATASETS: dict[str, tuple[int, int, tuple[int, ...], tuple[float, ...], int, float, str]] = {
    "BraTS": (4, 4, (138, 170, 140), (1, 1, 1), 369, 0.4, ".nii.gz"),
    "Hippocampus": (1, 3, (36, 50, 35), (1, 1, 1), 260, 1.0, ".nii.gz"),
    "LGG": (3, 2, (1, 256, 256), (999, 1, 1), 3929, 1.0, ".png"),
    "anisotropic": (1, 3, (20, 320, 320), (3, 0.6, 0.6), 100, 1.0, ".nii.gz"),
}


def networks() -> dict[str, Callable[..., nn.Module]]:
    found: dict[str, Callable[..., nn.Module]] = {
        "PlainConvUNet": PlainConvUNet,
        "ResidualEncoderUNet": ResidualEncoderUNet,
    }
    for row in NETWORKS.values():
        found[row.name] = partial(load(row.class_path), **row.built_with)
    return found


def build(network: Callable[..., nn.Module], topology: str, device: str) -> tuple[nn.Module, tuple[int, ...]]:
    """The network, and the shape of one sample."""
    patch, kernels, strides, features = TOPOLOGIES[topology]
    dimension, stages = len(patch), len(kernels)
    residual = network is ResidualEncoderUNet
    kwargs: dict[str, Any] = {"n_blocks_per_stage": [1, 3, 4, 6, 6]} if residual else {"n_conv_per_stage": [2] * stages}
    with torch.device(device):
        made = network(
            input_channels=CHANNELS,
            num_classes=CLASSES,
            n_stages=stages,
            features_per_stage=features,
            conv_op=(nn.Conv2d, nn.Conv3d)[dimension - 2],
            kernel_sizes=kernels,
            strides=[[1] * dimension, *strides],
            n_conv_per_stage_decoder=[1 if residual else 2] * (stages - 1),
            conv_bias=True,
            norm_op=(nn.InstanceNorm2d, nn.InstanceNorm3d)[dimension - 2],
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            deep_supervision=True,
            **kwargs,
        )
    return made, (1, CHANNELS, *patch)


def kept_on_the_cpu(network: nn.Module, shape: tuple[int, ...], dtype: torch.dtype | None) -> int:
    """Bytes of the storages that autograd saves in a real pass, without parameters, copies of these and the input."""
    image = torch.randn(shape)
    ignored = {tensor.untyped_storage().data_ptr() for tensor in [*network.parameters(), image]}
    sizes = {parameter.shape for parameter in network.parameters() if parameter.ndim > 1}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        # weights are known by their shape, transposed ones by the shape reversed; no activation has either
        weight = dtype is not None and (tensor.shape in sizes or torch.Size(reversed(tensor.shape)) in sizes)
        if storage.data_ptr() not in ignored and not weight:
            kept[storage.data_ptr()] = storage
        return tensor

    with (
        torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        outputs = network(image)
    total = sum(storage.nbytes() for storage in kept.values())
    del outputs
    return total


def memory_table(turns: int) -> None:
    print(
        f"{'':12} {'':8} {'network':20} {'seconds':>8} {'x plain':>8} {'kept MiB':>9} {'x plain':>8}  against the CPU"
    )
    for topology in TOPOLOGIES:
        for dtype, precision in ((None, "float32"), (torch.bfloat16, "bfloat16")):
            made = {name: build(network, topology, "meta") for name, network in networks().items()}
            found = {name: measure(network, shape, dtype=dtype) for name, (network, shape) in made.items()}  # warm-up
            times: dict[str, list[float]] = {name: [] for name in made}
            for _ in range(turns):
                for name, (network, shape) in made.items():
                    times[name].append(
                        seconds_of(lambda n=network, s=shape, d=dtype: measure(n, s, dtype=d, multiply_adds=False))
                    )
            middle = {name: statistics.median(values) for name, values in times.items()}
            for name, network in networks().items():
                kept, plain = found[name].activations, found["PlainConvUNet"].activations
                real = kept_on_the_cpu(*build(network, topology, "cpu"), dtype)
                print(
                    f"{topology:12} {precision:8} {name:20} {middle[name]:8.3f} "
                    f"{middle[name] / middle['PlainConvUNet']:8.2f} {kept / 2**20:9.2f} {kept / plain:8.2f}  "
                    f"{'equal' if kept == real else f'{100 * (kept / real - 1):+.2f} %'}"
                )


def write_dataset(number: int, name: str) -> None:
    """A dataset of which planning sees all that it reads: names of files, ``dataset.json`` and the fingerprint."""
    channels, labels, shape, spacing, cases, relative_size, ending = DATASETS[name]
    folder = f"Dataset{number}_{name}"
    raw, preprocessed = (Path(os.environ[kind]) / folder for kind in ("nnUNet_raw", "nnUNet_preprocessed"))
    for sub in (raw / "imagesTr", raw / "labelsTr", preprocessed):
        sub.mkdir(parents=True)
    for case in range(2):
        (raw / "labelsTr" / f"case{case}{ending}").touch()
        for channel in range(channels):
            (raw / "imagesTr" / f"case{case}_{channel:04}{ending}").touch()
    description = {
        "channel_names": {str(channel): f"contrast{channel}" for channel in range(channels)},
        "labels": {"background": 0, **{f"label{label}": label for label in range(1, labels)}},
        "numTraining": cases,
        "file_ending": ending,
        "overwrite_image_reader_writer": "NaturalImage2DIO" if ending == ".png" else "SimpleITKIO",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    one = {"mean": 0, "median": 0, "std": 1, "min": 0, "max": 1, "percentile_99_5": 1, "percentile_00_5": 0}
    fingerprint = {
        "spacings": [spacing] * 2,
        "shapes_after_crop": [shape] * 2,
        "foreground_intensity_properties_per_channel": {str(channel): one for channel in range(channels)},
        "median_relative_size_after_cropping": relative_size,
    }
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))


def planning_table(turns: int) -> None:
    planners: dict[str, type[ExperimentPlanner]] = {"own": NetworkPlanner, "nnU-Net": ExperimentPlanner}
    print(f"\n{'planning':12} {'own s':>8} {'nnU-Net s':>10} {'ratio':>6}  (medians of {turns} turns)")
    totals: dict[str, list[float]] = {name: [0.0] * turns for name in planners}
    for number, dataset in enumerate(DATASETS, 901):
        write_dataset(number, dataset)
        times: dict[str, list[float]] = {name: [] for name in planners}
        for turn in range(-1, turns):  # the first turn warms up and is not counted
            for name, planner in list(planners.items())[:: 1 if turn % 2 else -1]:
                with redirect_stdout(io.StringIO()), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    took = seconds_of(
                        lambda planner=planner, number=number, name=name: planner(
                            number, plans_name=f"benchmark{name}Plans"
                        ).plan_experiment()
                    )
                if turn >= 0:
                    times[name].append(took)
                    totals[name][turn] += took
        own, theirs = (statistics.median(times[name]) for name in planners)
        print(f"{dataset:12} {own:8.3f} {theirs:10.3f} {own / theirs:6.2f}")
    own, theirs = (statistics.median(totals[name]) for name in planners)
    ratios = [a / b for a, b in zip(totals["own"], totals["nnU-Net"], strict=True)]
    spread = f"turns from {min(ratios):.2f} to {max(ratios):.2f}; goal <= {GOAL_PLANNING}"
    print(f"{'all four':12} {own:8.3f} {theirs:10.3f} {own / theirs:6.2f}  ({spread})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3, help="measurements of each, after one to warm up")
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    torch.manual_seed(0)
    memory_table(turns)
    planning_table(turns)


if __name__ == "__main__":
    main()
