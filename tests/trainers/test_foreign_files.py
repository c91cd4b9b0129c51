"""Plans, dataset.json and folds of a stranger through every command of ours that reads them."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nnunet_ext.cli import main
from nnunet_ext.errors import UserError
from nnunet_ext.trainers import trust

NAME = "Dataset905_Small"
PLANS = "smallPlans"
STATISTICS = {"mean": 0, "median": 0, "std": 1, "min": 0, "max": 1, "percentile_99_5": 1, "percentile_00_5": 0}
FINGERPRINT = {
    "spacings": [[1.0, 1.0, 1.0]] * 2,
    "shapes_after_crop": [[24, 32, 32]] * 2,
    "foreground_intensity_properties_per_channel": {"0": STATISTICS, "1": STATISTICS},
    "median_relative_size_after_cropping": 1.0,
}
DATASET = {
    "channel_names": {"0": "a", "1": "b"},
    "labels": {"background": 0, "outer": 1, "inner": 2},
    "numTraining": 2,
    "file_ending": ".nii.gz",
    "overwrite_image_reader_writer": "SimpleITKIO",
}
# what our planner would note of the plans that 'plan -a PlainConvUNet' makes, so that it takes them for its own
OURS = "nnunet_ext"
MADE = {"network": "PlainConvUNet", "gpu_memory_target_in_gb": 8.0, "options": {}, "version": "0", "trainer": ""}
SPLITS = [{"train": ["case1"], "val": ["case0"]}]


class Dataset:
    """A planned dataset with a model, as files; everything below ``home`` but these files must stay as it is."""

    def __init__(self, folders: Any, home: Path, plans: dict[str, Any]) -> None:
        self.home = home
        self.raw, self.preprocessed = folders.raw / NAME, folders.preprocessed / NAME
        self.model = folders.results / NAME / f"nnUNetTrainer__{PLANS}__2d"
        self.plans = plans
        (self.model / "fold_0").mkdir(parents=True)
        self.preprocessed.mkdir()
        for part in ("imagesTr", "labelsTr"):
            (self.raw / part).mkdir(parents=True)
        for case in ("case0", "case1"):
            (self.raw / "labelsTr" / f"{case}.nii.gz").touch()
            for channel in (0, 1):
                (self.raw / "imagesTr" / f"{case}_{channel:04}.nii.gz").touch()
        torch.save({"network_weights": {}}, self.model / "fold_0" / "checkpoint_final.pth")
        self.write()

    def write(
        self, plans: Any = None, dataset: Any = DATASET, fingerprint: Any = FINGERPRINT, splits: Any = SPLITS
    ) -> None:
        text = json.dumps(self.plans if plans is None else plans)
        for file in (self.preprocessed / f"{PLANS}.json", self.model / "plans.json"):
            file.write_text(text)
        # what 'plan' reads: nnU-Net's own plans, and what a user has in the plans that it is about to write
        default = self.plans if plans is None else plans
        if isinstance(default, dict) and default.get("plans_name") == PLANS:
            default = default | {"plans_name": "nnUNetPlainConvUNetPlans", OURS: MADE}
        (self.preprocessed / "nnUNetPlans.json").write_text(text)
        (self.preprocessed / "nnUNetPlainConvUNetPlans.json").write_text(json.dumps(default))
        for file in (self.raw / "dataset.json", self.preprocessed / "dataset.json", self.model / "dataset.json"):
            file.write_text(json.dumps(dataset))
        (self.preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
        (self.preprocessed / "splits_final.json").write_text(json.dumps(splits))


@pytest.fixture
def dataset(nnunet_folders, small_plans, tmp_path) -> Dataset:
    return Dataset(nnunet_folders, tmp_path, small_plans(NAME, plans_name=PLANS, cascade=True))


def commands(tmp_path: Path) -> dict[str, list[str]]:
    """Every command that reads plans, as typed."""
    return {
        "estimate": ["estimate", "-d", "905", "-p", PLANS, "-c", "2d"],
        "plan": ["plan", "-d", "905", "-a", "PlainConvUNet", "--no_pp", "--dry-run"],
        "train": ["train", "905", "2d", "0", "-p", PLANS, "-device", "cpu"],
        "predict": [
            "predict",
            "-i",
            "in",
            "-o",
            "out",
            "-d",
            "905",
            "-c",
            "2d",
            "-p",
            PLANS,
            "-f",
            "0",
            "-device",
            "cpu",
        ],
        "pretrained": [
            "pretrained",
            "-d",
            "905",
            "-c",
            "2d",
            "-tr",
            "nnUNetTrainerCFNet_paper",
            "-p",
            PLANS,
            "--cnn",
            str(tmp_path / "w.pth"),
            "-o",
            str(tmp_path / "start.pth"),
        ],
    }


PATHS = [
    "torch.nn.parallel.distributed.os.system",
    "nnunet_ext.cli.os.system",
    "dynamic_network_architectures.architectures.unet.nn.Module.__init__.__globals__",
    "os.system",
    "subprocess.run",
    "builtins.exec",
    "importlib.import_module",
    "pickle.loads",
    "functools.partial",
    "torch.load",
    "my_layers.Norm",
]
KEYS = ("network_class_name", "conv_op", "norm_op", "dropout_op", "nonlin", "block")


def with_path(plans: dict[str, Any], key: str, path: str, proof: Path) -> dict[str, Any]:
    changed = copy.deepcopy(plans)
    for configuration in ("2d", "3d_fullres"):
        architecture = changed["configurations"][configuration]["architecture"]
        arguments = architecture["arch_kwargs"]
        if key == "network_class_name":
            architecture[key] = path
        else:
            arguments[key] = path
            architecture["_kw_requires_import"] = [*architecture["_kw_requires_import"], key]
        arguments["nonlin_kwargs"] = {"command": f"touch {proof}"}
    return changed


@pytest.mark.parametrize("command", sorted(commands(Path())))
def test_no_command_follows_a_foreign_path_under_any_key(command, dataset, tmp_path, capsys) -> None:
    proof = tmp_path / "proof"
    argv = commands(tmp_path)[command]
    for key in KEYS:
        for path in PATHS:
            dataset.write(with_path(dataset.plans, key, path, proof))
            assert main(argv) == 2, (key, path)
            said = capsys.readouterr().err
            assert said.count("\n") == 1, said
            assert path in said
            assert "--trust" in said
            assert not proof.exists(), f"{command} ran {path}"


def test_an_architecture_of_the_users_own_goes_on_working_with_trust(dataset, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_architectures_of_a_test.py").write_text(
        "from dynamic_network_architectures.architectures.unet import PlainConvUNet\n"
        "class Mine(PlainConvUNet):\n    pass\n"
    )
    plans = copy.deepcopy(dataset.plans)
    plans["configurations"]["2d"]["architecture"]["network_class_name"] = "my_architectures_of_a_test.Mine"
    dataset.write(plans)
    argv = commands(tmp_path)["estimate"]
    assert main(argv) == 2
    assert "my_architectures_of_a_test.Mine" in capsys.readouterr().err
    assert main([*argv, "--trust"]) == 0
    assert "2d" in capsys.readouterr().out
    for check, words in ((trust.checked_training, ["905", "2d", "0", "-p", PLANS]),):
        with pytest.raises(UserError, match="Mine"):
            check(words)
        assert check([*words, "--trust"]) == words


BAD_NAMES = ["/x", "../x", "x/../y", "", "a" * 300, "a\0b", "a\x1b[2J", ".", "..", "a\\b", "C:x", " x", 3, None, ["x"]]
PLACES = [
    "data_identifier",
    "previous_stage",
    "next_stage",
    "inherits_from",
    "configuration",
    "plans_name",
    "dataset_name",
]
CLASSES = ["preprocessor_name", "resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities"]


def plans_with(plans: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(plans)
    if place in ("plans_name", "dataset_name"):
        changed[place] = value
    elif place == "configuration":
        changed["configurations"][value] = changed["configurations"]["2d"]
    elif place == "next_stage":
        changed["configurations"]["3d_lowres"][place] = [value]
    else:
        changed["configurations"]["2d"][place] = value
    return changed


@pytest.mark.parametrize("place", PLACES)
def test_a_name_that_becomes_a_path_is_a_single_name(place, dataset, tmp_path, capsys) -> None:
    precious = dataset.preprocessed.parent / "x" / "precious"
    precious.parent.mkdir()
    precious.write_text("mine")
    for value in BAD_NAMES:
        if place == "configuration" and not isinstance(value, str):
            continue
        if value is None and place == "previous_stage":
            continue  # nnU-Net's own word for none
        dataset.write(plans_with(dataset.plans, place, value))
        for argv in commands(tmp_path).values():
            assert main(argv) == 2, (place, value, argv)
            said = capsys.readouterr().err
            assert said.count("\n") == 1, said
            assert "\x1b" not in said
            assert "\0" not in said
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("place", CLASSES)
def test_a_name_that_nnunet_searches_in_its_packages_is_the_name_of_a_class(place, dataset, tmp_path, capsys) -> None:
    for value in ("os.system", "a b", "", "__import__", 3, None, ["x"]):
        dataset.write(plans_with(dataset.plans, place, value))
        for argv in commands(tmp_path).values():
            assert main(argv) == 2, (place, value, argv)
        assert f"configurations.2d.{place}" in capsys.readouterr().err


def test_a_cascade_that_inherits_from_itself_or_from_nothing_is_named(dataset, tmp_path, capsys) -> None:
    for value, told in (("2d", "inherits from itself"), ("absent", "inherits from absent, which is not there")):
        changed = copy.deepcopy(dataset.plans)
        changed["configurations"]["2d"]["inherits_from"] = value
        dataset.write(changed)
        assert main(commands(tmp_path)["estimate"]) == 2
        assert told in capsys.readouterr().err


def test_data_that_other_plans_name_is_neither_taken_nor_removed(dataset, tmp_path, monkeypatch, capsys) -> None:
    """A stranger's default plans may name any folder of preprocessed cases."""
    from nnunet_ext.planning import make_plans

    changed = copy.deepcopy(dataset.plans)
    changed["configurations"]["2d"]["data_identifier"] = "myCTPlans_2d"
    dataset.write(changed)
    (dataset.preprocessed / "nnUNetPlainConvUNetPlans.json").unlink()
    precious = dataset.preprocessed / "myCTPlans_2d" / "other.b2nd"
    precious.parent.mkdir()
    precious.touch()
    removed: list[Any] = []
    monkeypatch.setattr(make_plans, "preprocess_dataset", lambda *arguments: removed.append(arguments))
    assert main(["plan", "-d", "905", "-a", "PlainConvUNet"]) == 0
    written = json.loads((dataset.preprocessed / "nnUNetPlainConvUNetPlans.json").read_text())
    names = {name: content.get("data_identifier") for name, content in written["configurations"].items()}
    assert "myCTPlans_2d" not in names.values()
    with pytest.raises(UserError, match="bears the name of no plans"):
        make_plans.preprocess(905, changed, ["2d"], 1, print)
    assert precious.exists()


def test_the_references_are_no_folder_of_preprocessed_cases(dataset, tmp_path, capsys) -> None:
    dataset.write(plans_with(dataset.plans, "data_identifier", "gt_segmentations"))
    for argv in commands(tmp_path).values():
        assert main(argv) == 2
        assert "holds the references" in capsys.readouterr().err


@pytest.mark.parametrize("splits", ["[" * 5000, '[{"x": 1}]', "{", "[3]"])
def test_planning_reads_the_folds_of_both_folders(dataset, tmp_path, capsys, splits) -> None:
    for folder in (dataset.raw, dataset.preprocessed):
        dataset.write()
        (folder / "splits_final.json").write_text(splits)
        assert main(commands(tmp_path)["plan"]) == 2
        assert str(folder) in capsys.readouterr().err
        (folder / "splits_final.json").unlink()


def test_a_listed_file_outside_needs_trust(dataset, tmp_path, capsys) -> None:
    for path in ("/etc/passwd", "../../../x"):
        dataset.write(dataset=DATASET | {"dataset": {"case0": {"images": [path], "label": "labelsTr/case0.nii.gz"}}})
        assert main(commands(tmp_path)["plan"]) == 2
        said = capsys.readouterr().err
        assert "outside nnUNet_raw" in said
        assert "--trust" in said


def test_what_nnunet_accepts_is_accepted(tmp_path) -> None:
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    from nnunet_ext import nnunet_json

    for labels, order in (
        ({"background": "0", "a": "1"}, None),
        ({"background": 0.0, "a": 1.0}, None),
        ({"background": 0, "nothing": 0, "wt": [1, 2], "tc": [2]}, [1, 2]),
        ({"background": 0, "x": [0], "wt": [1, 2]}, [1]),
        ({"background": 0, "wt": [1]}, None),
        ({"background": 0, "a": 1, "ignore": 2}, None),
    ):
        LabelManager(labels, order)
        file = tmp_path / "dataset.json"
        file.write_text(
            json.dumps(DATASET | {"labels": labels, "regions_class_order": order, "file_ending": "_i.nrrd"})
        )
        read = nnunet_json.read_dataset_json(file)["labels"]
        assert read == {name: [int(v) for v in x] if isinstance(x, list) else int(x) for name, x in labels.items()}
    file = tmp_path / "splits.json"
    names = ["a:1", "\u0645\u06cc\u200c\u0631", "x y"]
    file.write_text(json.dumps([{"train": names, "val": [], "more": 1}]))
    assert nnunet_json.read_splits(file)[0]["train"] == names


def test_a_fingerprint_of_impossible_images_does_not_hang_the_planner(dataset, tmp_path, capsys) -> None:
    for changes in (
        {"shapes_after_crop": [[10**9] * 3] * 2},
        {"spacings": [[1.0, 1.0, 1.0]]},
        {"spacings": [[1e-300, 1.0, 1.0]] * 2},
    ):
        dataset.write(fingerprint=FINGERPRINT | changes)
        assert main(commands(tmp_path)["plan"]) == 2
        assert "not a fingerprint of nnU-Net" in capsys.readouterr().err


def test_a_refusal_is_a_short_line_however_much_the_plans_name(dataset, tmp_path, capsys) -> None:
    changed = copy.deepcopy(dataset.plans)
    architecture = changed["configurations"]["2d"]["architecture"]
    architecture["arch_kwargs"] |= {f"k{number}": "x" * 5000 for number in range(50)}
    architecture["_kw_requires_import"] += [f"k{number}" for number in range(50)]
    architecture["arch_kwargs"]["norm_op"] = "y" * 5000
    dataset.write(changed)
    assert main(commands(tmp_path)["estimate"]) == 2
    assert len(capsys.readouterr().err) < 1000


def test_a_chain_of_configurations_costs_no_time_and_ends(dataset, tmp_path, capsys) -> None:
    changed = copy.deepcopy(dataset.plans)
    for number in range(4000):
        changed["configurations"][f"c{number}"] = {"inherits_from": f"c{number - 1}" if number else "2d"}
    dataset.write(changed)
    assert main(commands(tmp_path)["estimate"]) == 2
    assert "entries, more than" in capsys.readouterr().err
    dataset.write(dataset.plans | {"configurations": dict(list(changed["configurations"].items())[:100])})
    assert main(commands(tmp_path)["estimate"]) == 2
    assert "inherits through more than" in capsys.readouterr().err


def test_a_name_that_commands_would_read_as_an_option_is_refused(dataset, tmp_path, capsys) -> None:
    for place in ("plans_name", "dataset_name", "configuration", "previous_stage"):
        dataset.write(plans_with(dataset.plans, place, "-pretrained_weights=x.pth"))
        assert main(commands(tmp_path)["estimate"]) == 2
        assert "read as an option" in capsys.readouterr().err


def test_a_folder_that_holds_more_than_preprocessed_cases_is_not_removed(
    dataset, nnunet_folders, monkeypatch, capsys
) -> None:
    from nnunet_ext.planning import make_plans

    precious = dataset.preprocessed / f"{PLANS}_2d"
    precious.mkdir()
    (precious / "thesis.tex").write_text("mine")
    monkeypatch.setattr(make_plans, "preprocess_dataset", lambda *_: pytest.fail("nnU-Net removes the folder first"))
    with pytest.raises(UserError, match=r"would remove a folder that holds thesis\.tex"):
        make_plans.preprocess(905, dataset.plans, ["2d"], 1, print)
    assert (precious / "thesis.tex").read_text() == "mine"
    (precious / "thesis.tex").unlink()
    precious.rmdir()
    (dataset.home / "elsewhere").mkdir()
    precious.symlink_to(dataset.home / "elsewhere")
    with pytest.raises(UserError, match="would remove a folder that is a link"):
        make_plans.preprocess(905, dataset.plans, ["2d"], 1, print)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_or_a_device_in_the_place_of_a_file_is_refused_and_not_read(dataset, tmp_path, capsys) -> None:
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        for file in (
            dataset.preprocessed / f"{PLANS}.json",
            dataset.model / "plans.json",
            dataset.model / "fold_0" / "checkpoint_final.pth",
        ):
            kept = file.read_bytes()
            file.unlink()
            make(file)
            which = [name for name in commands(tmp_path) if (name == "predict") == (dataset.model in file.parents)]
            for name in which:
                assert main(commands(tmp_path)[name]) == 2, (name, file)
                assert "regular file" in capsys.readouterr().err
            file.unlink()
            file.write_bytes(kept)


def test_cases_of_folds_and_of_a_list_of_files_are_single_names(dataset, tmp_path, capsys) -> None:
    dataset.write(splits=[{"train": ["case1"], "val": ["../../x"]}])
    assert main(commands(tmp_path)["train"]) == 2
    assert "[0].val[0]" in capsys.readouterr().err
    dataset.write(dataset=DATASET | {"dataset": {"../../x": {"images": ["a"], "label": "b"}}})
    for name in ("train", "plan", "predict"):
        assert main(commands(tmp_path)[name]) == 2
        assert "not a dataset.json of nnU-Net" in capsys.readouterr().err


def test_what_a_checkpoint_names_is_looked_at(dataset, tmp_path, capsys) -> None:
    for content in (
        {"trainer_name": ["x"]},
        {"trainer_name": "a.b"},
        {"init_args": {"configuration": "../x"}},
        {"init_args": 3},
    ):
        torch.save({"network_weights": {}, **content}, dataset.model / "fold_0" / "checkpoint_final.pth")
        assert main(commands(tmp_path)["predict"]) == 2
        assert "not a checkpoint of nnU-Net" in capsys.readouterr().err


def places_of(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths to everything in a document."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places_of(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:2]):
            yield from places_of(item, (*path, index))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


VALUES: list[Any] = [
    None, True, 0, -1, 10**30, 1e308, float("nan"), "", "x", "../x", "a\x1b\u202e", [], {}, [None], {"a": 1}, [[]],
    nested(20), nested(200), [1, 2, 3, 4], "os.system", 3.5,
]  # fmt: skip


def mutated(document: Any, random_numbers: random.Random) -> Any:
    changed = copy.deepcopy(document)
    for _ in range(random_numbers.choice((1, 1, 1, 2, 4))):
        path = random_numbers.choice(list(places_of(changed)))
        if not path:
            return copy.deepcopy(random_numbers.choice(VALUES))
        holder = changed
        for key in path[:-1]:
            holder = holder[key]
        if isinstance(holder, dict) and random_numbers.random() < 0.3:
            del holder[path[-1]]
        else:
            holder[path[-1]] = copy.deepcopy(random_numbers.choice(VALUES))
    return changed


# kind of document -> commands that read it, and how many of 125 documents go through them
READERS = {
    "plans": (("estimate", "plan", "train", "predict", "pretrained"), 40),
    "dataset": (("estimate", "plan", "train", "predict", "pretrained"), 30),
    "fingerprint": (("plan",), 25),
    "splits": (("train", "plan"), 40),
}


@pytest.mark.parametrize("documents", [25, pytest.param(125, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", sorted(READERS))
def test_mutated_documents_end_in_one_line_or_in_success(
    kind, documents, dataset, single_thread, tmp_path, monkeypatch, capsys
) -> None:
    from nnunet_ext import nnunet_json
    from nnunet_ext.planning.plans_file import foreign_classes, read_plans
    from nnunet_ext.trainers import fallback

    monkeypatch.setattr(fallback, "run", lambda *_: 0)  # nnU-Net's own training and prediction
    read = {"plans": read_plans, "dataset": nnunet_json.read_dataset_json}.get(kind) or getattr(
        nnunet_json, f"read_{kind}"
    )
    original = {"plans": dataset.plans, "dataset": DATASET, "fingerprint": FINGERPRINT, "splits": SPLITS}[kind]
    names, of_125 = READERS[kind]
    through_commands = documents * of_125 // 125
    random_numbers = random.Random(14)
    outside = sorted(path.name for path in dataset.home.iterdir())
    for name in names:
        assert main(commands(tmp_path)[name]) == (2 if name == "pretrained" else 0), f"{name} takes what is right"
    capsys.readouterr()
    refused, refused_by_commands = 0, 0
    for number in range(documents):
        document = mutated(original, random_numbers)
        (tmp_path / "document.json").write_text(json.dumps(document))
        try:
            content = read(tmp_path / "document.json")
            if kind == "plans":
                foreign_classes(content)
        except UserError:
            refused += 1
        if number >= through_commands:
            continue
        dataset.write(**{kind: document})
        for name in names:
            try:
                code = main(commands(tmp_path)[name])
            except Exception as error:  # any kind of trace is the fault that this test looks for
                raise AssertionError(f"document {number}, {name} ends in a trace: {document}") from error
            errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
            assert (code, len(errors)) in ((0, 0), (2, 1)), (number, name)
            refused_by_commands += code == 2
    assert refused > documents // 4, "the mutations are not all harmless"
    assert refused_by_commands > documents // 25
    (tmp_path / "document.json").unlink()
    assert sorted(path.name for path in dataset.home.iterdir()) == outside
