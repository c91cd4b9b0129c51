"""Training step of CFNet beside nnU-Net's default U-Net, as ratios: time, and what is kept for the backward pass.

Default BraTS topology, one sample of 64^3 with four channels, float32, one thread, deep supervision on. The networks
take turns within one process, so that a noisy machine hits both.

Run: python benchmarks/training_step.py [--steps 5]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from nnunet_ext.architectures.cfnet import CFNet

PATCH = (64, 64, 64)
CHANNELS, CLASSES = 4, 4
GOAL_TIME, GOAL_MEMORY = 1.0, 1.4
TOPOLOGY = {
    "input_channels": CHANNELS,
    "num_classes": CLASSES,
    "n_stages": 6,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "conv_op": nn.Conv3d,
    "kernel_sizes": [[3, 3, 3]] * 6,
    "strides": [[1, 1, 1]] + [[2, 2, 2]] * 5,
    "n_conv_per_stage": [2] * 6,
    "n_conv_per_stage_decoder": [2] * 5,
    "conv_bias": True,
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": nn.LeakyReLU,
    "nonlin_kwargs": {"inplace": True},
    "deep_supervision": True,
}


def loss_of(network: nn.Module, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every output against the target taken at its resolution."""
    losses = []
    for logits in network(image):
        step = [full // coarse for full, coarse in zip(target.shape[1:], logits.shape[2:], strict=True)]
        losses.append(nn.functional.cross_entropy(logits, target[:, :: step[0], :: step[1], :: step[2]]))
    return sum(losses)


def step_seconds(network: nn.Module, image: torch.Tensor, target: torch.Tensor) -> float:
    """CPU seconds of forward and backward pass."""
    network.zero_grad(set_to_none=True)
    start = time.process_time()
    loss_of(network, image, target).backward()
    return time.process_time() - start


def stored_bytes(network: nn.Module, image: torch.Tensor, target: torch.Tensor) -> int:
    """Bytes of the distinct storages that autograd keeps, parameters not counted."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(network, image, target)
    total = sum(storage.nbytes() for storage in kept.values())
    del loss
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, help="steps of each network, after one to warm up")
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    torch.manual_seed(0)
    networks = {"PlainConvUNet": PlainConvUNet(**TOPOLOGY), "CFNet": CFNet(**TOPOLOGY)}
    networks["PlainConvUNet"].apply(PlainConvUNet.initialize)
    image = torch.randn(1, CHANNELS, *PATCH)
    target = torch.randint(CLASSES, (1, *PATCH))

    stored = {name: stored_bytes(network, image, target) for name, network in networks.items()}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for step in range(steps + 1):
        for name, network in networks.items():
            elapsed = step_seconds(network, image, target)
            if step:
                seconds[name].append(elapsed)

    print(f"{'':15} {'parameters':>12} {'stored MiB':>11} {'step, CPU s: median':>20} {'least':>7} {'most':>7}")
    for name, network in networks.items():
        parameters = sum(parameter.numel() for parameter in network.parameters())
        times = seconds[name]
        print(
            f"{name:15} {parameters:12,} {stored[name] / 2**20:11.0f} {statistics.median(times):20.2f} "
            f"{min(times):7.2f} {max(times):7.2f}"
        )
    ratios = [ours / plain for ours, plain in zip(seconds["CFNet"], seconds["PlainConvUNet"], strict=True)]
    spread = f"from {min(ratios):.2f} to {max(ratios):.2f}"
    print(f"step ratio      {statistics.median(ratios):.2f} ({spread}; goal <= {GOAL_TIME})")
    print(f"storage ratio   {stored['CFNet'] / stored['PlainConvUNet']:.2f} (goal <= {GOAL_MEMORY})")


if __name__ == "__main__":
    main()
