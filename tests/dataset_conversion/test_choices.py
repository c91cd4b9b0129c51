"""What a dataset lets its user choose: recorded, compared between runs, refused where it means nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnunet_ext.errors import UserError

Convert = Callable[..., Any]


def options_of(folder: Path) -> dict[str, Any]:
    record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    return dict(record["options"])


def test_a_record_holds_the_choices_of_its_dataset_and_of_no_other(
    lgg: Path, brats2021: Path, convert_to: Convert
) -> None:
    options = options_of(convert_to("lgg", lgg).folder)
    assert (options["as"], options["only_tumour_slices"]) == ("2d", False)
    assert not {"with_normal", "official_split"} & set(options)
    other = options_of(convert_to("brats2021", brats2021).folder)
    assert not {"as", "only_tumour_slices", "with_normal", "official_split"} & set(other)


def test_a_record_that_lacks_a_choice_was_made_with_its_default(lgg: Path, convert_to: Convert) -> None:
    path = convert_to("lgg", lgg).folder / "provenance.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["options"]["only_tumour_slices"]
    record["options"]["with_normal"] = False  # as versions wrote it that knew no dataset's own choices
    path.write_text(json.dumps(record), encoding="utf-8")
    assert convert_to("lgg", lgg).already
    with pytest.raises(UserError, match=r"OUT05: .*only_tumour_slices was False, now True"):
        convert_to("lgg", lgg, choices={"only_tumour_slices": True})


def test_another_choice_is_another_conversion(lgg: Path, convert_to: Convert) -> None:
    convert_to("lgg", lgg, dataset_id=7, name="LGG")
    with pytest.raises(UserError, match=r"OUT05: .*as was 2d, now 3d"):
        convert_to("lgg", lgg, dataset_id=7, name="LGG", choices={"as": "3d"})


def test_a_choice_that_does_not_fit_is_refused(lgg: Path, convert_to: Convert) -> None:
    with pytest.raises(UserError, match="auto takes no option of a single dataset, such as --with-normal"):
        convert_to("auto", lgg, choices={"with_normal": True})
    with pytest.raises(UserError, match="--only-tumour-slices is a switch"):
        convert_to("lgg", lgg, choices={"only_tumour_slices": "yes"})
    with pytest.raises(UserError, match="--only-tumour-slices is for slices, and lgg --as 3d is made of volumes"):
        convert_to("lgg", lgg, choices={"only_tumour_slices": True, "as": "3d"})
