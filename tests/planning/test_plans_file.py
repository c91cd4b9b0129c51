"""Plans files of others: their form, what they would import; and how ours are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnunet_ext.errors import UserError
from nnunet_ext.planning.planner import NetworkPlanner
from nnunet_ext.planning.plans_file import foreign_classes, read_plans

PLANS = Path(__file__).parents[1] / "golden" / "plans"


@pytest.mark.parametrize("file", sorted(PLANS.glob("*.json")), ids=lambda file: file.stem)
def test_plans_of_nnunet_are_read_and_name_no_foreign_class(file) -> None:
    assert foreign_classes(read_plans(file)) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '"text"',
        "{}",
        '{"plans_name": "x", "configurations": []}',
        '{"plans_name": "x", "configurations": {"2d": {"UNet_class_name": "PlainConvUNet"}}}',
        '{"plans_name": "x", "configurations": {"2d": {"architecture": {"network_class_name": "a"}}}}',
        '{"configurations": {}}',
        '{"num_stages": 2, "plans_per_stage": {}}',
    ],
)
def test_a_file_of_another_form_is_one_line_that_says_so(content, tmp_path) -> None:
    file = tmp_path / "plans.json"
    file.write_text(content)
    with pytest.raises(UserError, match=r"^not a plans file of nnU-Net 2\.3 or later: .* - plan the dataset again$"):
        read_plans(file)


def test_a_missing_file_names_the_command_that_makes_it(tmp_path) -> None:
    with pytest.raises(UserError, match=r"there are no such plans .*nnunet_ext plan"):
        read_plans(tmp_path / "absent.json")


def test_foreign_classes_are_found_in_networks_and_in_layers(small_plans) -> None:
    plans = small_plans("Dataset905_Small", network_class="evil.Network")
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["norm_op"] = "os.system"
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["nonlin"] = None
    assert foreign_classes(plans) == ["evil.Network", "os.system"]


def test_a_failing_write_leaves_the_old_plans_and_nothing_half_written(
    constructed, nnunet_folders, tree, monkeypatch
) -> None:
    dataset = constructed()
    NetworkPlanner(dataset, 8, plans_name="testPlans").plan_experiment()
    before = tree(nnunet_folders.preprocessed)

    def full_disk(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full_disk)
        with pytest.raises(OSError, match="No space left"):
            NetworkPlanner(dataset, 16, plans_name="testPlans").plan_experiment()
    after = tree(nnunet_folders.preprocessed)
    assert after.keys() == before.keys(), "nothing half-written is left"
    file = "Dataset905_Small/testPlans.json"
    assert after[file] == before[file]


def test_configurations_of_a_user_stay_and_those_of_an_earlier_plan_go(constructed, nnunet_folders) -> None:
    dataset = constructed()
    file = nnunet_folders.preprocessed / "Dataset905_Small" / "testPlans.json"
    NetworkPlanner(dataset, 8, plans_name="testPlans").plan_experiment()
    plans = json.loads(file.read_text())
    mine = {"inherits_from": "2d", "batch_size": 3}
    plans["configurations"]["2d_mine"] = mine
    plans["configurations"]["3d_lowres"] = plans["configurations"]["3d_fullres"]
    plans["configurations"]["2d"]["batch_size"] = 1
    file.write_text(json.dumps(plans))
    NetworkPlanner(dataset, 8, plans_name="testPlans").plan_experiment()
    again = json.loads(file.read_text())["configurations"]
    assert set(again) == {"2d", "3d_fullres", "2d_mine"}
    assert again["2d_mine"] == mine
    assert again["2d"]["batch_size"] > 1
