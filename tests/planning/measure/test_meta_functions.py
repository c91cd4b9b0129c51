"""What stands in for functions of PyTorch on tensors without data: same shapes, same refusals, same kept tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.families import NETWORKS
from nnunet_ext.planning.cuda_rules import CudaRules
from nnunet_ext.planning.memory import built_without_data
from nnunet_ext.planning.meta_functions import WithoutInitialisation

Call = Callable[[torch.Tensor], Any]
EIGHT = torch.ones(8)
CALLS: dict[str, Call] = {
    "instance_norm": lambda x: functional.instance_norm(x, weight=EIGHT.to(x.device), bias=EIGHT.to(x.device)),
    "instance_norm by keywords": lambda x: torch.instance_norm(
        input=x, weight=None, bias=None, running_mean=None, running_var=None, use_input_stats=True, momentum=0.1,
        eps=1e-5, cudnn_enabled=False,
    ),
    "instance_norm with running statistics": lambda x: functional.instance_norm(
        x, EIGHT.to(x.device), EIGHT.to(x.device)
    ),
    "layer_norm": lambda x: functional.layer_norm(x, (4, 6)),
    "layer_norm by keywords": lambda x: torch.layer_norm(x, (6,), None, None, eps=1e-3, cudnn_enable=False),
    "leaky_relu": lambda x: functional.leaky_relu(x, negative_slope=0.2),
    "leaky_relu in place": lambda x: functional.leaky_relu(x + 1, inplace=True),
    "leaky_relu by keywords": lambda x: torch._C._nn.leaky_relu(input=x, negative_slope=0.1),
    "sum": lambda x: x + x,
    "sum by keywords": lambda x: torch.add(input=x, other=x),
    "scaled sum": lambda x: torch.add(x, x, alpha=2),
    "sum that broadcasts": lambda x: x + x[:1, :1],
    "sum of another order": lambda x: x + x.transpose(2, 3).contiguous().transpose(2, 3),
    "resize": lambda x: functional.interpolate(x, size=(3, 5), mode="bilinear"),
    "resize by a factor": lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"),
    "resize of another order": lambda x: functional.interpolate(x.transpose(2, 3), size=(3, 5), mode="bilinear"),
    "dropout": lambda x: functional.dropout(x, p=0.5),
    "no dropout": lambda x: functional.dropout(x, 0.5, training=False),
}  # fmt: skip
REFUSED: dict[str, Call] = {
    "layer_norm of another width": lambda x: functional.layer_norm(x, (5,)),
    "layer_norm with a weight of another width": lambda x: functional.layer_norm(x, (6,), EIGHT.to(x.device)),
    "instance_norm with a weight of another width": lambda x: functional.instance_norm(
        x, weight=EIGHT[:5].to(x.device)
    ),
    "sum of unequal shapes": lambda x: x + x[:, :, :3],
}


def image(device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(2, 8, 4, 6, device=device, dtype=dtype).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CALLS)
def test_shape_order_and_type_are_those_of_a_real_call(name: str, dtype: torch.dtype) -> None:
    if "instance_norm" in name and dtype == torch.float64:
        pytest.skip("its weights here are float32")
    with CudaRules(None):
        found = CALLS[name](image("meta", dtype))
    expected = CALLS[name](image("cpu", dtype))
    assert (found.shape, found.stride(), found.dtype) == (expected.shape, expected.stride(), expected.dtype)
    assert found.requires_grad


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_real_call_refuses_is_refused(name: str) -> None:
    for device in ("cpu", "meta"):
        with pytest.raises((RuntimeError, ValueError)), CudaRules(None):
            REFUSED[name](image(device))


@pytest.mark.parametrize("name", {row.class_path: row.name for row in NETWORKS.values()}.values())
def test_a_network_built_without_initialisation_has_the_same_parameters(name: str, make_network: Any) -> None:
    def entries(network: nn.Module) -> list[Any]:
        state = network.state_dict()
        return [(key, getattr(value, "shape", value), getattr(value, "dtype", None)) for key, value in state.items()]

    found = entries(built_without_data(lambda: make_network(name, "3d")[0]))
    assert [entry[::2] for entry in found] == [
        entry[::2] for entry in entries(make_network(name, "3d", device="cpu")[0])
    ]


@pytest.mark.parametrize(
    "step",
    [
        lambda: torch.empty(3).copy_(torch.empty(4)),
        lambda: torch.empty(3, dtype=torch.long).add_(1.5),
        lambda: torch.empty(3).add_(torch.empty(4)),
        lambda: nn.Parameter(torch.empty(3)).mul_(2),
    ],
    ids=["copy of another shape", "fraction to integers", "sum of another shape", "parameter with gradient"],
)
def test_mistakes_of_a_constructor_are_not_hidden(step: Callable[[], Any]) -> None:
    with pytest.raises(RuntimeError), torch.device("meta"), WithoutInitialisation():
        step()


def test_drawing_is_left_out_where_there_is_nothing_to_draw_and_nowhere_else() -> None:
    with WithoutInitialisation():
        real = nn.init.constant_(torch.zeros(3), 2.0)
        blank = nn.init.trunc_normal_(torch.empty(3, device="meta"))
    assert real.tolist() == [2.0] * 3
    assert blank.device.type == "meta"
