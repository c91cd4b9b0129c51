"""Autocast and attention without data, judged by PyTorch's own rules for CUDA, which fake tensors follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.precision import without_autocast
from nnunet_ext.families import NETWORKS
from nnunet_ext.planning.cuda_rules import CudaRules
from nnunet_ext.planning.memory import measure

try:  # private, hence the judge here and nothing that the package relies on
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        torch.empty(1, device="cuda") + 1
except Exception as error:  # whatever a PyTorch without CUDA raises
    pytest.skip(f"no fake CUDA tensors here: {error}", allow_module_level=True)

Make = Callable[..., tuple[nn.Module, tuple[int, ...]]]
pytestmark = [
    pytest.mark.usefixtures("single_thread"),
    pytest.mark.filterwarnings("ignore"),  # CUDA is not there, PyTorch says each time
]


@contextmanager
def fake_cuda(dtype: torch.dtype = torch.float16) -> Iterator[None]:
    """Tensors without data that PyTorch takes for CUDA's, under autocast."""
    before = torch.get_autocast_dtype("cuda")
    with FakeTensorMode():
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", dtype)
        try:
            yield
        finally:
            torch.set_autocast_enabled("cuda", False)
            torch.set_autocast_dtype("cuda", before)
            torch.clear_autocast_cache()


def kept_by_cuda(build: Callable[[], nn.Module], shape: Sequence[int], dtype: torch.dtype = torch.float16) -> int:
    """Bytes that autograd saves under autocast, half-precision copies of weights included."""
    saved: list[Any] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.untyped_storage())
        return tensor

    with torch.device("meta"):
        network = build()
    assert not list(network.buffers())
    with fake_cuda(dtype):
        # built beforehand: initialisation may look at values
        for module in network.modules():
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(torch.empty(parameter.shape, device="cuda")))
        image = torch.empty(tuple(shape), device="cuda")
        ignored = {id(x.untyped_storage()) for x in [*network.parameters(), image]}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            outputs = network(image)
        assert outputs is not None  # alive until here
        return sum({id(storage): storage.nbytes() for storage in saved if id(storage) not in ignored}.values())


def kept_by_rules(build: Callable[[], nn.Module], shape: Sequence[int], dtype: torch.dtype = torch.float16) -> int:
    with torch.device("meta"):
        network = build()
    found = measure(network, shape, dtype=dtype, multiply_adds=False)
    return found.activations + found.weight_copies


@pytest.mark.parametrize("topology", ["2d", "3d", pytest.param("anisotropic", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["PlainConvUNet", "ResidualEncoderUNet", *NETWORKS])
def test_networks_keep_what_they_keep_on_cuda(name: str, topology: str, make_network: Make) -> None:
    _, (_, *sample) = make_network(name, topology)
    for batch, dtype in ((1, torch.float16), (2, torch.bfloat16)):
        found, expected = (
            kept(lambda: make_network(name, topology)[0], (batch, *sample), dtype)
            for kept in (kept_by_rules, kept_by_cuda)
        )
        assert found == expected


VOLUME = (2, 4, 8, 8, 8)
HALF, SINGLE = torch.float16, torch.float32
Of = Callable[..., torch.Tensor]
# what it is -> function of tensors of these shapes; the first is half precision and the others single
OPERATIONS: dict[str, tuple[Of, list[tuple[int, ...]]]] = {
    "instance_norm": (functional.instance_norm, [VOLUME]),
    "batch_norm": (lambda x: functional.batch_norm(x, None, None, training=True), [VOLUME]),
    "gelu": (functional.gelu, [VOLUME]),
    "silu": (functional.silu, [VOLUME]),
    "leaky_relu": (functional.leaky_relu, [VOLUME]),
    "sigmoid": (torch.sigmoid, [VOLUME]),
    "tanh": (torch.tanh, [VOLUME]),
    "mean": (torch.mean, [VOLUME]),
    "var": (torch.var, [VOLUME]),
    "sqrt": (torch.sqrt, [VOLUME]),
    "amax": (lambda x: x.amax(1), [VOLUME]),
    "nansum": (torch.nansum, [VOLUME]),
    "avg_pool3d": (lambda x: functional.avg_pool3d(x, 2), [VOLUME]),
    "max_pool3d": (lambda x: functional.max_pool3d(x, 2), [VOLUME]),
    "max_pool3d with places": (lambda x: functional.max_pool3d(x, 2, return_indices=True)[0], [VOLUME]),
    "adaptive_avg_pool3d": (lambda x: functional.adaptive_avg_pool3d(x, 1), [VOLUME]),
    "dropout": (functional.dropout, [VOLUME]),
    "pad": (lambda x: functional.pad(x, (1, 1)), [VOLUME]),
    "layer_norm": (lambda x: functional.layer_norm(x, (8,)), [VOLUME]),
    "rms_norm": (lambda x: functional.rms_norm(x, (8,)), [VOLUME]),
    "group_norm": (lambda x: functional.group_norm(x, 2), [VOLUME]),
    "softmax": (lambda x: x.softmax(1), [VOLUME]),
    "log_softmax": (lambda x: functional.log_softmax(x, 1), [VOLUME]),
    "logsumexp": (lambda x: x.logsumexp(1), [VOLUME]),
    "sum": (lambda x: x.sum(1), [VOLUME]),
    "prod": (torch.prod, [VOLUME]),
    "cumprod": (lambda x: x.cumprod(1), [VOLUME]),
    "cumsum": (lambda x: x.cumsum(1), [VOLUME]),
    "exp": (torch.exp, [VOLUME]),
    "log": (torch.log, [VOLUME]),
    "pow": (lambda x: x.pow(2), [VOLUME]),
    "**": (lambda x: x**2, [VOLUME]),
    "2 **": (lambda x: 2**x, [VOLUME]),
    "square": (torch.square, [VOLUME]),
    "1 /": (lambda x: 1 / x, [VOLUME]),
    "division": (lambda x: x / x, [VOLUME]),
    "reciprocal": (torch.reciprocal, [VOLUME]),
    "rsqrt": (torch.rsqrt, [VOLUME]),
    "softplus": (functional.softplus, [VOLUME]),
    "norm": (lambda x: x.norm(dim=1), [VOLUME]),
    "linalg.vector_norm": (lambda x: torch.linalg.vector_norm(x, dim=1), [VOLUME]),
    "F.normalize": (functional.normalize, [VOLUME]),
    "cosine_similarity": (lambda x: functional.cosine_similarity(x, x), [VOLUME]),
    "mse_loss": (lambda x: functional.mse_loss(x, x.detach()), [VOLUME]),
    "cross_entropy": (lambda x: functional.cross_entropy(x, x.detach()), [VOLUME]),
    "interpolate nearest": (lambda x: functional.interpolate(x, scale_factor=2), [VOLUME]),
    "interpolate nearest-exact": (lambda x: functional.interpolate(x, scale_factor=2, mode="nearest-exact"), [VOLUME]),
    "interpolate trilinear": (lambda x: functional.interpolate(x, scale_factor=2, mode="trilinear"), [VOLUME]),
    "interpolate area": (lambda x: functional.interpolate(x, size=(4, 4, 4), mode="area"), [VOLUME]),
    "interpolate bilinear": (lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"), [(2, 4, 8, 8)]),
    "interpolate bicubic": (lambda x: functional.interpolate(x, scale_factor=2, mode="bicubic"), [(2, 4, 8, 8)]),
    "interpolate linear": (lambda x: functional.interpolate(x, scale_factor=2, mode="linear"), [(2, 4, 8)]),
    "einsum": (lambda x, y: torch.einsum("ij,jk->ik", x, y), [(4, 4), (4, 4)]),
    "matmul": (lambda x, y: x @ y, [(4, 4), (4, 4)]),
    "linear": (functional.linear, [(4, 4), (4, 4)]),
    "conv3d": (functional.conv3d, [VOLUME, (4, 4, 1, 1, 1)]),
    "conv_transpose3d": (functional.conv_transpose3d, [VOLUME, (4, 4, 1, 1, 1)]),
    "prelu": (functional.prelu, [VOLUME, (4,)]),
    "attention": (lambda x, y: functional.scaled_dot_product_attention(x, y, y), [(2, 2, 8, 4), (2, 2, 8, 4)]),
    "cat of mixed": (lambda x, y: torch.cat([x, y], 1), [VOLUME, VOLUME]),
    "cat of half": (lambda x: torch.cat([x, x], 1), [VOLUME]),
    "stack of mixed": (lambda x, y: torch.stack([x, y], 1), [VOLUME, VOLUME]),
    "addcmul": (torch.addcmul, [VOLUME, VOLUME, VOLUME]),
    "bilinear": (lambda x, y, w: functional.bilinear(x, y, w), [(4, 4), (4, 4), (3, 4, 4)]),
    "grid_sample": (functional.grid_sample, [VOLUME, (2, 4, 4, 4, 3)]),
    "sum of mixed": (torch.add, [VOLUME, VOLUME]),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_give_the_precision_that_they_give_on_cuda(operation: str) -> None:
    function, shapes = OPERATIONS[operation]

    def tensors(device: str) -> list[torch.Tensor]:
        return [torch.empty(shape, dtype=SINGLE if i else HALF, device=device) for i, shape in enumerate(shapes)]

    with fake_cuda():
        expected = function(*tensors("cuda")).dtype
    with CudaRules(torch.float16):
        assert function(*tensors("meta")).dtype == expected


@pytest.mark.parametrize("operation", ["matmul", "einsum", "softmax", "cat of mixed", "F.normalize", "conv3d"])
def test_double_precision_stays(operation: str) -> None:
    function, shapes = OPERATIONS[operation]
    with CudaRules(torch.float16):
        tensors = [torch.empty(shape, dtype=torch.float64, device="meta") for shape in shapes]
        assert function(*tensors).dtype == torch.float64


def test_without_autocast_nothing_is_cast() -> None:
    for operation, (function, shapes) in OPERATIONS.items():
        tensors = [torch.empty(shape, device="meta") for shape in shapes]
        with CudaRules(None):
            assert function(*tensors).dtype == torch.float32, operation


class Line(nn.Module):
    """A network of one line after a linear layer on tokens of 16."""

    def __init__(self, line: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.line = line
        self.project = nn.Linear(16, 48)
        self.norm = nn.LayerNorm(16)
        self.bias = nn.Parameter(torch.zeros(1, 2, 32, 32))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(self, x)


TOKENS = (2, 32, 16)


def plain_attention(network: Line, x: torch.Tensor) -> torch.Tensor:
    queries, keys, values = (part.unflatten(-1, (2, -1)).transpose(1, 2) for part in network.project(x).chunk(3, -1))
    return ((queries @ keys.transpose(-1, -2)) + network.bias).softmax(-1) @ values


def locally_exact(network: Line, x: torch.Tensor) -> torch.Tensor:
    y = network.project(x)
    with without_autocast(y):
        z = y.float() @ y.float().transpose(-1, -2)
    return z @ y


LINES: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "attention written out": plain_attention,
    "a part without autocast": locally_exact,
    "cosine attention": lambda network, x: functional.normalize(network.project(x), dim=-1).softmax(-1),
    "layer norm and interpolation": lambda network, x: functional.interpolate(
        network.norm(network.project(x)[..., :16]).transpose(1, 2), scale_factor=2, mode="linear"
    ).square(),
    "dropout": lambda network, x: functional.dropout(network.project(x), 0.1).exp(),
    "attention of PyTorch with weights": lambda network, x: network.attention(x, x, x)[0],
    "a weight used twice": lambda network, x: network.project(x) + network.project(network.norm(x)),
}


@pytest.mark.parametrize("line", LINES)
def test_modules_keep_what_they_keep_on_cuda(line: str) -> None:
    def build() -> nn.Module:
        return Line(LINES[line])

    assert kept_by_rules(build, TOKENS) == kept_by_cuda(build, TOKENS)


def test_a_part_without_autocast_is_seen_in_its_precision() -> None:
    x = torch.empty(4, 4, device="meta")
    with CudaRules(torch.float16):
        before = (x @ x).dtype
        with torch.autocast("cpu", enabled=False):
            within = (x @ x).dtype
        after = (x @ x).dtype
    assert (before, within, after) == (torch.float16, torch.float32, torch.float16)


def test_a_weight_has_one_copy() -> None:
    with torch.device("meta"):
        network = Line(LINES["a weight used twice"])
    found = measure(network, TOKENS, dtype=torch.float16)
    assert found.weight_copies == 16 * 48 * 2


def attend(network: Line, x: torch.Tensor, **options: Any) -> torch.Tensor:
    parts = (part.unflatten(-1, (2, -1)).transpose(1, 2) for part in network.project(x).chunk(3, -1))
    return functional.scaled_dot_product_attention(*parts, **options)


FUSED: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "plain": attend,
    "causal": lambda network, x: attend(network, x, is_causal=True),
    "masked": lambda network, x: attend(network, x, attn_mask=network.bias.detach().expand(2, -1, -1, -1)),
}
ROWS, MATRIX = 2 * 2 * 32, 2 * 2 * 32 * 32  # of a batch of two and two heads


@pytest.mark.parametrize("kind", ["plain", "causal"])
def test_fused_attention_keeps_no_matrix_and_equals_the_fused_kernel_of_the_cpu(kind: str) -> None:
    def kept(device: str) -> int:
        with torch.device(device):
            return measure(Line(FUSED[kind]), TOKENS).activations

    # projections, output, one number a row
    assert kept("meta") == kept("cpu") == 4 * (2 * 32 * 48 + 2 * 32 * 16 + ROWS)


def test_attention_with_a_given_mask_keeps_no_matrix_either() -> None:
    with torch.device("meta"):
        found = measure(Line(FUSED["masked"]), TOKENS)
    assert found.activations == 4 * (2 * 32 * 48 + 2 * 32 * 16 + ROWS)


def test_attention_with_a_learned_bias_keeps_the_matrix() -> None:
    def line(network: Line, x: torch.Tensor) -> torch.Tensor:
        return attend(network, x, attn_mask=network.bias.expand(2, -1, -1, -1))

    with torch.device("meta"):
        found = measure(Line(line), TOKENS)
    assert found.activations >= 4 * (2 * 32 * 48 + MATRIX)


def test_attention_within_pytorchs_own_layer_keeps_no_matrix() -> None:
    """``nn.TransformerEncoderLayer`` asks for no weights: then that layer takes the fused kernel too."""

    def kept(device: str) -> int:
        with torch.device(device):
            network = Line(lambda network, x: network.attention(x, x, x, need_weights=False)[0])
            return measure(network, TOKENS).activations

    assert kept("meta") == kept("cpu") < 4 * (2 * 32 * 48 + 3 * 2 * 32 * 16 + MATRIX)


def test_rules_end_with_their_context() -> None:
    with pytest.raises(ZeroDivisionError), CudaRules(torch.float16):
        raise ZeroDivisionError
    x = torch.empty(4, 4, device="meta")
    assert (x @ x).dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")
