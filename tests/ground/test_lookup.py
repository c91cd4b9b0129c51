"""Unknown names: the known ones that are spelled much like them."""

from __future__ import annotations

import pytest

from nnunet_ext.lookup import close_names, did_you_mean, plain

NETWORKS = ("CFNet", "CFFormer", "PlainConvUNet")


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("CFNett", "CFNet"),
        ("cf-former", "CFFormer"),
        ("PLAINCONVUNET", "PlainConvUNet"),
        ("Plain_Conv_Net", "PlainConvUNet"),
    ],
)
def test_the_closest_name_comes_first_whatever_its_case_and_hyphens(name: str, close: str) -> None:
    assert close_names(name, NETWORKS)[0] == close


def test_names_that_differ_in_case_alone_are_all_given() -> None:
    assert close_names("lgg", ["LGG", "lgg", "busi"]) == ["LGG", "lgg"]


def test_no_more_names_are_given_than_asked_for() -> None:
    assert len(close_names("brats", [f"brats20{year}" for year in range(17, 24)], max_names=2)) == 2


def test_the_remedy_names_what_is_near_and_what_helps_in_any_case() -> None:
    assert did_you_mean("CFFormr", NETWORKS, "see the list") == "did you mean CFFormer? see the list"
    assert did_you_mean("qqq", NETWORKS, "see the list") == "see the list"


def test_case_hyphens_and_underscores_do_not_matter() -> None:
    assert plain("Kvasir-SEG") == plain("kvasir_seg") == "kvasirseg"
