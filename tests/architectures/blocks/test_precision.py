"""Means that keep their precision, and whose gradient writes no map."""

from __future__ import annotations

import pytest
import torch

from nnunet_ext.architectures.blocks.precision import exact_mean


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("axes", [(-1,), (2, 3), (1,)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_equals_the_mean_bit_for_bit_in_float32_at_least(dtype: torch.dtype, axes: tuple, keepdim: bool) -> None:
    x = (300 * torch.randn(2, 3, 5, 700)).to(dtype)
    exact = torch.promote_types(dtype, torch.float32)
    found = exact_mean(x, axes, keepdim)
    assert found.dtype == exact
    assert torch.equal(found, x.mean(axes, keepdim, dtype=exact))


def test_the_gradient_is_a_view_of_one_value_a_mean() -> None:
    x = torch.randn(2, 3, 5, 7, requires_grad=True)
    (gradient,) = torch.autograd.grad(exact_mean(x, (2, 3)).sum(), x)
    assert gradient.stride()[2:] == (0, 0)
    assert torch.equal(gradient, torch.full_like(x, 1) / 35)
