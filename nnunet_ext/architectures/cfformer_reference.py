"""CFFormer as published: ResNet-34 and Swin Transformer V2 side by side, fused at four resolutions; in 2D, and in 3D
alike.

"CFFormer: Cross CNN-Transformer Channel Attention and Spatial Feature Fusion for Improved Segmentation of Heterogeneous
Medical Images", arXiv 2501.03629, Expert Systems with Applications. Written from the description; the official code was
not read, and its size is not known: ``size`` is a choice.

What the description leaves open, and what is chosen here:
    - the softmax of the channel exchange runs over the channels of the other map; its linear maps have biases;
    - the convolutions of the spatial fusion are bare; skips are as wide as the CNN's stage;
    - decoder widths 256, 128, 64, 64, 32 (the widths of the CNN's stages, of its stem, and half of that);
    - neither encoder has a final norm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures import pretrained
from nnunet_ext.architectures.blocks.dual_fusion import DualFusion
from nnunet_ext.architectures.blocks.input_check import check_input, total_strides
from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.resnet import ResNet
from nnunet_ext.architectures.blocks.swin_v2 import SwinV2


@dataclass(frozen=True)
class Size:
    """Widths, depths and heads of Swin V2, as timm names them."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]


SIZES = {
    "tiny": Size((96, 192, 384, 768), (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": Size((96, 192, 384, 768), (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": Size((128, 256, 512, 1024), (2, 2, 18, 2), (4, 8, 16, 32)),
}
CNN_WIDTHS, CNN_BLOCKS, STEM = (64, 128, 256, 512), (3, 4, 6, 3), 64
DROP_PATH = 0.1
STAGES = 4
GRID_OVER_WINDOW = 8
LAYERS = {
    2: LayerPlan(nn.Conv2d, True, nn.BatchNorm2d, nonlin=nn.ReLU, nonlin_kwargs={"inplace": True}),
    3: LayerPlan(nn.Conv3d, True, nn.BatchNorm3d, nonlin=nn.ReLU, nonlin_kwargs={"inplace": True}),
}


class CFFormerReference(nn.Module):
    """Input (B, input_channels, *spatial), sizes multiples of the strides' product (32). Output: logits (B,
    num_classes, *spatial).

    Args:
        input_channels, num_classes: channels in and out.
        size: ``"base"``, ``"small"`` or ``"tiny"``, or a ``Size``.
        window: tokens along each axis of an attention window; None: an eighth of the first grid, as timm has it (7 at
            224 x 224, 8 at 256 x 256).
        trained_windows: windows that loaded weights of the transformer were trained with, one a stage.
        strides: five, one an axis each: stem, pooling, and the three stages after; None: 2 everywhere in 2D.
        cnn_widths, cnn_blocks, stem: of the ResNet.
        skip_channels: of the fused maps; None: the ResNet's.
        use_cnn, use_transformer: one of them False gives the row of the paper's ablation with one encoder.
        use_cfca, use_xff: the channel exchange; the crossed convolutions. Both False: plain fusion.
        drop_path: of the transformer, in training.
        image_mean, image_std: subtracted from and divided by, channel by channel, before anything else; None: not at
            all.

    Raises:
        ValueError: no encoder, or a part that needs both with only one; in ``forward``, an input of another form.
    """

    def __init__(
        self,
        input_channels: int = 3,
        num_classes: int = 1,
        size: str | Size = "base",
        window: Sequence[int] | None = None,
        trained_windows: Sequence[Sequence[int]] | None = None,
        strides: Sequence[Sequence[int]] | None = None,
        cnn_widths: Sequence[int] = CNN_WIDTHS,
        cnn_blocks: Sequence[int] = CNN_BLOCKS,
        stem: int = STEM,
        skip_channels: Sequence[int] | None = None,
        use_cnn: bool = True,
        use_transformer: bool = True,
        use_cfca: bool = True,
        use_xff: bool = True,
        drop_path: float = DROP_PATH,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.image_mean = None if image_mean is None else tuple(image_mean)
        self.image_std = None if image_std is None else tuple(image_std)
        both = use_cnn and use_transformer
        check_parts(use_cnn, use_transformer, use_cfca, use_xff)
        steps = [tuple(stride) for stride in strides or [(2, 2)] * (STAGES + 1)]
        dimension = len(steps[0])
        layers = LAYERS[dimension]
        if isinstance(size, str) and size not in SIZES:
            raise ValueError(f"the published CFFormer has no size '{size}'; choose from {list(SIZES)}")
        chosen = SIZES[size] if isinstance(size, str) else size
        self.input_channels = input_channels
        self.divisors = total_strides(steps)
        self.cnn = self.transformer = None
        if use_cnn:
            self.cnn = ResNet(input_channels, dimension, stem, cnn_widths, cnn_blocks, steps)
        if use_transformer:
            patch = tuple(a * b for a, b in zip(*steps[:2], strict=True))
            self.transformer = SwinV2(
                input_channels,
                dimension,
                patch,
                chosen.widths,
                chosen.depths,
                chosen.heads,
                steps[2:],
                window,
                trained_windows,
                drop_path,
            )
        skips = list(cnn_widths if use_cnn else chosen.widths)
        if both:
            skips = list(skip_channels or cnn_widths)
            self.fusion = nn.ModuleList(
                DualFusion(layers, cnn, transformer, skip, [3] * dimension, [5] * dimension, use_cfca, use_xff)
                for cnn, transformer, skip in zip(cnn_widths, chosen.widths, skips, strict=True)
            )
        widths = [*cnn_widths[-2::-1], stem, stem // 2]
        decoder_skips = [*skips[-2::-1], stem if use_cnn else 0, 0]
        self.decoder = ReferenceDecoder(layers, skips[-1], widths, decoder_skips, steps[::-1], num_classes)
        self.initialize_all()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input(x, self.input_channels, self.divisors)
        x = self._normalised(x)
        u = v = fine = None
        window: list[int] = []
        if self.cnn is not None:
            fine = self.cnn.stem(x)
            u = self.cnn.maxpool(fine)
        skips = []
        for stage in range(STAGES):
            if self.cnn is not None:
                u = self.cnn.layers[stage](u)
            if self.transformer is not None:
                grid = self.transformer.patch_embed(x) if v is None else v.movedim(1, -1)
                if stage == 0:
                    window = [max(1, int(edge) // GRID_OVER_WINDOW) for edge in grid.shape[1:-1]]
                v = self.transformer.layers[stage](grid, window).movedim(-1, 1)
            if u is not None and v is not None:
                u, v, skip = self.fusion[stage](u, v)
            else:
                skip = v if u is None else u
            skips.append(skip)
        return self.decoder(skips.pop(), [*reversed(skips), fine, None])

    def _normalised(self, x: torch.Tensor) -> torch.Tensor:
        if self.image_mean is None or self.image_std is None:
            return x
        shape = (1, -1, *[1] * len(self.divisors))
        return (x - x.new_tensor(self.image_mean).view(shape)) / x.new_tensor(self.image_std).view(shape)

    def load_reference_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Loads weights under the published form's names: ``decoder.0.`` to ``decoder.4.`` and ``head.`` are
        ``decoder.stages.0.`` and so on and ``decoder.seg_layers.0.`` here.

        Raises:
            RuntimeError: a key is missing or unknown, or a tensor has another shape.
        """
        kept = {key: value for key, value in self.state_dict().items() if key.endswith("._extra_state")}
        self.load_state_dict({**kept, **{own_name(key): value for key, value in state_dict.items()}})

    def load_pretrained(
        self, part: str, weights: Mapping[str, torch.Tensor], windows: int | Sequence[Sequence[int]] | None = None
    ) -> pretrained.Report:
        """Starts an encoder from published weights: ``"cnn"`` from a ResNet-34, ``"transformer"`` from a Swin V2.

        Args:
            part: of the two.
            weights: timm's state dict.
            windows: of the transformer's training, one number or one window a stage; the position bias of a distance is
                then what it was there. None: the windows in use.

        Raises:
            ValueError: weights of another size, or no such part.
        """
        if part == "cnn" and self.cnn is not None:
            entries, report = pretrained.resnet(self.state_dict(), "cnn.", weights)
        elif part == "transformer" and self.transformer is not None:
            entries, report = pretrained.swin_v2(self.state_dict(), "transformer.", weights)
        else:
            raise ValueError(f"this CFFormer has no {part}")
        self.load_state_dict({**self.state_dict(), **entries})
        if part == "transformer" and self.transformer is not None and windows is not None:
            self.transformer.set_trained_windows(windows)
            report.windows = [window for window in self.transformer.trained_windows if window]
        return report

    def initialize_all(self) -> None:
        """Convolutions normal by fan out, as in ResNet; the transformer as published."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.transformer is not None:
            self.transformer.apply(SwinV2.initialize)


class ReferenceDecoder(nn.Module):
    """Coarse to fine; one head, so nothing to supervise deeply."""

    deep_supervision = False

    def __init__(
        self,
        layers: LayerPlan,
        channels: int,
        widths: Sequence[int],
        skips: Sequence[int],
        strides: Sequence[Sequence[int]],
        num_classes: int,
    ) -> None:
        super().__init__()
        below = [channels, *widths[:-1]]
        self.stages = nn.ModuleList(
            ReferenceStage(layers, *parts) for parts in zip(below, widths, skips, strides, strict=True)
        )
        self.seg_layers = nn.ModuleList([layers.conv(widths[-1], num_classes, 1)])

    def forward(self, x: torch.Tensor, skips: Sequence[torch.Tensor | None]) -> torch.Tensor:
        for stage, skip in zip(self.stages, skips, strict=True):
            x = stage(x, skip)
        return self.seg_layers[0](x)


class ReferenceStage(nn.Module):
    def __init__(self, layers: LayerPlan, channels: int, width: int, skip: int, stride: Sequence[int]) -> None:
        super().__init__()
        self.up = layers.transposed_conv(channels, width, stride, stride)
        self.conv1 = layers.conv(width + skip, width, 3, bias=False)
        self.bn1 = layers.norm(width)
        self.conv2 = layers.conv(width, width, 3, bias=False)
        self.bn2 = layers.norm(width)

    def forward(self, x: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        x = self.up(x)
        x = x if skip is None else torch.cat((x, skip), dim=1)
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(x)), inplace=True)


def check_parts(use_cnn: bool, use_transformer: bool, use_cfca: bool, use_xff: bool) -> None:
    """
    Raises:
        ValueError: no encoder, or one encoder with a part that joins two.
    """
    if not (use_cnn or use_transformer):
        raise ValueError("CFFormer needs an encoder: use_cnn or use_transformer")
    if not (use_cnn and use_transformer) and (use_cfca or use_xff):
        raise ValueError("use_cfca and use_xff join two encoders: set both to False for one encoder alone")


def own_name(published: str) -> str:
    """Key of this module tree for a key of the published form."""
    if published.startswith("head."):
        return "decoder.seg_layers.0." + published.removeprefix("head.")
    if published.startswith("decoder."):
        return "decoder.stages." + published.removeprefix("decoder.")
    return published
