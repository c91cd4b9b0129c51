"""Which metrics an evaluation computes, by the names that a user types."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.columns import choose_columns, known_names
from nnunet_ext.evaluation.lesions import CHALLENGES
from nnunet_ext.evaluation.metrics import METRICS
from nnunet_ext.evaluation.run import column_names


def names(*given, **more):
    return [metric.name for metric in choose_columns(*given, **more).metrics()]


def test_by_default_there_are_overlap_hd95_and_surface_dice():
    assert names() == ["Dice", "IoU", "HD95", "NSD@1mm", "NSD@2mm"]


def test_all_are_the_whole_table_and_lesions_come_with_a_challenge():
    assert names(["all"]) == [metric.name for metric in METRICS]
    assert names(["all"], challenge="met")[-5:] == ["LesionDice", "LesionHD95", "LesionTP", "LesionFP", "LesionFN"]
    assert names(["all"], challenge="GLI").count("HD95_surfel") == 1
    assert names(["Dice"], challenge="GLI")[:2] == ["Dice", "HD95_surfel"]


def test_names_are_taken_in_any_case_once_and_in_the_order_of_the_table():
    assert names(["hd95", "DICE", "Dice"]) == ["Dice", "HD95"]
    assert names(["nsd-counted"], [0.5]) == ["NSD_counted@0.5mm"]
    assert names(["NSD"], [3, 1, 3]) == ["NSD@3mm", "NSD@1mm"]


def test_in_pictures_distances_are_in_pixels():
    columns = choose_columns(["all"]).of_pictures()
    assert {metric.unit for metric in columns.metrics()} == {"", "pixels", "pixels2"}
    assert "NSD@1px" in column_names(columns)
    assert not any("mm" in metric.name + metric.formula for metric in columns.metrics())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"names": ["Dise"]}, "no metric 'Dise' - did you mean Dice"),
        ({"names": ["x" * 5000]}, r"no metric 'x+\.\.\. \(5000 characters\)' - choose from Dice"),
        ({"names": ["LesionDice"]}, "rules of a challenge - add --brats GLI"),
        ({"names": ["NSD@1mm"]}, "--metrics NSD --tolerance"),
        ({"names": ["Dice"], "tolerances": [1.0]}, "no metric that is asked for has a tolerance - add NSD"),
        ({"tolerances": [0.0]}, "above 0"),
        ({"tolerances": [float("nan")]}, "above 0"),
        ({"challenge": "GIL"}, "no BraTS challenge 'GIL' - did you mean GLI"),
    ],
)
def test_what_cannot_be_computed_is_told_with_what_can(given, message):
    with pytest.raises(UserError, match=message):
        choose_columns(**given)


def test_every_known_name_gives_columns():
    for name in known_names():
        assert names([name]), name


def documented() -> dict[str, list[str]]:
    """Name -> cells of its row in the table of the page."""
    lines = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in rows if len(row) == 7}


def test_the_page_has_a_row_for_every_metric_with_its_unit_direction_and_empty_values():
    rows = documented()
    assert sorted(rows) == sorted(known_names())
    for name, (_, unit, better, *empty) in rows.items():
        metric = choose_columns([name], None).metrics()[0]
        assert unit == (metric.unit or "1"), name
        assert better == ("higher" if metric.higher_is_better else "lower"), name
        values = [metric.empty[policy] for policy in ("nnunet", "brats")]
        if None in values:
            continue
        for cell, state in zip(empty, ("both", "prediction", "reference"), strict=True):
            said = [
                "-" if math.isnan(value) else f"{round(value, 2):g}" for value in (getattr(v, state) for v in values)
            ]
            assert cell == (", ".join(said) if said[0] != said[1] else said[0]), (name, state)


def test_the_page_has_the_parameters_of_every_challenge():
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    said = {
        name: tuple(cells)
        for names_, *cells in rows
        if len(cells) == 2 and cells[0].isdigit()
        for name in names_.split(", ")
    }
    assert said == {name: (str(rules.dilations), f"{rules.ignored_volume:g}") for name, rules in CHALLENGES.items()}
