"""HVSMR 2016 from its download to nnU-Net and back: one variant of each patient, and what is odd in it."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

FOLDER = "Dataset545_HVSMR2016"
CROPPED, WHOLE = "Axial-cropped", "Axial"


def labels_of(source):
    return {path.name: path for path in source.rglob("*-label.nii.gz")}


def values(path):
    return np.asarray(nibabel.load(path).dataobj)


@pytest.mark.parametrize("layout", ["folder", "zip"])
def test_a_download_becomes_a_dataset_and_its_labels_come_back(
    layout, pristine, command, verify, nnunet_folders, tmp_path
):
    done = command("convert", "hvsmr2016", "-i", pristine("hvsmr2016", layout=layout, quirks=True))
    assert done.code == 0, done.err
    raw = nnunet_folders.raw / FOLDER
    verify(raw)
    assert sorted(path.name for path in (raw / "imagesTr").iterdir()) == [f"pat0{n}_0000.nii.gz" for n in range(6)]
    assert sorted(path.name for path in (raw / "imagesTs").iterdir()) == ["pat10_0000.nii.gz"]
    assert not (raw / "labelsTs").exists() or not list((raw / "labelsTs").iterdir())
    description = json.loads((raw / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "myocardium": 1, "blood pool": 2}
    assert description["channel_names"] == {"0": "MR"}
    assert "no_mirror_axes" not in description, "heart and vessels have no label of one side"
    shutil.copytree(raw / "labelsTr", tmp_path / "predictions")
    back = command("to-submission", "hvsmr2016", "-i", tmp_path / "predictions", "-o", tmp_path / "back")
    assert back.code == 0, back.err
    originals = labels_of(pristine("hvsmr2016", quirks=True))
    assert {path.name for path in (tmp_path / "back").iterdir()} == originals.keys()
    for name, original in originals.items():
        source, written = values(original), nibabel.load(tmp_path / "back" / name)
        assert written.get_data_dtype() == np.uint16
        assert np.array_equal(np.asarray(written.dataobj), np.where(source == 512, 0, source)), name


def test_values_are_those_of_the_source_and_512_is_background_and_counted(pristine, command, nnunet_folders):
    source = pristine("hvsmr2016", quirks=True)
    done = command("convert", "hvsmr2016", "-i", source)
    raw = nnunet_folders.raw / FOLDER
    first = values(labels_of(source)["training_axial_crop_pat0-label.nii.gz"])
    assert (first == 512).sum() == 5
    assert np.array_equal(values(raw / "labelsTr" / "pat00.nii.gz"), np.where(first == 512, 0, first))
    assert "LAB05 1 times, such as: training_axial_crop_pat0: values without meaning set to 0: 512 (5)" in done.out
    third = values(labels_of(source)["training_axial_crop_pat3-label.nii.gz"])
    assert set(np.unique(third)) == {0, 1, 2}
    assert np.array_equal(values(raw / "labelsTr" / "pat03.nii.gz"), third)


def test_permuted_axes_stay_as_they_are_stored_and_nii_is_compressed(pristine, command, nnunet_folders):
    source = pristine("hvsmr2016", quirks=True)
    assert command("convert", "hvsmr2016", "-i", source).code == 0
    for number, ending in ((0, ".nii.gz"), (1, ".nii")):
        original = next(source.rglob(f"training_axial_crop_pat{number}{ending}"))
        for folder, name in (("imagesTr", f"pat0{number}_0000"), ("labelsTr", f"pat0{number}")):
            found = sitk.ReadImage(nnunet_folders.raw / FOLDER / folder / f"{name}.nii.gz")
            expected = sitk.ReadImage(original)
            assert found.GetDirection() == pytest.approx(expected.GetDirection())
            assert found.GetDirection()[2] == -1, "the third axis runs along x, backwards"
            assert found.GetSpacing() == expected.GetSpacing()
        image = sitk.ReadImage(nnunet_folders.raw / FOLDER / "imagesTr" / f"pat0{number}_0000.nii.gz")
        assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(sitk.ReadImage(original)))


def test_folds_divide_the_ten_patients_once(pristine, command, nnunet_folders):
    assert command("convert", "hvsmr2016", "-i", pristine("hvsmr2016", cases=10, quirks=True)).code == 0
    folds = json.loads((nnunet_folders.raw / FOLDER / "splits_final.json").read_text())
    assert sorted(case for fold in folds for case in fold["val"]) == [f"pat0{number}" for number in range(10)]
    assert all(not set(fold["train"]) & set(fold["val"]) for fold in folds)


# --- variants --------------------------------------------------------------------------------------------------------


def test_a_patient_in_two_variants_is_refused_until_one_is_named(pristine, refused, command, nnunet_folders):
    source = pristine("hvsmr2016", layout="variants")
    line = refused(
        "DUP05", ("pat00 in axial_crop and axial_full", "6 more errors"), "convert", "hvsmr2016", "-i", source
    )
    assert "such as --variant axial_crop" in line
    assert "DUP05: pat00 in axial_crop" in command("convert", "auto", "-i", source).err
    for variant, folder in (("axial_crop", CROPPED), ("axial_full", WHOLE)):
        done = command("convert", "hvsmr2016", "-i", source, "--variant", variant, "--restart")
        assert done.code == 0, done.err
        record = json.loads((nnunet_folders.raw / FOLDER / "provenance.json").read_text())
        paths = {file["path"] for case in record["cases"] for file in case["sources"]}
        assert {path.partition("/")[0] for path in paths} == {folder}
        assert record["options"]["variant"] == variant
        assert "left out 7 cases: of " in done.out
        assert len(list((nnunet_folders.raw / FOLDER / "labelsTr").iterdir())) == 6


def test_going_on_with_another_variant_is_refused(pristine, command, refused):
    source = pristine("hvsmr2016", layout="variants")
    assert command("convert", "hvsmr2016", "-i", source, "--variant", "axial_crop", "-n", "One").code == 0
    done = command("convert", "hvsmr2016", "-i", source, "--variant", "axial_full", "-n", "One")
    assert done.code == 2
    assert "OUT05" in done.err


def test_other_variants_of_other_patients_are_left_out(download, command):
    source = download("hvsmr2016", layout="variants")
    for number in range(6):
        keep = CROPPED if number < 5 else WHOLE
        other = WHOLE if keep == CROPPED else CROPPED
        for path in (source / other).rglob(f"*pat{number}[.-]*"):
            path.unlink()
    for path in (source / WHOLE).rglob("*pat10*"):
        path.unlink()
    done = command("convert", "hvsmr2016", "-i", source)
    assert done.code == 0, done.err
    assert "training cases: 5, test cases: 1" in done.out
    assert "1 cases: of axial_full (--variant names the variant)" in done.out


def test_a_source_of_another_variant_alone_names_it(download, refused):
    source = download("hvsmr2016", layout="variants")
    shutil.rmtree(source / CROPPED)
    texts = ("no case of axial_crop in the source, which holds axial_full (7 cases)", "name one with --variant")
    refused("CNT02", texts, "convert", "hvsmr2016", "-i", source)


def test_an_unknown_variant_is_one_line(pristine, one_line, nnunet_folders):
    line = one_line("convert", "hvsmr2016", "-i", pristine("hvsmr2016"), "--variant", "coronal")
    assert 'has no value "coronal"' in line
    assert "axial_crop, axial_full, sa_crop" in line


def test_a_prediction_may_be_as_large_as_an_image_that_is_converted():
    from nnunet_ext.dataset_conversion.datasets import get
    from nnunet_ext.dataset_conversion.formats import sizes
    from nnunet_ext.dataset_conversion.submission_files import max_voxels

    assert max_voxels(get("hvsmr2016"), {}) == sizes.max_volume_voxels(None) >= 528 * 528 * 200
    assert max_voxels(get("lgg"), {}) == sizes.MAX_SERIES_PIXELS


# --- wrong input -----------------------------------------------------------------------------------------------------


def test_labels_of_two_raters_are_refused_with_a_hint(download, edit_nifti, refused):
    source = download("hvsmr2016")
    for path in list(source.rglob("*-label.nii.gz")):
        edit_nifti(path, lambda array: np.where((array == 2) & (np.indices(array.shape)[0] % 2 == 0), 3, array))
        shutil.copy(path, path.with_name(path.name.replace("-label", "_label_B")))
        path.rename(path.with_name(path.name.replace("-label", "_label_A")))
    refused("LAB01", ("label value 3", "is outside 0, 1, 2", "two raters"), "convert", "hvsmr2016", "-i", source)


@pytest.mark.parametrize("value", [4, 7, 511])
def test_a_value_outside_the_release_is_refused(value, download, edit_nifti, refused):
    source = download("hvsmr2016")
    path = next(source.rglob("training_axial_crop_pat2-label.nii.gz"))
    edit_nifti(path, lambda array: np.where(np.arange(array.size).reshape(array.shape) == 0, value, array))
    texts = (f"training_axial_crop_pat2: label value {value} (1 voxels)", path.name)
    refused("LAB01", texts, "convert", "hvsmr2016", "-i", source, bad_case="pat02")


def test_a_training_patient_without_label_is_an_error_and_a_test_patient_is_none(download, refused):
    source = download("hvsmr2016")
    next(source.rglob("*pat4-label.nii.gz")).unlink()
    refused("NAM01", ("training_axial_crop_pat4 lacks label",), "convert", "hvsmr2016", "-i", source)


def test_two_labels_of_one_patient_are_refused(download, edit_nifti, refused):
    source = download("hvsmr2016")
    path = next(source.rglob("*pat4-label.nii.gz"))
    other = path.with_name(path.name.replace("-label", "_label_A"))
    shutil.copy(path, other)
    edit_nifti(other, lambda array: np.where(array == 1, 2, array))
    refused("NAM02", ("training_axial_crop_pat4: two files for label",), "convert", "hvsmr2016", "-i", source)


def test_an_image_cut_short_and_a_label_of_another_shape_are_found(download, edit_nifti, refused):
    source = download("hvsmr2016")
    image = next(source.rglob("training_axial_crop_pat3.nii.gz"))
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    refused("GZ01", ("pat3",), "convert", "hvsmr2016", "-i", source, bad_case="pat03")
    image.write_bytes(whole)
    edit_nifti(next(source.rglob("*pat3-label.nii.gz")), lambda array: array[1:])
    refused("GEO02", ("pat3",), "convert", "hvsmr2016", "-i", source, "--restart")
