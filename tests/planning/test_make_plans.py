"""What ``nnunet_ext plan`` does with folders: fingerprint, names, data that is there, a dry run."""

from __future__ import annotations

import json
import multiprocessing
import os
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

from nnunet_ext.architectures.cfnet import CFNet
from nnunet_ext.errors import UserError
from nnunet_ext.planning import fingerprint, make_plans, plans_name

NAME = "Dataset905_Small"
CASES = ("case0", "case1")


def wanted(**options: Any) -> make_plans.Wanted:
    given = {
        "dataset_name": NAME,
        "network": PlainConvUNet,
        "optimizer": "SGD",
        "target": 8.0,
        "plans_name": "testPlans",
        "processes": 1,
    }
    asked = {**given, **options}
    return make_plans.Wanted(network_name=asked["network"].__name__, **asked)


def plan(**options: Any) -> dict[str, Any]:
    order = wanted(**options)
    make_plans.check(order)
    return make_plans.make_plans(order, lambda line: None)


def identifiers(plans: dict[str, Any]) -> dict[str, str]:
    return {name: content["data_identifier"] for name, content in plans["configurations"].items()}


def fill(folder: Path) -> None:
    folder.mkdir()
    for case in CASES:
        for end in (".b2nd", "_seg.b2nd", ".pkl"):
            (folder / f"{case}{end}").touch()


@pytest.mark.parametrize(
    ("network", "target", "name"),
    [("CFNet", 8.0, "nnUNetCFNetPlans"), ("CFNet", 24.0, "nnUNetCFNetPlans_24G"), ("X", 7.5, "nnUNetXPlans_7p5G")],
)
def test_plans_are_named_by_network_and_target(network, target, name) -> None:
    assert plans_name.default_name(network, target, {}) == name


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["two__bars", "../elsewhere", "a b", "8GB", "", "a.json"])
def test_names_that_would_break_folders_are_refused(constructed, name) -> None:
    constructed()
    if name:
        with pytest.raises(UserError, match="cannot name plans - use letters, digits and single underscores"):
            make_plans.check(wanted(plans_name=name))
    else:
        assert wanted(plans_name=name).name == "nnUNetPlainConvUNetPlans", "an empty name is none"


@pytest.mark.parametrize("target", [0.0, -8.0, float("nan"), float("inf")])
def test_a_target_that_is_no_size_is_refused(constructed, target) -> None:
    constructed()
    with pytest.raises(UserError, match="is not a number of GB"):
        make_plans.check(wanted(target=target))


def test_plans_for_something_else_are_overwritten_only_if_they_are_named(constructed) -> None:
    constructed()
    name = plans_name.default_name("PlainConvUNet", 8, {})
    plan(plans_name=name)
    plan(plans_name=None)  # the same network and target again
    others = {"network": CFNet, "target": 16.0}
    plan(plans_name=name, **others)
    with pytest.raises(UserError, match=f"plans of the name {name} exist for something else .*-overwrite_plans_name"):
        make_plans.check(wanted(plans_name=None))


def test_plans_that_another_program_made_are_never_overwritten(constructed, monkeypatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    dataset = constructed()
    ExperimentPlanner(dataset, 8, plans_name="testPlans").plan_experiment()
    with pytest.raises(UserError, match="exist for something else"):
        make_plans.check(wanted())


@pytest.mark.parametrize("with_fingerprint", [True, False])
def test_missing_raw_data_is_told_with_what_else_is_missing(constructed, nnunet_folders, with_fingerprint) -> None:
    constructed(fingerprint=with_fingerprint)
    (nnunet_folders.raw / NAME / "dataset.json").unlink()
    with pytest.raises(UserError, match="planning needs the raw dataset") as raised:
        make_plans.check(wanted())
    assert ("no fingerprint either" in str(raised.value)) is not with_fingerprint


@pytest.mark.parametrize(
    "own",
    [[{"train": ["case1"], "val": ["case0"]}], []],
    ids=["other cases", "fewer folds"],
)
def test_folds_that_differ_from_those_of_the_raw_dataset_are_told(constructed, nnunet_folders, own) -> None:
    constructed()
    splits = [{"train": ["case0"], "val": ["case1"]}]
    (nnunet_folders.raw / NAME / "splits_final.json").write_text(json.dumps(splits))
    (nnunet_folders.preprocessed / NAME / "splits_final.json").write_text(json.dumps(own))
    with pytest.raises(UserError, match=r"(its folds differ|the document is empty) .*splits_final\.json"):
        plan()
    assert not (nnunet_folders.preprocessed / NAME / "testPlans.json").exists()


# --- data ------------------------------------------------------------------------------------------------------------


def test_data_is_shared_with_the_default_plans_whether_or_not_they_exist_yet(constructed, monkeypatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    dataset = constructed()
    shared = {"2d": "nnUNetPlans_2d", "3d_fullres": "nnUNetPlans_3d_fullres"}
    assert identifiers(plan()) == shared
    ExperimentPlanner(dataset, 8).plan_experiment()
    assert identifiers(plan()) == shared


@pytest.mark.parametrize("default", [True, False])
def test_another_spacing_has_data_of_its_own_and_each_spacing_its_own(constructed, monkeypatch, default) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    dataset = constructed()
    if default:
        ExperimentPlanner(dataset, 8).plan_experiment()
    first, second, again = (
        identifiers(plan(spacing=spacing))["3d_fullres"] for spacing in ((0.9,) * 3, (0.8,) * 3, (0.9,) * 3)
    )
    assert first.startswith("testPlans_3d_fullres_")
    assert first == again
    assert first != second, "planned again for another spacing, old data would be taken for new"


def test_plans_that_normalise_otherwise_do_not_share(constructed, nnunet_folders, monkeypatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    dataset = constructed()
    ExperimentPlanner(dataset, 8).plan_experiment()
    file = nnunet_folders.preprocessed / NAME / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["2d"]["normalization_schemes"] = ["CTNormalization"] * 2
    file.write_text(json.dumps(plans))
    made = identifiers(plan())
    assert made["2d"].startswith("testPlans_2d_")
    assert made["3d_fullres"] == "nnUNetPlans_3d_fullres"


def test_complete_data_is_left_alone_and_incomplete_data_is_made_again(constructed, nnunet_folders, tree) -> None:
    constructed()
    folder = nnunet_folders.preprocessed / NAME
    for name in ("2d", "3d_fullres"):
        fill(folder / f"nnUNetPlans_{name}")
    (folder / "nnUNetPlans_2d" / "case1_seg.b2nd").unlink()
    before = tree(folder)
    plans = plan()
    assert make_plans.to_preprocess(plans, CASES, list(plans["configurations"])) == ["2d"]
    after = tree(folder)
    assert {name: after[name] for name in before} == before, "what is there keeps its content and its times"


def test_a_cascade_has_no_data_of_its_own(constructed) -> None:
    constructed()
    plans = plan()
    plans["configurations"][make_plans.CASCADE] = {"inherits_from": "3d_fullres"}
    assert make_plans.CASCADE not in make_plans.to_preprocess(plans, CASES, list(plans["configurations"]))


def test_a_dry_run_leaves_every_folder_as_it_was_also_after_an_error(constructed, nnunet_folders, tree) -> None:
    constructed()
    parent = nnunet_folders.raw.parent
    before = tree(parent)
    with make_plans.nothing_written(NAME):
        assert plan()["plans_name"] == "testPlans"
    assert tree(parent) == before
    with pytest.raises(UserError), make_plans.nothing_written(NAME):
        plan(target=0.0001)
    assert tree(parent) == before
    assert os.environ["nnUNet_preprocessed"] == str(nnunet_folders.preprocessed)


# --- fingerprint -----------------------------------------------------------------------------------------------------


@pytest.fixture
def threads(monkeypatch) -> None:
    """Threads for nnU-Net's process pools."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda *_: SimpleNamespace(Pool=ThreadPool))


def test_a_bounded_fingerprint_agrees_with_nnunets(nnunet_folders, write_raw_dataset, threads) -> None:
    write_raw_dataset(nnunet_folders.raw, NAME, cases=3)
    file = nnunet_folders.preprocessed / NAME / fingerprint.FILE
    assert fingerprint.extract_if_missing(NAME, 1)
    ours = json.loads(file.read_text())
    stock_extractor = DatasetFingerprintExtractor(NAME, 1)
    stock_extractor.num_foreground_voxels_for_intensitystats = 10**7  # a tenth of nnU-Net's, for the time it takes
    stock_extractor.run(overwrite_existing=True)
    stock = json.loads(file.read_text())
    for key in ("spacings", "shapes_after_crop", "median_relative_size_after_cropping"):
        assert ours[key] == stock[key], key
    for channel, expected in stock["foreground_intensity_properties_per_channel"].items():
        got = ours["foreground_intensity_properties_per_channel"][channel]
        assert abs(got["mean"] - expected["mean"]) < 0.01 * expected["std"], channel
        assert np.isclose(got["std"], expected["std"], rtol=0.01), channel


def test_few_intensities_are_drawn(nnunet_folders, write_raw_dataset, threads, monkeypatch) -> None:
    write_raw_dataset(nnunet_folders.raw, NAME, cases=2)
    drawn: list[int] = []
    collect = DatasetFingerprintExtractor.collect_foreground_intensities

    def counted(*arguments: Any, **options: Any) -> Any:
        result = collect(*arguments, **options)
        drawn.append(sum(map(len, result[0])))
        return result

    monkeypatch.setattr(DatasetFingerprintExtractor, "collect_foreground_intensities", staticmethod(counted))
    fingerprint.extract_if_missing(NAME, 1)
    assert sum(drawn) == 2 * fingerprint.INTENSITIES  # of each of two channels


def test_a_fingerprint_that_is_there_stays(constructed, nnunet_folders, tree) -> None:
    constructed()
    before = tree(nnunet_folders.preprocessed)
    assert not fingerprint.extract_if_missing(NAME, 1)
    assert tree(nnunet_folders.preprocessed) == before
