"""nnU-Net's own encoders from a plan's keywords, as one or several streams of a network."""

from __future__ import annotations

from collections.abc import Sequence

from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder

from nnunet_ext.architectures.blocks.layers import LayerPlan, PerAxis, per_stage

PerStage = int | Sequence[int]


def plan_encoder(
    layers: LayerPlan,
    input_channels: int,
    features_per_stage: Sequence[int],
    kernel_sizes: Sequence[PerAxis],
    strides: Sequence[PerAxis],
    n_conv_per_stage: PerStage | None,
    n_blocks_per_stage: PerStage | None,
) -> PlainConvEncoder | ResidualEncoder:
    """The encoder of ``PlainConvUNet``, or of ``ResidualEncoderUNet`` where the plan counts blocks; its forward pass
    returns the maps of all stages, finest first.

    Raises:
        ValueError: neither or both of ``n_conv_per_stage`` and ``n_blocks_per_stage``, or a list of the wrong length.
    """
    if (n_conv_per_stage is None) == (n_blocks_per_stage is None):
        raise ValueError("give either n_conv_per_stage or n_blocks_per_stage, as nnU-Net's plans do, and not both")
    n_stages = len(features_per_stage)
    arguments = {
        **layers.arguments(),
        "input_channels": input_channels,
        "n_stages": n_stages,
        "features_per_stage": list(features_per_stage),
        "kernel_sizes": list(kernel_sizes),
        "strides": list(strides),
        "return_skips": True,
    }
    if n_blocks_per_stage is None:
        return PlainConvEncoder(**arguments, n_conv_per_stage=per_stage("n_conv_per_stage", n_conv_per_stage, n_stages))
    return ResidualEncoder(
        **arguments, n_blocks_per_stage=per_stage("n_blocks_per_stage", n_blocks_per_stage, n_stages)
    )
