"""Write the golden numbers of surface elements with DeepMind's surface-distance 0.1, which the suite does not need:

pip install surface-distance==0.1
python tests/evaluation/write_surfels.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from conftest import make_random_pairs

FILE = Path(__file__).parents[1] / "golden" / "surfels.json"
SPACINGS = ((1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (0.5, 0.75, 1.25))


def main() -> None:
    import surface_distance as package
    from surface_distance import lookup_tables

    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL.ravel()
    codes = [sum(int(kernel[bit]) for bit in range(8) if code >> bit & 1) for code in range(256)]
    areas = [lookup_tables.create_table_neighbour_code_to_surface_area(spacing)[codes].tolist() for spacing in SPACINGS]
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_2D_KERNEL.ravel()
    codes = [sum(int(kernel[bit]) for bit in range(4) if code >> bit & 1) for code in range(16)]
    lengths = lookup_tables.create_table_neighbour_code_to_contour_length((2.0, 0.75))[codes].tolist()
    volumes = []
    for prediction, reference, spacing in make_random_pairs():
        distances = package.compute_surface_distances(reference, prediction, spacing)
        volumes.append(
            {
                "voxels": [int(np.count_nonzero(prediction)), int(np.count_nonzero(reference))],
                "hd95": float(package.compute_robust_hausdorff(distances, 95)),
                "hd": float(package.compute_robust_hausdorff(distances, 100)),
                "nsd@1": float(package.compute_surface_dice_at_tolerance(distances, 1)),
                "nsd@2": float(package.compute_surface_dice_at_tolerance(distances, 2)),
                "means": [float(value) for value in package.compute_average_surface_distance(distances)],
            }
        )
    content = {"spacings": SPACINGS, "areas": areas, "lengths": lengths, "volumes": volumes}
    FILE.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
