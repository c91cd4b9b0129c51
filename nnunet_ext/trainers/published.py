"""What trainers of published networks share: the network is the authors', whatever the plans say."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields
from typing import Any, ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_ext.errors import UserError
from nnunet_ext.trainers.base import BaseTrainer
from nnunet_ext.trainers.recipe import Recipe

#: fields of a recipe that change no weight of the network
_NO_PART_OF_TRAINING = ("validation_iterations", "seed")


class PublishedTrainer(BaseTrainer):
    """A trainer of a published network, which has one output.

    Attributes:
        fixed_patch_size, fixed_batch_size: what the trainer trains with, whatever the plans say; each alone works.
            None: that of the plans.
        alternative: name of the trainer that takes what this one refuses.
        published_recipe: as the paper or its code trained, in the words of a recipe.
        published_iterations: of an epoch; None: a pass over the data.
        published_patch_size, published_batch_size: of the paper, only reported where the trainer fixes nothing; None:
            not known.
        published_channels: image channels; None: the paper has several.

    Its recipe must say ``deep_supervision=False``.
    """

    builds_published_network: ClassVar[bool] = True
    fixed_patch_size: ClassVar[tuple[int, ...] | None] = None
    fixed_batch_size: ClassVar[int | None] = None
    alternative: ClassVar[str]
    published_recipe: ClassVar[Recipe]
    published_iterations: ClassVar[int | None] = None
    published_patch_size: ClassVar[tuple[int, ...] | None] = None
    published_batch_size: ClassVar[int | None] = None
    published_channels: ClassVar[int | None] = None

    @classmethod
    def fixes_patch_or_batch(cls) -> bool:
        return cls.fixed_patch_size is not None or cls.fixed_batch_size is not None

    @classmethod
    def published_network(
        cls, configuration_manager: ConfigurationManager, num_input_channels: int, num_output_channels: int
    ) -> nn.Module:
        """The network as published.

        Raises:
            UserError: it cannot be trained on this configuration.
        """
        raise NotImplementedError

    @classmethod
    def network_for_weights(
        cls,
        weights: Mapping[str, Any],
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
    ) -> nn.Module:
        """The published network as published weights fit it, where they say what differs from this configuration."""
        return cls.published_network(configuration_manager, num_input_channels, num_output_channels)

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The published network; it has one output, whatever ``enable_deep_supervision`` says."""
        return cls.published_network(configuration_manager, num_input_channels, num_output_channels)

    @classmethod
    def adapted_plans(cls, plans: dict, configuration: str) -> dict:
        """With the paper's patch and batch, where the trainer fixes them: prediction then cuts the same tiles.

        Raises:
            UserError: the configuration has another number of axes than the paper's patch.
        """
        patch_size, changes = cls.fixed_patch_size, dict[str, Any]()
        if patch_size is not None:
            if len(PlansManager(plans).get_configuration(configuration).patch_size) != len(patch_size):
                raise UserError(
                    f"the published {cls.network_class.__name__} needs a {len(patch_size)}d configuration; got "
                    f"{configuration}",
                    remedy=f"use {cls.alternative}, which configures itself for any",
                )
            changes["patch_size"] = list(patch_size)
        if cls.fixed_batch_size is not None:
            changes["batch_size"] = cls.fixed_batch_size
        if not changes:
            return plans
        plans = deepcopy(plans)
        plans["configurations"][configuration] |= changes
        return plans

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Nothing to switch: the published network has no deep supervision."""

    def on_train_start(self) -> None:
        super().on_train_start()
        differs = self.differences()
        if differs and self.local_rank == 0:
            self.print_to_log_file(f"what differs from the paper: {'; '.join(differs)} (docs/trainers.md)")

    def differences(self) -> list[str]:
        """Every way in which this training is not the published one; a trainer adds what only it knows."""
        paper = (self.fixed_patch_size or self.published_patch_size, self.fixed_batch_size or self.published_batch_size)
        here = (tuple(self.configuration_manager.patch_size), self.configuration_manager.batch_size)
        found = recipe_differences(self.recipe, self.published_recipe)
        if self.recipe.iterations != self.published_iterations:
            published = self.published_iterations or "a pass over the data"
            found.append(f"iterations {self.recipe.iterations} instead of {published}")
        if paper[0] is not None and here[0] != paper[0]:
            found.append(f"patches of {_by(here[0])} instead of {_by(paper[0])}")
        if paper[1] is not None and here[1] != paper[1]:
            found.append(f"batches of {here[1]} instead of {paper[1]}")
        channels = self.num_input_channels
        if self.published_channels is not None and channels != self.published_channels:
            image = f"{channels} image channel{'s' * (channels != 1)}"
            found.append(f"{image} instead of {self.published_channels}, which is our extension")
        if random := self.encoders_that_start_at_random():
            found.append(f"random weights of the {' and the '.join(random)} ('nnunet_ext pretrained' makes a start)")
        return found

    def encoders(self) -> dict[str, nn.Module]:
        """The encoders that the paper starts from published weights, by name."""
        raise NotImplementedError

    def encoders_that_start_at_random(self) -> list[str]:
        """Encoders whose norms are all one as training begins, as they are only when no weights were loaded."""
        return [] if self.current_epoch else [name for name, part in self.encoders().items() if _is_fresh(part)]


def recipe_differences(recipe: Recipe, published: Recipe) -> list[str]:
    """Fields in which a recipe is not the published one, such as ``"learning rate 0.001 instead of 0.01"``."""
    found = []
    for each in fields(Recipe):
        if each.name in (*_NO_PART_OF_TRAINING, "iterations"):
            continue
        ours, theirs = getattr(recipe, each.name), getattr(published, each.name)
        if each.name == "network_options":  # what a suffix does not set stays as published
            ours = {**theirs, **ours}
        if ours != theirs:
            found.append(f"{each.name.replace('_', ' ')} {_said(ours)} instead of {_said(theirs)}")
    return found


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_said(item)}" for name, item in value.items()) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _by(edges: tuple[int, ...]) -> str:
    return " x ".join(map(str, edges))


def _is_fresh(encoder: nn.Module) -> bool:
    norms = (p for name, p in encoder.named_parameters() if p.ndim == 1 and name.endswith("weight"))
    return all(bool((weight == 1).all()) for weight in norms)
