"""How far a network that sees one MR sequence falls behind one that sees all four, on phantoms.

The same small 2D PlainConvUNet (8-16-32 features, 3 stages), the same slices in the same order, the same iterations;
only the input channels differ. Printed: mean Dice per region on phantoms that no network has seen.

    python benchmarks/one_channel.py [--iterations 400] [--seeds 3]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from nnunet_ext.phantoms import make_case

SHAPE = (32, 40, 40)
SEQUENCES = ("t1", "t1ce", "t2", "flair")
REGIONS = ("WT", "TC", "ET")
BATCH = 8
LEARNING_RATE = 0.02


def load(seeds: range) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Slices of phantoms: images (N, 4, Y, X), each volume z-scored inside the brain, and regions (N, 3, Y, X)."""
    images, regions = [], []
    for seed in seeds:
        case, label = make_case(np.random.default_rng([20, seed]), SHAPE)
        brain = case["t1"] > 0
        channels = []
        for sequence in SEQUENCES:
            image = case[sequence].astype(np.float32)
            image = np.where(brain, (image - image[brain].mean()) / image[brain].std(), 0)
            channels.append(image)
        images.append(np.stack(channels, axis=1))
        regions.append(np.stack([label > 0, (label == 1) | (label == 4), label == 4], axis=1))
    return np.concatenate(images).astype(np.float32), np.concatenate(regions).astype(np.float32)


def train(
    images: NDArray[np.float32],
    regions: NDArray[np.float32],
    channels: Sequence[int],
    iterations: int,
    seed: int,
    progress: tqdm,
) -> nn.Module:
    """SGD with nnU-Net's momentum, decay and loss (Dice + cross-entropy on sigmoid regions), no augmentation."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = PlainConvUNet(
        len(channels),
        3,
        [8, 16, 32],
        nn.Conv2d,
        3,
        [1, 2, 2],
        2,
        len(REGIONS),
        2,
        conv_bias=True,
        norm_op=nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )
    network.apply(network.initialize)
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE, momentum=0.99, nesterov=True, weight_decay=3e-5)
    with_tumour = np.flatnonzero(regions[:, 0].any((1, 2)))
    for iteration in range(iterations):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - iteration / iterations) ** 0.9
        with_part = generator.choice(with_tumour, BATCH // 3 + 1)
        chosen = np.concatenate([with_part, generator.integers(len(images), size=BATCH - len(with_part))])
        target = torch.from_numpy(regions[chosen])
        logits = network(torch.from_numpy(images[chosen][:, list(channels)]))
        probability = torch.sigmoid(logits)
        axes = (0, 2, 3)
        dice = (2 * (probability * target).sum(axes) + 1e-5) / (probability.sum(axes) + target.sum(axes) + 1e-5)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target) - dice.mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        progress.update()
    return network.eval()


def dice_per_region(
    network: nn.Module, images: NDArray[np.float32], regions: NDArray[np.float32], channels: Sequence[int]
) -> NDArray[np.float64]:
    """Mean over the patients of the Dice of their volumes, per region (3,)."""
    scores = []
    for start in range(0, len(images), SHAPE[0]):
        volume = slice(start, start + SHAPE[0])
        with torch.no_grad():
            predicted = (network(torch.from_numpy(images[volume][:, list(channels)])) > 0).numpy()
        true = regions[volume] > 0
        both = (predicted & true).sum((0, 2, 3))
        scores.append(2 * both / (predicted.sum((0, 2, 3)) + true.sum((0, 2, 3))))
    return np.mean(scores, axis=0)


def main() -> None:
    """Train every set of channels with every seed and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3, help="trainings a row")
    args = parser.parse_args()
    torch.set_num_threads(1)
    images, regions = load(range(20))
    unseen_images, unseen_regions = load(range(100, 110))
    rows: dict[str, list[int]] = {"all four": [0, 1, 2, 3]}
    rows |= {f"{name} alone": [index] for index, name in enumerate(SEQUENCES)}
    results: dict[str, list[NDArray[np.float64]]] = {name: [] for name in rows}
    total = args.iterations * len(rows) * args.seeds
    with tqdm(total=total, unit="it", file=sys.stderr, disable=None) as progress:
        for seed in range(args.seeds):
            for name, channels in rows.items():
                network = train(images, regions, channels, args.iterations, seed, progress)
                results[name].append(dice_per_region(network, unseen_images, unseen_regions, channels))
    print(f"Dice on 10 unseen phantoms, {args.iterations} iterations, mean of {args.seeds} trainings (range of means)")
    print(f"{'input':<12}" + "".join(f"{region:>8}" for region in (*REGIONS, "mean")))
    for name, scores in results.items():
        mean = np.mean(scores, axis=0)
        means = [float(score.mean()) for score in scores]
        print(
            f"{name:<12}"
            + "".join(f"{value:8.3f}" for value in (*mean, mean.mean()))
            + f"   ({min(means):.3f}-{max(means):.3f})"
        )


if __name__ == "__main__":
    main()
