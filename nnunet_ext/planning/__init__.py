"""The table of planners whose plans this plugin is tested with. Imports neither torch nor nnU-Net."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Planner:
    """One row: name, name of the plans it writes (for ``-p``), what uses it (nnU-Net's ``-pl`` or a command of ours),
    one line for lists."""

    name: str
    plans_name: str
    used_by: str
    summary: str


PLANNERS: tuple[Planner, ...] = (
    Planner(
        "NetworkPlanner",
        "nnUNet<NETWORK>Plans",
        "nnunet_ext plan",
        "any network of ours, any GPU: from the memory that the network really keeps",
    ),
    Planner("ExperimentPlanner", "nnUNetPlans", "-pl", "nnU-Net's default: plain U-Net, 8 GB; used without -pl and -p"),
    Planner("ResEncUNetPlanner", "nnUNetResEncUNetPlans", "-pl", "nnU-Net's residual encoder U-Net, 8 GB"),
    Planner("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", "-pl", "nnU-Net's residual encoder U-Net M, 8 GB"),
    Planner("nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans", "-pl", "nnU-Net's residual encoder U-Net L, 24 GB"),
    Planner("nnUNetPlannerResEncXL", "nnUNetResEncUNetXLPlans", "-pl", "nnU-Net's residual encoder U-Net XL, 40 GB"),
)
