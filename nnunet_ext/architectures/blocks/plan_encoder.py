"""nnU-Net's own encoders from a plan's keywords, as one or several streams of a network."""

from __future__ import annotations

from collections.abc import Sequence

from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder

from nnunet_ext.architectures.blocks.layers import per_stage
from nnunet_ext.architectures.blocks.topology import Topology


def plan_encoder(
    topology: Topology, input_channels: int, features_per_stage: Sequence[int]
) -> PlainConvEncoder | ResidualEncoder:
    """The encoder of ``PlainConvUNet``, or of ``ResidualEncoderUNet`` where the plan counts blocks; its forward pass
    returns the maps of all stages, finest first.

    Args:
        topology: of the plan.
        input_channels, features_per_stage: of this stream, instead of the plan's.

    Raises:
        ValueError: neither or both of ``n_conv_per_stage`` and ``n_blocks_per_stage``, or a list of the wrong length.
    """
    convs, blocks = topology.encoder_convs, topology.encoder_blocks
    if (convs is None) == (blocks is None):
        raise ValueError("give either n_conv_per_stage or n_blocks_per_stage, as nnU-Net's plans do, and not both")
    n_stages = topology.n_stages
    arguments = {
        **topology.layers.arguments(),
        "input_channels": input_channels,
        "n_stages": n_stages,
        "features_per_stage": list(features_per_stage),
        "kernel_sizes": list(topology.kernels),
        "strides": list(topology.strides),
        "return_skips": True,
    }
    if blocks is None:
        return PlainConvEncoder(**arguments, n_conv_per_stage=per_stage("n_conv_per_stage", convs, n_stages))
    return ResidualEncoder(**arguments, n_blocks_per_stage=per_stage("n_blocks_per_stage", blocks, n_stages))
