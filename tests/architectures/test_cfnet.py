"""The self-configuring CFNet beyond the contracts of every network (tests/contracts/test_networks.py)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunet_ext.architectures.cfnet import CFNet

PUBLISHED_WIDTHS = [32, 64, 128, 256, 320, 320]


def brats_network(plan_arguments: Any) -> CFNet:
    return CFNet(
        **plan_arguments(n_stages=6, features=PUBLISHED_WIDTHS, input_channels=4, num_classes=4, deep_supervision=True)
    )


def test_default_brats_topology_has_the_parameters_and_multiply_adds_of_the_design(plan_arguments: Any) -> None:
    with torch.device("meta"):
        network = brats_network(plan_arguments)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 4, 128, 128, 128))
    parts = {name: [sum(p.numel() for p in child.parameters()) for child in part.children()] for name, part in
             (("encoders", network.encoders), ("fusions", network.fusions))}  # fmt: skip
    assert parts["encoders"] == [3_508_608] * 2
    assert parts["fusions"] == [15_842, 62_404, 247_688, 386_410, 386_410]
    assert sum(p.numel() for p in network.context.parameters()) == 2_154_000
    assert sum(p.numel() for p in network.parameters()) == 26_332_550
    # convolutions and matrix products; nnU-Net's PlainConvUNet of this topology has 482.9 G
    assert counter.get_total_flops() / 2e9 == pytest.approx(420.4, abs=0.05)


@pytest.mark.parametrize(
    ("image_channels", "cascade", "options", "expected"),
    [
        (2, 0, {}, ((0,), (1,))),
        (3, 0, {}, ((0, 2), (1,))),
        (4, 0, {}, ((0, 2), (1, 3))),
        (5, 0, {}, ((0, 2, 4), (1, 3))),
        (2, 3, {}, ((0, 2, 3, 4), (1, 2, 3, 4))),
        (4, 0, {"stream_channels": [[3, 0], [1, 2, 3]]}, ((3, 0), (1, 2, 3))),
        (3, 1, {"stream_channels": [[2], [0, 1]]}, ((2, 3), (0, 1, 3))),
    ],
)
def test_each_stream_sees_its_channels_alone(
    image_channels: int, cascade: int, options: dict, expected: tuple, plan_arguments: Any
) -> None:
    torch.manual_seed(0)
    channels = image_channels + cascade
    network = CFNet(**plan_arguments(2, input_channels=channels), cascade_channels=cascade, **options)
    seen: list[list[torch.Tensor]] = [[], []]
    for stream, encoder in enumerate(network.encoders):
        encoder.register_forward_hook(lambda module, inputs, output, stream=stream: seen[stream].append(output[-1]))
    image = torch.randn(1, channels, 16, 16)
    with torch.no_grad():
        network(image)
        for channel in range(channels):
            changed = image.clone()
            changed[:, channel] = 0
            network(changed)
    for stream, maps in enumerate(seen):
        reached = {channel for channel in range(channels) if not torch.equal(maps[0], maps[1 + channel])}
        assert reached == set(expected[stream])


def test_data_flow_is_that_of_the_design(plan_arguments: Any) -> None:
    """Four stages, written out."""
    torch.manual_seed(0)
    network = CFNet(**plan_arguments(2, 4, [8, 16, 24, 32], input_channels=3, deep_supervision=True)).double()
    image = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    one0, one1, one2, one3 = network.encoders[0](image[:, [0, 2]])
    two0, two1, two2, two3 = network.encoders[1](image[:, [1]])
    decoder = network.decoder
    bottleneck = network.context(network.fusions[2](one3, two3))
    level2 = decoder.ups[0](bottleneck) + decoder.communications[0](network.fusions[1](one2, two2), bottleneck)
    level1 = decoder.ups[1](level2) + decoder.communications[1](network.fusions[0](one1, two1), level2)
    level0 = decoder.full_stage(torch.cat((decoder.full_up(level1), one0, two0), 1))
    levels = (level0, level1, level2)
    expected = [head(level) for head, level in zip(reversed(decoder.seg_layers), levels, strict=True)]
    for actual, wanted in zip(network(image), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-12, atol=1e-12)


def test_streams_share_no_weights(plan_arguments: Any) -> None:
    network = CFNet(**plan_arguments(2))
    one, two = ({id(p) for p in encoder.parameters()} for encoder in network.encoders)
    assert not one & two


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_channels": 1}, "at least two image channels; got 1.*nnUNetTrainer"),
        ({"input_channels": 4, "cascade_channels": 3}, "at least two image channels; got 1"),
        ({"stream_channels": [[0], [2]]}, "stream_channels must be 2 lists"),
        ({"stream_channels": [[0, 1], []]}, "stream_channels must be 2 lists"),
        ({"stream_channels": [[0, 1]]}, "stream_channels must be 2 lists"),
        ({"stream_channels": [[0], [-1]]}, "stream_channels must be 2 lists"),
        ({"n_stages": 1, "n_conv_per_stage_decoder": []}, "at least 2 stages"),
        ({"strides": [[2, 2], [2, 2], [2, 2]]}, "its stride must be 1"),
        ({"strides": 2}, "its stride must be 1"),
        ({"strides": [[1, 1], [2, 2]]}, "strides needs 3 entries; got 2"),
        ({"kernel_sizes": [[3, 3, 3]] * 3}, "expected one number or 2"),
        ({"features_per_stage": [8, 16]}, "features_per_stage needs 3 entries"),
        ({"n_conv_per_stage": [2, 2]}, "n_conv_per_stage needs 3 entries"),
        ({"n_conv_per_stage_decoder": [2, 2, 2]}, "n_conv_per_stage_decoder needs 2 entries"),
        ({"n_blocks_per_stage": [1, 3, 4]}, "either n_conv_per_stage or n_blocks_per_stage"),
        ({"n_conv_per_stage": None}, "either n_conv_per_stage or n_blocks_per_stage"),
    ],
)
def test_arguments_that_make_no_network_are_refused_in_words(
    changes: dict[str, Any], message: str, plan_arguments: Any
) -> None:
    with pytest.raises(ValueError, match=message):
        CFNet(**{**plan_arguments(2), **changes})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 2, 16, 18), r"multiples of \(4, 4\); got \(16, 18\)"),
        ((1, 3, 16, 16), "2 channels"),
        ((1, 2, 16, 16, 16), "2 spatial axes"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_words(shape: tuple[int, ...], message: str, plan_arguments: Any) -> None:
    with pytest.raises(ValueError, match=message):
        CFNet(**plan_arguments(2))(torch.zeros(shape))


@pytest.mark.parametrize("n_stages", range(2, 8))
def test_two_to_seven_stages_in_2d(n_stages: int, plan_arguments: Any) -> None:
    widths = [8, 16, 24, 24, 24, 24, 24][:n_stages]
    network = CFNet(**plan_arguments(2, n_stages, widths, deep_supervision=True))
    outputs = network(torch.randn(1, 2, 128, 128))
    assert [tuple(x.shape[2:]) for x in outputs] == [(128 >> level,) * 2 for level in range(n_stages - 1)]


@pytest.mark.parametrize("n_stages", range(2, 8))
def test_two_to_seven_stages_in_3d(n_stages: int, plan_arguments: Any) -> None:
    """On the meta device: six stages need 64^3."""
    with torch.device("meta"):
        widths = [32, 64, 128, 256, 320, 320, 320][:n_stages]
        network = CFNet(**plan_arguments(3, n_stages, widths, deep_supervision=True))
        outputs = network(torch.empty(1, 2, 128, 64, 128))
    assert [tuple(x.shape[2:]) for x in outputs] == [
        (128 >> level, 64 >> level, 128 >> level) for level in range(n_stages - 1)
    ]


def test_scalars_stand_for_lists(plan_arguments: Any) -> None:
    lists = plan_arguments(2, 3, [8, 8, 8], strides=[[1, 1], [2, 2], [2, 2]])
    scalars = plan_arguments(
        2, 3, features_per_stage=8, kernel_sizes=3, strides=[1, 2, 2], n_conv_per_stage=2, n_conv_per_stage_decoder=2
    )
    shapes = [{k: v.shape for k, v in CFNet(**arguments).state_dict().items()} for arguments in (lists, scalars)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("convs", "expected"), [([1, 1], (0, 1)), ([2, 2], (0, 2)), ([3, 4], (1, 4))])
def test_decoder_levels_have_the_convolutions_the_plan_counts(
    convs: list[int], expected: tuple[int, int], plan_arguments: Any
) -> None:
    """A fused level's communication block counts as two; the first entry is the coarsest level."""
    decoder = CFNet(**plan_arguments(2, n_conv_per_stage_decoder=convs)).decoder
    extra, full = (
        sum(isinstance(module, nn.Conv2d) for module in set(part.modules()))
        for part in (decoder.stages[0], decoder.full_stage)
    )
    assert (extra, full) == expected


def test_a_batch_norm_plan_and_plan_dropout_are_followed(plan_arguments: Any) -> None:
    network = CFNet(
        **plan_arguments(
            2, norm_op=nn.BatchNorm2d, norm_op_kwargs={}, dropout_op=nn.Dropout2d, dropout_op_kwargs={"p": 0.1}
        )
    )
    kinds = {type(module) for module in network.modules()}
    assert nn.BatchNorm2d in kinds
    assert nn.InstanceNorm2d not in kinds
    assert isinstance(network.context.dropout, nn.Dropout2d)


def test_starts_as_nnunet_does_with_small_linear_maps(plan_arguments: Any) -> None:
    torch.manual_seed(0)
    network = CFNet(**plan_arguments(3, 3, [32, 64, 128]))
    temperatures = [parameter for name, parameter in network.named_parameters() if name.endswith("temperature")]
    assert temperatures
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            assert 0.01 < module.weight.std() < 0.025, name
            assert module.bias is None or not module.bias.any(), name
        elif isinstance(module, nn.Conv3d) and module.weight.numel() > 10_000:
            fan_in = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1), name
            assert module.bias is None or not module.bias.any(), name
    assert all((parameter == parameter.flatten()[0]).all() for parameter in temperatures), "temperatures start alike"


def test_residual_blocks_start_as_identities(plan_arguments: Any) -> None:
    network = CFNet(**plan_arguments(2, n_conv_per_stage=None, n_blocks_per_stage=[1, 2, 2]))
    last_norms = [module.conv2.norm for module in network.modules() if hasattr(module, "conv2")]
    assert len(last_norms) == 2 * 5
    assert not any(norm.weight.any() for norm in last_norms)


def test_twenty_steps_on_one_small_batch_lower_the_loss(plan_arguments: Any) -> None:
    torch.manual_seed(0)
    network = CFNet(**plan_arguments(3, deep_supervision=True))
    image = torch.randn(2, 2, 8, 16, 16)
    # the target needs both channels, and so both streams
    target = ((image[:, 0] + image[:, 1]) > 0).long() + (image[:, 0] * image[:, 1] > 1).long()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.99, nesterov=True)
    losses = []
    for _ in range(20):
        outputs = network(image)
        loss = nn.functional.cross_entropy(outputs[0], target)
        loss = loss + 0.5 * nn.functional.cross_entropy(outputs[1], target[:, ::2, ::2, ::2])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0], losses


def test_sliding_window_predicts_a_volume_of_odd_size(plan_arguments: Any, small_plans: Any) -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    torch.manual_seed(0)
    plans_manager = PlansManager(small_plans("Dataset001_Toy"))
    network = CFNet(**plan_arguments(3))
    predictor = nnUNetPredictor(use_mirroring=True, device=torch.device("cpu"), perform_everything_on_device=False)
    predictor.manual_initialization(
        network,
        plans_manager,
        plans_manager.get_configuration("3d_fullres"),
        [network.state_dict()],
        {"labels": {"background": 0, "outer": 1, "inner": 2}, "channel_names": {"0": "a", "1": "b"}},
        "nnUNetTrainerCFNet",
        (0, 1, 2),
    )
    logits = predictor.predict_sliding_window_return_logits(torch.randn(2, 13, 21, 17))
    assert logits.shape == (3, 13, 21, 17)
    assert torch.isfinite(logits).all()
    assert logits.std() > 0
