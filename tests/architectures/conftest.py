"""The golden numbers of the networks and the rules by which their weights and inputs were drawn."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parents[1] / "golden" / "cfnet"
CFFORMER_GOLDEN = Path(__file__).parents[1] / "golden" / "cfformer"
AUTHORS_GOLDEN = Path(__file__).parents[1] / "golden" / "cfformer_authors"
PAM_GOLDEN = Path(__file__).parents[1] / "golden" / "pam"


def uniform(name: str, shape: Sequence[int]) -> np.ndarray:
    """Numbers in [-1, 1) that depend on the name alone."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return 2 * generator.random(size=tuple(shape)) - 1


class CFNetGolden:
    """Golden numbers of the reference implementation; see ``tests/golden/README.md``."""

    def __init__(self) -> None:
        self.numbers: dict[str, Any] = json.loads((GOLDEN / "golden.json").read_text())
        self.live: dict[str, list[int]] = {
            entry["key"]: entry["shape"] for entry in json.loads((GOLDEN / "live_keys.json").read_text())["entries"]
        }
        self.outputs: Mapping[str, np.ndarray] = np.load(GOLDEN / "outputs.npz")

    def fill(self, key: str, shape: Sequence[int]) -> np.ndarray:
        """The tensor of a published key."""
        if key.endswith("num_batches_tracked"):
            return np.array(0)
        values = uniform(key, shape)
        if key.endswith("running_var"):
            return 1 + 0.5 * values
        if key.endswith(("running_mean", "bias")):
            return 0.1 * values
        if len(shape) == 1:
            return 1 + 0.2 * values
        values = values * math.sqrt(3 / math.prod(shape[1:]))
        if key.endswith(("kv1.weight", "kv2.weight")):
            values = values * 0.25
        return values * 512 if key == "aspp3.conv2.weight" else values

    def weights(self) -> dict[str, torch.Tensor]:
        return {key: torch.as_tensor(self.fill(key, shape)) for key, shape in self.live.items()}

    def image(self, name: str, shape: Sequence[int]) -> torch.Tensor:
        return torch.as_tensor(math.sqrt(3) * uniform(name, shape))


class CFFormerGolden:
    """Golden numbers of CFFormer's parts; see ``tests/golden/README.md``. Everything is float64."""

    folder = CFFORMER_GOLDEN

    @classmethod
    @cache
    def load(cls, name: str) -> Any:
        return json.loads((cls.folder / f"{name}.json").read_text())

    @staticmethod
    def image(key: str, shape: Sequence[int]) -> torch.Tensor:
        return torch.as_tensor(uniform(key, shape))

    @staticmethod
    def fill(key: str, shape: Sequence[int]) -> torch.Tensor:
        """The tensor of a published key; its last part decides the range."""
        name = key.rsplit(".", 1)[-1]
        if name == "num_batches_tracked":
            return torch.tensor(0)
        values = uniform(key, shape)
        if name == "logit_scale":  # some above the clamp at ln 100, which is 4.6
            values = 2.5 + 3 * values
        elif name == "running_var":
            values = 1 + 0.5 * values
        elif name in ("running_mean", "bias", "q_bias", "v_bias"):
            values = 0.1 * values
        elif len(shape) == 1:
            values = 1 + 0.25 * values
        else:
            values = values * math.sqrt(3 / math.prod(shape[1:]))
        return torch.as_tensor(values)

    def filled(self, state: Mapping[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
        """``state`` with its tensors drawn by the rule; what a network keeps beside weights stays."""
        return {
            key: value if key.endswith("_extra_state") else self.fill(prefix + key, value.shape)
            for key, value in state.items()
        }

    def fill_trainable(self, network: torch.nn.Module) -> None:
        """Weights by the rule, with every scale of attention below its clamp, where the gradient is zero."""
        network.load_state_dict(self.filled(network.state_dict()))
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith("logit_scale"):
                    parameter.clamp_(max=4.0)

    @staticmethod
    def error(actual: torch.Tensor, summary: Mapping[str, Any]) -> float:
        """Largest difference over the largest expected magnitude, of the samples and of the sum over all."""
        assert list(actual.shape) == summary["shape"], f"shape {tuple(actual.shape)} instead of {summary['shape']}"
        flat = actual.detach().contiguous().flatten()
        found = flat if "values" in summary else flat[summary["index"]]
        expected = torch.tensor(summary["values"] if "values" in summary else summary["value"], dtype=flat.dtype)
        samples = (found - expected).abs().max().item() / max(abs(summary["min"]), abs(summary["max"]))
        total = abs(flat.sum().item() - summary["sum"]) / summary["abs_sum"]
        return max(samples, total)


class CFFormerAuthorsGolden(CFFormerGolden):
    """Golden numbers of the authors' network; keys are those of its code."""

    folder = AUTHORS_GOLDEN

    def weights(self) -> dict[str, torch.Tensor]:
        """Every entry of an official checkpoint of the tiny size, each once."""
        shapes = {key: shape for key, (shape, _) in self.load("keys_s")["keys"].items()}
        return {key: torch.zeros(s) if "relative_" in key else self.fill(key, s) for key, s in shapes.items()}

    @staticmethod
    def logits(name: str) -> torch.Tensor:
        with np.load(AUTHORS_GOLDEN / "logits_s.npz") as arrays:
            return torch.as_tensor(arrays[name])


class PamGolden:
    """Golden numbers of the PAM networks and their blocks; see ``tests/golden/README.md``. Everything is float64."""

    @staticmethod
    @cache
    def load(name: str) -> dict[str, Any]:
        """The cases of ``name``.json."""
        content = json.loads((PAM_GOLDEN / f"{name}.json").read_text())
        return content.get("blocks") or content["cases"]

    @staticmethod
    @cache
    def keys() -> dict[str, dict[str, list[int]]]:
        """Name of a list -> published keys of a state dict and their shapes."""
        with gzip.open(PAM_GOLDEN / "state_dict_keys.json.gz") as file:
            return {name: dict(entries) for name, entries in json.load(file).items()}

    @staticmethod
    def normal(key: str, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal numbers that depend on the key alone."""
        generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
        return torch.as_tensor(generator.standard_normal(tuple(shape)))

    @classmethod
    def image(cls, key: str, shape: Sequence[int]) -> torch.Tensor:
        """An input: normal numbers and a wave along the slices."""
        wave = torch.cos(0.7 * torch.arange(shape[2], dtype=torch.float64))
        return cls.normal(key, shape) + wave.reshape(-1, *(1,) * (len(shape) - 3))

    @classmethod
    def fill(cls, shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
        """Weights under the published keys."""
        return {key: cls._filled(key, shape, shapes) for key, shape in shapes.items()}

    @classmethod
    def _filled(cls, key: str, shape: Sequence[int], shapes: Mapping[str, Sequence[int]]) -> torch.Tensor:
        parent, _, name = key.rpartition(".")
        z = cls.normal(key, shape)
        if name == "num_batches_tracked":
            return torch.tensor(0)
        if name in ("running_mean", "running_var"):
            return 0.1 * z if name == "running_mean" else 1 + 0.1 * z.abs()
        if name == "gamma":
            return 0.5 + 0.1 * z
        if key.endswith("fc.0.bias"):
            return 1 + 0.1 * z
        if name == "bias":
            return 0.1 * z
        if len(shape) >= 2:
            return z / math.sqrt(math.prod(shape[1:]) or 1)
        return 1 + 0.1 * z if f"{parent}.bias" in shapes else 0.25 + 0.05 * z

    @classmethod
    def fill_sound(cls, prefix: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
        """Weights of a sound form, whose random keys start with ``prefix``."""
        filled = {}
        for name, shape in shapes.items():
            z = cls.normal(f"{prefix}.{name}", shape)
            if len(shape) >= 2:
                filled[name] = z / math.sqrt(math.prod(shape[1:]))
            elif name.endswith("norm.w") or name in ("norm1.w", "norm2.w"):
                filled[name] = 1 + 0.1 * z
            elif name == "gamma":
                filled[name] = 0.5 + 0.1 * z
            elif name.rpartition(".")[2] == "b1" or name == "fc1.b":
                filled[name] = 1 + 0.1 * z
            else:
                filled[name] = 0.1 * z
        return filled

    @staticmethod
    def error(actual: torch.Tensor, record: Mapping[str, Any]) -> float:
        """Largest difference: of 64 samples over the largest expected magnitude, of sums over the sum of magnitudes."""
        assert list(actual.shape) == record["shape"], f"shape {tuple(actual.shape)} instead of {record['shape']}"
        flat = actual.detach().contiguous().flatten()
        count = flat.numel()
        index = [k * (count - 1) // 63 for k in range(64)] if count > 64 else list(range(count))
        samples = (flat[index] - torch.tensor(record["samples"], dtype=flat.dtype)).abs().max().item()
        largest = max(abs(record["min"]), abs(record["max"]))
        extremes = max(abs(flat.min().item() - record["min"]), abs(flat.max().item() - record["max"]))
        sums = max(abs(flat.sum().item() - record["sum"]), abs(flat.abs().sum().item() - record["abs_sum"]))
        return max(samples / largest, extremes / largest, sums / record["abs_sum"])

    @staticmethod
    def gradient_error(actual: torch.Tensor, record: Mapping[str, Any], scale: float = 1.0) -> float:
        """Difference of both sums over the expected sum of magnitudes; over ``scale`` where the gradient is nothing."""
        difference = max(abs(actual.sum().item() - record["sum"]), abs(actual.abs().sum().item() - record["abs_sum"]))
        return difference / max(record["abs_sum"], scale)


@pytest.fixture(scope="session")
def pam_golden() -> PamGolden:
    return PamGolden()


@pytest.fixture(scope="session")
def authors_golden() -> CFFormerAuthorsGolden:
    return CFFormerAuthorsGolden()


@pytest.fixture(scope="session")
def golden() -> CFNetGolden:
    return CFNetGolden()


@pytest.fixture(scope="session")
def cfformer_golden() -> CFFormerGolden:
    return CFFormerGolden()


@pytest.fixture(autouse=True)
def _one_thread(single_thread: None) -> None:
    """Everything below runs on one thread."""


@pytest.fixture(scope="session")
def relative_error():
    """``relative_error(actual, expected)``: largest difference over the largest expected magnitude."""

    def measure(actual: torch.Tensor | np.ndarray, expected: torch.Tensor | np.ndarray) -> float:
        actual, expected = (
            x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x) for x in (actual, expected)
        )
        assert actual.shape == expected.shape, f"shape {actual.shape} instead of {expected.shape}"
        return float(np.abs(actual - expected).max() / np.abs(expected).max())

    return measure


@pytest.fixture(scope="session")
def plan_arguments():
    """``plan_arguments(dimension=3, n_stages=3, ...)``: small keyword arguments of a plain U-Net's plan."""

    def make(dimension: int = 3, n_stages: int = 3, features: Sequence[int] | None = None, **changes: Any) -> dict:
        names = {2: "2d", 3: "3d"}
        arguments = {
            "input_channels": 2,
            "num_classes": 3,
            "n_stages": n_stages,
            "features_per_stage": list(features or [8 * 2**stage for stage in range(n_stages)]),
            "conv_op": getattr(torch.nn, f"Conv{names[dimension]}"),
            "kernel_sizes": [[3] * dimension] * n_stages,
            "strides": [[1] * dimension] + [[2] * dimension] * (n_stages - 1),
            "n_conv_per_stage": [2] * n_stages,
            "n_conv_per_stage_decoder": [2] * (n_stages - 1),
            "conv_bias": True,
            "norm_op": getattr(torch.nn, f"InstanceNorm{names[dimension]}"),
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": torch.nn.LeakyReLU,
            "nonlin_kwargs": {"inplace": True},
        }
        return {**arguments, **changes}

    return make
