"""What every network of the table promises (docs/architecture.md, contract 1), on topologies as nnU-Net plans them."""

from __future__ import annotations

import copy
import hashlib
import inspect
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunet_ext.families import FAMILIES, NETWORKS, Network, figures, load, suffixes_of, trainers_of
from nnunet_ext.families.rows import SELF_CONFIGURING
from nnunet_ext.planning import gpu
from nnunet_ext.planning.memory import built_without_data, measure_sample
from nnunet_ext.planning.plans_name import default_name
from nnunet_ext.trainers.registry import optimizer_of

CLASSES = 3
PLAN_KEYWORDS = {
    "n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage",
    "n_conv_per_stage_decoder", "conv_bias", "norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin",
    "nonlin_kwargs",
}  # fmt: skip
GIVEN_KEYWORDS = {"input_channels", "num_classes", "deep_supervision"}


def plan(strides: list, kernel_sizes: list, features: list[int], residual: bool = False) -> dict[str, Any]:
    """The architecture of a plans file, as it stands there."""
    n_stages, dimension = len(strides), len(strides[0])
    encoder = {"n_blocks_per_stage": [1, 3, 4, 6][:n_stages]} if residual else {"n_conv_per_stage": [2] * n_stages}
    network = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{network}",
        "arch_kwargs": {
            "n_stages": n_stages,
            "features_per_stage": features,
            "conv_op": f"torch.nn.modules.conv.Conv{dimension}d",
            "kernel_sizes": kernel_sizes,
            "strides": strides,
            **encoder,
            "n_conv_per_stage_decoder": [1 if residual else 2] * (n_stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimension}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


# name -> patch and architecture
TOPOLOGIES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain 2d": ((32, 48), plan([[1, 1]] + [[2, 2]] * 3, [[3, 3]] * 4, [8, 16, 24, 24])),
    "plain 3d": ((16, 8, 24), plan([[1, 1, 1]] + [[2, 2, 2]] * 2, [[3, 3, 3]] * 3, [8, 16, 32])),
    "anisotropic 3d": (
        (6, 16, 24),
        plan([[1, 1, 1], [1, 2, 2], [2, 2, 2]], [[1, 3, 3], [1, 3, 3], [3, 3, 3]], [8, 16, 20]),
    ),
    "residual 2d": ((16, 24), plan([[1, 1]] + [[2, 2]] * 2, [[3, 3]] * 3, [8, 16, 32], residual=True)),
    "residual 3d": ((8, 8, 16), plan([[1, 1, 1]] + [[2, 2, 2]] * 2, [[3, 3, 3]] * 3, [8, 16, 32], residual=True)),
}
DEFAULT_BRATS = plan([[1, 1, 1]] + [[2, 2, 2]] * 5, [[3, 3, 3]] * 6, [32, 64, 128, 256, 320, 320])

FINGERPRINTS = Path(__file__).parents[1] / "golden"

each_network = pytest.mark.parametrize("row", NETWORKS.values(), ids=lambda row: row.name)
#: one network of every class: those that one class builds differ in blocks with tests of their own
CLASSES_OF_NETWORKS = {row.class_path: row for row in reversed(NETWORKS.values())}
each_class = pytest.mark.parametrize(
    "row",
    [
        row if CLASSES_OF_NETWORKS[row.class_path] is row else pytest.param(row, marks=pytest.mark.slow)
        for row in NETWORKS.values()
    ],
    ids=lambda row: row.name,
)
each_topology = pytest.mark.parametrize("topology", TOPOLOGIES)
# What a network computes is looked at on two topologies in every run, on all of them by 'make test-slow'.
QUICK = ("plain 2d", "anisotropic 3d")
quick_topology = pytest.mark.parametrize(
    "topology", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TOPOLOGIES]
)

pytestmark = pytest.mark.usefixtures("single_thread")


def load_class(row: Network) -> type[nn.Module]:
    return load(row.class_path)


def channels_of(row: Network) -> int:
    return max(row.minimum_image_channels, 2)


def build(
    row: Network,
    architecture: dict[str, Any],
    deep_supervision: bool = True,
    channels: int = 0,
    classes: int = CLASSES,
) -> nn.Module:
    """Through nnU-Net's own function, from a plans file that names the network by its import path."""
    torch.manual_seed(0)
    return get_network_from_plans(
        row.class_path.replace(":", "."),
        {**row.built_with, **architecture["arch_kwargs"]},
        architecture["_kw_requires_import"],
        channels or channels_of(row),
        classes,
        allow_init=True,
        deep_supervision=deep_supervision,
    )


def image_for(row: Network, topology: str, batch: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    patch, _ = TOPOLOGIES[topology]
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels_of(row), *patch, generator=generator, dtype=dtype)


def loss_of(output: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    outputs = output if isinstance(output, list) else [output]
    return torch.stack([x.float().square().mean() for x in outputs]).sum()


def idle_heads(network: nn.Module) -> set[str]:
    coarse = range(len(network.decoder.seg_layers) - 1)
    return {f"decoder.seg_layers.{i}.{name}" for i in coarse for name in ("weight", "bias")}


def without_gradient(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.grad is None}


def test_the_table_imports_no_torch() -> None:
    code = "import sys, nnunet_ext.families, nnunet_ext.planning; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_are_unique_and_every_network_has_a_trainer() -> None:
    rows = [row.name for family in FAMILIES for row in family.networks]
    assert len(set(rows)) == len(rows)
    assert [row.name for row in NETWORKS.values() if not trainers_of(row.name)] == []


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def measured(row: Network) -> dict[str, Any]:
    """The figures of a network, which ``make figures`` writes."""
    with torch.device("meta"):
        forms = {
            form: parameters_of(load_class(row).reference(**options)) for form, options in row.reference_forms.items()
        }
        default = build(row, DEFAULT_BRATS, channels=4, classes=4)
    case = measure_sample(default, (4, 128, 128, 128), dtype=torch.float16, multiply_adds=False)
    needed = gpu.training_bytes(case, batch_size=2, optimizer=optimizer_of(row.name))
    return {
        "reference_parameters": forms,
        "default_parameters": parameters_of(default),
        "default_training_gb": round(needed / gpu.GB, 1),
    }


def fingerprint(row: Network, topology: str) -> list:
    """Number of parameters, and the first 16 digits of the SHA-256 of the sorted keys of the state dict, which
    ``make figures`` writes for each topology."""
    with torch.device("meta"):
        network = build(row, TOPOLOGIES[topology][1])
    keys = "\n".join(sorted(network.state_dict()))
    return [parameters_of(network), hashlib.sha256(keys.encode()).hexdigest()[:16]]


def golden(row: Network) -> dict[str, list]:
    (family,) = (family.name for family in FAMILIES if row in family.networks)
    return json.loads((FINGERPRINTS / f"{family}.json").read_text(encoding="utf-8"))[row.name]


@each_network
def test_fingerprints_are_those_of_the_networks(row: Network) -> None:
    """Keys are a public interface: another fingerprint means that checkpoints no longer load."""
    assert golden(row) == {topology: fingerprint(row, topology) for topology in TOPOLOGIES}


@each_class
def test_figures_are_those_of_the_networks(row: Network) -> None:
    assert figures(row.name) == measured(row), "'make figures' writes them anew"


@each_network
def test_takes_the_planners_keywords_and_own_options_with_defaults(row: Network) -> None:
    parameters = inspect.signature(load_class(row)).parameters
    assert set(parameters) >= PLAN_KEYWORDS | GIVEN_KEYWORDS
    own = set(parameters) - PLAN_KEYWORDS - GIVEN_KEYWORDS
    assert own == set(row.options)
    assert all(parameters[name].default is not inspect.Parameter.empty for name in own)


@quick_topology
@each_network
def test_outputs_are_fine_to_coarse_and_the_flag_only_switches_them(row: Network, topology: str) -> None:
    patch, architecture = TOPOLOGIES[topology]
    network = build(row, architecture).eval()
    image = image_for(row, topology, batch=2)
    with torch.no_grad():
        outputs = network(image)
        network.decoder.deep_supervision = False
        single = network(image)
        network.decoder.deep_supervision = True
        again = network(image)
    size, expected = list(patch), []
    for stride in architecture["arch_kwargs"]["strides"][:-1]:
        size = [edge // step for edge, step in zip(size, stride, strict=True)]
        expected.append((2, CLASSES, *size))
    expected = expected[: row.resolutions or None]
    assert isinstance(outputs, (list, tuple))
    assert [tuple(output.shape) for output in outputs] == expected
    assert torch.equal(single, outputs[0])
    assert all(torch.equal(a, b) for a, b in zip(again, outputs, strict=True))


@quick_topology
@each_class
def test_checkpoints_load_strictly_with_deep_supervision_and_without(row: Network, topology: str) -> None:
    _, architecture = TOPOLOGIES[topology]
    deep, plain = build(row, architecture, True), build(row, architecture, False)
    with torch.no_grad():
        for parameter in deep.parameters():
            parameter.add_(0.01)
    plain.load_state_dict(deep.state_dict(), strict=True)
    image = image_for(row, topology)
    with torch.no_grad():
        assert torch.equal(plain.eval()(image), deep.eval()(image)[0])
    deep.load_state_dict(plain.state_dict(), strict=True)


@quick_topology
@each_network
def test_every_parameter_that_asks_for_a_gradient_gets_a_finite_one(row: Network, topology: str) -> None:
    _, architecture = TOPOLOGIES[topology]
    image = image_for(row, topology, batch=2)
    for deep_supervision in (True, False):
        network = build(row, architecture, deep_supervision)
        loss_of(network(image)).backward()
        idle = set() if deep_supervision else idle_heads(network)
        assert without_gradient(network) == idle
        assert {name for name, parameter in network.named_parameters() if not parameter.requires_grad} == idle
        assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@each_class
def test_coarse_heads_train_again_after_deep_supervision_was_off(row: Network) -> None:
    """nnU-Net switches off for validation and on again."""
    _, architecture = TOPOLOGIES["plain 2d"]
    image = image_for(row, "plain 2d")
    for built_with in (True, False):
        network = build(row, architecture, deep_supervision=built_with)
        network.decoder.deep_supervision = False
        loss_of(network(image)).backward()
        assert without_gradient(network) == idle_heads(network)
        network.decoder.deep_supervision = True
        loss_of(network(image)).backward()
        assert without_gradient(network) == set()


@quick_topology
@each_class
def test_samples_of_a_batch_do_not_mix(row: Network, topology: str) -> None:
    _, architecture = TOPOLOGIES[topology]
    network = build(row, architecture).double()
    image = image_for(row, topology, batch=2, dtype=torch.float64)
    with torch.no_grad():
        together = network(image)
        alone = [network(sample.unsqueeze(0)) for sample in image]
    for level, outputs in enumerate(zip(*alone, strict=True)):
        torch.testing.assert_close(together[level], torch.cat(outputs), rtol=1e-9, atol=1e-9)


@each_topology
@each_network
def test_builds_and_runs_on_the_meta_device(row: Network, topology: str) -> None:
    patch, architecture = TOPOLOGIES[topology]
    with torch.device("meta"):
        network = build(row, architecture, deep_supervision=False)
        assert network(torch.empty(2, channels_of(row), *patch)).shape == (2, CLASSES, *patch)


# compiling takes a minute: one network of each family on one topology, the rest slow
COMPILED = [
    pytest.param(row, topology, id=f"{row.name}-{topology}", marks=[] if quick else pytest.mark.slow)
    for family in FAMILIES
    for row in family.networks
    if CLASSES_OF_NETWORKS[row.class_path] is row
    for topology in QUICK
    for quick in [row is family.networks[0] and topology == QUICK[0]]
]


@pytest.mark.parametrize(("row", "topology"), COMPILED)
def test_compiles_in_one_graph_and_nnunet_toggles_the_compiled_network(row: Network, topology: str) -> None:
    _, architecture = TOPOLOGIES[topology]
    network = build(row, architecture)
    compiled = torch.compile(copy.deepcopy(network), backend="eager", fullgraph=True)
    image = image_for(row, topology, batch=2)
    expected, actual = network(image), compiled(image)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    loss_of(expected).backward()
    loss_of(actual).backward()
    for (name, a), (_, b) in zip(compiled._orig_mod.named_parameters(), network.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    for made in (network, compiled):
        trainer = SimpleNamespace(is_ddp=False, network=made)
        nnUNetTrainer.set_deep_supervision_enabled(trainer, False)
        torch.testing.assert_close(made(image), expected[0], rtol=1e-5, atol=1e-5)
        nnUNetTrainer.set_deep_supervision_enabled(trainer, True)
        assert len(made(image)) == len(expected)


@quick_topology
@each_class
def test_float64_stays_float64(row: Network, topology: str) -> None:
    _, architecture = TOPOLOGIES[topology]
    network = build(row, architecture).double()
    kinds: set[torch.dtype] = set()

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        kinds.update(x.dtype for x in (output if isinstance(output, (list, tuple)) else [output]))

    for module in network.modules():
        module.register_forward_hook(note)
    loss_of(network(image_for(row, topology, dtype=torch.float64))).backward()
    assert kinds == {torch.float64}


INPUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "random": lambda x: x,
    "large": lambda x: 1e3 * x,
    "constant": lambda x: torch.full_like(x, 3.0),
    "zero": torch.zeros_like,
}


@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16 autocast"])
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("topology", ["plain 2d", pytest.param("anisotropic 3d", marks=pytest.mark.slow)])
@each_class
def test_outputs_and_gradients_are_finite(row: Network, topology: str, kind: str, bfloat16: bool) -> None:
    _, architecture = TOPOLOGIES[topology]
    network = build(row, architecture)
    image = INPUTS[kind](image_for(row, topology, batch=2))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        outputs = network(image)
    assert all(torch.isfinite(output).all() for output in outputs)
    loss_of(outputs).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.parametrize("form", ["self-configuring", "reference"])
@each_class
def test_no_child_hides_a_method_of_a_module(row: Network, form: str) -> None:
    """CFNet's reference implementation keeps a list as ``modules`` and fails in its own forward pass."""
    with torch.device("meta"):
        network = load_class(row).reference() if form == "reference" else build(row, TOPOLOGIES["plain 3d"][1])
    for path, module in network.named_modules():
        own = [*module._modules, *module._parameters, *module._buffers]
        own += [name for name in vars(module) if not name.startswith("_") and name != "training"]
        hidden = [name for name in own if hasattr(nn.Module, name)]
        assert hidden == [], f"{path or row.name} hides {hidden}"
    assert network.apply(lambda module: None) is network
    assert copy.deepcopy(network).state_dict().keys() == network.state_dict().keys()


@each_class
def test_too_few_image_channels_are_told_at_construction(row: Network) -> None:
    if row.minimum_image_channels == 1:
        pytest.skip(f"{row.name} takes any number of channels")
    with pytest.raises(ValueError, match="at least"):
        build(row, TOPOLOGIES["plain 3d"][1], channels=row.minimum_image_channels - 1)


# --- variants -----------------------------------------------------------------------------------------------------


def variants(row: Network, at_once: int) -> list[dict[str, Any]]:
    """Options of every choice of at most so many of the network's own suffixes, at most one of each group."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for suffix in suffixes_of(row.name, SELF_CONFIGURING):
        groups.setdefault(suffix.group, [{}]).append(suffix.options_for())
    chosen = [parts for parts in itertools.product(*groups.values()) if sum(map(bool, parts)) <= at_once]
    return [{key: value for part in parts for key, value in part.items()} for parts in chosen]


def keys_of(row: Network, options: dict[str, Any], topology: str) -> tuple | None:
    """What tells a variant's network from others; None where it refuses the topology."""
    architecture = copy.deepcopy(TOPOLOGIES[topology][1])
    architecture["arch_kwargs"] |= options
    try:
        network = built_without_data(lambda: build(row, architecture))
    except ValueError:
        return None
    return tuple(sorted((key, tuple(value.shape)) for key, value in network.state_dict().items()))


@each_class
def test_every_suffix_of_a_network_builds_a_network(row: Network) -> None:
    for suffix in suffixes_of(row.name, SELF_CONFIGURING):
        built = [topology for topology in TOPOLOGIES if keys_of(row, suffix.options_for(), topology)]
        assert built, f"_{suffix.name} builds nothing"


@pytest.mark.parametrize("at_once", [2, pytest.param(100, marks=pytest.mark.slow)])
@each_class
def test_variants_that_build_different_networks_have_plans_of_different_names(row: Network, at_once: int) -> None:
    names: dict[str, tuple] = {}
    for options in variants(row, at_once):
        found = tuple(keys_of(row, options, topology) for topology in QUICK)
        name = default_name(row.name, 8, options)
        assert names.setdefault(name, found) == found, f"{name} names two networks"
        assert "__" not in name
        assert name.isidentifier()
    assert default_name(row.name, 8, {"no_suffix_sets_this": 1}) != default_name(row.name, 8, {})
