"""Variants of one release, such as cropped and whole images of the same patients: one of them is converted."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

from nnunet_ext.dataset_conversion.case import clean_id, natural_key
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.choices import Chosen
from nnunet_ext.dataset_conversion.find.layout import Matched
from nnunet_ext.errors import UserError
from nnunet_ext.shown import joined


def choose_variant(matched: Matched, given: Chosen) -> tuple[Matched, dict[str, int], list[Finding]]:
    """Leave the variants out that are not wanted.

    Args:
        matched: the files of a dataset.
        given: the user's choices. Where he does not name a variant, the dataset's default is taken, and a case that
            lies there in several variants is an error: which of them he means is for him to say.

    Returns:
        The files of the variant, why cases are left out -> how many, and findings DUP05.

    Raises:
        UserError: CNT02 where the source holds other variants alone.
    """
    dataset = matched.dataset
    choice = dataset.choice("variant")
    if choice is None or not matched.cases:
        return matched, {}, []
    wanted = given.get(choice.name, choice.default)
    findings = [] if choice.name in given else _in_several(matched)
    kept = {name: entries for name, entries in matched.cases.items() if entries[0].variant == wanted}
    others = Counter(entries[0].variant for entries in matched.cases.values() if entries[0].variant != wanted)
    if not kept:
        there = joined([f"{variant} ({count} cases)" for variant, count in sorted(others.items())])
        raise UserError(
            f"no case of {wanted} in the source, which holds {there}",
            file=next(iter(matched.cases.values()))[0].file.shown,
            remedy=f"name one with {choice.flag}",
            code="CNT02",
        )
    left_out = {f"of {variant} ({choice.flag} names the variant)": count for variant, count in sorted(others.items())}
    return replace(matched, cases=kept), left_out, findings


def _in_several(matched: Matched) -> list[Finding]:
    """DUP05 for every case that lies there in several variants."""
    dataset, choice = matched.dataset, matched.dataset.choice("variant")
    make_id = dataset.case_id or clean_id
    variants: dict[str, dict[str, str]] = defaultdict(dict)
    for name, entries in matched.cases.items():
        variants[make_id(name)].setdefault(entries[0].variant, entries[0].file.shown)
    flag = choice.flag if choice is not None else ""
    return [
        Finding(
            "DUP05",
            f"{case} in {joined(sorted(found))}",
            case,
            found[max(found)],
            f"say which is meant, such as {flag} {min(found)}",
        )
        for case, found in sorted(variants.items(), key=lambda item: natural_key(item[0]))
        if len(found) > 1
    ]
