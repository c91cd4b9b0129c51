"""From plans to networks: real plans of nnU-Net's planners (tests/golden/plans), every configuration."""

from __future__ import annotations

import copy
import inspect
import json
from math import prod
from pathlib import Path
from typing import Any

import nnunetv2
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_ext.architectures.cfnet import CFNet
from nnunet_ext.errors import UserError
from nnunet_ext.planning import PLANNERS
from nnunet_ext.planning.cuda_rules import CudaRules
from nnunet_ext.planning.from_plans import from_configuration
from nnunet_ext.planning.memory import built_without_data

PLANS = Path(__file__).parents[1] / "golden" / "plans"
CLASSES = 4
CASES = [
    (path.stem, configuration)
    for path in sorted(PLANS.glob("*.json"))
    for configuration in json.loads(path.read_text())["configurations"]
]


def manager_of(file: str, configuration: str, **changes: Any) -> Any:
    """A configuration, with entries of its architecture changed."""
    plans = json.loads((PLANS / f"{file}.json").read_text())
    for content in plans["configurations"].values():
        if "architecture" in content:
            content["architecture"]["arch_kwargs"].update(copy.deepcopy(changes))
    return PlansManager(plans).get_configuration(configuration)


def test_the_golden_plans_hold_every_kind_of_configuration() -> None:
    assert len(CASES) == 12
    assert {configuration for _, configuration in CASES} == {"2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"}


@pytest.mark.parametrize(("file", "configuration"), CASES)
def test_builds_cfnet_from_every_configuration(file: str, configuration: str) -> None:
    manager = manager_of(file, configuration)
    images = len(manager.normalization_schemes)
    previous = 3 if configuration == "3d_cascade_fullres" else 0
    network = built_without_data(lambda: from_configuration(CFNet, manager, images + previous, CLASSES, True))
    image = torch.empty(1, images + previous, *manager.patch_size, device="meta")
    with CudaRules(None):
        outputs = network(image)
        network.decoder.deep_supervision = False
        single = network(image)
    strides = manager.pool_op_kernel_sizes
    divisors = [[prod(axis) for axis in zip(*strides[: level + 1], strict=True)] for level in range(len(strides) - 1)]
    expected = [
        (1, CLASSES, *(edge // divisor for edge, divisor in zip(manager.patch_size, level, strict=True)))
        for level in divisors
    ]
    assert [tuple(output.shape) for output in outputs] == expected
    assert single.shape == expected[0]
    cascade = tuple(range(images, images + previous))
    assert [stream[len(stream) - previous :] for stream in network.stream_channels] == [cascade] * 2


def test_streams_have_half_the_planned_width_and_residual_plans_make_residual_encoders() -> None:
    with torch.device("meta"):
        plain, residual = (
            from_configuration(CFNet, manager_of(f"large_{plans}", "3d_fullres"), 4, CLASSES, True)
            for plans in ("nnUNetPlans", "nnUNetResEncUNetPlans")
        )
    assert type(plain.encoders[0]).__name__ == "PlainConvEncoder"
    assert type(residual.encoders[0]).__name__ == "ResidualEncoder"
    assert plain.encoders[0].output_channels == [16, 32, 64, 128, 160, 160]


class Recorder(nn.Module):
    """Takes what ``from_configuration`` hands over and keeps it."""

    def __init__(self, *, input_channels, num_classes, strides, conv_op, deep_supervision, patch_size, width=1) -> None:
        super().__init__()
        self.given = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        self.initialized: list[nn.Module] = []

    def initialize(self, module: nn.Module) -> None:
        self.initialized.append(module)


def test_hands_over_what_the_constructor_asks_for_and_no_more() -> None:
    manager = manager_of("anisotropic_nnUNetPlans", "2d", width=7, option_of_another_network=True)
    built = from_configuration(Recorder, manager, 3, CLASSES, True)
    assert built.given == {
        "input_channels": 3,
        "num_classes": CLASSES,
        "strides": manager.network_arch_init_kwargs["strides"],
        "conv_op": nn.Conv2d,
        "deep_supervision": True,
        "patch_size": tuple(manager.patch_size),
        "width": 7,
    }
    assert built.initialized == [built], "initialize is applied, as nnU-Net does"


def test_an_unknown_option_of_plans_that_name_the_network_itself_is_an_error() -> None:
    manager = manager_of("anisotropic_nnUNetPlans", "2d", stream_chanels=[[0], [1, 2]])
    manager.configuration["architecture"]["network_class_name"] = "nnunet_ext.architectures.cfnet.CFNet"
    with pytest.raises(UserError, match=r"CFNet cannot be built from these plans: .*stream_chanels"):
        from_configuration(CFNet, manager, 3, CLASSES, True)


def test_options_in_the_plans_reach_the_network() -> None:
    manager = manager_of("anisotropic_nnUNetPlans", "2d", stream_channels=[[2], [0, 1]])
    with torch.device("meta"):
        assert from_configuration(CFNet, manager, 3, CLASSES, True).stream_channels == ((2,), (0, 1))


def test_builds_nnunets_own_networks_too() -> None:
    with torch.device("meta"):
        network = from_configuration(PlainConvUNet, manager_of("large_nnUNetPlans", "2d"), 4, CLASSES, False)
        assert network(torch.empty(1, 4, 256, 256)).shape == (1, CLASSES, 256, 256)


def test_one_image_channel_is_one_line_that_says_what_to_use() -> None:
    manager = manager_of("anisotropic_nnUNetPlans", "2d")
    with pytest.raises(UserError, match=r"CFNet needs at least two image channels; got 1\..*nnUNetTrainer"):
        from_configuration(CFNet, manager, 1, CLASSES, True)


def test_a_layer_type_that_cannot_be_imported_is_named() -> None:
    manager = manager_of("anisotropic_nnUNetPlans", "2d", norm_op="torch.nn.NoSuchNorm")
    with pytest.raises(UserError, match=r"torch\.nn\.NoSuchNorm as norm_op, which cannot be imported"):
        from_configuration(CFNet, manager, 3, CLASSES, True)


@pytest.mark.parametrize("row", [row for row in PLANNERS if row.used_by == "-pl"], ids=lambda row: row.name)
def test_every_planner_for_nnunets_own_command_exists_and_writes_the_plans_it_names(row: Any) -> None:
    folder = str(Path(nnunetv2.__path__[0]) / "experiment_planning")
    planner = recursive_find_python_class(folder, row.name, current_module="nnunetv2.experiment_planning")
    assert issubclass(planner, ExperimentPlanner)
    defaults = inspect.signature(planner).parameters
    assert defaults["plans_name"].default == row.plans_name
    assert f"{defaults['gpu_memory_target_in_gb'].default} GB" in row.summary
