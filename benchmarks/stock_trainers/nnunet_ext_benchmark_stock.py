"""nnU-Net's own trainer at a budget two CPU cores allow: a user's trainer folder, named in ``nnUNet_extTrainer``.

The name says the budget as the suffixes of our trainers do: ``nnUNetTrainer_8epochs_50its_5vits_NoMirroring``, and
``_seed1`` behind it the seed of the initial weights and of what is drawn after them.
"""

from __future__ import annotations

import re
from typing import Any

NAME = re.compile(r"nnUNetTrainer_(\d+)epochs_(\d+)its_(\d+)vits(_NoMirroring)?(?:_seed(\d+))?")


def __getattr__(name: str) -> Any:
    found = NAME.fullmatch(name)
    if not found:
        raise AttributeError(name)
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    epochs, iterations, validation_iterations = map(int, found.groups()[:3])

    def __init__(self, plans, configuration, fold, dataset_json, device):
        nnUNetTrainer.__init__(self, plans, configuration, fold, dataset_json, device)
        self.num_epochs = epochs
        self.num_iterations_per_epoch = iterations
        self.num_val_iterations_per_epoch = validation_iterations

    def initialize(self):
        if found.group(5):
            from nnunet_ext.trainers.seeding import seed_everything

            seed_everything(int(found.group(5)))
        nnUNetTrainer.initialize(self)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
        *settings, mirror_axes = nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size(self)
        if found.group(4):
            mirror_axes = self.inference_allowed_mirroring_axes = None
        return *settings, mirror_axes

    body = {
        "__init__": __init__,
        "initialize": initialize,
        "__module__": __name__,
        "configure_rotation_dummyDA_mirroring_and_inital_patch_size": (
            configure_rotation_dummyDA_mirroring_and_inital_patch_size
        ),
    }
    return type(name, (nnUNetTrainer,), body)
