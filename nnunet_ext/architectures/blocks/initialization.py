"""How published networks draw their first weights: rules that several of them share."""

from __future__ import annotations

from torch import nn

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def he_fan_out(module: nn.Module) -> None:
    """Convolutions, transposed ones too: normal by fan out with the gain of a ReLU, as in ResNet (K. He et al., CVPR
    2016, doi 10.1109/CVPR.2016.90); biases zero. Other modules stay as they are.

    torch counts the fan out of a transposed convolution by its input channels.
    """
    if isinstance(module, CONVOLUTIONS):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def truncated_normal(module: nn.Module) -> None:
    """Linear maps: normal with standard deviation 0.02, cut at -2 and 2, as in transformers; biases zero. Other
    modules stay as they are."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
