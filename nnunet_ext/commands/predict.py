"""``nnunet_ext predict``: ``nnUNetv2_predict`` with the same arguments, where the plugin is not found by itself."""

from __future__ import annotations

from collections.abc import Sequence


def run(argv: Sequence[str]) -> int:
    from nnunet_ext.trainers import fallback, trust

    return fallback.run(
        "nnunetv2.inference.predict_from_raw_data:predict_entry_point",
        "nnunet_ext predict",
        trust.checked_prediction(argv),
    )
