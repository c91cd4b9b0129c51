"""What is told of plans whose names somebody else chose: commands that a shell reads as meant, and no steering of a
screen."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from typing import Any

import pytest

from nnunet_ext.errors import UserError
from nnunet_ext.planning import plan_text
from nnunet_ext.planning.dataset_json import dataset_json_of
from nnunet_ext.planning.estimate import Estimate
from nnunet_ext.planning.plan_facts import PlanFacts
from nnunet_ext.planning.table import render, render_parts

PLANS, CONFIGURATION = "nnUNet$(touch x) Plans", "2d'; `touch y`"
DESCRIPTION = {
    "channel_names": {"0": "a"},
    "labels": {"background": 0, "one": 1},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}


def row(configuration: str) -> Estimate:
    return Estimate("CFNet", PLANS, configuration, (8, 8), 2, 3, 10, 10, 10, 10, 10, 1e9, 1e9, 2, 8e9, {"encoder": 10})


def plans(trainer: str, *configurations: str) -> dict[str, Any]:
    return {
        "plans_name": PLANS,
        "dataset_name": "Dataset905_X",
        "configurations": {name: {"data_identifier": f"{name} data"} for name in configurations},
        "nnunet_ext": {"network": "CFNet", "trainer": trainer},
    }


def test_each_name_is_one_word_of_the_commands_to_type() -> None:
    facts = PlanFacts(plans("nnUNetTrainer;x", CONFIGURATION), (row(CONFIGURATION),), {}, (CONFIGURATION,))
    _, preprocess, train, _, predict = plan_text.next_commands(facts, 905, 2, preprocessed=False).splitlines()
    model = ["-p", PLANS, "-tr", "nnUNetTrainer;x"]
    assert shlex.split(preprocess) == (
        ["nnUNetv2_preprocess", "-d", "905", "-plans_name", PLANS, "-c", CONFIGURATION, "-np", "2"]
    )
    assert shlex.split(train) == ["nnUNetv2_train", "905", CONFIGURATION, "0", *model, "--npz"]
    assert shlex.split(predict) == (
        ["nnUNetv2_predict", "-i", "IMAGES", "-o", "OUT", "-d", "905", "-c", CONFIGURATION, *model]
    )


def test_plain_names_stay_as_readable_as_they_were() -> None:
    made = {**plans("", "2d"), "plans_name": "nnUNetCFNetPlans"}
    facts = PlanFacts(made, (row("2d"),), {}, ())
    lines = plan_text.next_commands(facts, 905, 2, preprocessed=True).splitlines()
    assert lines[1] == "  nnUNetv2_train 905 2d 0 -p nnUNetCFNetPlans -tr nnUNetTrainerCFNet --npz"


def test_tables_print_what_steers_a_screen_as_escapes(nnunet_folders: Any) -> None:
    hostile = "2d\x1b[2J\u202e\r"
    facts = PlanFacts(plans("", hostile), (row(hostile),), {0: 1.0}, ())
    for text in (render(facts.rows), render_parts(facts.rows), plan_text.as_text(facts, written=True)):
        assert all(character.isprintable() or character == "\n" for character in text)
        assert "2d\\x1b[2J\\u202e\\r" in text


@pytest.mark.parametrize(
    ("fits", "planned", "of_dataset", "said"),
    [
        (4626, 2, 2, "more than 2"),
        (4626, 9, 9, "more than 9"),
        (4626, 16, 2, "more than 16"),
        (5, 2, 12, "5"),
        (1, 2, 2, "1"),
        (4626, 2, None, "4626"),
    ],
)
def test_the_largest_batch_is_not_beyond_what_nnunet_would_plan(
    fits: int, planned: int, of_dataset: int | None, said: str
) -> None:
    made = replace(row("2d"), batch_size=planned, largest_batch=fits, batch_of_dataset=of_dataset)
    assert render([made]).splitlines()[1].endswith(f"  {said}")
    assert made.as_json()["largest_batch"] == fits


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, True),
        ({"whole_images": False}, False),
        ({"batch_of_dataset": 3}, False),
        ({"batch_of_dataset": None}, False),
        ({"largest_batch": 2}, False),
    ],
)
def test_plans_that_a_larger_gpu_would_not_change_are_told(
    nnunet_folders: Any, changes: dict[str, Any], told: bool
) -> None:
    tiny = replace(row("2d"), largest_batch=40, batch_of_dataset=2, whole_images=True)
    text = plan_text.as_text(PlanFacts(plans("", "2d"), (replace(tiny, **changes),), {}, ()), written=False)
    assert ("plans for a larger GPU are the same" in text) == told


@pytest.mark.parametrize("place", ["preprocessed", "raw"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channel_names": None}, "channel_names"),
        ({"labels": [1]}, "labels is a list"),
        ({"labels": {"background": 1}}, "labels.background"),
        ({"file_ending": ["x"]}, "file_ending"),
        ("channel_names", "has no channel_names"),
        ("file_ending", "has no file_ending"),
    ],
)
def test_a_dataset_json_that_plans_cannot_be_used_with_is_one_line(
    nnunet_folders: Any, place: str, change: Any, message: str
) -> None:
    file = getattr(nnunet_folders, place) / "Dataset905_X" / "dataset.json"
    file.parent.mkdir()
    content = {**DESCRIPTION, **change} if isinstance(change, dict) else DESCRIPTION.copy()
    content.pop(change if isinstance(change, str) else "", None)
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as error:
        dataset_json_of(plans(""))
    assert str(file) in str(error.value)


def test_a_dataset_json_is_found_beside_the_plans_or_else_raw(nnunet_folders: Any) -> None:
    with pytest.raises(UserError, match=r"has no dataset\.json"):
        dataset_json_of(plans(""))
    for place, name in (("raw", "of raw"), ("preprocessed", "of preprocessed")):
        file = getattr(nnunet_folders, place) / "Dataset905_X" / "dataset.json"
        file.parent.mkdir()
        file.write_text(json.dumps({**DESCRIPTION, "channel_names": {"0": name}}))
        assert dataset_json_of(plans(""))["channel_names"] == {"0": name}


@pytest.mark.skipif(os.name == "nt", reason="pipes in the tree of files")
def test_a_dataset_json_that_is_a_pipe_is_not_waited_for(nnunet_folders: Any) -> None:
    file = nnunet_folders.preprocessed / "Dataset905_X" / "dataset.json"
    file.parent.mkdir()
    os.mkfifo(file)
    with pytest.raises(UserError, match="not a regular file"):
        dataset_json_of(plans(""))
