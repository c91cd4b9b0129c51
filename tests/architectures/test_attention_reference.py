"""The published U-Nets and V-Nets with attention against the numbers of the reference implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nnunet_ext.architectures.attention_unet import AttentionUNet
from nnunet_ext.architectures.attention_unet_reference import UNETS
from nnunet_ext.architectures.attention_vnet import AttentionVNet
from nnunet_ext.architectures.attention_vnet_reference import VNETS
from nnunet_ext.architectures.attention_weights import UNET, VNET, published_keys

CASES = tuple(json.loads((Path(__file__).parents[1] / "golden" / "pam" / "networks.json").read_text())["cases"])
TOLERANCE = 1e-9
# one of each kind in every run, all of them by 'make test-slow'
QUICK = {
    "dsn_unet3d_cpi", "unet_none_cbr", "unet_none_cpi_sigmoid_odd", "unet_se_max", "unet_csa_avg_and_max",
    "unet_sca_max", "unet_pam_gate_odd", "unet_pam_max", "unet_pe_r2", "vnet_none_in1", "vnet_se_avg", "vnet_csa_avg",
    "vnet_sca_avg_and_max", "vnet_pam_avg_and_max",
}  # fmt: skip
MALC = {"in_channels": 1, "num_classes": 11, "depth": 144}
HVSMR = {"in_channels": 1, "num_classes": 3, "depth": 192}
BRATS = {"in_channels": 4, "num_classes": 4, "depth": 144}
#: network -> parameters for the three datasets of the paper, width 16; the V-Nets take four channels at width 8 alone
COUNTS = {
    "UNet3D": (1022259, 1022123, 1022788),
    "PEUNet3d": (1044499, 1044363, 1045028),
    "cSEUNet3D": (1029439, 1029303, 1029968),
    "csSEUNet3D": (1189343, 1316279, 1189872),
    "scSEUNet3D": (1189343, 1316279, 1189872),
    "agscSEUNet3D": (1189343, 1316279, 1189872),
    "VNet": (6883755, 6883683, 1723828),
    "cSEVNet": (6890985, 6890913, 1725748),
    "csSEVNet": (7060215, 7188079, 1808650),
    "scSEVNet": (7060215, 7188079, 1808650),
    "agscSEVNet": (7060215, 7188079, 1808650),
}


def reference(network: str, **options: Any) -> nn.Module:
    return (AttentionUNet if network in UNETS else AttentionVNet).reference(network, **options)


def parameters_of(network: str, **options: Any) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in reference(network, **options).parameters())


def build(case: dict[str, Any]) -> nn.Module:
    """From the options of a golden case, which are named as in the reference."""
    options = dict(case["options"])
    for name in ("final", "levels"):
        options.pop(name, None)
    names = {"out_channels": "num_classes", "out": "num_classes", "inch": "in_channels", "deg": "width"}
    options = {names.get(name, name): value for name, value in options.items()}
    if case["network"] in VNETS:
        del options["groups"]  # the reference's blocks ignore it
    return reference(case["network"], **options).double()


def loaded(case: dict[str, Any], golden: Any) -> nn.Module:
    network = build(case)
    network.load_reference_state_dict(golden.fill(golden.keys()[case["keys"]]))
    return network


def listed(output: Any) -> list:
    return output if isinstance(output, list) else [output]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in CASES])
def test_published_network_gives_the_published_numbers(pam_golden: Any, name: str) -> None:
    case = pam_golden.load("networks")[name]
    network = loaded(case, pam_golden)
    image = pam_golden.image("input", case["input_shape"])
    final = torch.sigmoid if case["options"].get("final") == "sigmoid" else lambda x: x.softmax(1)
    with torch.no_grad():
        evaluated = network.eval()(image)
        trained = network.train()(image)
    for output, record in zip(listed(evaluated), listed(case["eval"]), strict=True):
        assert pam_golden.error(final(output), record) < TOLERANCE
    for output, record in zip(listed(trained), listed(case["train"]), strict=True):
        assert pam_golden.error(output, record) < TOLERANCE
    table = UNET if case["network"] in UNETS else VNET
    buffers = {published_keys(table, key, value)[0]: value for key, value in network.named_buffers()}
    for key, expected in case.get("running_stats_after_one_train_forward_abs_sum", {}).items():
        assert buffers[key].abs().sum().item() == pytest.approx(expected, rel=TOLERANCE), key


def test_every_list_of_keys_loads_and_every_case_has_its_parameters(pam_golden: Any) -> None:
    cases = pam_golden.load("networks")
    one_of_each = {(case["network"], case["keys"]): (name, case) for name, case in cases.items()}
    for name, case in one_of_each.values():
        with torch.device("meta"):
            network = build(case)
            shapes = pam_golden.keys()[case["keys"]]
            network.load_reference_state_dict({key: torch.empty(shape) for key, shape in shapes.items()})
        assert sum(parameter.numel() for parameter in network.parameters()) == case["n_params"], name


@pytest.mark.parametrize("network", COUNTS)
def test_default_networks_have_the_parameters_of_the_published_ones(network: str) -> None:
    brats = BRATS if network in UNETS else {**BRATS, "width": 8}
    for dataset, expected in zip((MALC, HVSMR, brats), COUNTS[network], strict=True):
        options = dict(dataset)
        assert parameters_of(network, **options) == expected


@pytest.mark.parametrize(
    ("network", "options", "expected"),
    [
        ("agscSEUNet3D", {"attention_gate": True, **MALC}, 1222050),
        ("agscSEUNet3D", {"attention_gate": True, **HVSMR}, 1348986),
        ("agscSEUNet3D", {"attention_gate": True, **BRATS}, 1222579),
        ("DSN_UNet3D", MALC, 1050793),
        ("UNet3D", {"order": "cri"}, 1021675),
        ("UNet3D", {"order": "crg"}, 1021091),
        ("UNet3D", {"order": "crb"}, 1021091),
        ("UNet3D", {"width": 32}, 4083547),
        ("VNet", {"order": "cri"}, 6882611),
        ("VNet", {"order": "crg"}, 6881467),
        ("VNet", {"order": "crb"}, 6881467),
        ("VNet", {"width": 32}, 27523659),
    ],
)
def test_variants_have_the_parameters_of_the_published_ones(network: str, options: dict, expected: int) -> None:
    assert parameters_of(network, **options) == expected


def test_weights_that_are_not_the_networks_are_refused_in_words(pam_golden: Any) -> None:
    case = pam_golden.load("networks")["vnet_pam_avg"]
    with torch.device("meta"):
        network = build(case)
        weights = {key: torch.empty(shape) for key, shape in pam_golden.keys()[case["keys"]].items()}
    with pytest.raises(ValueError, match=r"not the weights of agscSEVNet: 1 keys missing, such as final_conv\.bias"):
        network.load_reference_state_dict({k: v for k, v in weights.items() if k != "final_conv.bias"})
    with pytest.raises(ValueError, match="1 keys unknown, such as more"):
        network.load_reference_state_dict({**weights, "more": weights["final_conv.bias"]})
    with pytest.raises(RuntimeError, match="size mismatch"):
        network.load_reference_state_dict({**weights, "final_conv.bias": torch.empty(7, device="meta")})


@pytest.mark.parametrize("order", ["cir", "cil", "cie", "cpi"])
@pytest.mark.parametrize("network", ["scSEUNet3D", "agscSEVNet"])
def test_every_order_trains_for_any_batch(network: str, order: str) -> None:
    """The reference overwrites the input of a slice module, and takes one sample a batch."""
    torch.manual_seed(0)
    built = reference(network, in_channels=1, num_classes=2, width=4, depth=16, order=order)
    size = (16, 16, 16) if network in UNETS else (16, 32, 16)
    built(torch.randn(2, 1, *size)).square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in built.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AttentionUNet.reference("UNet"), "no published U-Net 'UNet'; choose one of UNet3D"),
        (lambda: AttentionVNet.reference("VNet3D"), "no published V-Net 'VNet3D'"),
        (lambda: AttentionUNet.reference("UNet3D", attention_gate=True), "UNet3D has no attention gate; agscSEUNet3D"),
        (lambda: AttentionUNet.reference("UNet3D", order="cpx"), "a layer order has one c.*got 'cpx'"),
        (lambda: AttentionVNet.reference("VNet", order="ci"), "a layer order has one c.*got 'ci'"),
        (lambda: AttentionVNet.reference("VNet", in_channels=4), "1 channel, or half the width, which is 8; got 4"),
    ],
)
def test_arguments_that_make_no_published_network_are_refused_in_words(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_v_net_refuses_sizes_that_do_not_come_back(pam_golden: Any) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"multiples of \(16, 16, 16\); got \(24, 32, 48\)"):
        AttentionVNet.reference("VNet")(torch.empty(1, 1, 24, 32, 48))
