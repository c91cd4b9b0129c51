"""Which plans use the same preprocessed data, and whether it is there."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from nnunet_ext.planning.preprocessed_data import data_digest, missing_cases, shares_data

OTHER: dict[str, Any] = {
    "preprocessor_name": "AnotherPreprocessor",
    "spacing": [2.0, 1.0, 1.0],
    "normalization_schemes": ["CTNormalization"] * 2,
    "use_mask_for_norm": [True, False],
    "resampling_fn_data": "resample_torch_fornnunet",
    "resampling_fn_seg": "resample_torch_fornnunet",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 1},
    "resampling_fn_seg_kwargs": {"is_seg": True, "order": 0},
}
OTHER_OF_THE_DATASET: dict[str, Any] = {
    "transpose_forward": [1, 0, 2],
    "image_reader_writer": "NibabelIO",
    "foreground_intensity_properties_per_channel": {"0": {"mean": 3.0}},
}


@pytest.fixture
def pair(small_plans) -> tuple[dict, dict]:
    plans = small_plans("Dataset905_Small")
    return plans, copy.deepcopy(plans)


def test_plans_that_differ_in_patch_batch_and_network_alone_share_data(pair) -> None:
    ours, others = pair
    ours["configurations"]["3d_fullres"].update(patch_size=[8, 8, 8], batch_size=7, architecture={})
    ours["plans_name"] = "another"
    assert shares_data(ours, others, "3d_fullres")
    assert data_digest(ours, "3d_fullres") == data_digest(others, "3d_fullres")


@pytest.mark.parametrize("key", OTHER)
def test_whatever_changes_voxels_of_a_configuration_parts_the_data(pair, key) -> None:
    ours, others = pair
    ours["configurations"]["3d_fullres"][key] = OTHER[key]
    assert not shares_data(ours, others, "3d_fullres")
    assert data_digest(ours, "3d_fullres") != data_digest(others, "3d_fullres")
    assert shares_data(ours, others, "2d"), "another configuration is not concerned"


@pytest.mark.parametrize("key", OTHER_OF_THE_DATASET)
def test_whatever_changes_voxels_of_the_dataset_parts_the_data(pair, key) -> None:
    ours, others = pair
    ours[key] = OTHER_OF_THE_DATASET[key]
    assert not shares_data(ours, others, "2d")
    assert data_digest(ours, "2d") != data_digest(others, "2d")


def test_a_configuration_that_one_of_them_lacks_is_not_shared(pair) -> None:
    ours, others = pair
    del others["configurations"]["2d"]
    assert not shares_data(ours, others, "2d")
    assert not shares_data(others, ours, "2d")


def test_cases_without_image_segmentation_or_properties_are_missing(tmp_path) -> None:
    cases = ["whole", "no_image", "no_segmentation", "no_properties", "older"]
    for case in cases[:-1]:
        for end in (".b2nd", "_seg.b2nd", ".pkl"):
            (tmp_path / f"{case}{end}").touch()
    (tmp_path / "no_image.b2nd").unlink()
    (tmp_path / "no_segmentation_seg.b2nd").unlink()
    (tmp_path / "no_properties.pkl").unlink()
    for end in (".npz", ".pkl"):  # nnU-Net's form before blosc2
        (tmp_path / f"older{end}").touch()
    assert missing_cases(tmp_path, cases) == ["no_image", "no_segmentation", "no_properties"]
    assert missing_cases(tmp_path / "absent", cases) == cases
