"""What the plugin knows of the inside of PyTorch is still so. Where a test fails, the release has moved it: read
``planning/private_torch.py`` against the new one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from nnunet_ext.planning import cuda_rules
from nnunet_ext.planning.private_torch import is_composed, piece_by_piece, uncompiled, warn_of_unknown_autocast


class Names(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


def seen(func: Any, *args: Any, **kwargs: Any) -> list[str]:
    with Names() as names:
        func(*args, **kwargs)
    return names.seen


def test_functions_ask_for_a_mode_by_the_names_that_are_answered_no() -> None:
    checks = [name for name in vars(functional) if name.startswith("has_torch_function")]
    assert checks, "torch.nn.functional has other checks than has_torch_function..."
    for func in (functional.normalize, functional.interpolate, functional.multi_head_attention_forward):
        assert set(func.__code__.co_names) & set(checks), f"{func.__name__} asks by another name"


def test_the_pieces_of_a_function_are_seen_instead_of_the_whole() -> None:
    image = torch.ones(2, 4)
    assert seen(functional.normalize, image) == ["normalize"]
    pieces = seen(piece_by_piece(functional.normalize), image)
    assert "norm" in pieces
    assert "normalize" not in pieces
    assert torch.equal(piece_by_piece(functional.normalize)(image), functional.normalize(image))


def test_functions_made_of_others_are_told_from_those_that_are_not() -> None:
    assert is_composed(functional.normalize)
    assert not is_composed(functional.max_pool2d)  # chooses between two others
    assert not is_composed(functional.conv2d)
    assert not is_composed(torch.relu)


def test_this_release_applies_autocast_as_the_rules_know_it(recwarn: pytest.WarningsRecorder) -> None:
    warn_of_unknown_autocast.cache_clear()
    with cuda_rules.CudaRules(torch.float16):
        pass
    assert not [warning for warning in recwarn if "autocast in a way" in str(warning.message)]


def test_a_release_that_hides_the_pieces_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    warn_of_unknown_autocast.cache_clear()
    monkeypatch.setattr(cuda_rules, "is_composed", lambda _: False)
    with (
        pytest.warns(UserWarning, match="autocast in a way that this plugin does not know"),
        cuda_rules.CudaRules(torch.float16),
    ):
        pass
    warn_of_unknown_autocast.cache_clear()


def test_the_network_inside_a_compiled_one_is_found() -> None:
    network = nn.Linear(2, 2)
    assert uncompiled(torch.compile(network)) is network, "torch.compile keeps the network under another name"
    assert uncompiled(network) is network
