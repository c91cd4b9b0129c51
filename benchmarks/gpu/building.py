"""From a subject and a plan to a network, as its trainer builds it."""

from __future__ import annotations

import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from subjects import NNUNET, PLAIN, Plan, Subject
from torch import nn

from nnunet_ext.errors import UserError
from nnunet_ext.families import load
from nnunet_ext.planning.from_plans import from_configuration
from nnunet_ext.trainers.registry import optimizer_of


def build(subject: Subject, plan: Plan, seed: int = 0) -> nn.Module:
    """The network with deep supervision, as its trainer builds it, on the CPU or on the default device of torch.

    Raises:
        UserError: it cannot be built for this plan.
    """
    if plan.channels < subject.image_channels:
        raise UserError(f"{subject.name} needs {subject.image_channels} image channels or more")
    torch.manual_seed(seed)
    configuration = configuration_of(plan, subject.residual)
    options = {**subject.built_with, **({} if subject.recompute else {"recompute": False})}
    network = from_configuration(
        load(subject.class_path), configuration, plan.channels, plan.classes, deep_supervision=True, **options
    )
    return network.to(memory_format=memory_format(plan)) if subject.channels_last else network


def memory_format(plan: Plan) -> torch.memory_format:
    """Channels last, for the plan's axes."""
    return torch.channels_last if len(plan.patch) == 2 else torch.channels_last_3d


def optimizer_name(subject: Subject) -> str:
    """In ``torch.optim``, of the trainer that trains it."""
    return optimizer_of(subject.name)


def configuration_of(plan: Plan, residual: bool) -> ConfigurationManager:
    """As nnU-Net hands it to a network; ``residual``: for the residual encoder, size M."""
    axes, stages = len(plan.patch), len(plan.features)
    blocks = [1, 3, 4, 6, 6, 6, 6, 6][:stages]
    encoder = {"n_blocks_per_stage": blocks} if residual else {"n_conv_per_stage": [2] * stages}
    arguments = {
        "n_stages": stages,
        "features_per_stage": list(plan.features),
        "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
        "kernel_sizes": [[3] * axes] * stages,
        "strides": [[1] * axes, *[[2] * axes] * (stages - 1)],
        **encoder,
        "n_conv_per_stage_decoder": [1 if residual else 2] * (stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return ConfigurationManager(
        {
            "patch_size": list(plan.patch),
            "batch_size": plan.batch,
            "normalization_schemes": ["ZScoreNormalization"] * plan.channels,
            "architecture": {
                "network_class_name": f"{NNUNET}.{'ResidualEncoderUNet' if residual else PLAIN}",
                "arch_kwargs": arguments,
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }
    )
