"""One row of estimates, and the table of rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_ext.architectures.cfnet import CFNet
from nnunet_ext.planning import gpu
from nnunet_ext.planning.estimate import Estimate, estimate
from nnunet_ext.planning.from_plans import from_configuration
from nnunet_ext.planning.live import forward_peak
from nnunet_ext.planning.memory import measure, measure_sample
from nnunet_ext.planning.table import NOTE, render, render_parts

Plans = Callable[..., dict[str, Any]]
pytestmark = pytest.mark.usefixtures("single_thread")
BATCH, CHANNELS, CLASSES = 3, 2, 3


def row_of(small_plans: Plans, configuration: str, **options: Any) -> tuple[Estimate, nn.Module]:
    plans = PlansManager(small_plans("Dataset501_Toy", batch_size=BATCH, patch_3d=(16, 16, 32)))
    manager = plans.get_configuration(configuration)

    def build() -> nn.Module:
        return from_configuration(CFNet, manager, CHANNELS, CLASSES, True)

    row = estimate("CFNet", plans, configuration, build, CHANNELS, CLASSES, **options)
    with torch.device("meta"):
        return row, build()


@pytest.mark.parametrize(("configuration", "patch"), [("2d", (16, 16)), ("3d_fullres", (16, 16, 32))])
def test_a_row_says_what_a_batch_of_the_plans_needs(
    configuration: str, patch: tuple[int, ...], small_plans: Plans
) -> None:
    row, network = row_of(small_plans, configuration)
    half = measure_sample(network, (CHANNELS, *patch), dtype=torch.float16)
    assert (row.network, row.plans, row.configuration) == ("CFNet", "smallPlans", configuration)
    assert (row.patch_size, row.batch_size, row.stages) == (patch, BATCH, 3)
    assert (row.parameters, row.multiply_adds) == (half.parameters, half.multiply_adds)
    for dtype, kept in ((None, row.kept_float32), (torch.float16, row.kept_autocast)):
        whole = measure(network, (BATCH, CHANNELS, *patch), dtype=dtype).activations
        assert kept == pytest.approx(whole, rel=1e-4), dtype
    assert row.training_bytes == gpu.training_bytes(half, BATCH)
    assert row.parameter_bytes == 14 * row.parameters
    assert sum(row.parts.values()) == row.kept_autocast
    volume = 24**3 if len(patch) == 3 else 24 * 24 * 24  # of 2d plans: all slices of the volume
    volume = 24 * 24 * 32 if len(patch) == 3 else volume  # padded to the patch
    network.decoder.deep_supervision = False
    live = forward_peak(network, (1, CHANNELS, *patch), torch.float16)
    assert row.prediction_bytes == gpu.OVERHEAD + 4 * row.parameters + live + volume * (4 * CHANNELS + 2 * CLASSES + 2)


def test_what_fits_is_known_only_where_the_memory_is(small_plans: Plans) -> None:
    row, _ = row_of(small_plans, "3d_fullres")
    assert (row.fits, row.largest_batch, row.available) == (None, None, None)
    enough, _ = row_of(small_plans, "3d_fullres", available=row.training_bytes)
    assert (enough.fits, enough.largest_batch) == (True, BATCH)
    tight, _ = row_of(small_plans, "3d_fullres", available=row.training_bytes - 1)
    assert (tight.fits, tight.largest_batch) == (False, BATCH - 1)
    adam, _ = row_of(small_plans, "3d_fullres", available=row.training_bytes, optimizer="AdamW")
    assert adam.fits is False


def test_a_row_is_plain_data(small_plans: Plans) -> None:
    row, _ = row_of(small_plans, "2d", available=1e9)
    read = json.loads(json.dumps(row.as_json()))
    assert read["fits"] is False
    assert read["kept_autocast"] == row.kept_autocast
    assert read["patch_size"] == [16, 16]


def test_nothing_is_built_with_data(small_plans: Plans) -> None:
    devices = []
    plans = PlansManager(small_plans("Dataset501_Toy"))

    def build() -> nn.Module:
        network = from_configuration(CFNet, plans.get_configuration("2d"), CHANNELS, CLASSES, True)
        devices.extend({parameter.device.type for parameter in network.parameters()})
        return network

    estimate("CFNet", plans, "2d", build, CHANNELS, CLASSES)
    assert devices == ["meta"]


def test_the_table_has_a_line_a_row_and_says_that_it_estimates(small_plans: Plans) -> None:
    row, _ = row_of(small_plans, "3d_fullres")
    row = replace(row, training_bytes=7.64e9, prediction_bytes=3.15e9, parameters=26_332_550)
    head, line, note = render([row]).splitlines()
    assert note == NOTE
    assert "0.7 GB" in NOTE
    assert "not measured" in NOTE
    for word in ("CFNet", "3d_fullres", "16 x 16 x 32", "26.3 M", "7.6", "3.1"):
        assert word in line, word
    assert "training GB" in head
    assert "fits" not in head
    assert "s an epoch" not in head
    assert not any(text != text.rstrip() for text in (head, line))


def test_columns_stand_below_each_other_and_missing_figures_are_a_dash(small_plans: Plans) -> None:
    row, _ = row_of(small_plans, "2d")
    rows = [
        replace(row, network="A", available=9e9, training_bytes=8e9, largest_batch=12),
        replace(row, network="A much longer name", available=9e9, training_bytes=10e9, largest_batch=0),
        replace(row, network="C"),
    ]
    head, *lines, _ = render(rows, seconds={1: 61.4}).splitlines()
    ends = {name: head.index(name) + len(name) for name in ("fits", "largest batch", "s an epoch", "training GB")}
    expected = {
        "fits": ["yes", "NO", "-"],
        "largest batch": ["12", "0", "-"],
        "s an epoch": ["-", "61", "-"],
        "training GB": ["8.0", "10.0", f"{row.training_bytes / gpu.GB:.1f}"],
    }
    for name, cells in expected.items():
        assert [line[: ends[name]].split()[-1] for line in lines] == cells, name
    assert {line.index("2d") for line in lines} == {head.index("configuration")}


def test_parts_are_told_in_gb(small_plans: Plans) -> None:
    row, _ = row_of(small_plans, "2d")
    text = render_parts([replace(row, parts={"encoders": 1_230_000_000, "decoder": 20_000_000})])
    assert text.splitlines()[1:] == ["  CFNet 2d: encoders 1.23, decoder 0.02"]


def test_a_network_that_needs_values_is_refused(small_plans: Plans) -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(CHANNELS, CLASSES, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.convolution(x) * x.max().item()

    plans = PlansManager(small_plans("Dataset501_Toy"))
    with pytest.raises(ValueError, match="Picky cannot be measured without data"):
        estimate("Picky", plans, "2d", Picky, CHANNELS, CLASSES)
