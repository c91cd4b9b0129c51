"""What trainers of published networks share: the network is the authors', whatever the plans say."""

from __future__ import annotations

from copy import deepcopy
from typing import ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_ext.errors import UserError
from nnunet_ext.trainers.base import BaseTrainer


class PublishedTrainer(BaseTrainer):
    """A trainer of a published network, which has one output.

    Attributes:
        patch_size, batch_size_of_paper: of the paper, where the trainer fixes them; None: those of the plans.
        alternative: name of the trainer that takes what this one refuses.

    Its recipe must say ``deep_supervision=False``.
    """

    builds_published_network: ClassVar[bool] = True
    patch_size: ClassVar[tuple[int, ...] | None] = None
    batch_size_of_paper: ClassVar[int | None] = None
    alternative: ClassVar[str]

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
        if cls.patch_size is None:
            return plans
        if len(PlansManager(plans).get_configuration(configuration).patch_size) != len(cls.patch_size):
            raise UserError(
                f"the published {cls.network_class.__name__} needs a {len(cls.patch_size)}d configuration; got "
                f"{configuration}",
                remedy=f"use {cls.alternative}, which configures itself for any",
            )
        plans = deepcopy(plans)
        changes: dict = {"patch_size": list(cls.patch_size)}
        if cls.batch_size_of_paper is not None:
            changes["batch_size"] = cls.batch_size_of_paper
        plans["configurations"][configuration] |= changes
        return plans

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Nothing to switch: the published network has no deep supervision."""
