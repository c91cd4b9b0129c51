"""A small plans file from a planner's own: same data, smaller patch, batch and widths, for training without a GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

# nnU-Net's planner stops pooling below this edge length (UNet_featuremap_min_edge_length).
MIN_EDGE = 4
# With two, nnU-Net's deep supervision divides 0 by 0 for its only weight, and the loss is NaN.
MIN_STAGES = 3

#: of ``plan --small``: a training step of such a network takes about a tenth of a second on a core
FEATURES = (8, 16, 32, 64)
MAX_VOXELS = {2: 64**2, 3: 32**3}
BATCH_SIZE = {2: 8, 3: 2}

# Lists of the architecture, and how many entries more than stages they have: decoders have one stage less.
PER_STAGE = {"n_conv_per_stage": 0, "n_blocks_per_stage": 0, "n_conv_per_stage_decoder": -1}


def _fitted(values: Sequence[int], length: int) -> list[int]:
    """The first ``length`` values; the last one is repeated where there are fewer."""
    return [values[min(index, len(values) - 1)] for index in range(length)]


def small_plans(
    plans: Mapping,
    name: str,
    *,
    patch_size: Mapping[str, Sequence[int]],
    batch_size: Mapping[str, int],
    features: Sequence[int],
    spacing: Mapping[str, Sequence[float]] | None = None,
    convolutions: int | None = None,
) -> dict:
    """Plans called ``name`` with the configurations of ``patch_size`` alone; the plans given are left as they are.

    Strides and kernels are chosen anew for each patch, by the rules of nnU-Net's planner. A patch that the strides do
    not divide grows to the next size that they do. A configuration that keeps its spacing uses the preprocessed data of
    the given plans; one with another spacing names a data folder of its own and needs its own preprocessing.

    Args:
        plans: content of a plans file of nnU-Net (any planner whose network takes the arguments of its U-Nets).
        name: plans name; also the file's name, without ``.json``.
        patch_size: configuration -> voxels along each axis, in the axis order of the plans.
        batch_size: configuration -> samples a batch.
        features: feature maps a stage, finest first; their number bounds the number of stages.
        spacing: configuration -> target spacing in mm, same axis order; a configuration not named keeps its own.
        convolutions: a stage, in encoder and decoder alike (residual blocks where the plans have those); unless given,
            as in the plans.

    Raises:
        ValueError: a configuration is unknown or inherits from another, a patch is too small for three stages, or the
            name holds ``__`` (nnU-Net splits folder names there).
    """
    if "__" in name:
        raise ValueError(f"plans name '{name}' must not contain '__'")
    small = deepcopy(dict(plans))
    small["plans_name"] = name
    small["configurations"] = {
        configuration: _small_configuration(
            plans,
            configuration,
            name,
            patch,
            batch_size[configuration],
            features,
            (spacing or {}).get(configuration),
            convolutions,
        )
        for configuration, patch in patch_size.items()
    }
    return small


def default_small_plans(plans: Mapping, name: str) -> dict:
    """Small plans of ``2d`` and ``3d_fullres``, as far as the given plans have them.

    Patches have the same proportions and about ``MAX_VOXELS``, batches are ``BATCH_SIZE``, feature maps ``FEATURES``.
    """
    known = plans["configurations"]
    patches = {
        configuration: _shrunk(known[configuration]["patch_size"])
        for configuration in ("2d", "3d_fullres")
        if configuration in known
    }
    batches = {configuration: BATCH_SIZE[len(patch)] for configuration, patch in patches.items()}
    return small_plans(plans, name, patch_size=patches, batch_size=batches, features=FEATURES)


def _shrunk(patch_size: Sequence[int]) -> list[int]:
    """A patch of about ``MAX_VOXELS`` in about the same proportions, with no edge below twice ``MIN_EDGE`` that was not
    below it before."""
    axes = len(patch_size)
    factor = min(1.0, (MAX_VOXELS[axes] / math.prod(patch_size)) ** (1 / axes))
    return [max(min(edge, 2 * MIN_EDGE), round(edge * factor)) for edge in patch_size]


def _small_configuration(
    plans: Mapping,
    configuration: str,
    name: str,
    patch_size: Sequence[int],
    batch_size: int,
    features: Sequence[int],
    spacing: Sequence[float] | None,
    convolutions: int | None,
) -> dict:
    known = plans["configurations"]
    if configuration not in known:
        raise ValueError(f"configuration '{configuration}' is not in the plans, which have {', '.join(known)}")
    if "inherits_from" in known[configuration]:
        raise ValueError(f"configuration '{configuration}' inherits from another one and cannot be made small alone")
    small = deepcopy(known[configuration])
    if spacing is not None:
        extent = np.multiply(small["median_image_size_in_voxels"], small["spacing"])
        small["median_image_size_in_voxels"] = [float(size) for size in np.round(extent / np.asarray(spacing))]
        small["spacing"] = [float(edge) for edge in spacing]
        small["data_identifier"] = f"{name}_{configuration}"
    _, strides, kernel_sizes, legal_patch, _ = get_pool_and_conv_props(
        small["spacing"], patch_size, MIN_EDGE, len(features) - 1
    )
    stages = len(strides)
    if stages < MIN_STAGES:
        raise ValueError(
            f"patch {list(patch_size)} of '{configuration}' allows {stages} stages with {len(features)} widths; "
            f"at least {MIN_STAGES} are needed"
        )
    small["patch_size"] = [int(edge) for edge in legal_patch]
    small["batch_size"] = int(batch_size)
    architecture = small["architecture"]["arch_kwargs"]
    architecture.update(
        n_stages=stages,
        features_per_stage=[int(width) for width in features[:stages]],
        strides=[list(stride) for stride in strides],
        kernel_sizes=[list(kernel) for kernel in kernel_sizes],
    )
    for key, length in PER_STAGE.items():
        if key in architecture:
            numbers = architecture[key] if convolutions is None else [convolutions]
            architecture[key] = _fitted(numbers, stages + length)
    return small
