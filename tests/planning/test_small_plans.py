"""The small plans maker: legal topologies, networks that build from them, and plans nnU-Net itself accepts."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_ext.demo.settings import Settings
from nnunet_ext.planning.small_plans import small_plans as make_small

LARGE = {"patch_2d": (192, 160), "patch_3d": (128, 128, 128), "n_stages": 6, "image_channels": 4, "batch_size": 12}


@pytest.fixture
def stock(small_plans):
    return small_plans("Dataset137_BraTS2021", **LARGE)


def demo_plans(plans):
    settings = Settings()
    return make_small(
        plans,
        "nnUNetPlansDemo",
        patch_size=settings.patch_size,
        batch_size=settings.batch_size,
        features=settings.features,
        convolutions=settings.convolutions,
    )


def network(plans, configuration, outputs=3):
    manager = PlansManager(plans).get_configuration(configuration)
    return get_network_from_plans(
        manager.network_arch_class_name,
        manager.network_arch_init_kwargs,
        manager.network_arch_init_kwargs_req_import,
        len(manager.normalization_schemes),
        outputs,
        deep_supervision=True,
    )


def output_shapes(plans, configuration):
    patch = plans["configurations"][configuration]["patch_size"]
    with torch.no_grad():
        return [tuple(output.shape[2:]) for output in network(plans, configuration)(torch.zeros(1, 4, *patch))]


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_a_network_builds_from_the_demo_plans_and_every_level_has_a_whole_size(stock, configuration):
    plans = demo_plans(stock)
    small = plans["configurations"][configuration]
    strides = np.cumprod(small["architecture"]["arch_kwargs"]["strides"], axis=0)
    assert np.all(np.mod(small["patch_size"], strides) == 0)
    assert output_shapes(plans, configuration) == [
        tuple(np.floor_divide(small["patch_size"], stride)) for stride in strides[:-1]
    ]


def test_the_given_plans_stay_as_they_are_and_only_the_named_configurations_are_taken(small_plans):
    stock = small_plans("Dataset001_Test", cascade=True)
    before = copy.deepcopy(stock)
    plans = make_small(stock, "tiny", patch_size={"2d": [16, 16]}, batch_size={"2d": 4}, features=[8, 16, 32])
    assert stock == before
    assert (plans["plans_name"], list(plans["configurations"])) == ("tiny", ["2d"])
    assert plans["configurations"]["2d"]["batch_size"] == 4


def test_a_patch_that_no_stride_divides_grows_to_the_next_legal_one(stock):
    plans = make_small(
        stock, "tiny", patch_size={"3d_fullres": [17, 24, 30]}, batch_size={"3d_fullres": 2}, features=[8, 16, 32]
    )
    assert plans["configurations"]["3d_fullres"]["patch_size"] == [20, 24, 32]
    assert output_shapes(plans, "3d_fullres")[0] == (20, 24, 32)


def test_thick_slices_are_pooled_in_plane_first(stock):
    stock["configurations"]["3d_fullres"]["spacing"] = [4.0, 1.0, 1.0]
    plans = make_small(
        stock, "tiny", patch_size={"3d_fullres": [8, 32, 32]}, batch_size={"3d_fullres": 2}, features=[8, 16, 32]
    )
    architecture = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    assert architecture["strides"] == [[1, 1, 1], [1, 2, 2], [1, 2, 2]]
    assert architecture["kernel_sizes"] == [[1, 3, 3], [1, 3, 3], [3, 3, 3]]
    assert output_shapes(plans, "3d_fullres") == [(8, 32, 32), (8, 16, 16)]


def test_the_number_of_widths_bounds_the_stages_and_the_patch_may_allow_fewer(stock):
    plans = make_small(
        stock, "tiny", patch_size={"2d": [64, 64]}, batch_size={"2d": 2}, features=[8, 16, 32, 48, 64, 64, 64]
    )
    architecture = plans["configurations"]["2d"]["architecture"]["arch_kwargs"]
    assert architecture["n_stages"] == 5
    assert architecture["features_per_stage"] == [8, 16, 32, 48, 64]
    assert (len(architecture["n_conv_per_stage"]), len(architecture["n_conv_per_stage_decoder"])) == (5, 4)


def test_plans_of_a_residual_encoder_keep_their_blocks_a_stage(stock):
    architecture = stock["configurations"]["2d"]["architecture"]
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    del architecture["arch_kwargs"]["n_conv_per_stage"]
    architecture["arch_kwargs"]["n_blocks_per_stage"] = [1, 3, 4, 6, 6, 6]
    plans = make_small(stock, "tiny", patch_size={"2d": [32, 32]}, batch_size={"2d": 2}, features=[8, 16, 32])
    small = plans["configurations"]["2d"]["architecture"]["arch_kwargs"]
    assert small["n_blocks_per_stage"] == [1, 3, 4]
    assert "n_conv_per_stage" not in small
    assert output_shapes(plans, "2d") == [(32, 32), (16, 16)]


def test_unchanged_spacing_shares_the_preprocessed_data_and_another_spacing_names_its_own(stock):
    arguments = {"patch_size": {"2d": [32, 32]}, "batch_size": {"2d": 2}, "features": [8, 16, 32]}
    data = stock["configurations"]["2d"]["data_identifier"]
    assert make_small(stock, "tiny", **arguments)["configurations"]["2d"]["data_identifier"] == data
    coarse = make_small(stock, "tiny", **arguments, spacing={"2d": [2.0, 1.5]})["configurations"]["2d"]
    assert coarse["data_identifier"] == "tiny_2d"
    assert coarse["spacing"] == [2.0, 1.5]
    assert coarse["median_image_size_in_voxels"] == [12.0, 16.0]


def test_fewer_convolutions_a_stage_make_a_smaller_network_of_the_same_outputs(stock):
    arguments = {"patch_size": {"2d": [32, 32]}, "batch_size": {"2d": 2}, "features": [8, 16, 32]}
    two, one = make_small(stock, "two", **arguments), make_small(stock, "one", **arguments, convolutions=1)
    assert output_shapes(one, "2d") == output_shapes(two, "2d")
    assert sum(p.numel() for p in network(one, "2d").parameters()) < sum(
        p.numel() for p in network(two, "2d").parameters()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": {"2d": [8, 8]}}, "at least 3 are needed"),
        ({"features": [8, 16]}, "at least 3 are needed"),
        ({"patch_size": {"4d": [8, 8]}, "batch_size": {"4d": 2}}, "'4d' is not in the plans"),
        ({"name": "tiny__plans"}, "must not contain '__'"),
        (
            {"patch_size": {"3d_cascade_fullres": [16] * 3}, "batch_size": {"3d_cascade_fullres": 2}},
            "inherits from another",
        ),
    ],
)
def test_impossible_requests_are_refused(small_plans, changes, message):
    stock = small_plans("Dataset001_Test", cascade=True)
    arguments = {
        "name": "tiny",
        "patch_size": {"2d": [32, 32]},
        "batch_size": {"2d": 2},
        "features": [8, 16, 32],
        **changes,
    }
    with pytest.raises(ValueError, match=message):
        make_small(stock, **arguments)
