"""From the values of a source label to ours, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_ext.dataset_conversion.cases.whole_numbers import STEP, WholeNumbers, whole_numbers
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.label_map import LabelMap

_MAX_COUNTED = 1 << 16  # label values from here on are counted by sorting
_MAX_UNKNOWN = 1000  # with more different values without meaning, a file is no label: no more are counted
_LISTED = 5  # values that a message names
# A photograph of a mask is grey where it is neither: between these values, in more than this share of its pixels.
_GREY, _GREY_SHARE = (16, 239), 0.05


def relabel(
    stored: np.ndarray, labels: LabelMap, case: str, file: str, slope: float = 1.0, inter: float = 0.0
) -> tuple[np.ndarray | None, dict[int, int], list[Finding]]:
    """Map a label.

    Args:
        stored: the values, one axis.
        labels: the map.
        case, file: for messages.
        slope, inter: value = slope * stored + inter.

    Returns:
        Our values (uint8, or uint16 from 255 on; None after an error), the number of voxels of each class, and findings
        DT01, DT02, DT03, LAB01, LAB02, LAB04, LAB05.
    """
    whole = whole_numbers(stored, slope, inter)
    findings = _about_whole_numbers(whole, case, file)
    if whole.values is None:
        return None, {}, findings
    found = _found(whole.values, labels)
    unknown = {
        value: count for value, count in found.items() if value not in labels.forward and value not in labels.ignored
    }
    if unknown:
        return None, {}, [*findings, _unknown_values(unknown, labels, case, file)]
    if labels.hallmarks and set(found) - {0} and not set(found) & set(labels.hallmarks):
        return None, {}, [*findings, _without_hallmarks(found, labels, case, file)]
    ignored = {value: count for value, count in found.items() if value in labels.ignored}
    if ignored:
        listed = ", ".join(f"{value} ({count})" for value, count in ignored.items())
        findings.append(Finding("LAB05", f"{case}: values without meaning set to 0: {listed}", case, file))
    counts = {ours: 0 for ours in sorted(set(labels.forward.values())) if ours > 0}
    for value, count in found.items():
        ours = labels.forward.get(value, 0)
        if ours > 0:
            counts[ours] += count
    return _mapped(whole.values, found, labels), counts, findings + _absent(counts, labels, case, file)


def _about_whole_numbers(whole: WholeNumbers, case: str, file: str) -> list[Finding]:
    if whole.refused:
        voxels = f"{whole.refused} voxels" if whole.refused > 1 else "a voxel"
        return [
            Finding(
                "DT01",
                f"{case}: the label has {voxels} with fractional or undefined values, the furthest off has {whole.why}",
                case,
                file,
                "give the label as it was drawn, without interpolation",
            )
        ]
    if whole.rounded:
        text = f"{whole.rounded} label values, off a whole number by {whole.off:.2g} or less, are rounded"
        return [Finding("DT03", f"{case}: {text}; {whole.storage} explains as much", case, file)]
    if whole.calculated:
        return [Finding("DT02", f"{case}: the label is stored as {whole.calculated} with whole values", case, file)]
    return []


def _found(whole: np.ndarray, labels: LabelMap) -> dict[int, int]:
    """Value -> number of voxels, 0 first; without 0 where it has no meaning."""
    zeros = 0
    found: dict[int, int] = {}
    for start in range(0, whole.size, STEP):
        part = whole[start : start + STEP]
        # Labels are sparse: everything is done on the few voxels that are not 0.
        values = part[part != 0]
        zeros += part.size - values.size
        for value, count in _count(values).items():
            found[value] = found.get(value, 0) + count
        if len(found) > len(labels.forward) + len(labels.ignored) + _MAX_UNKNOWN:
            break
    found = dict(sorted(found.items()))
    return {0: zeros, **found} if zeros and 0 in labels.forward else found


def _mapped(whole: np.ndarray, found: Mapping[int, int], labels: LabelMap) -> np.ndarray:
    """Our values."""
    dtype = np.uint8 if max(labels.forward.values()) < 255 else np.uint16
    mapped = np.full(whole.size, labels.forward.get(0, 0), dtype)
    values = [value for value in found if value != 0]
    if not values:
        return mapped
    lowest = min(values)
    table = np.zeros(max(values) - lowest + 1, dtype)
    for value in values:
        table[value - lowest] = labels.forward.get(value, 0)
    for start in range(0, whole.size, STEP):
        part = whole[start : start + STEP]
        nonzero = np.flatnonzero(part != 0)  # much faster on booleans than on integers
        mapped[start + nonzero] = table[part[nonzero].astype(np.int64) - lowest]
    return mapped


def _count(values: np.ndarray) -> dict[int, int]:
    if not values.size:
        return {}
    if values.min() >= 0 and values.max() < _MAX_COUNTED:
        counts = np.bincount(values)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    unique, numbers = np.unique(values, return_counts=True)
    return {int(value): int(number) for value, number in zip(unique, numbers, strict=True)}


def _unknown_values(unknown: Mapping[int, int], labels: LabelMap, case: str, file: str) -> Finding:
    listed = ", ".join(f"{value} ({count} voxels)" for value, count in list(unknown.items())[:_LISTED])
    if len(unknown) > _MAX_UNKNOWN:
        listed = f"{', '.join(map(str, list(unknown)[:_LISTED]))} and more than {_MAX_UNKNOWN - _LISTED} others"
    hint = next((labels.hints[value] for value in unknown if value in labels.hints), "")
    allowed = _in_ranges(sorted(labels.forward))
    return Finding(
        "LAB01",
        f"{case}: label value {listed} is outside {allowed}" + (f"; {hint}" if hint else ""),
        case,
        file,
        "check that this is the release you named",
    )


def _in_ranges(values: Sequence[int]) -> str:
    """``0, 4, 11, 35-41``: what a release with many labels has, in a message that can be read."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > _LISTED else ", ".join(map(str, run)) for run in runs)


def _without_hallmarks(found: Mapping[int, int], labels: LabelMap, case: str, file: str) -> Finding:
    values = [value for value in found if value]
    listed = ", ".join(map(str, values[:_LISTED])) + (", ..." if len(values) > _LISTED else "")
    return Finding(
        "LAB01",
        f"{case}: label values {listed}, and none of the {len(labels.hallmarks)} of which every label of the release "
        f"has some; {labels.hallmark_hint}",
        case,
        file,
        "give the labels as they were published",
    )


def _absent(counts: Mapping[int, int], labels: LabelMap, case: str, file: str) -> list[Finding]:
    if not any(counts.values()):
        return [Finding("LAB02", f"{case}: the label is all background", case, file)]
    absent = [labels.classes.get(value, str(value)) for value, count in counts.items() if not count]
    return [Finding("LAB04", f"{case} has no {', '.join(absent)}", case, file)] if absent else []


def binarise(mask: np.ndarray, threshold: int, case: str, file: str) -> tuple[np.ndarray, list[Finding]]:
    """A photographed mask as 0 and 255.

    Args:
        mask: uint8.
        threshold: pixels above it are foreground.

    Returns:
        The mask, and LAB03 if it is no mask at all, else LAB06 if some pixels were neither 0 nor 255.
    """
    grey = int(np.count_nonzero((mask >= _GREY[0]) & (mask <= _GREY[1])))
    between = mask[(mask > 0) & (mask < 255)]
    findings = []
    if grey > _GREY_SHARE * mask.size:
        findings.append(
            Finding(
                "LAB03",
                f"{case}: {100 * grey / mask.size:.0f} % of the mask's pixels are neither black nor white",
                case,
                file,
                "check that this is a mask",
            )
        )
    elif between.size:
        parts = (between[between <= threshold], between[between > threshold])
        ranges = ", ".join(f"{part.min()}..{part.max()}" for part in parts if part.size)
        share = 100 * between.size / mask.size
        findings.append(
            Finding("LAB06", f"{case}: {share:.2g} % of the mask's pixels lie between 0 and 255 ({ranges})", case, file)
        )
    return np.where(mask > threshold, np.uint8(255), np.uint8(0)), findings


def check_threshold(brightest: int, threshold: int, case: str, file: str) -> list[Finding]:
    """LAB01 where all masks of a case together hold pixels, but none above the threshold.

    A mask stored as 0 and 1 would otherwise become background without a word. To be asked of a whole case, since a
    single slice may hold nothing but the noise of its compression.

    Args:
        brightest: the highest value among all masks of the case.
        threshold: pixels above it are foreground.
    """
    if not 0 < brightest <= threshold:
        return []
    return [
        Finding(
            "LAB01",
            f"{case}: the masks hold no value above {brightest}; foreground is 255 in this release",
            case,
            file,
            "check that this is the release you named; masks of 0 and 1 must be multiplied by 255",
        )
    ]
