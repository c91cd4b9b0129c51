"""docs/trainers.md says what the tables say, and its example runs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from nnunet_ext._startup import DISCOVERY_FOLDER, VARIABLE
from nnunet_ext.families import FAMILIES, LOSSES, SCHEDULES
from nnunet_ext.families.rows import FORMS
from nnunet_ext.trainers.registry import canonical_name
from nnunet_ext.trainers.suffixes import SUFFIXES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "trainers.md").read_text(encoding="utf-8")


def rows(page: str, pattern: str) -> list[str]:
    return re.findall(rf"^\| `({pattern})` \|", page, re.MULTILINE)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_page_of_a_family_has_a_row_for_each_of_its_trainers_and_suffixes(family):
    page = (DOCS / "networks" / f"{family.name}.md").read_text(encoding="utf-8")
    assert rows(page, r"nnUNetTrainer\w+") == [row.name for row in family.trainers]
    for suffix in family.suffixes:
        (said,) = re.findall(rf"^\| `_{suffix.name}` \| (.*) \|", page, re.MULTILINE)
        forms = {form for row in family.suffixes if row.name == suffix.name for form in row.forms}
        assert {form for form in FORMS if f"{form} form only" in said} == (forms if len(forms) == 1 else set())
    given = [row.suffix for row in (*family.losses, *family.schedules)]
    own = list(dict.fromkeys(f"_{row.name}" for row in family.suffixes))  # one row for all networks that know it
    assert [name for name in rows(page, r"_\S+") if name.removeprefix("_") not in given] == own
    listed = [*rows(PAGE, r"_\S+"), *rows(page, r"_\S+")]
    assert not [name for name in given if f"_{name}" not in listed], "in no table, neither here nor in trainers.md"
    for network in family.networks:
        assert network.doi.removeprefix("10.48550/arXiv.") in page, f"{network.name}: its doi is not in the page"


def test_suffixes_have_their_rows_in_canonical_order():
    """Losses and schedules of a family may stand in the page of the family instead."""
    of_families = {f"_{row.suffix}" for row in (*LOSSES.values(), *SCHEDULES.values())}
    listed = rows(PAGE, r"_\S+")
    assert listed == [suffix.spelling for suffix in SUFFIXES if suffix.spelling in listed]
    assert {suffix.spelling for suffix in SUFFIXES} - set(listed) <= of_families


def test_every_trainer_name_in_a_command_resolves_and_is_canonical():
    names = set(re.findall(r"-tr (nnUNetTrainer\S+)", PAGE))
    assert names
    assert {canonical_name(name) for name in names} == names


@pytest.mark.parametrize(
    ("name", "optimizer", "loss"),
    [("nnUNetTrainerMyCFNet", "AdamW", "nnunet"), ("nnUNetTrainerMyCodedFocal", "SGD", "cfnet_paper_coded_focal")],
)
def test_the_trainers_of_the_example_are_found_and_train(toy, train, tmp_path, monkeypatch, name, optimizer, loss):
    folder = tmp_path / "my_trainers"
    folder.mkdir()
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    short = "\n\nfor mine in (nnUNetTrainerMyCFNet, nnUNetTrainerMyCodedFocal):\n"
    short += "    mine.recipe = replace(mine.recipe, epochs=1, iterations=1, validation_iterations=1)\n"
    (folder / "trainers_of_the_docs.py").write_text(code + short)
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(folder), DISCOVERY_FOLDER]))
    toy(channels=4, patch_2d=(32, 32))
    trainer = train(name, "2d", checkpoints=False)
    assert type(trainer.optimizer).__name__ == optimizer
    assert trainer.recipe.loss == loss
    assert loss == "nnunet" or loss in LOSSES
