"""``nnunet_ext train``: ``nnUNetv2_train`` with the same arguments, where the plugin is not found by itself."""

from __future__ import annotations

from collections.abc import Sequence


def run(argv: Sequence[str]) -> int:
    from nnunet_ext.trainers import fallback, trust

    arguments = trust.checked_training(argv)
    return fallback.run("nnunetv2.run.run_training:run_training_entry", "nnunet_ext train", arguments)
