"""``nnunet_ext info``: datasets, networks and trainers, as text and JSON."""

from __future__ import annotations

import json

import pytest

from nnunet_ext.cli import main
from nnunet_ext.dataset_conversion.datasets import DATASETS
from nnunet_ext.families import NETWORKS, TRAINERS


@pytest.mark.parametrize("name", [*DATASETS, *NETWORKS, *TRAINERS])
def test_it_answers_for_every_name_that_list_shows(name, capsys):
    assert main(["info", name]) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert head.startswith(f"{name}: ")
    assert main(["info", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == name


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_shown_as_list_shows_it(name, capsys):
    assert main(["info", name.lower(), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert main(["list", "networks", "--json"]) == 0
    assert shown in json.loads(capsys.readouterr().out)


def test_a_trainer_with_suffixes_is_shown_with_its_own_recipe(capsys):
    assert main(["info", "nnUNetTrainerCFNet_paper_50epochs_lr1e1"]) == 0
    assert "epochs 50" in capsys.readouterr().out
    assert main(["info", "nnUNetTrainerCFNet_paper_50epochs", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["recipe"]["epochs"], shown["recipe"]["gradient_clip"], shown["network"]) == (50, None, "CFNet")


def test_a_published_trainer_says_what_it_fixes_and_the_dimension_of_its_plans(capsys):
    assert main(["info", "nnUNetTrainerCFFormer_paper"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "any 2d plans; the network is the published one, patch 224 x 224, batch 16, whatever they say" in said


def test_suffixes_that_a_trainer_cannot_build_are_neither_shown_nor_described(capsys):
    for name, other in (("nnUNetTrainerCFFormer", "tiny"), ("nnUNetTrainerCFFormer_paper", "large")):
        assert main(["info", name]) == 0
        assert f"_{other}" not in capsys.readouterr().out
        assert main(["info", f"{name}_{other}"]) == 2
        assert "does not know the suffix" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("brats2022", "brats2021"),
        ("CFNett", "CFNet"),
        ("nnUNetTrainerCFNett", "nnUNetTrainerCFNet"),
        ("kvasr", "kvasir-seg"),
    ],
)
def test_an_unknown_name_is_looked_for_in_all_three_tables(name, meant, capsys):
    assert main(["info", name]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"did you mean {meant}" in said


def test_a_typo_in_a_suffix_is_told_with_the_nearest(capsys):
    assert main(["info", "nnUNetTrainerCFNet_NoMiroring"]) == 2
    assert "did you mean _NoMirroring?" in capsys.readouterr().err


def test_the_heads_of_the_networks_are_explained_below_the_table(capsys):
    assert main(["list", "networks"]) == 0
    head, *rest = capsys.readouterr().out.splitlines()
    for letter in "abc":
        assert f"({letter})" in head
        assert any(line.startswith(f"({letter}) ") for line in rest)
    assert "_" not in head
