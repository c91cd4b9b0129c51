"""Tiles are cut, weighted and averaged as nnU-Net does it with logits, and recording changes nothing of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nnunet_ext.architectures.blocks.attention.squeeze_excite import SqueezeExcite
from nnunet_ext.attention_maps import block_table
from nnunet_ext.attention_maps.block_table import BlockRow, Kind, Observation
from nnunet_ext.attention_maps.recorder import places_of, recording
from nnunet_ext.attention_maps.tiles import gather, spread, tile_slicers
from nnunet_ext.errors import UserError

CPU = torch.device("cpu")


class Probe(nn.Module):
    """A network whose logits are what it shows."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv = (nn.Conv2d if dimension == 2 else nn.Conv3d)(2, 3, 3, padding=1)
        self.channels = SqueezeExcite(3, 1)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        # something that depends on the whole tile, so that overlapping tiles differ
        y: torch.Tensor = self.conv(x) + x.mean()
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.logits(x)
        self.channels(y)
        return y


def _logits(block: Probe, arguments: Sequence[Any], found: torch.Tensor) -> Iterator[Observation]:
    for number, values in enumerate(found[0]):
        yield Observation(f"logit_{number}", Kind.VOXELS, values, tuple(found.shape[2:]))


@pytest.fixture
def probe_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = BlockRow(Probe, "logits", _logits, {"logit": "a logit"})
    monkeypatch.setattr(block_table, "BLOCKS", (row, *block_table.BLOCKS))


@pytest.fixture
def predicted(small_plans) -> Callable[..., torch.Tensor]:
    """The logits of nnU-Net's own prediction, without mirroring."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    def predict(network: nn.Module, data: torch.Tensor, dimension: int, step: float) -> torch.Tensor:
        plans = PlansManager(small_plans("Dataset501_Toy", patch_3d=(12, 16, 16)))
        configuration = plans.get_configuration("2d" if dimension == 2 else "3d_fullres")
        dataset = {"channel_names": {"0": "a", "1": "b"}, "labels": {"background": 0, "outer": 1, "inner": 2}}
        predictor = nnUNetPredictor(step, use_mirroring=False, device=CPU, allow_tqdm=False)
        predictor.manual_initialization(network, plans, configuration, None, dataset, "nnUNetTrainer", None)
        return predictor.predict_sliding_window_return_logits(data).float()

    return predict


@pytest.mark.parametrize(("dimension", "patch"), [(2, (16, 16)), (3, (12, 16, 16))])
@pytest.mark.parametrize("shape", [(14, 25, 21), (5, 30, 11)], ids=["larger", "padded"])
@pytest.mark.parametrize("step", [0.5, 1.0])
def test_maps_are_averaged_over_tiles_as_nnunet_averages_logits(
    probe_row, predicted, dimension, patch, shape, step
) -> None:
    network = Probe(dimension)
    data = torch.randn(2, *shape)
    case = gather(network, data, patch, CPU, step)
    volumes = [gathered.volume for gathered in case.found if gathered.name.startswith("logit")]
    expected = predicted(network, data, dimension, step)
    assert len(case.starts) > 1
    assert volumes[0].shape == data.shape[1:]
    # nnU-Net sums and divides in half precision, in which the weights at the corners of a tile are hardly more than 0
    inner = (slice(None), slice(3, -3) if dimension == 3 and shape[0] > 12 else slice(None), slice(3, -3), slice(3, -3))
    torch.testing.assert_close(torch.stack(volumes)[inner], expected[inner], rtol=1e-2, atol=1e-2)


def test_of_a_single_tile_the_map_is_that_of_one_pass(probe_row) -> None:
    network, data = Probe(3), torch.randn(2, 12, 16, 16)
    case = gather(network, data, (12, 16, 16), CPU)
    with torch.no_grad():
        expected = network(data[None])[0]
    assert case.starts == [(0, 0, 0)]
    for gathered, logits in zip(case.found[:3], expected, strict=True):
        torch.testing.assert_close(gathered.volume, logits, rtol=1e-5, atol=1e-5)


def test_channel_weights_are_kept_for_every_tile_with_its_place(probe_row) -> None:
    network, data = Probe(3), torch.randn(2, 5, 20, 16)
    case = gather(network, data, (12, 16, 16), CPU)
    channels = next(gathered for gathered in case.found if gathered.kind is Kind.CHANNELS)
    # of the 7 slices that are missing, 3 are padded in front
    assert case.starts == [(-3, 0, 0), (-3, 4, 0)]
    padded = torch.zeros(2, 12, 20, 16)
    padded[:, 3:8] = data
    with torch.no_grad():
        for tile, (_, y, _) in zip(channels.tiles, case.starts, strict=True):
            logits = network.logits(padded[None, :, :, y : y + 16])
            expected = network.channels.gates_of(logits).channels
            np.testing.assert_allclose(tile, expected.numpy(), rtol=1e-5)
    np.testing.assert_allclose(channels.mean(), np.mean(channels.tiles, axis=0), rtol=1e-6)


def test_a_matrix_is_the_mean_over_tiles() -> None:
    from nnunet_ext.architectures.blocks.attention.channel_self_attention import ChannelSelfAttention

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = ChannelSelfAttention()
            nn.init.ones_(self.attention.gamma)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.attention(x)
            return y

    network, data = Network(), 0.1 * torch.randn(2, 3, 8, 8)
    case = gather(network, data, (8, 8), CPU)
    expected = torch.stack([network.attention.weights(data[None, :, z])[0] for z in range(3)]).mean(0)
    assert case.found[0].count == 3
    np.testing.assert_allclose(case.found[0].mean()[0], expected.detach().numpy(), rtol=1e-5)


def test_a_coarse_map_shows_only_numbers_that_it_holds_each_where_it_belongs() -> None:
    values = torch.arange(6.0).reshape(2, 3)
    shown = spread(values, Kind.VOXELS, (4, 9))
    assert torch.equal(shown, values.repeat_interleave(2, 0).repeat_interleave(3, 1))
    slices = spread(torch.tensor([1.0, 2.0]), Kind.SLICES, (4, 3, 2))
    assert torch.equal(slices, torch.tensor([1.0, 1.0, 2.0, 2.0]).reshape(4, 1, 1).expand(4, 3, 2))


def test_levels_are_counted_in_halvings_from_full_resolution(probe_row) -> None:
    case = gather(Probe(2), torch.randn(2, 1, 16, 16), (16, 16), CPU)
    assert {gathered.level for gathered in case.found} == {0}
    case.found[0].stride = (2.0, 8.0)
    assert case.found[0].level == 3


def test_slices_of_a_2d_network_are_run_one_by_one() -> None:
    slicers = tile_slicers((3, 8, 12), (8, 8), 0.5)
    assert slicers == [(z, slice(0, 8), slice(x, x + 8)) for z in range(3) for x in (0, 4)]


def test_recording_changes_neither_results_nor_state_and_leaves_nothing_behind() -> None:
    from nnunet_ext.architectures.blocks.attention import attention_block

    block = attention_block("pam", {"channels": 4, "depth": 6}).eval()
    x = torch.randn(1, 4, 6, 5, 5)
    keys, before = list(block.state_dict()), block(x)
    with recording(places_of(block)) as recorder:
        assert torch.equal(block(x), before)
        assert list(block.state_dict()) == keys
    assert [recorded.name for recorded in recorder.take()] == ["slices", "keys", "channels"]
    assert recorder.take() == []
    with pytest.raises(ZeroDivisionError), recording(places_of(block)):
        raise ZeroDivisionError
    assert "gates_of" not in vars(block)
    block(x)
    assert recorder.take() == []


def test_a_block_that_runs_twice_is_told_apart() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = SqueezeExcite(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.attention(self.attention(x))
            return y

    case = gather(Twice(), torch.randn(2, 2, 8, 8), (8, 8), CPU)
    assert [gathered.name for gathered in case.found] == ["channels", "channels#2"]
    assert [gathered.count for gathered in case.found] == [2, 2]


def test_numbers_that_are_not_finite_are_refused_with_their_place() -> None:
    network = nn.Sequential(SqueezeExcite(2))
    with pytest.raises(UserError, match="channels of 0 holds numbers that are not finite"):
        gather(network, torch.full((2, 1, 8, 8), torch.nan), (8, 8), CPU)


def test_a_network_whose_blocks_have_one_slice_alone_is_refused() -> None:
    from nnunet_ext.architectures.blocks.attention import attention_block

    block = attention_block("slice", {"channels": 2, "depth": 1})
    with pytest.raises(UserError, match="no block of this network has weights to show"):
        gather(block, torch.randn(2, 2, 8, 8), (8, 8), CPU)
