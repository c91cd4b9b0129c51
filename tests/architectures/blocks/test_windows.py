"""Windows of a grid against the plain definition: tiles that start at the shift, and tokens that share one."""

from __future__ import annotations

import itertools
import random
from math import log2

import pytest
import torch

from nnunet_ext.architectures.blocks.swin_v2_block import WINDOW_RANGE, least_padding_window
from nnunet_ext.architectures.blocks.windows import NEVER, Windows, relative_coordinates, relative_index

CPU = torch.device("cpu")
# size, target, shifted
GEOMETRIES = [
    ((8, 8), (4, 4), False),
    ((8, 8), (4, 4), True),
    ((7, 9), (4, 4), True),
    ((7, 9), (4, 3), False),
    ((3, 8), (4, 4), True),
    ((5, 1), (2, 4), True),
    ((1, 1), (4, 4), True),
    ((4, 6, 8), (2, 4, 4), True),
    ((3, 5, 6), (2, 4, 4), True),
    ((1, 5, 4), (2, 3, 4), True),
    ((3, 5, 6), (3, 2, 5), False),
]
each_geometry = pytest.mark.parametrize(("size", "target", "shifted"), GEOMETRIES)


def random_geometries(count: int) -> list[Windows]:
    draw = random.Random(0)
    found = []
    for _ in range(count):
        axes = draw.randint(1, 3)
        size = [draw.randint(1, 7) for _ in range(axes)]
        found.append(Windows.over(size, [draw.randint(1, 5) for _ in range(axes)], draw.random() < 0.5))
    return found


def positions(windows: Windows) -> list[tuple[int, ...]]:
    return list(itertools.product(*map(range, windows.size)))


def tile(position: tuple[int, ...], windows: Windows) -> tuple[int, ...]:
    """The window of a token if the grid had no ends: windows begin at the shift, and nothing wraps around."""
    return tuple((p - s) // w for p, s, w in zip(position, windows.shift, windows.window, strict=True))


def numbered(windows: Windows) -> torch.Tensor:
    """Number of the token at each position of each window, 0 for padding: (number of windows, tokens)."""
    count = len(positions(windows))
    ids = torch.arange(1, count + 1, dtype=torch.float64).view(1, *windows.size, 1)
    return windows.cut(ids)[0, :, :, 0].long()


def allowed_pairs(windows: Windows, mask_value: float) -> set[tuple[int, int]]:
    """Numbers of tokens and of those they may attend to."""
    ids = numbered(windows)
    mask = windows.mask(torch.zeros((), dtype=torch.float64), mask_value)
    pairs = set()
    for number, inside in enumerate(ids.tolist()):
        for (a, query), (b, key) in itertools.product(enumerate(inside), repeat=2):
            if mask is None or mask[number, a, b] == 0:
                pairs.add((query, key))
    return pairs


@each_geometry
def test_tokens_attend_to_those_of_their_tile_and_to_no_others(size: tuple, target: tuple, shifted: bool) -> None:
    windows = Windows.over(size, target, shifted)
    tokens = list(enumerate(positions(windows), start=1))
    expected = {(i, j) for i, a in tokens for j, b in tokens if tile(a, windows) == tile(b, windows)}
    found = {pair for pair in allowed_pairs(windows, NEVER) if 0 not in pair}
    assert found == expected, f"missing {sorted(expected - found)[:3]}, too many {sorted(found - expected)[:3]}"


def test_random_geometries_too_obey_the_tiles() -> None:
    for windows in random_geometries(60):
        tokens = list(enumerate(positions(windows), start=1))
        expected = {(i, j) for i, a in tokens for j, b in tokens if tile(a, windows) == tile(b, windows)}
        assert {pair for pair in allowed_pairs(windows, NEVER) if 0 not in pair} == expected, windows


def test_padding_is_seen_by_itself_alone() -> None:
    for windows in [Windows.over(*geometry) for geometry in GEOMETRIES] + random_geometries(60):
        mask = windows.mask(torch.zeros((), dtype=torch.float64), -100.0)
        if windows.padded == windows.size:
            continue
        assert mask is not None
        padding = numbered(windows) == 0
        itself = torch.eye(windows.tokens, dtype=torch.bool)
        to_padding = padding.unsqueeze(1).expand_as(mask)
        assert (mask[to_padding & ~itself] == NEVER).all(), windows
        assert (mask[to_padding & itself] == 0).all(), windows


@each_geometry
def test_the_published_mask_only_lowers_what_a_shift_brought_together(
    size: tuple, target: tuple, shifted: bool
) -> None:
    windows = Windows.over(size, target, shifted)
    mask = windows.mask(torch.zeros(()), -100.0)
    if not any(windows.shift) and windows.padded == windows.size:
        assert mask is None
        return
    assert mask is not None
    assert mask.shape == (numbered(windows).shape[0], windows.tokens, windows.tokens)
    assert torch.isfinite(mask).all(), "a row of -inf gives NaN"
    tiles = dict(enumerate((tile(position, windows) for position in positions(windows)), start=1))
    for number, inside in enumerate(numbered(windows).tolist()):
        for (a, query), (b, key) in itertools.product(enumerate(inside), repeat=2):
            if query and key:
                assert mask[number, a, b] == (0.0 if tiles[query] == tiles[key] else -100.0), (query, key)
    assert allowed_pairs(windows, -100.0) == allowed_pairs(windows, NEVER)


def test_join_undoes_cut() -> None:
    for windows in [Windows.over(*geometry) for geometry in GEOMETRIES] + random_geometries(100):
        grid = torch.rand(2, *windows.size, 3)
        cut = windows.cut(grid)
        assert cut.shape[2] == windows.tokens
        assert torch.equal(windows.join(cut), grid), windows


def test_every_token_is_cut_into_one_place_and_the_rest_is_zero() -> None:
    for windows in random_geometries(60):
        ids = numbered(windows).flatten().tolist()
        count = len(positions(windows))
        assert sorted(ids) == [0] * (len(ids) - count) + list(range(1, count + 1)), windows


def test_a_window_is_in_the_order_of_the_axes() -> None:
    windows = Windows.over((4, 4), (2, 2), shifted=False)
    assert numbered(windows).tolist() == [[1, 2, 5, 6], [3, 4, 7, 8], [9, 10, 13, 14], [11, 12, 15, 16]]
    assert numbered(Windows.over((4, 4), (2, 2), shifted=True))[0].tolist() == [6, 7, 10, 11]


def test_windows_are_clipped_to_the_grid_and_shift_only_where_there_are_several() -> None:
    windows = Windows.over((3, 8, 4), (4, 4, 4), shifted=True)
    assert (windows.window, windows.shift, windows.padded) == ((3, 4, 4), (0, 2, 0), (3, 8, 4))
    assert Windows.over((5, 9), (4, 2), shifted=True).padded == (8, 10)
    assert Windows.over((5, 9), (4, 2), shifted=False).shift == (0, 0)


@pytest.mark.parametrize("window", [(4, 4), (2, 5), (1, 3), (1, 1), (2, 3, 4), (1, 2, 2)])
@pytest.mark.parametrize("trained", [None, 8, 1])
def test_coordinates_are_the_logarithm_of_the_distance_of_each_pair(window: tuple, trained: int | None) -> None:
    trained_window = None if trained is None else (trained,) * len(window)
    table = relative_coordinates(window, trained_window, torch.zeros((), dtype=torch.float64))
    index = relative_index(window, CPU)
    tokens = list(itertools.product(*map(range, window)))
    for (i, a), (j, b) in itertools.product(enumerate(tokens), repeat=2):
        for axis, (p, q) in enumerate(zip(a, b, strict=True)):
            scale = max((window[axis] if trained is None else trained) - 1, 1)
            expected = (1 if p > q else -1) * log2(1 + 8 * abs(p - q) / scale) / 3
            assert table[index[i, j], axis].item() == pytest.approx(expected, abs=1e-6), (a, b)
    assert table.dtype == torch.float64
    assert torch.isfinite(table).all()


def test_a_trained_window_keeps_the_place_of_a_distance_in_any_window() -> None:
    like = torch.zeros(())
    trained, other = ((size, size + 1) for size in (8, 5))
    tables = [relative_coordinates(window, trained, like) for window in (trained, other)]
    assert torch.equal(row(tables[1], other, (2, -3)), row(tables[0], trained, (2, -3)))
    rescaled = relative_coordinates(other, None, like)
    assert not torch.equal(row(rescaled, other, (2, -3)), row(tables[0], trained, (2, -3)))


def row(table: torch.Tensor, window: tuple[int, int], distance: tuple[int, int]) -> torch.Tensor:
    return table.view(2 * window[0] - 1, 2 * window[1] - 1, 2)[distance[0] + window[0] - 1, distance[1] + window[1] - 1]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((56, 28), (8, 7)),
        ((14, 7), (7, 7)),
        ((9, 3), (5, 3)),
        ((13, 1), (7, 1)),
        ((32, 32, 32), (4, 4, 4)),
        ((10, 7, 2), (5, 4, 2)),
        ((6, 30, 16), (6, 6, 4)),
    ],
)
def test_the_window_of_least_padding_prefers_the_larger_of_equals(size: tuple, expected: tuple) -> None:
    assert least_padding_window(size) == expected


def test_no_other_window_in_range_pads_less() -> None:
    for axes, (least, most) in WINDOW_RANGE.items():
        for edge in range(1, 70):
            chosen = least_padding_window([edge] * axes)[0]
            assert chosen <= min(edge, most)
            if edge >= least:
                assert chosen >= least
                assert -edge % chosen == min(-edge % window for window in range(least, min(edge, most) + 1)), edge


def test_padding_may_be_attended_to_in_windows_that_are_never_clipped() -> None:
    """As torchvision has it: 2 x 9 tokens in windows of 4 x 4."""
    hidden = Windows.over((2, 9), (4, 4), shifted=True)
    kept = Windows.over((2, 9), (4, 4), shifted=True, attend_to_padding=True)
    assert (hidden.window, hidden.padded) == ((2, 4), (2, 12))
    assert (kept.window, kept.padded, kept.shift) == ((4, 4), (4, 12), (0, 2)), "no shift where one window is all"
    like = torch.zeros(())
    assert Windows.over((2, 9), (4, 4), shifted=False, attend_to_padding=True).mask(like, -100.0) is None
    mask = kept.mask(like, -100.0)
    assert set(mask.flatten().tolist()) == {0.0, -100.0}, "labels know nothing of the padding"
    assert hidden.mask(like, -100.0).min() == NEVER
    x = torch.randn(1, 2, 9, 3)
    assert torch.equal(kept.join(kept.cut(x)), x)


def test_without_padding_both_kinds_of_windows_are_the_same() -> None:
    for shifted in (False, True):
        hidden, kept = (Windows.over((8, 16), (8, 8), shifted, attend_to_padding=keys) for keys in (False, True))
        masks = [windows.mask(torch.zeros(()), -100.0) for windows in (hidden, kept)]
        assert masks[0] is masks[1] is None if not shifted else torch.equal(*masks)
