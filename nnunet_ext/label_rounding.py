"""How far off a whole number a label may lie by arithmetic alone: one rule for volumes, predictions and evaluation.

Labels are whole numbers, but software that saves them anew divides them by a slope and rounds: 2 comes back as 2.00003
from 16 bits, as 2.0039 from 8 bits. Such a value is off by at most half a step of its storage, and that is the bound
here. What lies further off was made by something else, most often by interpolation, and is no label.
"""

from __future__ import annotations

# Half a step of 8 bits, the fewest that an image is stored with, as a share of the largest value.
_HALF_STEP_OF_8_BITS = 1 / 510
# Where values are large, half a step of 8 bits explains everything, and so nothing.
_MOST = 0.01
# Slope and intercept of a NIfTI file are of single precision; several operations, each off by half a unit.
_SINGLE_PRECISION = 2.0**-22
# Whole numbers from here on are no longer told apart in double precision.
LARGEST = 2.0**53


def rounding_bound(largest: float, slope: float | None = None) -> float:
    """How far off a whole number values may lie.

    Args:
        largest: the largest absolute value of the label.
        slope: of labels that are stored as integers and multiplied by it; None for those stored as floats, whose
            earlier storage is not known. They may have been in 8 bits.
    """
    bound = min(largest * _HALF_STEP_OF_8_BITS, _MOST)
    if slope is not None:
        bound = min(bound, abs(slope) / 2)
    return bound + largest * _SINGLE_PRECISION


def why_refused(value: float, bound: float, storage: str) -> str:
    """What is wrong with a value that lies further off than the bound, with as many digits as show it.

    Args:
        value: the value that is furthest off a whole number.
        bound: ``rounding_bound``.
        storage: in words, such as ``"float32"``.
    """
    if value != value or abs(value) >= LARGEST:
        return f"the value {value!r}, which no label has"
    off = abs(value - round(value))
    shown = f"{value:.10g}"
    if float(shown).is_integer():
        shown = repr(value)
    return f"the value {shown}: it is {off:.2g} off a whole number, and {storage} explains no more than {bound:.2g}"
