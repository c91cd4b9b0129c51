"""Maps come back to the voxels of the image file, whatever nnU-Net's reader and preprocessing did with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ext.attention_maps.image_grid import ImageGrid
from nnunet_ext.attention_maps.map_pictures import curve_of
from nnunet_ext.errors import UserError
from nnunet_ext.report.grid import read_shown_image

#: axes of the patient permuted and one of them turned round
TURNED = (0, 1, 0, -1, 0, 0, 0, 0, 1)
READERS = ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient")


def grid_of(
    small_plans: Any,
    files: list[Path],
    *,
    reader: str = "SimpleITKIO",
    transpose: tuple[int, ...] = (0, 1, 2),
    configuration: str = "3d_fullres",
    spacing: list[float] | None = None,
) -> tuple[ImageGrid, np.ndarray]:
    """The grid of a case and its preprocessed data."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    content = small_plans("Dataset501_Toy", image_channels=len(files), file_ending_reader=reader)
    content["transpose_forward"] = list(transpose)
    content["transpose_backward"] = [transpose.index(axis) for axis in range(3)]
    content["configurations"][configuration]["normalization_schemes"] = ["NoNormalization"] * len(files)
    if spacing is not None:
        content["configurations"][configuration]["spacing"] = spacing
    plans = PlansManager(content)
    manager = plans.get_configuration(configuration)
    images, properties = plans.image_reader_writer_class().read_images([str(file) for file in files])
    data, _, properties = manager.preprocessor_class(verbose=False).run_case_npy(
        images, None, properties, plans, manager, {"labels": {"background": 0, "outer": 1}}
    )
    shape = read_shown_image(files[0])[0].shape
    return ImageGrid(plans, manager, properties, files[0], shape), data


def files_of(case: Path, channels: int = 1) -> list[Path]:
    return [case.with_name(f"{case.name}_{channel:04d}.nii.gz") for channel in range(channels)]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_every_voxel_returns_to_its_place_in_the_file(small_plans, write_case, tmp_path, reader, transpose) -> None:
    files = files_of(write_case(tmp_path, shape=(9, 14, 12), channels=1, zeros=2, direction=TURNED))
    grid, data = grid_of(small_plans, files, reader=reader, transpose=transpose)
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(files[0])))
    assert data[0].size < image.size, "cropped"
    np.testing.assert_allclose(grid.from_network(data[0]), image, rtol=1e-6)
    inside = grid.inside()
    assert inside.sum() == data[0].size
    assert not image[~inside].any()
    # the network's slices along the axis that it finds
    axis = grid.slice_axis()
    numbers = grid.from_network(np.broadcast_to(np.arange(1.0, len(data[0]) + 1).reshape(-1, 1, 1), data[0].shape))
    curve = curve_of(numbers, inside, axis)
    assert sorted(curve[~np.isnan(curve)].tolist()) == list(range(1, len(data[0]) + 1))


def test_the_written_map_has_the_geometry_of_the_image(small_plans, write_case, tmp_path) -> None:
    case = write_case(tmp_path, shape=(6, 14, 12), spacing=(5.0, 0.7, 1.5), channels=1, zeros=1, direction=TURNED)
    files = files_of(case)
    grid, data = grid_of(small_plans, files, transpose=(1, 0, 2), spacing=[1.0, 3.0, 1.2])
    assert data[0].shape != (4, 12, 10), "resampled"
    grid.write(grid.from_network(data[0]), tmp_path / "map.nii.gz")
    image, written = sitk.ReadImage(str(files[0])), sitk.ReadImage(str(tmp_path / "map.nii.gz"))
    assert written.GetSize() == image.GetSize()
    np.testing.assert_allclose(written.GetSpacing(), image.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(written.GetOrigin(), image.GetOrigin(), rtol=1e-5)
    np.testing.assert_allclose(written.GetDirection(), image.GetDirection(), atol=1e-6)
    affines = [nibabel.load(file).affine for file in (files[0], tmp_path / "map.nii.gz")]
    np.testing.assert_allclose(affines[1], affines[0], atol=1e-5)
    assert written.GetPixelID() == sitk.sitkFloat32


def test_a_map_that_was_resampled_lies_where_the_image_is(small_plans, tmp_path) -> None:
    """A ramp along each axis in turn, which interpolation there and back keeps but at its ends."""
    for axis in range(3):
        array = 1 + np.broadcast_to(
            np.arange((12, 20, 16)[axis], dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(3)]),
            (12, 20, 16),
        )
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((1.0, 2.0, 3.0))
        file = tmp_path / f"ramp{axis}_0000.nii.gz"
        sitk.WriteImage(image, str(file))
        grid, data = grid_of(small_plans, [file], transpose=(2, 1, 0), spacing=[1.5, 1.5, 2.0])
        back = grid.from_network(data[0])
        middle = (slice(2, -2),) * 3
        assert np.abs(back - array)[middle].max() < 0.35
        assert np.abs(np.flip(back, axis) - array)[middle].max() > 3


def test_slices_of_a_2d_configuration_keep_their_distance(small_plans, write_case, tmp_path) -> None:
    case = write_case(tmp_path, shape=(5, 14, 12), spacing=(7.0, 2.0, 2.0), channels=1)
    grid, data = grid_of(small_plans, files_of(case), configuration="2d")
    assert data[0].shape == (5, 28, 24)
    assert grid.from_network(data[0]).shape == (5, 14, 12)


def test_an_image_of_two_dimensions_gets_a_map_of_two(small_plans, write_case, tmp_path) -> None:
    files = files_of(write_case(tmp_path, shape=(14, 12), spacing=(1, 1), direction=(1, 0, 0, 1), channels=1, zeros=2))
    grid, data = grid_of(small_plans, files, configuration="2d")
    volume = grid.from_network(data[0])
    np.testing.assert_allclose(volume, sitk.GetArrayFromImage(sitk.ReadImage(str(files[0]))), rtol=1e-6)
    grid.write(volume, tmp_path / "map.nii.gz")
    assert sitk.ReadImage(str(tmp_path / "map.nii.gz")).GetSize() == (12, 14)


def test_a_grid_that_is_not_the_image_s_is_refused(small_plans, write_case, tmp_path) -> None:
    files = files_of(write_case(tmp_path, shape=(6, 14, 12), channels=1))
    grid, data = grid_of(small_plans, files)
    other = ImageGrid(grid.plans, grid.configuration, grid.properties, files[0], (6, 12, 14))
    with pytest.raises(UserError, match="in a way that this command does not undo"):
        other.from_network(data[0])
