"""From nnU-Net's preprocessed grid back to the voxels of the image file, and its geometry onto NIfTI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_ext.errors import UserError


@dataclass(frozen=True)
class ImageGrid:
    """The grid of an image file, and how nnU-Net came from it to the network's.

    Args:
        plans, configuration: of the model.
        properties: of the case, as nnU-Net's preprocessing leaves them.
        file: the image.
        shape: (Z, Y, X) or (Y, X) of the image as SimpleITK reads it.
    """

    plans: PlansManager
    configuration: ConfigurationManager
    properties: dict[str, Any]
    file: Path
    shape: tuple[int, ...]

    def from_network(self, volume: np.ndarray) -> np.ndarray:
        """A map on the preprocessed grid (Z, Y, X) at the voxels of the image file, float32; 0 where nothing is but
        zeros around the image, which nnU-Net cuts off.

        It is interpolated as nnU-Net interpolates the probabilities of a prediction.
        """
        properties, plans = self.properties, self.plans
        spacing = [properties["spacing"][axis] for axis in plans.transpose_forward]
        target = list(self.configuration.spacing)
        target = target if len(target) == len(spacing) else [spacing[0], *target]
        size = properties["shape_after_cropping_and_before_resampling"]
        resampled = self.configuration.resampling_fn_probabilities(volume[None], size, target, spacing)
        return self._uncropped(np.asarray(resampled, dtype=np.float32)[0])

    def inside(self) -> np.ndarray:
        """Which voxels of the image file the network has seen."""
        size = self.properties["shape_after_cropping_and_before_resampling"]
        return self._uncropped(np.ones(size, dtype=np.float32)) > 0

    def slice_axis(self) -> int:
        """The axis of the image file along which the network's slices follow each other."""
        size = self.properties["shape_before_cropping"]
        ramp = np.broadcast_to(np.arange(size[0], dtype=np.float32).reshape(-1, 1, 1), size)
        numbered = self._to_file(ramp)
        # one voxel long along its slices: all numbers are equal, and the first axis is as good as any
        return next((axis for axis in range(numbered.ndim) if np.diff(numbered, axis=axis).any()), 0)

    def _uncropped(self, cropped: np.ndarray) -> np.ndarray:
        whole = np.zeros(self.properties["shape_before_cropping"], dtype=np.float32)
        whole[tuple(slice(first, last) for first, last in self.properties["bbox_used_for_cropping"])] = cropped
        return self._to_file(whole)

    def _to_file(self, volume: np.ndarray) -> np.ndarray:
        volume = volume.transpose(self.plans.transpose_backward)
        itk, nifti = self.properties.get("sitk_stuff", {}), self.properties.get("nibabel_stuff", {})
        if "original_orientation" in itk and volume.ndim == len(itk["spacing"]):
            image = sitk.GetImageFromArray(np.ascontiguousarray(volume))
            image.SetDirection(itk["direction"])
            volume = sitk.GetArrayFromImage(sitk.DICOMOrient(image, itk["original_orientation"]))
        elif "reoriented_affine" in nifti:
            orientations = nibabel.orientations
            back = orientations.ornt_transform(
                orientations.io_orientation(nifti["reoriented_affine"]),
                orientations.io_orientation(nifti["original_affine"]),
            )
            volume = orientations.apply_orientation(volume.T, back).T
        if len(self.shape) == 2:
            volume = volume[0]
        if volume.shape != self.shape:
            reader = type(self.plans.image_reader_writer_class()).__name__
            raise UserError(
                f"nnU-Net's reader {reader} turns this image in a way that this command does not undo",
                file=self.file,
            )
        return np.ascontiguousarray(volume)

    def write(self, volume: np.ndarray, file: Path) -> None:
        """A map at the voxels of the image file as NIfTI with the geometry of the image.

        Raises:
            UserError: it cannot be written.
        """
        image = sitk.GetImageFromArray(volume.astype(np.float32, copy=False))
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(self.file))
        try:
            reader.ReadImageInformation()
            image.SetSpacing(reader.GetSpacing())
            image.SetOrigin(reader.GetOrigin())
            image.SetDirection(reader.GetDirection())
            sitk.WriteImage(image, str(file), useCompression=True)
        except RuntimeError as error:
            raise UserError(
                "the map cannot be written as NIfTI", file=file, remedy="check space and permissions"
            ) from error
