"""Synthetic raw downloads in the exact layout of the real ones, small enough to try a whole path on.

``write_phantoms`` writes a download, ``make_case`` draws one patient.
"""

from __future__ import annotations

from nnunet_ext.phantoms.case import make_case
from nnunet_ext.phantoms.write import DATASETS, write_phantoms

__all__ = ["DATASETS", "make_case", "write_phantoms"]
