"""``no_mirror_axes`` of dataset.json: neither training nor prediction mirrors along these axes of the image."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_ext.errors import UserError
from nnunet_ext.trainers.mirror_axes import unmirrored_axes, without

SHORT = "nnUNetTrainerCFNet_1epochs_1its_1vits"
FILE = Path("somewhere/dataset.json")


def axes_of(trainer):
    """Axes that the augmentation mirrors, none where it does not mirror at all."""
    steps = trainer.dataloader_train.data_loader.transforms.transforms
    (axes,) = [step.allowed_axes for step in steps if isinstance(step, MirrorTransform)] or [()]
    return tuple(axes)


@pytest.fixture
def toy_with(toy):
    """``toy_with(axes, transpose)``: the toy data, whose dataset.json and plans say this."""

    def write(axes, transpose=(0, 1, 2)) -> Path:
        folder = toy()
        for name, key, value in (
            ("dataset.json", "no_mirror_axes", axes),
            ("smallPlans.json", "transpose_forward", list(transpose)),
            ("smallPlans.json", "transpose_backward", list(np.argsort(transpose).tolist())),
        ):
            content = json.loads((folder / name).read_text())
            content[key] = value
            (folder / name).write_text(json.dumps(content))
        return folder

    return write


@pytest.mark.parametrize("transpose", permutations(range(3)))
@pytest.mark.parametrize("forbidden", [[], [2], [0, 1], [2, 0, 1]])
def test_axes_are_followed_through_the_transposition_of_the_plans(transpose, forbidden):
    image = np.zeros((4, 5, 6))  # each axis is known by its length
    for patch in (image.transpose(transpose), image.transpose(transpose)[0]):  # a volume, and a slice of it
        found = unmirrored_axes({"no_mirror_axes": forbidden}, transpose, patch.ndim, FILE)
        assert {patch.shape[axis] for axis in found} == {4 + axis for axis in forbidden} & set(patch.shape)


def test_where_no_axis_is_left_there_is_no_tuple_that_prediction_would_stumble_over():
    assert without((0, 1, 2), (0,)) == (1, 2)
    assert without((0, 1), (0, 1)) is None
    assert without(None, (0,)) is None
    assert without((0, 1), ()) == (0, 1)


@pytest.mark.parametrize(
    ("configuration", "transpose", "left"),
    [
        ("3d_fullres", (1, 2, 0), (0, 2)),
        ("2d", (0, 2, 1), (1,)),
        ("2d", (2, 0, 1), (0, 1)),
    ],
)
def test_training_the_checkpoint_and_prediction_leave_the_axis_out(
    toy_with, train, log_of, configuration, transpose, left
):
    toy_with([2], transpose)
    trainer = train(SHORT, configuration)
    assert axes_of(trainer) == left
    predictor = nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,), "checkpoint_final.pth")
    assert predictor.allowed_mirroring_axes == left
    told = [line for line in log_of(trainer).splitlines() if "no mirroring along axis" in line]
    assert len(told) == (len(left) < len(trainer.configuration_manager.patch_size))


def test_prediction_mirrors_along_the_axes_that_are_left_alone(toy_with, train):
    toy_with([0, 2])
    trainer = train(SHORT)
    predictor = nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,), "checkpoint_final.pth")
    seen = []
    predictor.network = lambda patch: seen.append(patch) or patch
    image = torch.arange(2 * 4**3, dtype=torch.float32).reshape(1, 2, 4, 4, 4)
    predictor._internal_maybe_mirror_and_predict(image)
    assert [torch.equal(patch, expected) for patch, expected in zip(seen, (image, image.flip(3)), strict=True)] == [
        True,
        True,
    ]


def test_no_mirroring_by_suffix_goes_further(toy_with, train, log_of):
    toy_with([2])
    trainer = train(f"{SHORT}_NoMirroring", checkpoints=False)
    assert axes_of(trainer) == ()
    assert trainer.inference_allowed_mirroring_axes is None
    assert "no mirroring along axis" not in log_of(trainer)


def test_with_all_axes_forbidden_training_and_prediction_do_without_mirroring(toy_with, train):
    toy_with([0, 1, 2])
    trainer = train(SHORT)
    assert axes_of(trainer) == ()
    predictor = nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,), "checkpoint_final.pth")
    assert predictor.allowed_mirroring_axes is None
    predictor._internal_maybe_mirror_and_predict(torch.zeros(1, 2, 16, 16, 16))


WRONG = [3, [3], [-1], [True], [1.0], ["2"], [2, 2], [0, 1, 2, 0], {"2": 1}, "2", None, [[0]], [10**30]]


@pytest.mark.parametrize("value", WRONG, ids=str)
def test_what_is_no_list_of_different_axes_is_one_line_that_names_the_file(value):
    with pytest.raises(UserError) as caught:
        unmirrored_axes({"no_mirror_axes": value}, (0, 1, 2), 3, FILE)
    line = str(caught.value)
    assert line.startswith("not a dataset.json of this plugin: no_mirror_axes")
    assert f"({FILE})" in line
    assert "remove the key" in line
    assert len(line) < 300
    assert line.isprintable()


def test_a_trainer_refuses_it_before_it_does_anything(toy_with, make_trainer):
    folder = toy_with([2, 2])
    with pytest.raises(UserError, match="no_mirror_axes names an axis twice") as caught:
        make_trainer(SHORT)
    assert caught.value.file == str(folder / "dataset.json")


def test_our_own_commands_refuse_it_as_well(toy_with):
    from nnunet_ext.nnunet_json import read_dataset_json

    with pytest.raises(UserError, match=r"no_mirror_axes\[0\] is 3, not a whole number from 0 to 2"):
        read_dataset_json(toy_with([3]) / "dataset.json")
