"""The label map against a voxel-by-voxel twin, and everything a label must not be."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from nnunet_ext.dataset_conversion.cases.labels import binarise, check_threshold, relabel
from nnunet_ext.dataset_conversion.datasets import DATASETS, get
from nnunet_ext.dataset_conversion.datasets.brats import LABELS_2017_TO_2021 as BRATS
from nnunet_ext.dataset_conversion.label_map import LabelMap

MAPS = {
    "brats": BRATS,
    "shifted": LabelMap({"background": 0, "a": 1, "b": 2}, {-5: 0, 0: 1, 70000: 2}),
    "many": LabelMap({"background": 0}, {value: value for value in range(300)}),
}


@pytest.mark.parametrize("labels", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "i4", "u8", "f4", "f8"])
def test_every_voxel_is_mapped_as_the_table_says(labels: LabelMap, dtype: str) -> None:
    values = [value for value in labels.forward if dtype[-2:] not in ("u1", "i2", "u8") or 0 <= value < 32000]
    values = [value for value in values if dtype != "u1" or value < 256]
    stored = np.random.default_rng(1).choice(values, 2000).astype(dtype)
    mapped, counts, findings = relabel(stored, labels, "case", "file")
    expected = [labels.forward[int(value)] for value in stored.tolist()]
    assert mapped is not None
    np.testing.assert_array_equal(mapped, expected)
    assert mapped.dtype == (np.uint8 if max(labels.forward.values()) < 255 else np.uint16)
    assert counts == {ours: expected.count(ours) for ours in set(labels.forward.values()) if ours > 0}
    assert not [finding for finding in findings if finding.severity == "error"]


@pytest.mark.parametrize("name", DATASETS)
def test_the_way_back_is_exact_and_a_lossy_map_has_none(name: str) -> None:
    maps = [target.labels for target in get(name).targets.values()]
    assert not all(labels.lossy for labels in maps), "no form keeps all labels"
    for labels in maps:
        stored = np.random.default_rng(2).choice(list(labels.forward), 500)
        mapped, _, _ = relabel(stored, labels, "case", "file")
        assert mapped is not None
        if labels.lossy:
            with pytest.raises(ValueError, match="lossy"):
                _ = labels.inverse
            np.testing.assert_array_equal([labels.forward[int(value)] for value in stored], mapped)
        else:
            np.testing.assert_array_equal([labels.inverse[int(value)] for value in mapped], stored)


def test_a_label_without_any_hallmark_of_its_release_is_refused_but_an_empty_one_is_not() -> None:
    labels = LabelMap(
        names={"background": 0, "a": 1, "b": 2},
        forward={0: 0, 3: 1, 200: 2},
        hallmarks=(200,),
        hallmark_hint="these look renumbered",
    )
    mapped, counts, (finding,) = relabel(np.array([0, 3, 3], np.uint8), labels, "case", "file")
    assert (mapped, counts) == (None, {})
    assert (finding.code, finding.severity) == ("LAB01", "error")
    assert "label values 3, and none of the 1 of which" in finding.message
    assert finding.message.endswith("these look renumbered")
    mapped, _, _ = relabel(np.array([0, 3, 200], np.uint8), labels, "case", "file")
    np.testing.assert_array_equal(mapped, [0, 1, 2])
    _, _, findings = relabel(np.zeros(3, np.uint8), labels, "case", "file")
    assert [finding.code for finding in findings] == ["LAB02"]


def test_an_unexpected_value_is_named_with_its_count_and_likely_cause() -> None:
    stored = np.array([0, 1, 2, 3, 3, 4], np.int16)
    mapped, _, (finding,) = relabel(stored, BRATS, "BraTS2021_00002", "file")
    assert mapped is None
    assert finding.code == "LAB01"
    for part in ("BraTS2021_00002", "3 (2 voxels)", "0, 1, 2, 4", "looks like the 2023 convention"):
        assert part in finding.message, finding.message


@pytest.mark.parametrize("value", [-1, 5, 255, 70000])
def test_values_outside_the_table_are_errors(value: int) -> None:
    _, _, findings = relabel(np.array([0, 1, value]), BRATS, "case", "file")
    assert [finding.code for finding in findings] == ["LAB01"]


def test_an_image_in_place_of_a_label_is_told_without_counting_all_its_values() -> None:
    stored = np.random.default_rng(0).integers(-(2**62), 2**62, 3_000_000)
    mapped, _, (finding,) = relabel(stored, BRATS, "case", "file")
    assert mapped is None
    assert finding.code == "LAB01"
    assert "and more than 995 others is outside 0, 1, 2, 4" in finding.message
    assert len(finding.message) < 300


@pytest.mark.parametrize("value", [1.5, np.nan, np.inf, 1e300])
def test_fractional_labels_are_errors(value: float) -> None:
    _, _, findings = relabel(np.array([0.0, 1.0, value]), BRATS, "case", "file")
    assert [finding.code for finding in findings] == ["DT01"]


def test_whole_floats_are_an_info() -> None:
    mapped, _, findings = relabel(np.array([0.0, 1.0, 2.0, 4.0], np.float32), BRATS, "case", "file")
    assert mapped is not None
    assert mapped.tolist() == [0, 2, 1, 3]
    assert [(finding.code, finding.severity) for finding in findings] == [("DT02", "info")]


def test_slope_and_intercept_of_the_header_count() -> None:
    mapped, _, _ = relabel(np.array([0, 1, 2], np.int16), BRATS, "case", "file", slope=2.0)
    assert mapped is not None
    assert mapped.tolist() == [0, 1, 3]


def test_absent_classes_are_an_info_and_an_empty_label_a_warning() -> None:
    _, counts, findings = relabel(np.array([0, 2, 2]), BRATS, "case", "file")
    assert counts == {1: 2, 2: 0, 3: 0}
    assert [(finding.code, finding.severity) for finding in findings] == [("LAB04", "info")]
    assert "necrotic core, enhancing tumor" in findings[0].message
    _, _, findings = relabel(np.zeros(3, np.uint8), BRATS, "case", "file")
    assert [(finding.code, finding.severity) for finding in findings] == [("LAB02", "warning")]


def test_known_values_without_meaning_become_background_and_are_counted() -> None:
    labels = LabelMap({"background": 0, "a": 1}, {0: 0, 4: 1}, ignored=(74,))
    mapped, _, findings = relabel(np.array([0, 4, 74, 74]), labels, "case", "file")
    assert mapped is not None
    assert mapped.tolist() == [0, 1, 0, 0]
    assert [finding.code for finding in findings] == ["LAB05"]
    assert "74 (2)" in findings[0].message


def test_a_lossy_map_has_no_inverse() -> None:
    labels = LabelMap({"background": 0, "a": 1}, {0: 0, 1: 1, 2: 1})
    assert labels.lossy
    with pytest.raises(ValueError, match="lossy"):
        _ = labels.inverse


@pytest.mark.parametrize("quality", [75, 90, 95])
def test_the_threshold_restores_a_mask_from_jpeg(quality: int) -> None:
    y, x = np.mgrid[:120, :150]
    mask = np.where((y - 60) ** 2 + (x - 70) ** 2 < 40**2, 255, 0).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "JPEG", quality=quality)
    jpeg = np.asarray(Image.open(stream))
    assert (jpeg > 0).sum() > (mask > 0).sum(), "the test needs grey pixels"
    restored, findings = binarise(jpeg, 127, "case", "file")
    np.testing.assert_array_equal(restored, mask)
    assert [finding.code for finding in findings] == ["LAB06"], "grey pixels are told, and nothing else"


def test_a_photograph_is_no_mask() -> None:
    photograph = np.random.default_rng(0).integers(0, 256, (50, 50)).astype(np.uint8)
    _, findings = binarise(photograph, 127, "case", "file")
    assert [finding.code for finding in findings] == ["LAB03"]


@pytest.mark.parametrize(("brightest", "told"), [(0, []), (1, ["LAB01"]), (127, ["LAB01"]), (128, []), (255, [])])
def test_masks_that_the_threshold_would_empty_are_an_error(brightest: int, told: list[str]) -> None:
    assert [finding.code for finding in check_threshold(brightest, 127, "case", "file")] == told
