"""Golden numbers of attention blocks, and the rules by which their weights and inputs were drawn."""

from __future__ import annotations

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

FOLDER = Path(__file__).parents[3] / "golden" / "pam"


class PamGolden:
    """Golden numbers of the PAM networks' blocks; see ``tests/golden/README.md``. Everything is float64."""

    @staticmethod
    @cache
    def load(name: str) -> dict[str, Any]:
        """The cases of ``name``.json."""
        content = json.loads((FOLDER / f"{name}.json").read_text())
        return content.get("blocks") or content["cases"]

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
