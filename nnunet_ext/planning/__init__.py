"""The table of planners whose plans this plugin is tested with. Imports neither torch nor nnU-Net."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Planner:
    """One row: name for ``-pl``, name of the plans it writes (for ``-p``), one line for lists."""

    name: str
    plans_name: str
    summary: str


PLANNERS: tuple[Planner, ...] = (
    Planner("ExperimentPlanner", "nnUNetPlans", "nnU-Net's default: plain U-Net, 8 GB; used without -pl and -p"),
    Planner("ResEncUNetPlanner", "nnUNetResEncUNetPlans", "nnU-Net's residual encoder U-Net, 8 GB"),
    Planner("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", "nnU-Net's residual encoder U-Net M, 8 GB"),
    Planner("nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans", "nnU-Net's residual encoder U-Net L, 24 GB"),
    Planner("nnUNetPlannerResEncXL", "nnUNetResEncUNetXLPlans", "nnU-Net's residual encoder U-Net XL, 40 GB"),
)
