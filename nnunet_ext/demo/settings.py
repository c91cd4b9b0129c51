"""How large the demo is: chosen so that five folds of two configurations fit into minutes on two cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DATASET = "brats2021"
TRAINING_ID, UNSEEN_ID = 137, 138
PLANS = "nnUNetPlansDemo"
CONFIGURATIONS = ("2d", "3d_fullres")
# What the ensemble must reach on phantoms that no network has seen.
REQUIRED_DICE = 0.80


@dataclass(frozen=True)
class Settings:
    """Everything that decides how long the demo takes and how good it gets.

    Attributes:
        cases, unseen: phantoms to train on, and to predict at the end.
        shape: (z, y, x) voxels of a phantom.
        folds: of the cross-validation; all of them are trained.
        epochs, iterations, validation_iterations, learning_rate: of every training, spelled as in a trainer's suffixes.
        patch_size, batch_size, features, convolutions: of the small plans (``plans.small_plans``).
    """

    cases: int = 20
    unseen: int = 8
    shape: tuple[int, int, int] = (32, 40, 40)
    folds: int = 5
    epochs: int = 12
    iterations: int = 10
    validation_iterations: int = 2
    learning_rate: str = "1e-1"
    # In plane they hold the whole brain of a phantom, so a case is few tiles.
    patch_size: Mapping[str, tuple[int, ...]] = field(
        default_factory=lambda: {"2d": (40, 36), "3d_fullres": (16, 40, 36)}
    )
    batch_size: Mapping[str, int] = field(default_factory=lambda: {"2d": 4, "3d_fullres": 2})
    features: tuple[int, ...] = (8, 16, 32)
    # One a stage instead of nnU-Net's two: cheaper, and better after so few iterations.
    convolutions: int = 1

    def trainer(self, seed: int) -> str:
        """Name of the trainer, its suffixes in canonical order."""
        return (
            f"nnUNetTrainerCFNet_{self.epochs}epochs_{self.iterations}its_{self.validation_iterations}vits"
            f"_NoMirroring_seed{seed}_lr{self.learning_rate}"
        )
