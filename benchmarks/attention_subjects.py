"""What ``benchmarks/attention.py`` measures: blocks with the convolution stage beside them, and networks of a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from nnunet_ext.architectures.blocks.attention import ATTENTION, Placement, attention_block
from nnunet_ext.architectures.blocks.attention.descriptors import DescriptorGate
from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.families import FAMILIES, load
from nnunet_ext.families.rows import Network

CLASSES = 4
PLAIN = "PlainConvUNet"
#: further forms of a block, and the options that make them
IN_SLICES = {"extent": "slice"}
BOTH = {"channel_pooling": "avg_and_max", "slice_pooling": "avg_and_max"}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "se": {"se": {}, "se, mean and maximum": {"pooling": "avg_and_max"}},
    "pam": {"pam": {}, "pam, mean and maximum": BOTH},
    "position": {"position": {}, "position, in slices": IN_SLICES},
    "dual": {"dual": {"dropout": 0.0}, "dual, in slices": {"dropout": 0.0, **IN_SLICES}},
}


@dataclass(frozen=True)
class Maps:
    """Where blocks are measured: channels and size of a map of the first stage, and of one of the deepest."""

    fine: tuple[int, tuple[int, ...]]
    deep: tuple[int, tuple[int, ...]]


MAPS = {3: Maps((32, (32, 64, 64)), (256, (8, 8, 8))), 2: Maps((32, (256, 256)), (512, (16, 16)))}
QUICK_MAPS = {3: Maps((8, (4, 8, 8)), (16, (2, 4, 4))), 2: Maps((8, (16, 16)), (16, (4, 4)))}


def layers_of(dimension: int) -> LayerPlan:
    """As nnU-Net's plans have them."""
    return LayerPlan(
        (nn.Conv2d, nn.Conv3d)[dimension - 2],
        True,
        (nn.InstanceNorm2d, nn.InstanceNorm3d)[dimension - 2],
        {"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )


@dataclass(frozen=True)
class BlockCase:
    """A block, the map that it is given, the shapes of what it takes, and two convolutions of the same width."""

    name: str
    place: str
    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    make_stage: Callable[[], nn.Module]


def block_cases(dimension: int, maps: Maps) -> Iterator[BlockCase]:
    layers = layers_of(dimension)
    for name, row in ATTENTION.items():
        deep = row.placement is Placement.DEEPEST
        channels, size = maps.deep if deep else maps.fine
        place = {
            "layers": layers,
            "dimension": dimension,
            "channels": channels,
            "out_channels": channels,
            "gate_channels": 2 * channels,
            "stride": (2,) * dimension,
            "classes": CLASSES,
            "depth": size[0] if dimension == 3 else 1,
        }
        shapes = [(1, channels, *size)]
        if row.placement is Placement.SKIP:
            shapes.append((1, 2 * channels, *(edge // 2 for edge in size)))
        for label, options in VARIANTS.get(name, {name: {}}).items():
            if dimension == 2 and (name == "slice" or "in slices" in label):
                continue  # a 2D map is one slice
            yield BlockCase(
                label,
                "deep" if deep else "fine",
                partial(attention_block, name, place, **options),
                tuple(shapes),
                partial(layers.conv_blocks, 2, channels, channels, 3),
            )


@dataclass(frozen=True)
class Plan:
    """The part of a plans file that networks are built of."""

    patch: tuple[int, ...]
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    channels: int = 4

    def build(self, cls: type[nn.Module], **options: Any) -> nn.Module:
        dimension, stages = len(self.patch), len(self.features)
        if hasattr(cls, "plan_options"):
            options = {**options, **cls.plan_options(patch_size=self.patch, channel_names=[""] * self.channels)}
        network: nn.Module = cls(
            input_channels=self.channels,
            num_classes=CLASSES,
            n_stages=stages,
            features_per_stage=list(self.features),
            kernel_sizes=[[3] * dimension] * stages,
            strides=[list(stride) for stride in self.strides],
            n_conv_per_stage=[2] * stages,
            n_conv_per_stage_decoder=[2] * (stages - 1),
            deep_supervision=True,
            **layers_of(dimension).arguments(),
            **options,
        )
        return network


def halving(patch: tuple[int, ...], *features: int) -> Plan:
    dimension = len(patch)
    return Plan(patch, features, ((1,) * dimension, *((2,) * dimension for _ in features[1:])))


#: of the training steps
STEP_PLAN = halving((32, 64, 64), 16, 32, 64, 128, 256)
QUICK_PLAN = halving((16, 16, 16), 4, 8, 16)
#: of memory: what nnU-Net plans for BraTS 2021, and for pictures of 512 pixels
MEMORY_PLANS = {
    3: halving((128, 128, 128), 32, 64, 128, 256, 320, 320),
    2: halving((512, 512), 32, 64, 128, 256, 512, 512, 512, 512),
}
QUICK_MEMORY_PLANS = {3: QUICK_PLAN, 2: halving((32, 32), 4, 8, 16)}


def step_of(network: nn.Module, plan: Plan, batch: int) -> Callable[[], None]:
    """A training step as nnU-Net makes it, on one random batch."""
    image = torch.randn(batch, plan.channels, *plan.patch)
    label = torch.randint(0, CLASSES, (batch, 1, *plan.patch)).float()
    with torch.no_grad():
        sizes = [output.shape[2:] for output in network(image)]
    targets = [nn.functional.interpolate(label, size=tuple(size), mode="nearest") for size in sizes]
    weights = [0.5**index for index in range(len(sizes))]
    if len(weights) > 1:
        weights[-1] = 0.0  # nnU-Net gives the coarsest none
    dice = {"batch_dice": False, "do_bg": False, "smooth": 1e-5, "ddp": False}
    loss = DeepSupervisionWrapper(
        DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss), [weight / sum(weights) for weight in weights]
    )
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.99, nesterov=True, weight_decay=3e-5)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(network(image), targets).backward()
        optimizer.step()

    return step


def gates_of(network: nn.Module, image: torch.Tensor) -> list[tuple[nn.Module, torch.Size]]:
    """Gates of slices and channels in a network, and the shapes of the maps that they are given."""
    found: list[tuple[nn.Module, torch.Size]] = []
    hooks = [
        module.register_forward_hook(lambda block, inputs, _: found.append((block, inputs[0].shape)))
        for module in network.modules()
        if isinstance(module, DescriptorGate)
    ]
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    return found


def network_names() -> list[str]:
    return [row.name for row in _rows()]


def networks(plan: Plan) -> dict[tuple[str, bool], Callable[[], nn.Module]]:
    """nnU-Net's, and the family's; by name and whether they recompute in the backward pass."""
    found: dict[tuple[str, bool], Callable[[], nn.Module]] = {(PLAIN, False): partial(plan.build, PlainConvUNet)}
    for row in _rows():
        for recompute in (False, True):
            found[row.name, recompute] = partial(
                plan.build, load(row.class_path), recompute=recompute, **row.built_with
            )
    return found


def _rows() -> tuple[Network, ...]:
    return next(family.networks for family in FAMILIES if family.name == "attention")
