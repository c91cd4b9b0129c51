"""From the bytes that a network keeps (``memory.py``) to the memory of a GPU that trains it or predicts with it.

GB is 1e9 bytes throughout, as nnU-Net's ``gpu_memory_target`` and the makers of GPUs count.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from nnunet_ext.planning.memory import Memory

GB = 10**9

# Bytes a parameter: weight, gradient and the half-precision copy of autocast, without the optimizer's state.
WEIGHT_BYTES = 4 + 4 + 2
# float32 numbers that an optimizer keeps for each parameter
OPTIMIZER_STATES = {"SGD": 1, "Adam": 2, "AdamW": 2}

# CUDA context, cuDNN's workspace, loss and fragmentation. NOT measured on a GPU by us: the constant that fits the
# memory which nnU-Net's documentation (resenc_presets.md) reports for four presets, with the rest of the sum computed:
#
#   network             patch, batch      computed  reported  difference
#   PlainConvUNet       128^3, 2              5.12       7.7        2.58
#   ResEnc M            128^3, 2              6.91       9.1        2.19
#   ResEnc L            160x192x160, 3       20.67      22.7        2.03
#   ResEnc XL           160x192x160, 5       33.50      36.6        3.10
#
# Differences from the mean are up to 0.6 GB, so an estimate is good to about 0.7 GB; another GPU or cuDNN shifts it.
OVERHEAD = 2.48 * GB
# The part of it that CUDA's context takes in a process, which PyTorch's own counters do not show (assumed, not
# measured).
CONTEXT = 0.5 * GB
UNCERTAINTY = 0.7 * GB


def training_bytes(sample: Memory, batch_size: int, optimizer: str = "SGD") -> float:
    """GPU memory of a training step, estimated.

    Args:
        sample: of one sample, under autocast.
        batch_size: samples a step.
        optimizer: name in ``torch.optim``.
    """
    samples = batch_size * (sample.activations + sample.transient)
    return OVERHEAD + parameter_bytes(sample.parameters, optimizer) + samples


def parameter_bytes(parameters: int, optimizer: str = "SGD") -> int:
    """Weights, gradients, state of the optimizer, and autocast's half-precision copies."""
    return parameters * (WEIGHT_BYTES + 4 * OPTIMIZER_STATES.get(optimizer, 2))


def largest_batch(sample: Memory, available: float, optimizer: str = "SGD") -> int:
    """The largest batch whose estimate stays within ``available`` bytes; 0 if not even one sample does."""
    size = sample.activations + sample.transient
    return max(0, int((available - OVERHEAD - parameter_bytes(sample.parameters, optimizer)) // max(1, size)))


def prediction_bytes(
    parameters: int, live: int, image_channels: int, classes: int, image_size: Sequence[int], patch_size: Sequence[int]
) -> float:
    """GPU memory of sliding-window prediction with nnU-Net's settings (one tile at a time), estimated.

    The image in float32 and, for the whole image, the sum of the logits and the count of tiles in half precision; where
    they do not fit, nnU-Net keeps them in main memory instead.

    Args:
        parameters: number.
        live: most bytes alive at once while one tile is predicted, half-precision copies of weights among them.
        image_channels, classes: channels in, logits out.
        image_size: voxels of the image after resampling.
        patch_size: of a tile, at most of the same number of axes; the image is padded to it.
    """
    size = list(image_size)
    for axis in range(1, len(patch_size) + 1):
        size[-axis] = max(size[-axis], patch_size[-axis])
    return OVERHEAD + parameters * 4 + live + prod(size) * (4 * image_channels + 2 * classes + 2)
