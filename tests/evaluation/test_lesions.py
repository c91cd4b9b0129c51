"""Lesion-wise scores: examples that were computed with the published scoring of BraTS 2023, and a twin of its rules."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nnunet_ext.evaluation.formulas import dice, hausdorff_distance
from nnunet_ext.evaluation.lesions import CHALLENGES, LesionScores, lesion_metrics, lesion_scores
from nnunet_ext.evaluation.masks import MaskPair
from nnunet_ext.evaluation.metrics import POLICIES

CUBE = (4, 4, 4)
A, FAR = ((10, 10, 10), CUBE), ((30, 30, 30), CUBE)
VOXEL = ((20, 20, 20), (1, 1, 1))
SMALL = ((10, 10, 10), (3, 3, 3))
FIFTY = ((10, 10, 10), (2, 5, 5))


def at_x(x):
    return ((10, 10, x), CUBE)


# id: challenge, reference, prediction, spacing, (TP, FP, FN), lesion-wise Dice and HD95, Dice and HD95 of the image.
EXAMPLES = {
    "E1": ("GLI", [A], [A], 1, (1, 0, 0), 1, 0, 1, 0),
    "E2": ("GLI", [A], [at_x(11)], 1, (1, 0, 0), 0.75, 1, 0.75, 1),
    "E3": ("GLI", [A, FAR], [A], 1, (1, 0, 1), 0.5, 187, 0.666667, 33),
    "E4": ("GLI", [A], [A, FAR], 1, (1, 1, 0), 0.5, 187, 0.666667, 33),
    "E5": ("GLI", [], [], 1, (0, 0, 0), 1, 0, 1, 0),
    "E6": ("GLI", [], [VOXEL], 1, (0, 1, 0), 0, 374, 0, 374),
    "E7": ("GLI", [], [((5, 5, 5), (2, 2, 2)), VOXEL], 1, (0, 2, 0), 0, 374, 0, 374),
    "E8": ("GLI", [SMALL], [SMALL], 1, (0, 0, 0), 1, 0, 1, 0),
    "E9": ("GLI", [SMALL], [], 1, (0, 0, 0), 1, 0, 0, 374),
    "E10": ("GLI", [SMALL], [FAR], 1, (0, 1, 0), 0, 374, 0, 35.256205),
    "E11": ("GLI", [at_x(10), at_x(20)], [at_x(10)], 1, (1, 0, 0), 0.666667, 10, 0.666667, 10),
    "E11, gap 5": ("GLI", [at_x(10), at_x(19)], [at_x(10)], 1, (1, 0, 0), 0.666667, 9, 0.666667, 9),
    "E12": ("GLI", [at_x(10), at_x(21)], [at_x(10)], 1, (1, 0, 1), 0.5, 187, 0.666667, 11),
    "E13": ("GLI", [A], [at_x(16)], 1, (1, 0, 0), 0, 6, 0, 6),
    "E14": ("GLI", [A], [at_x(17)], 1, (0, 1, 1), 0, 374, 0, 7),
    "E15": ("GLI", [at_x(4), at_x(30)], [((10, 10, 4), (4, 4, 30))], 1, (2, 0, 0), 0.235294, 25, 0.421053, 10),
    "E16": ("GLI", [FIFTY], [], 1, (0, 0, 0), 1, 0, 0, 374),
    "E17": ("GLI", [FIFTY, ((12, 10, 10), (1, 1, 1))], [], 1, (0, 0, 1), 0, 374, 0, 374),
    "E18": ("MET", [at_x(10), at_x(16)], [at_x(10)], 1, (1, 0, 0), 0.666667, 6, 0.666667, 6),
    "E18, gap 3": ("MET", [at_x(10), at_x(17)], [at_x(10)], 1, (1, 0, 1), 0.5, 187, 0.666667, 7),
    "E20": ("GLI", [FIFTY], [], 2, (0, 0, 1), 0, 374, 0, 374),
}


def image_scores(pair):
    """Dice and HD95 of the whole image, as BraTS 2023 counts empty masks."""
    if pair.empty:
        return (1, 0) if pair.empty == "both" else (0, 374)
    return dice(pair), hausdorff_distance(pair, 95, "surfel")


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_the_published_scoring(name, boxes):
    challenge, reference, prediction, thickness, counts, lw_dice, lw_hd95, full_dice, full_hd95 = EXAMPLES[name]
    shape = (48, 48, 48)
    # a voxel of E20 is 1 x 1 x 2 mm in the file's order (x, y, z)
    pair = MaskPair(boxes(shape, *prediction), boxes(shape, *reference), (float(thickness), 1.0, 1.0))
    scores = lesion_scores(pair, CHALLENGES[challenge])
    assert (scores.found, scores.invented, scores.missed) == counts
    assert (scores.dice, scores.hd95) == pytest.approx((lw_dice, lw_hd95), abs=1e-6)
    assert image_scores(pair) == pytest.approx((full_dice, full_hd95), abs=1e-6)


def test_e19_a_missed_enhancing_tumour_costs_its_own_region_alone(boxes):
    reference = np.zeros((48, 48, 48), dtype=np.uint8)
    for value, corner, size in ((2, 8, 12), (1, 11, 6), (3, 12, 4)):
        reference[boxes(reference.shape, ((corner,) * 3, (size,) * 3))] = value
    prediction = np.where(reference == 3, 1, reference)
    expected = {(1, 2, 3): (1, 0, 1, 0, 0), (1, 3): (1, 0, 1, 0, 0), (3,): (0, 374, 0, 0, 1)}
    for values, scores in expected.items():
        pair = MaskPair(np.isin(prediction, values), np.isin(reference, values), (1.0, 1.0, 1.0))
        assert lesion_scores(pair, CHALLENGES["GLI"]) == scores


def components(mask):
    """Loop twin of connected components with 26 neighbours: a list of sets of voxels."""
    left, found = {tuple(map(int, voxel)) for voxel in np.argwhere(mask)}, []
    while left:
        front = [left.pop()]
        component = set(front)
        while front:
            z, y, x = front.pop()
            for dz, dy, dx in itertools.product((-1, 0, 1), repeat=3):
                neighbour = (z + dz, y + dy, x + dx)
                if neighbour in left:
                    left.discard(neighbour)
                    component.add(neighbour)
                    front.append(neighbour)
        found.append(component)
    return found


def dilated(voxels, shape, times):
    """Loop twin of dilation with 18 neighbours, within the image."""
    steps = [step for step in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, step)) <= 2]
    grown = set(voxels)
    for _ in range(times):
        grown = {tuple(v + s for v, s in zip(voxel, step, strict=True)) for voxel in grown for step in steps}
        grown = {voxel for voxel in grown if all(0 <= v < n for v, n in zip(voxel, shape, strict=True))}
    return grown


def as_mask(voxels, shape):
    mask = np.zeros(shape, dtype=bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def twin(pair, rules):
    """The rules, word by word."""
    shape, predicted = pair.reference.shape, components(pair.prediction)
    reference = {tuple(map(int, voxel)) for voxel in np.argwhere(pair.reference)}
    groups = components(as_mask(dilated(reference, shape, rules.dilations), shape))
    lesions = [group & reference for group in groups]
    dices, distances, found, missed, hit = [], [], 0, 0, set()
    for lesion in lesions:
        grown = dilated(lesion, shape, rules.dilations)
        near = [number for number, component in enumerate(predicted) if component & grown]
        hit.update(near)
        if len(lesion) * np.prod(pair.spacing) <= rules.ignored_volume:
            continue
        if near:
            union = set().union(*(predicted[number] for number in near))
            part = MaskPair(as_mask(union, shape), as_mask(lesion, shape), pair.spacing)
            dices.append(2 * len(union & lesion) / (len(union) + len(lesion)))
            distances.append(hausdorff_distance(part, 95, "surfel"))
            found += 1
        else:
            missed += 1
    invented = len(predicted) - len(hit)
    number = found + missed + invented
    if not number:
        return LesionScores(1.0, 0.0, 0, 0, 0)
    return LesionScores(
        sum(dices) / number, (sum(distances) + 374 * (missed + invented)) / number, found, invented, missed
    )


def test_random_volumes_with_several_lesions_equal_a_twin_of_the_rules(boxes):
    rng = np.random.default_rng(23)
    seen = set()
    for number in range(16):
        shape = (12, 14, 26)
        masks = [
            boxes(shape, *((rng.integers(0, 10, 3), rng.integers(1, 5, 3)) for _ in range(rng.integers(1, 7))))
            for _ in range(2)
        ]
        for mask, shift in zip(masks, (0, int(rng.integers(0, 4))), strict=True):
            mask[:, :, 13:] |= np.roll(mask[:, :, :13], shift, 1)
        pair = MaskPair(*masks, (float(rng.integers(1, 3)), 1.0, 1.0))
        rules = CHALLENGES["MET" if number % 2 else "GLI"]
        scores = lesion_scores(pair, rules)
        assert scores == pytest.approx(twin(pair, rules))
        seen.add(scores[2:])
    assert len(seen) > 6, "the volumes are too much alike to tell"


def test_a_lesion_at_the_edge_of_the_image_is_scored_as_in_a_larger_one(boxes):
    shape, larger = (12, 12, 12), (24, 24, 24)
    prediction, reference = [((0, 0, 1), CUBE)], [((0, 0, 0), CUBE), ((0, 0, 9), (4, 4, 3))]
    moved = [[(tuple(c + 6 for c in corner), size) for corner, size in cubes] for cubes in (prediction, reference)]
    small = MaskPair(boxes(shape, *prediction), boxes(shape, *reference), (1.0, 1.0, 1.0))
    large = MaskPair(boxes(larger, *moved[0]), boxes(larger, *moved[1]), (1.0, 1.0, 1.0))
    for rules in CHALLENGES.values():
        assert lesion_scores(small, rules) == lesion_scores(large, rules)


def test_the_columns_of_a_challenge_are_scored_once_and_name_its_parameters(monkeypatch, boxes):
    from nnunet_ext.evaluation import lesions

    calls = []
    scored = lesions.lesion_scores
    monkeypatch.setattr(lesions, "lesion_scores", lambda *given: calls.append(given) or scored(*given))
    pair = MaskPair(boxes((20, 20, 20), A), boxes((20, 20, 20), at_x(11)), (1.0, 1.0, 1.0))
    rows = lesion_metrics(CHALLENGES["MEN"])
    values = {row.name: row.value(pair, policy) for row in rows for policy in POLICIES}
    assert values == {"LesionDice": 0.75, "LesionHD95": 1.0, "LesionTP": 1, "LesionFP": 0, "LesionFN": 0}
    assert len(calls) == 1
    assert {row.definition for row in rows} == {"BraTS 2023, MEN: dilations 1, lesions up to 50 mm3 left out"}


def test_pictures_have_no_lesion_scores():
    with pytest.raises(ValueError, match="three dimensions"):
        lesion_scores(MaskPair(np.ones((3, 3), bool), np.ones((3, 3), bool), (1.0, 1.0)), CHALLENGES["GLI"])
