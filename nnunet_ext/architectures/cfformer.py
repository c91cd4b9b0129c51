"""CFFormer, self-configuring: a convolutional and a Swin V2 encoder side by side, fused level by level, in 2D and 3D.

Idea: "CFFormer: Cross CNN-Transformer Channel Attention and Spatial Feature Fusion for Improved Segmentation of
Heterogeneous Medical Images", arXiv 2501.03629, Expert Systems with Applications. The published 2D network is
``CFFormer.reference()`` (``cfformer_reference.py``); this one is ours, from the same blocks.

Differences from the published form:
    - widths, strides, kernels, norm and nonlinearity of the convolutional encoder, and the decoder, are the plan's, in
      2D and 3D;
    - skips are as wide as the convolutional encoder (``transformer_wide_skips``);
    - the decoder up-samples before it convolves, as nnU-Net's does (``upsample_last``);
    - tokens that pad a grid to whole windows are never attended to (``attend_to_padding``);
    - residual blocks and blocks of the transformer start as the identity;
    - its levels 0 (full resolution, which the published form lacks) and 1 are convolutional alone, all others are dual;
    - windows of least padding along each axis; merging by the plan's strides; heads of 32 channels;
    - norm and nonlinearity after the fusion's last convolution; its wide convolution has kernel 5 in 2D and 3 in 3D,
      where 5 would cost a fifth of all parameters;
    - deep supervision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import nn

from nnunet_ext.architectures import pretrained
from nnunet_ext.architectures.blocks.basic_block import BasicBlock
from nnunet_ext.architectures.blocks.dual_fusion import DualFusion
from nnunet_ext.architectures.blocks.input_check import check_input, total_strides
from nnunet_ext.architectures.blocks.layers import per_axis
from nnunet_ext.architectures.blocks.residual_level import residual_level
from nnunet_ext.architectures.blocks.swin_v2 import SwinV2
from nnunet_ext.architectures.blocks.topology import PlanKeywords, Topology, takes_plan
from nnunet_ext.architectures.blocks.unet_decoder import UNetDecoder
from nnunet_ext.architectures.cfformer_presets import MAX_WIDTH, PRESETS, XFF_KERNEL, blocks_at, depths
from nnunet_ext.architectures.cfformer_reference import CFFormerReference, Size, check_parts

if TYPE_CHECKING:
    from typing_extensions import Unpack

HEAD_WIDTH = 32
FIRST_DUAL = 2  # level


@takes_plan
class CFFormer(nn.Module):
    """Input: (B, input_channels, *spatial), each size a multiple of the product of its strides. Output: logits
    (B, num_classes, *spatial), or with ``decoder.deep_supervision`` a list of n_stages - 1, finest first.

    Takes the keyword arguments of a plans file of nnU-Net, for ``PlainConvUNet`` or ``ResidualEncoderUNet``; their
    numbers of convolutions or blocks in the encoder set nothing here, the preset does.

    Args:
        preset: ``"small"`` or ``"base"``, in 3D also ``"large"``.
        xff_kernel: of the wide convolution of the fusion, on axes where the plan's kernel is not 1; None: 5 in 2D, 3 in
            3D.
        full_resolution_skip: False leaves out the skip of level 0, which the published form lacks.
        window: tokens of a window along each axis, or one number for all; None: of least padding at the size at hand.
        transformer_wide_skips: True makes the skips of dual levels as wide as the transformer, as published.
        upsample_last: True gives the decoder the published order (``UNetDecoder``).
        attend_to_padding: True attends to padding and never clips a window, as published (``Windows.over``). 2D only:
            in 3D a window of 8 holds 512 tokens, most of them padding on the coarse grids of a patch.
        use_cnn, use_transformer, use_cfca, use_xff: see ``CFFormerReference``. Without the convolutional encoder its
            levels 0 and 1 stay, as the source of the fine skips.
        drop_path: of the transformer, in training.
        recompute: run the blocks of the transformer again in the backward pass, and what lies between the convolutions
            of residual blocks, instead of keeping what they computed (``blocks/recompute.py``).

    Raises:
        ValueError: fewer than three stages, a first stride that is not 1, an unknown preset, lists of the wrong length,
            ``attend_to_padding`` in 3D;
            in ``forward``, an input of other channels or of a size that the strides do not divide.
    """

    def __init__(
        self,
        *,
        preset: str = "small",
        xff_kernel: int | None = None,
        full_resolution_skip: bool = True,
        window: int | Sequence[int] | None = None,
        transformer_wide_skips: bool = False,
        upsample_last: bool = False,
        attend_to_padding: bool = False,
        use_cnn: bool = True,
        use_transformer: bool = True,
        use_cfca: bool = True,
        use_xff: bool = True,
        drop_path: float = 0.0,
        recompute: bool = True,
        **plan: Unpack[PlanKeywords],
    ) -> None:
        super().__init__()
        check_parts(use_cnn, use_transformer, use_cfca, use_xff)
        topology = Topology.from_plan("CFFormer", plan, FIRST_DUAL + 1, ", one of them with both encoders")
        layers, features, kernels, strides = topology.layers, topology.features, topology.kernels, topology.strides
        n_stages, dimension = topology.n_stages, topology.dimension
        if preset not in PRESETS[dimension]:
            raise ValueError(
                f"CFFormer has no preset '{preset}' in {dimension}D; choose from {list(PRESETS[dimension])}"
            )
        if attend_to_padding and dimension != 2:
            raise ValueError(
                "CFFormer has attend_to_padding in 2D alone: in 3D every window would be padded to hundreds of tokens; "
                "leave it out"
            )
        sizes = PRESETS[dimension][preset]
        self.input_channels = topology.input_channels
        self.divisors = topology.divisors
        self.full_resolution_skip = full_resolution_skip

        self.stem = nn.Sequential(
            layers.conv(topology.input_channels, features[0], kernels[0]), layers.norm(features[0]), layers.activation()
        )
        convolutional = n_stages if use_cnn else FIRST_DUAL
        before = [features[0], *features]
        self.levels = nn.ModuleList(
            residual_level(
                layers,
                blocks_at(sizes, level),
                before[level],
                features[level],
                kernels[level],
                strides[level],
                recompute,
            )
            for level in range(convolutional)
        )
        dual = range(FIRST_DUAL, n_stages)
        widths = [min(sizes.embed * 2**stage, MAX_WIDTH) for stage in range(len(dual))]
        self.transformer = None
        if use_transformer:
            self.transformer = SwinV2(
                topology.input_channels,
                dimension,
                total_strides(strides[: FIRST_DUAL + 1]),
                widths,
                depths(len(dual), sizes.deep),
                [width // HEAD_WIDTH for width in widths],
                strides[FIRST_DUAL + 1 :],
                None if window is None else per_axis(window, dimension),
                drop_path=drop_path,
                attend_to_padding=attend_to_padding,
                recompute=recompute,
            )
        wide = use_transformer and (transformer_wide_skips or not use_cnn)
        skips = [*features[:FIRST_DUAL], *widths] if wide else list(features)
        if use_cnn and use_transformer:
            wide_kernel = XFF_KERNEL[dimension] if xff_kernel is None else xff_kernel
            self.fusions = nn.ModuleList(
                DualFusion(
                    layers,
                    features[level],
                    width,
                    skips[level],
                    kernels[level],
                    [wide_kernel if edge > 1 else 1 for edge in kernels[level]],
                    use_cfca,
                    use_xff,
                    norm_act=True,
                )
                for level, width in zip(dual, widths, strict=True)
            )
        self.decoder = UNetDecoder(
            layers,
            skips if full_resolution_skip else [0, *skips[1:]],
            kernels,
            strides,
            topology.decoder_convs,
            topology.num_classes,
            topology.deep_supervision,
            widths=features[:-1],
            upsample_last=upsample_last,
        )
        self.apply(_initialize)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        check_input(x, self.input_channels, self.divisors)
        u = self.stem(x)
        skips: list[torch.Tensor | None] = []
        for level in self.levels[:FIRST_DUAL]:
            u = level(u)
            skips.append(u)
        if not self.full_resolution_skip:
            skips[0] = None
        if self.transformer is None:
            for level in self.levels[FIRST_DUAL:]:
                u = level(u)
                skips.append(u)
            return self.decoder(skips)
        v = self.transformer.patch_embed(x)
        for number, stage in enumerate(self.transformer.layers):
            grid = stage(v)
            channels_first = grid.movedim(-1, 1)
            if len(self.levels) == FIRST_DUAL:  # the transformer alone
                skips.append(channels_first)
                v = grid
                continue
            u, fused, skip = self.fusions[number](self.levels[FIRST_DUAL + number](u), channels_first)
            skips.append(skip)
            v = fused.movedim(1, -1)
        return self.decoder(skips)

    def load_pretrained(
        self, part: str, weights: Mapping[str, torch.Tensor], windows: int | Sequence[Sequence[int]] | None = None
    ) -> pretrained.Report:
        """Starts the transformer from published weights of Swin V2: 2D plans of six stages, preset ``"base"``, has its
        form. The convolutional encoder is the plan's and has none. See ``CFFormerReference.load_pretrained``.

        Raises:
            ValueError: weights of another size, windows that neither are named nor can be told, or no such part.
        """
        if part != "transformer" or self.transformer is None:
            raise ValueError(f"the self-configuring CFFormer takes no published weights for its {part}")
        entries, report = pretrained.swin_v2(self.state_dict(), "transformer.", weights)
        self.transformer.set_trained_windows(pretrained.windows_of_training(weights, windows))
        report.windows = [window for window in self.transformer.trained_windows if window]
        self.load_state_dict({**self.state_dict(), **entries})
        return report

    @classmethod
    def reference(
        cls, input_channels: int = 3, num_classes: int = 1, size: str | Size = "tiny", **options: Any
    ) -> CFFormerReference:
        """The published network, a class of its own: one output. See ``CFFormerReference``.

        Args:
            input_channels, num_classes: channels in and out.
            size: ``"tiny"`` (the published one), ``"small"`` or ``"base"``: of Swin V2.
            options: others of ``CFFormerReference``.
        """
        return CFFormerReference(input_channels, num_classes, size, **options)


def _initialize(module: nn.Module) -> None:
    """nnU-Net's start of convolutions, residual blocks that begin as their shortcut, the transformer's own."""
    InitWeights_He(1e-2)(module)
    if isinstance(module, BasicBlock):
        for name, parameter in module.last_norm.named_parameters():
            if name == "weight":
                nn.init.zeros_(parameter)
    SwinV2.initialize(module)
