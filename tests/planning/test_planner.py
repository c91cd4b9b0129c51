"""The planner: nnU-Net's own plans for nnU-Net's own network, one rule for the memory of any other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import prod
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_ext.architectures.cfformer import CFFormer
from nnunet_ext.architectures.cfnet import CFNet
from nnunet_ext.errors import UserError
from nnunet_ext.planning import demand, gpu
from nnunet_ext.planning.from_plans import from_configuration
from nnunet_ext.planning.memory import Memory, measure_sample
from nnunet_ext.planning.planner import BYTES_3D, NetworkPlanner

TARGETS = (8, 11, 16, 24, 40, 80)
BUDGET_3D = 2 * 560e6 * BYTES_3D  # bytes at 8 GB: what nnU-Net's reference allows, in this planner's unit
pytestmark = pytest.mark.usefixtures("single_thread")


def planned(dataset: int, target: float = 8, network: type[nn.Module] = PlainConvUNet, **options: Any) -> dict:
    return NetworkPlanner(dataset, target, plans_name="testPlans", network=network, **options).plan_experiment()


@pytest.fixture(scope="module")
def plain(tmp_path_factory, make_folders, write_constructed) -> Callable[[str, float], dict]:
    """``plain(set, target)``: plans of PlainConvUNet, each made once for all tests."""
    folders, ids, made = make_folders(tmp_path_factory.mktemp("plain")), {}, {}

    def of(name: str, target: float) -> dict:
        if name not in ids:
            ids[name] = write_constructed(folders, name)
        if (name, target) not in made:
            with pytest.MonkeyPatch.context() as patch:
                for variable, value in folders.environment().items():
                    patch.setenv(variable, value)
                made[name, target] = planned(ids[name], target)
        return made[name, target]

    return of


@pytest.fixture
def stand_in(monkeypatch) -> None:
    """A stand-in for the measure, where the candidates take their time and the memory does not matter."""
    monkeypatch.setattr(
        demand, "_measured", lambda _, __, ___, shape, ____: Memory(1, 1, 800 * prod(shape), 0, 0, 0, 1)
    )


def built(configuration: dict, channels: int, classes: int) -> nn.Module:
    """As stock nnU-Net builds it, without data."""
    architecture = configuration["architecture"]
    with torch.device("meta"):
        return get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            channels,
            classes,
            allow_init=True,
            deep_supervision=True,
        )


def memory_of(configuration: dict, channels: int = 4, classes: int = 4) -> Any:
    network = built(configuration, channels, classes)
    shape = (channels, *map(int, configuration["patch_size"]))
    return measure_sample(network, shape, dtype=torch.float16, multiply_adds=False)


# --- calibration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "configuration", "patch", "batch"),
    [
        ("Dataset901_BraTS", "3d_fullres", [128, 128, 128], 2),
        ("Dataset901_BraTS", "2d", [192, 160], 105),
        ("Dataset902_Hippocampus", "3d_fullres", [40, 56, 40], 9),
        ("Dataset902_Hippocampus", "2d", [56, 40], 366),
        ("Dataset903_LGG", "2d", [256, 256], 49),
        ("Dataset904_Anisotropic", "3d_fullres", [20, 320, 256], 2),
        ("Dataset904_Anisotropic", "2d", [320, 320], 32),
    ],
)
def test_nnunets_network_gets_nnunets_patch_and_batch_at_8_gb(plain, name, configuration, patch, batch) -> None:
    made = plain(name, 8)["configurations"][configuration]
    assert (list(made["patch_size"]), made["batch_size"]) == (patch, batch)


def test_plans_of_nnunets_network_are_nnunets_in_every_other_entry(constructed, nnunet_folders, monkeypatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")  # nnU-Net's planner sets its threads by it
    dataset = constructed()
    planned(dataset)
    ExperimentPlanner(dataset, 8, plans_name="testStock").plan_experiment()
    ours, stock = (
        json.loads((nnunet_folders.preprocessed / "Dataset905_Small" / f"{name}.json").read_text())
        for name in ("testPlans", "testStock")
    )
    for plans in (ours, stock):
        for key in ("plans_name", "experiment_planner_used", "nnunet_ext"):
            plans.pop(key, None)
        for configuration in plans["configurations"].values():
            del configuration["data_identifier"]
    assert ours == stock


@pytest.mark.parametrize(
    ("target", "patch", "batch", "batch_2d"),
    [
        (11, [128, 192, 128], 2, 145),
        (16, [160, 192, 160], 2, 211),
        (24, [160, 192, 160], 3, 316),
        (40, [160, 192, 160], 5, 526),
        (80, [160, 192, 160], 10, 1053),
    ],
)
def test_larger_gpus_get_larger_patches_then_larger_batches(plain, target, patch, batch, batch_2d) -> None:
    made = plain("Dataset901_BraTS", target)["configurations"]
    assert (list(made["3d_fullres"]["patch_size"]), made["3d_fullres"]["batch_size"]) == (patch, batch)
    assert (list(made["2d"]["patch_size"]), made["2d"]["batch_size"]) == ([192, 160], batch_2d)


@pytest.mark.parametrize(
    ("target", "batch"),
    [
        (11, 68),
        pytest.param(16, 98, marks=pytest.mark.slow),
        (24, 148),
        pytest.param(40, 196, marks=pytest.mark.slow),
        (80, 196),
    ],
)
def test_the_batch_stops_at_a_twentieth_of_the_dataset(plain, target, batch) -> None:
    assert plain("Dataset903_LGG", target)["configurations"]["2d"]["batch_size"] == batch


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_what_a_batch_keeps_does_not_fall_as_gpus_grow(plain, configuration) -> None:
    kept = []
    for target in TARGETS:
        made = plain("Dataset901_BraTS", target)["configurations"][configuration]
        kept.append(made["batch_size"] * memory_of(made).activations)
    assert kept == sorted(kept), dict(zip(TARGETS, kept, strict=True))


def test_plans_keep_nnunets_rules_of_batch_strides_and_stages(plain) -> None:
    voxels = {"Dataset901_BraTS": 138 * 170 * 140 * 369, "Dataset904_Anisotropic": 20 * 320 * 320 * 100}
    for name, total in voxels.items():
        for target in (8, 24, 80):
            for key, made in plain(name, target)["configurations"].items():
                where, patch = f"{name} {key} {target} GB", list(made["patch_size"])
                assert 2 <= made["batch_size"] <= max(2, round(0.05 * total / prod(patch))), where
                strides = made["architecture"]["arch_kwargs"]["strides"]
                steps = [prod(axis) for axis in zip(*strides, strict=True)]
                assert [edge % step for edge, step in zip(patch, steps, strict=True)] == [0] * len(patch), where
                assert len(strides) >= 3, where


# --- other networks --------------------------------------------------------------------------------------------------


class Heavy(PlainConvUNet):
    """As many further parameters as its plans say, none of them used."""

    ballast = 0

    def __init__(self, *args: Any, ballast: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.unused = nn.Parameter(torch.empty(ballast))

    @classmethod
    def plan_options(cls, **_: Any) -> dict[str, Any]:
        return {"ballast": cls.ballast}


@pytest.mark.parametrize("millions", [20, 100])
def test_parameters_beyond_nnunets_network_come_off_the_budget(constructed, importable, plain, millions) -> None:
    Heavy.ballast = millions * 10**6
    made = planned(constructed("Dataset901_BraTS"), 16, importable(Heavy))["configurations"]["3d_fullres"]
    reference = plain("Dataset901_BraTS", 16)["configurations"]["3d_fullres"]
    kept = memory_of(made).activations
    beyond = gpu.parameter_bytes(1) * Heavy.ballast
    assert 2 * kept + beyond <= 2 * BUDGET_3D
    # the smallest step nnU-Net's loop makes is one edge: what the budget leaves is used, not given away
    assert prod(made["patch_size"]) * made["batch_size"] <= prod(reference["patch_size"]) * reference["batch_size"]
    if 2 * memory_of(reference).activations + beyond > 2 * BUDGET_3D:
        assert prod(made["patch_size"]) < prod(reference["patch_size"])


def test_parameters_beyond_nnunets_network_make_the_batch_smaller(constructed, importable, plain) -> None:
    Heavy.ballast = 100 * 10**6
    made = planned(constructed("Dataset901_BraTS"), 8, importable(Heavy))["configurations"]["2d"]
    reference = plain("Dataset901_BraTS", 8)["configurations"]["2d"]
    assert list(made["patch_size"]) == list(reference["patch_size"])
    assert made["batch_size"] < 0.8 * reference["batch_size"]


def test_a_plan_that_fills_the_budget_stays_below_the_gpu_by_the_estimate(constructed, importable) -> None:
    Heavy.ballast = 100 * 10**6
    for target in (8, 11):
        constructed_id = 901 if target == 11 else constructed("Dataset901_BraTS")
        for name, made in planned(constructed_id, target, importable(Heavy))["configurations"].items():
            estimated = gpu.training_bytes(memory_of(made), made["batch_size"])
            assert made["batch_size"] == 2 or estimated <= target * gpu.GB, (target, name)


class Picky(PlainConvUNet):
    """Takes patches up to an edge."""

    largest = 0

    @classmethod
    def plan_options(cls, *, patch_size: list[int], **_: Any) -> dict[str, Any]:
        if max(patch_size) > cls.largest:
            raise ValueError(f"an edge of {max(patch_size)} is longer than {cls.largest}")
        return {}


def test_the_planner_goes_on_past_topologies_that_a_network_refuses(constructed, importable) -> None:
    Picky.largest = 96
    for name, made in planned(constructed("Dataset901_BraTS"), 8, importable(Picky))["configurations"].items():
        assert max(made["patch_size"]) <= 96, name
        assert made["batch_size"] > 2, name  # what the smaller patch leaves


def test_a_network_that_refuses_everything_gives_its_own_reason(constructed, importable, nnunet_folders, tree) -> None:
    Picky.largest = 0
    dataset = constructed()
    before = tree(nnunet_folders.preprocessed)
    reason = r"^Picky cannot be planned for this dataset: an edge of \d+ is longer than 0$"
    with pytest.raises(UserError, match=reason):
        planned(dataset, 8, importable(Picky))
    assert tree(nnunet_folders.preprocessed) == before


def test_one_image_channel_is_refused_with_cfnets_own_words(constructed) -> None:
    with pytest.raises(UserError, match=r"CFNet cannot be planned.*at least two image channels; got 1"):
        planned(constructed("Dataset902_Hippocampus"), 8, CFNet)


@pytest.mark.parametrize("network", [PlainConvUNet, pytest.param(CFNet, marks=pytest.mark.slow)])
def test_too_small_a_target_names_one_that_suffices(constructed, network, nnunet_folders) -> None:
    dataset = constructed(shape=(20, 24, 20))
    with pytest.raises(UserError) as raised:
        planned(dataset, 0.001, network)
    line = str(raised.value)
    found = re.fullmatch(
        rf"no patch of 3 resolutions or more fits {network.__name__} into 0\.001 GB - "
        r"give -gpu_memory_target ([\d.]+) or more",
        line,
    )
    assert found, line
    assert not list(nnunet_folders.preprocessed.rglob("testPlans*"))
    named = float(found[1])
    assert planned(dataset, named, network)["configurations"]["3d_fullres"]["batch_size"] == 2
    with pytest.raises(UserError, match="no patch"):
        planned(dataset, named / 3, network)


def test_images_too_small_for_three_resolutions_are_told_so(constructed) -> None:
    with pytest.raises(UserError, match=r"images are too small: a patch of 12 x 14 x 12 gives fewer than 3"):
        planned(constructed(shape=(12, 14, 12)))


# --- options and cascades --------------------------------------------------------------------------------------------


def test_options_of_a_network_are_in_the_plans_and_stock_nnunet_builds_with_them(
    constructed, importable, nnunet_folders
) -> None:
    Heavy.ballast = 12_345
    planned(constructed(), 8, importable(Heavy))
    plans = json.loads((nnunet_folders.preprocessed / "Dataset905_Small" / "testPlans.json").read_text())
    for name, configuration in plans["configurations"].items():
        assert configuration["architecture"]["arch_kwargs"]["ballast"] == 12_345, name
        assert built(configuration, 2, 3).unused.numel() == 12_345, name


def test_a_network_is_asked_for_options_with_plain_data(constructed, importable) -> None:
    asked: list[dict[str, Any]] = []

    class Asked(PlainConvUNet):
        @classmethod
        def plan_options(cls, **facts: Any) -> dict[str, Any]:
            asked.append(json.loads(json.dumps(facts)))
            return {}

    made = planned(constructed(), 8, importable(Asked))["configurations"]
    facts = asked[-1]  # 2d comes last
    assert facts["patch_size"] == list(made["2d"]["patch_size"])
    assert facts["channel_names"] == ["a", "b"]
    assert facts["spacing"] == [1.0, 1.0]
    arguments = made["2d"]["architecture"]["arch_kwargs"]
    assert [facts["strides"], facts["kernel_sizes"]] == [
        [list(stage) for stage in arguments[key]] for key in ("strides", "kernel_sizes")
    ]


@pytest.mark.parametrize(
    ("names", "streams"),
    [
        (("T1", "T1ce", "T2", "FLAIR"), [[0, 2], [1, 3]]),
        (("FLAIR", "T1", "T1ce", "T2"), [[1, 3], [2, 0]]),
        (("t2w", "t1gd", "T2-FLAIR", "t1n"), [[3, 0], [1, 2]]),
        (("T1", "T1ce", "T2", "ADC"), None),
        (("T1", "T1", "T2", "FLAIR"), None),
        (("a", "b", "c"), None),
    ],
)
def test_cfnets_pairs_of_channels_follow_their_names(constructed, names, streams, stand_in) -> None:
    plans = planned(constructed(channels=names), 8, CFNet)
    for name, configuration in plans["configurations"].items():
        assert configuration["architecture"]["arch_kwargs"].get("stream_channels") == streams, name
        network = built(configuration, len(names), 3)
        if streams:
            assert network.stream_channels == tuple(map(tuple, streams)), name


def test_stock_and_own_trainers_build_the_networks_of_a_cascade(constructed, nnunet_folders, stand_in) -> None:
    name = "Dataset905_Small"
    planned(constructed(shape=(270, 270, 270)), 8, CFNet)
    plans = json.loads((nnunet_folders.preprocessed / name / "testPlans.json").read_text())
    description = json.loads((nnunet_folders.raw / name / "dataset.json").read_text())
    assert set(plans["configurations"]) == {"2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"}
    manager = PlansManager(plans)
    for configuration, extra in (("3d_lowres", 0), ("3d_fullres", 0), ("3d_cascade_fullres", 2)):
        settings = manager.get_configuration(configuration)
        channels = determine_num_input_channels(manager, settings, description)
        assert channels == 2 + extra
        with torch.device("meta"):
            stock = nnUNetTrainer.build_network_architecture(manager, settings, channels, 3, True)
            own = from_configuration(CFNet, settings, channels, 3, True)
            for network in (stock, own):
                assert isinstance(network, CFNet)
                previous = tuple(range(2, 2 + extra))
                assert network.stream_channels == ((0, *previous), (1, *previous)), configuration
                assert network(torch.empty(1, channels, *settings.patch_size))[0].shape[1] == 3


def test_a_topology_met_again_at_another_spacing_is_not_measured_again(constructed, monkeypatch) -> None:
    seen: list[str] = []

    def measured(network: type, kwargs: dict, to_import: Any, shape: Any, classes: int) -> Any:
        seen.append(repr((network, [int(edge) for edge in shape], kwargs["strides"], kwargs["kernel_sizes"])))
        return real(network, kwargs, to_import, shape, classes)

    real = demand._measured
    monkeypatch.setattr(demand, "_measured", measured)
    assert "3d_lowres" in planned(constructed(shape=(300, 400, 400)))["configurations"]
    assert len(seen) == len(set(seen))


@pytest.mark.slow
@pytest.mark.parametrize("network", [CFNet, CFFormer])
def test_our_networks_get_sensible_plans_at_every_target(constructed, network) -> None:
    dataset, kept = constructed("Dataset901_BraTS"), 0.0
    for target in TARGETS:
        made = planned(dataset, target, network)["configurations"]["3d_fullres"]
        patch, batch = made["patch_size"], made["batch_size"]
        steps = [prod(axis) for axis in zip(*made["architecture"]["arch_kwargs"]["strides"], strict=True)]
        assert not any(edge % step for edge, step in zip(patch, steps, strict=True)), (target, patch)
        case = measure_sample(built(made, 4, 4), (4, *patch), dtype=torch.float16, multiply_adds=False)
        assert gpu.training_bytes(case, batch) <= target * gpu.GB, f"{patch} / {batch} does not fit {target} GB"
        assert batch * case.activations >= 0.97 * kept, f"less is used at {target} GB than at a smaller target"
        kept = batch * case.activations
    if network is CFNet:
        assert (list(patch), batch) == ([160, 192, 160], 7)
