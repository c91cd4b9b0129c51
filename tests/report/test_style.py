"""Colours: told apart by readers with and without colour blindness."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from nnunet_ext.report.style import ERRORS, REGIONS, SERIES, region_colours, series_style

# Machado, Oliveira, Fernandes, "A physiologically-based model for simulation of color vision deficiency", 2009, full
# severity; on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def lab(colour, vision):
    """CIE L*a*b* of a colour as someone sees it."""
    encoded = np.array(to_rgb(colour))
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(VISION[vision]) @ linear, 0, 1)
    x, y, z = np.cbrt(np.asarray(TO_XYZ) @ seen / [0.95047, 1.0, 1.08883])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(
    ("colours", "least"), [(REGIONS, 17), (REGIONS[:3], 30), (tuple(ERRORS.values()), 40), (SERIES, 15)]
)
def test_colours_that_mean_something_are_told_apart_by_everyone(colours, least, vision):
    differences = [
        float(np.linalg.norm(lab(one, vision) - lab(other, vision)))
        for one, other in itertools.combinations(colours, 2)
    ]
    assert min(differences) > least  # about 2 is just seen


def test_a_region_keeps_its_colour_however_many_there_are():
    assert region_colours(3) == list(REGIONS[:3])
    many = region_colours(120)
    assert many[:8] == list(REGIONS)
    assert len(set(many)) == 120


def test_no_two_of_the_first_24_lines_look_the_same():
    assert len({series_style(number) for number in range(24)}) == 24
