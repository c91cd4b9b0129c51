"""One planner for all networks: nnU-Net's own, with the memory that the network really keeps as its measure.

nnU-Net plans with a count of convolution outputs of its U-Net. Here the measure is ``memory.measure`` under autocast,
for whatever network; its unit is calibrated so that nnU-Net's default U-Net gets the patch and batch sizes that nnU-Net
gives it at 8 GB. Networks are thereby compared at one budget of memory.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.json_export import recursive_fix_for_json_export
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_ext import __version__
from nnunet_ext.errors import UserError
from nnunet_ext.files import write_atomically
from nnunet_ext.planning import gpu
from nnunet_ext.planning.demand import Demand, demand_of
from nnunet_ext.planning.plans_file import OURS, read_plans
from nnunet_ext.planning.preprocessed_data import choose_data_folders
from nnunet_ext.planning.private_nnunet import IMPORTED_KEYWORDS
from nnunet_ext.planning.small_plans import default_small_plans

# nnU-Net's own estimate counts the values that convolutions put out. For each of them PlainConvUNet keeps this many
# bytes: two maps in half precision, less what transposed convolutions and heads do not keep. With 3.95 to 3.98 in 2D,
# and up to 4.02 in 3D, nnU-Net's own patch and batch sizes come out for the fingerprints of
# tests/planning/test_planner.py.
BYTES_2D, BYTES_3D = 3.975, 3.95
MIN_STAGES = 3  # with two, nnU-Net's deep supervision has no weight left (it divides 0 by 0)
#: names that nnU-Net's planner gives
CONFIGURATIONS = ("2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres")


class NetworkPlanner(ExperimentPlanner):
    """nnU-Net's planner for any network that takes ``PlainConvUNet``'s arguments.

    A network's class may offer ``plan_options(*, patch_size, strides, kernel_sizes, spacing, channel_names) -> dict``:
    further keyword arguments of its constructor, plain data. They are asked for at every candidate, measured with, and
    written into the plans, so that training and prediction never work them out again. It may raise ``ValueError`` for
    a topology that it cannot take; the planner then goes on to smaller patches.

    Args:
        network: the class.
        network_name: as listed and as the plans record it; the name of the class unless given.
        optimizer: that the network is trained with (``torch.optim``); for the figure of GPU memory alone.
        options: keyword arguments of the network's constructor that a trainer's variant sets.
        trainer: name of that trainer, for the record.
        small: write small plans instead (``small_plans``), to try things out without a GPU.
        gpu_memory_target_in_gb, plans_name, overwrite_target_spacing: as nnU-Net's.

    Raises:
        UserError: the target is too small for any patch; the network refuses the dataset.
    """

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float = 8,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str = "nnUNetNetworkPlans",
        overwrite_target_spacing: Sequence[float] | None = None,
        suppress_transpose: bool = False,
        network: type[nn.Module] = PlainConvUNet,
        network_name: str | None = None,
        optimizer: str = "SGD",
        options: Mapping[str, Any] | None = None,
        trainer: str = "",
        small: bool = False,
    ) -> None:
        super().__init__(
            dataset_name_or_id,
            gpu_memory_target_in_gb,
            preprocessor_name,
            plans_name,
            None if overwrite_target_spacing is None else list(map(float, overwrite_target_spacing)),
            suppress_transpose,
        )
        self.UNet_class = network
        self.network_name = network_name or network.__name__
        self.UNet_reference_val_2d *= BYTES_2D
        self.UNet_reference_val_3d *= BYTES_3D
        self.optimizer = optimizer
        self.options = dict(options or {})
        self.trainer = trainer
        self.small = small
        self._demands: dict[str, Demand] = {}
        self._spacing: tuple[float, ...] = ()
        self._smallest_demand = math.inf  # budget that the smallest patch of this configuration would need
        self._refusal: ValueError | None = None

    @property
    def channel_names(self) -> list[str]:
        """Of the image, in order."""
        # nnU-Net still takes the older key
        names = self.dataset_json.get("channel_names") or self.dataset_json["modality"]
        return [str(name) for name in names.values()]

    def get_plans_for_configuration(
        self,
        spacing: Any,
        median_shape: Any,
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict,
    ) -> dict[str, Any]:
        """nnU-Net's, with the batch size of this planner's rule and the network's own options.

        ``_cache`` of nnU-Net is keyed by patch and strides alone and not used: demands are remembered here.
        """
        self._spacing = tuple(map(float, spacing))
        self._smallest_demand, self._refusal = math.inf, None
        plan = super().get_plans_for_configuration(
            spacing, median_shape, data_identifier, approximate_n_voxels_dataset, {}
        )
        architecture = plan["architecture"]
        demand = self._demand(
            plan["patch_size"],
            len(self.channel_names),
            len(self.dataset_json["labels"]),
            architecture["arch_kwargs"],
            architecture[IMPORTED_KEYWORDS],
        )
        architecture["arch_kwargs"].update(self._options(plan["patch_size"], architecture["arch_kwargs"]))
        plan["batch_size"] = self._batch_size(demand, plan["patch_size"], approximate_n_voxels_dataset)
        return plan

    def static_estimate_VRAM_usage(
        self,
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: dict[str, Any],
        arch_kwargs_req_import: Sequence[str],
    ) -> float:
        """Bytes of a sample, and half of those needed once, in the unit of ``UNet_reference_val_...``.

        nnU-Net asks for it at each candidate, and shrinks the patch as long as two samples exceed the budget. There it
        is a static method, called on the instance.
        """
        if arch_kwargs["n_stages"] < MIN_STAGES:
            raise self._no_patch(patch_size)  # nnU-Net's loop has no lower end of its own
        try:
            demand = self._demand(patch_size, input_channels, output_channels, arch_kwargs, arch_kwargs_req_import)
        except ValueError as error:
            self._refusal = error
            return math.inf
        self._smallest_demand = min(self._smallest_demand, 2 * demand.sample + demand.fixed)
        return demand.sample + demand.fixed / 2

    def _batch_size(self, demand: Demand, patch_size: Sequence[int], voxels_of_dataset: float) -> int:
        min_batch = self.UNet_min_batch_size
        batch = round((self._budget() - demand.fixed) / demand.sample)
        max_batch = round(voxels_of_dataset * self.max_dataset_covered / math.prod(map(float, patch_size)))
        batch = max(min_batch, min(batch, max_batch))
        while batch > min_batch and self.training_bytes(demand, batch) > self.UNet_vram_target_GB * gpu.GB:
            batch -= 1
        return batch

    def training_bytes(self, demand: Demand, batch_size: int) -> float:
        """The estimate for a GPU."""
        return gpu.training_bytes(demand.memory, batch_size, self.optimizer)

    def _budget(self) -> float:
        """Bytes for the batch, so that nnU-Net's own network gets nnU-Net's own batch."""
        scale = self.UNet_vram_target_GB / self.UNet_reference_val_corresp_GB
        if len(self._spacing) == 2:
            return self.UNet_reference_val_corresp_bs_2d * self.UNet_reference_val_2d * scale
        return self.UNet_reference_val_corresp_bs_3d * self.UNet_reference_val_3d * scale

    def _options(self, patch_size: Sequence[int], arch_kwargs: Mapping[str, Any]) -> dict[str, Any]:
        ask = getattr(self.UNet_class, "plan_options", None)
        if ask is None:
            return dict(self.options)
        return self.options | ask(
            patch_size=[int(edge) for edge in patch_size],
            strides=[[int(stride) for stride in stage] for stage in arch_kwargs["strides"]],
            kernel_sizes=[[int(edge) for edge in stage] for stage in arch_kwargs["kernel_sizes"]],
            spacing=list(self._spacing),
            channel_names=self.channel_names,
        )

    def _demand(
        self,
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_kwargs: dict[str, Any],
        imported_keywords: Sequence[str],
    ) -> Demand:
        options = self._options(patch_size, arch_kwargs)
        topology = (arch_kwargs[name] for name in ("strides", "kernel_sizes"))
        # The search for 3d_lowres meets the same topology at many spacings, so the spacing itself is no part of it.
        key = repr((list(map(int, patch_size)), *topology, options))
        if key not in self._demands:
            shape = (input_channels, *map(int, patch_size))
            self._demands[key] = demand_of(
                self.UNet_class, arch_kwargs, options, imported_keywords, shape, output_channels
            )
        return self._demands[key]

    def _no_patch(self, patch_size: Sequence[int]) -> UserError:
        name = self.network_name
        if self._smallest_demand < math.inf:
            # rounded up, so that what is named suffices
            enough = math.ceil(self._smallest_demand / self._budget() * self.UNet_vram_target_GB * 100) / 100
            return UserError(
                f"no patch of {MIN_STAGES} resolutions or more fits {name} into {self.UNet_vram_target_GB:g} GB",
                remedy=f"give -gpu_memory_target {enough:g} or more",
            )
        if self._refusal is not None:
            return UserError(f"{name} cannot be planned for this dataset: {self._refusal}")
        size = " x ".join(str(int(edge)) for edge in patch_size)
        return UserError(
            f"the images are too small: a patch of {size} gives fewer than {MIN_STAGES} resolutions",
            remedy="plan this dataset with nnU-Net's own planner",
        )

    def plan_experiment(self) -> dict[str, Any]:
        """nnU-Net's, without its printing. Returns the plans, which are also written."""
        with redirect_stdout(StringIO()):
            return super().plan_experiment()

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Write the plans file. Configurations that a user added to an existing one stay."""
        folder = Path(nnUNet_preprocessed) / self.dataset_name
        recursive_fix_for_json_export(plans)
        if self.small:
            self._make_small(plans)
        plans[OURS] = {
            "version": __version__,
            "network": self.network_name,
            "gpu_memory_target_in_gb": self.UNet_vram_target_GB,
            "options": self.options,
            "trainer": self.trainer,
        }
        if self.small:
            plans[OURS]["small"] = True
        self._add_cascade_channels(plans)
        default_file = folder / "nnUNetPlans.json"
        choose_data_folders(
            plans,
            read_plans(default_file) if default_file.is_file() else None,
            preprocessed_as_usual=self.preprocessor_name == "DefaultPreprocessor",
            spaced_as_usual=self.overwrite_target_spacing is None,
        )
        file = folder / f"{self.plans_identifier}.json"
        if file.is_file():
            before = read_plans(file)["configurations"]
            # what an earlier plan had of nnU-Net's own configurations and this one has not would be of its topology
            others = {name: content for name, content in before.items() if name not in CONFIGURATIONS}
            plans["configurations"] = {**others, **plans["configurations"]}
        with write_atomically(file) as stream:
            stream.write(json.dumps(plans, indent=4).encode())

    def _make_small(self, plans: dict[str, Any]) -> None:
        plans["configurations"] = default_small_plans(plans, self.plans_identifier)["configurations"]
        for configuration in plans["configurations"].values():
            self._spacing = tuple(configuration["spacing"])
            arch_kwargs = configuration["architecture"]["arch_kwargs"]
            arch_kwargs.update(self._options(configuration["patch_size"], arch_kwargs))

    def _add_cascade_channels(self, plans: dict[str, Any]) -> None:
        """Say how many channels a cascade adds, to a network that wants to know: no stock trainer could tell it."""
        cascade = plans["configurations"].get("3d_cascade_fullres")
        if cascade is None or "cascade_channels" not in inspect.signature(self.UNet_class).parameters:
            return
        architecture = deepcopy(plans["configurations"]["3d_fullres"]["architecture"])
        labels = PlansManager(plans).get_label_manager(self.dataset_json)
        architecture["arch_kwargs"]["cascade_channels"] = len(labels.foreground_labels)
        cascade["architecture"] = architecture
