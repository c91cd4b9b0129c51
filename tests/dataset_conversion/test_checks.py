"""The user's policy, and the first error with a count of the rest."""

from __future__ import annotations

import pytest

from nnunet_ext.dataset_conversion.checks import CHECKS, Finding, Policy, count_by_code, raise_first
from nnunet_ext.errors import UserError


def severities(policy: Policy, *codes: str) -> list[str]:
    return [finding.severity for finding in policy.apply(Finding(code, "text") for code in codes)]


def test_severities_are_those_of_the_table_by_default() -> None:
    assert severities(Policy(), "GZ01", "CNT01", "DUP01") == ["error", "warning", "info"]


def test_strict_makes_errors_of_warnings_only() -> None:
    assert severities(Policy(strict=True), "GZ01", "CNT01", "DUP01") == ["error", "error", "info"]


def test_allow_makes_warnings_of_the_named_errors() -> None:
    assert severities(Policy(allow=("NAN01",)), "NAN01", "IMG01") == ["warning", "error"]
    assert severities(Policy(strict=True, allow=("CNT01",)), "CNT01", "LAB02") == ["warning", "error"]


@pytest.mark.parametrize("code", ["LAB01", "GZ01", "NAM01", "ARC02", "OUT01"])
def test_what_makes_data_wrong_can_never_be_allowed(code: str) -> None:
    with pytest.raises(UserError, match=f"--allow: {code} cannot be allowed - only DUP02"):
        Policy(allow=(code,))


def test_an_unknown_code_is_an_error() -> None:
    with pytest.raises(UserError, match='unknown check "XYZ99"'):
        Policy(allow=("XYZ99",))


@pytest.mark.parametrize(("more", "text"), [(0, ""), (1, r" \(and one more error\)"), (4, r" \(and 4 more errors\)")])
def test_the_first_error_says_how_many_follow(more: int, text: str) -> None:
    findings = [Finding("LAB04", "info"), Finding("NAM01", "one"), *[Finding("NAM01", "two")] * more]
    with pytest.raises(UserError, match=f"^NAM01: one{text} - see the report$"):
        raise_first(findings, "see the report")


def test_without_errors_nothing_is_raised() -> None:
    raise_first([Finding("CNT01", "text"), Finding("DUP01", "text")], "")


def test_codes_are_unique_and_counted_in_the_order_of_the_table() -> None:
    codes = [check.code for check in CHECKS]
    assert len(set(codes)) == len(codes)
    assert list(count_by_code([Finding(code, "") for code in reversed(codes)])) == codes
