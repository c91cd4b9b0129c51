"""CFFormer as published: ResNet-34 and Swin Transformer V2 side by side, fused at four resolutions; 2D.

"CFFormer: Cross CNN-Transformer Channel Attention and Spatial Feature Fusion for Improved Segmentation of Heterogeneous
Medical Images", arXiv 2501.03629, Expert Systems with Applications. The network is that of a public copy of code
(FengheTan9/U-Bench at eafbb9f, ``models/Hybrid/CFFormer``) which is very likely the authors' own: its smallest form has
the one size that is published, 99.56 M parameters. That the copy equals the authors' files is not proven, and the
licence of the original is not known; this is written anew from a description of its function, and computes the same.

Differences from that code:
    - the classifiers of both encoders and the transformer's final norm, which no forward pass reaches, are not built;
    - weights start at random; the encoders' ImageNet weights come from a file or hub of the user's choice, by
      ``load_pretrained``, never by download from here;
    - any number of image channels (there three alone);
    - sizes that 32 does not divide are refused in words;
    - the spatial fusion puts the transformer's map first; ``load_reference_state_dict`` reorders the columns;
    - attention logits and the exchange of channels are computed in float32 under autocast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nnunet_ext.architectures import cfformer_weights, pretrained
from nnunet_ext.architectures.blocks.dual_fusion import DualFusion
from nnunet_ext.architectures.blocks.initialization import he_fan_out, truncated_normal
from nnunet_ext.architectures.blocks.input_check import check_input
from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.resnet import ResNet
from nnunet_ext.architectures.blocks.swin_v2 import SwinV2
from nnunet_ext.architectures.blocks.unet_decoder import UNetDecoder
from nnunet_ext.errors import UserError


@dataclass(frozen=True)
class Size:
    """Of the transformer.

    Attributes:
        widths, depths, heads: of its stages, as torchvision and timm have them.
        drop_path: probability of leaving out its last block in training.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    drop_path: float


#: after Swin V2; the authors' code calls them s, b and large
SIZES = {
    "tiny": Size((96, 192, 384, 768), (2, 2, 6, 2), (3, 6, 12, 24), 0.2),
    "small": Size((96, 192, 384, 768), (2, 2, 18, 2), (3, 6, 12, 24), 0.3),
    "base": Size((128, 256, 512, 1024), (2, 2, 18, 2), (4, 8, 16, 32), 0.5),
}
STEM, CNN_WIDTHS, CNN_BLOCKS = 64, (64, 128, 256, 512), (3, 4, 6, 3)  # ResNet-34
STAGES = 4
HALF, ONE = (2, 2), (1, 1)  # strides
PATCH, WINDOW = (4, 4), (8, 8)
DIVISORS = (32, 32)  # of height and width
PUBLISHED_CHANNELS = 3  # of the image
LAYERS = LayerPlan(nn.Conv2d, True, nn.BatchNorm2d, nonlin=nn.ReLU, nonlin_kwargs={"inplace": True})


class CFFormerReference(nn.Module):
    """Input (B, input_channels, H, W), H and W multiples of 32. Output: logits (B, num_classes, H, W).

    Args:
        input_channels: of the image; 3 as published.
        num_classes: channels of the logits.
        size: ``"tiny"`` (the published one), ``"small"`` or ``"base"``, or a ``Size``.
        use_cnn, use_transformer: one of them False gives the row of the paper's ablation with one encoder, whose widths
            are then those of the decoder.
        use_cfca, use_xff: the channel exchange; the crossed convolutions. Both False: plain fusion.
        drop_path: of the transformer, in training; None: that of the size.
        image_mean, image_std: subtracted from and divided by, channel by channel, before anything else; None: not at
            all, as published.

    Raises:
        ValueError: an unknown size, no encoder, or a part that needs both with only one; in ``forward``, an input of
            another form.
    """

    def __init__(
        self,
        input_channels: int = PUBLISHED_CHANNELS,
        num_classes: int = 1,
        size: str | Size = "tiny",
        use_cnn: bool = True,
        use_transformer: bool = True,
        use_cfca: bool = True,
        use_xff: bool = True,
        drop_path: float | None = None,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_parts(use_cnn, use_transformer, use_cfca, use_xff)
        if isinstance(size, str) and size not in SIZES:
            raise ValueError(f"the published CFFormer has no size '{size}'; choose from {list(SIZES)}")
        chosen = SIZES[size] if isinstance(size, str) else size
        self.input_channels = input_channels
        self.image_mean = None if image_mean is None else tuple(image_mean)
        self.image_std = None if image_std is None else tuple(image_std)

        self.cnn = self.transformer = self.fusion = None
        if use_cnn:
            self.cnn = ResNet(input_channels, 2, STEM, CNN_WIDTHS, CNN_BLOCKS, [HALF] * (STAGES + 1))
        if use_transformer:
            self.transformer = SwinV2(
                input_channels,
                2,
                PATCH,
                chosen.widths,
                chosen.depths,
                chosen.heads,
                [HALF] * (STAGES - 1),
                WINDOW,
                drop_path=chosen.drop_path if drop_path is None else drop_path,
                attend_to_padding=True,
                stacked_bias=True,
            )
        if use_cnn and use_transformer:
            self.fusion = nn.ModuleList(
                DualFusion(LAYERS, u_channels, v_channels, v_channels, (3, 3), (5, 5), use_cfca, use_xff)
                for u_channels, v_channels in zip(CNN_WIDTHS, chosen.widths, strict=True)
            )
        skips = chosen.widths if use_transformer else CNN_WIDTHS
        self.decoder = UNetDecoder(
            LAYERS,
            [0, STEM if use_cnn else 0, *skips],  # no skip at full resolution
            kernels=[(3, 3)] * (STAGES + 2),
            strides=[ONE, *[HALF] * (STAGES + 1)],
            convs=[2] * (STAGES + 1),
            num_classes=num_classes,
            deep_supervision=False,
            widths=[STEM, STEM, *skips[:-1]],
            upsample_last=True,
            single_head=True,
        )
        self._initialize()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input(x, self.input_channels, DIVISORS)
        x = self._normalised(x)
        fine = u = v = None
        if self.cnn is not None:
            fine = self.cnn.stem(x)
            u = self.cnn.maxpool(fine)
        skips = []
        for stage in range(STAGES):
            if self.cnn is not None:
                u = self.cnn.layers[stage](u)
            if self.transformer is not None:
                grid = self.transformer.patch_embed(x) if v is None else v.movedim(1, -1)
                v = self.transformer.layers[stage](grid).movedim(-1, 1)
            if self.fusion is None:
                skips.append(v if u is None else u)
            else:
                u, v, skip = self.fusion[stage](u, v)
                skips.append(skip)
        return self.decoder([None, fine, *skips])

    def _normalised(self, x: torch.Tensor) -> torch.Tensor:
        if self.image_mean is None or self.image_std is None:
            return x
        shape = (1, -1, 1, 1)
        return (x - x.new_tensor(self.image_mean).view(shape)) / x.new_tensor(self.image_std).view(shape)

    def _initialize(self) -> None:
        """As coded: convolutions of the CNN and the decoder normal by fan out, linear maps of the transformer and of
        the exchange truncated normal, norms one; the spatial fusion and the patch convolution as torch draws them."""
        for module in self.modules():
            truncated_normal(module)
        for part in (self.cnn, self.decoder):
            if part is not None:
                part.apply(he_fan_out)

    def load_reference_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Loads the weights of a checkpoint under the authors' names: all of them (1,048 entries for the tiny size, of
        which 445 are other names of the same tensors), or each once. Parts that no forward pass reaches are left out.
        A file of one encoder is taken too, as by ``load_pretrained`` without ``windows``.

        Raises:
            ValueError: a key is missing or unknown, a tensor has another shape, or two names of one tensor disagree;
                the file is a transformer's alone and does not tell its windows.
        """
        part = cfformer_weights.encoder_of(state_dict)
        if part is not None:
            self.load_pretrained(part, state_dict)
            return
        named = cfformer_weights.from_published(state_dict)
        entries, _ = pretrained.into(self.state_dict(), "", named, "published CFFormer")
        self.load_state_dict({**self.state_dict(), **entries})
        if self.transformer is not None:
            self.transformer.trained_windows = [None] * STAGES  # theirs is the window in use

    def load_pretrained(
        self, part: str, weights: Mapping[str, torch.Tensor], windows: int | Sequence[Sequence[int]] | None = None
    ) -> pretrained.Report:
        """Starts an encoder from published weights: ``"cnn"`` from a ResNet-34, ``"transformer"`` from a Swin V2.

        Args:
            part: of the two.
            weights: timm's or torchvision's state dict.
            windows: of the transformer's training, one number or one window a stage; the position bias of a distance is
                then what it was there. None: as the weights tell, which torchvision's and those of Swin V2's authors
                do, and timm's do not.

        Raises:
            ValueError: weights of another size, windows that neither are named nor can be told, or no such part.
        """
        if part == "cnn" and self.cnn is not None:
            entries, report = pretrained.resnet(self.state_dict(), "cnn.", weights)
        elif part == "transformer" and self.transformer is not None:
            entries, report = pretrained.swin_v2(self.state_dict(), "transformer.", weights)
        else:
            raise ValueError(f"this CFFormer has no {part}")
        if part == "transformer" and self.transformer is not None:
            self.transformer.set_trained_windows(pretrained.windows_of_training(weights, windows))
            report.windows = [window for window in self.transformer.trained_windows if window]
        self.load_state_dict({**self.state_dict(), **entries})
        return report

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As of every module.

        Raises:
            UserError: the weights are those of what nnunet_ext 0.1.0 called the published network.
        """
        if cfformer_weights.is_earlier_composition(state_dict):
            raise UserError(cfformer_weights.EARLIER_COMPOSITION, remedy=cfformer_weights.EARLIER_REMEDY)
        return super().load_state_dict(state_dict, *args, **kwargs)


def check_parts(use_cnn: bool, use_transformer: bool, use_cfca: bool, use_xff: bool) -> None:
    """
    Raises:
        ValueError: no encoder, or one encoder with a part that joins two.
    """
    if not (use_cnn or use_transformer):
        raise ValueError("CFFormer needs an encoder: use_cnn or use_transformer")
    if not (use_cnn and use_transformer) and (use_cfca or use_xff):
        raise ValueError("use_cfca and use_xff join two encoders: set both to False for one encoder alone")
