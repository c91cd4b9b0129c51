"""Rotation, and a crop of random size and place that is brought to the size of the patch."""

from __future__ import annotations

from typing import Any

import numpy as np
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform


class RandomCropTransform(SpatialTransform):
    """nnU-Net's spatial transform, whose view is not only scaled but also moved within the patch.

    A view of scale s shows s times the patch along each axis; its place is drawn from all that lie within the patch.
    """

    def get_parameters(self, **data: Any) -> dict[str, Any]:
        parameters = super().get_parameters(**data)
        affine = parameters["affine"]
        if affine is None:
            return parameters
        scale = abs(float(np.linalg.det(affine))) ** (1 / len(self.patch_size))
        room = [max(0.0, 1.0 - scale) / 2 * edge for edge in self.patch_size]
        centre = parameters["center_location_in_pixels"]
        parameters["center_location_in_pixels"] = [
            # the global generator, as the transform itself draws from it, so that seeds hold
            place + np.random.uniform(-free, free)  # noqa: NPY002
            for place, free in zip(centre, room, strict=True)
        ]
        return parameters
