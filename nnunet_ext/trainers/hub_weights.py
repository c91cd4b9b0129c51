"""Published weights of encoders from timm's hub and from torchvision's, and what to fetch where there is no network."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nnunet_ext.errors import UserError, reason_of
from nnunet_ext.families import ENCODERS
from nnunet_ext.lookup import did_you_mean

TORCHVISION = "torchvision:"
TORCHVISION_WEIGHTS = "IMAGENET1K_V1"
_TIMEOUT = 10  # seconds
_FILES = (".pth", ".pt", ".bin", ".safetensors")


class NotFetchedError(UserError):
    """Weights of a hub could not be fetched."""


@dataclass(frozen=True)
class HubFile:
    """A file on a hub.

    Args:
        url: of the file.
        name: to store it under; on timm's hub all files have one name.
        windows: of a transformer's training, one a stage, where the file does not tell them; else empty.
    """

    url: str
    name: str
    windows: tuple[int, ...] = ()


def is_file(source: str) -> bool:
    """Whether a source names a file rather than an encoder of a hub."""
    return Path(source).suffix in _FILES or Path(source).is_file()


def has_windows(part: str) -> bool:
    """Whether weights of a part go with the windows that they were trained with."""
    return any(row.windows for row in ENCODERS[part])


def fetch(source: str, part: str) -> tuple[dict[str, torch.Tensor], list[tuple[int, ...]] | None]:
    """State dict, and for a transformer of timm's the windows that it was trained with.

    Args:
        source: a name of timm's, or one of torchvision's behind ``torchvision:``.
        part: of the network, as ``families.ENCODERS`` names it.

    Raises:
        UserError: no such name.
        NotFetchedError: there is no network, or the hub refuses.
    """
    file = hub_file(source, part)
    _require_reachable(source, file)
    try:
        if source.startswith(TORCHVISION):
            from torchvision import models

            name = source.removeprefix(TORCHVISION)
            return models.get_model(name, weights=TORCHVISION_WEIGHTS).state_dict(), None
        import timm

        model = timm.create_model(source.removeprefix("timm:"), pretrained=True)
    except Exception as error:  # clients of hubs raise errors of many types
        raise _not_fetched(source, file, error) from error
    return model.state_dict(), _trained_windows(model) if has_windows(part) else None


def hub_file(source: str, part: str) -> HubFile:
    """Where the weights of a name lie.

    Raises:
        UserError: the hub has no encoder of that name for this part.
    """
    return _torchvision_file(source, part) if source.startswith(TORCHVISION) else _timm_file(source, part)


def _torchvision_file(source: str, part: str) -> HubFile:
    """What CFFormer's authors started from."""
    from torchvision import models

    name = source.removeprefix(TORCHVISION)
    known = models.list_models(include=list({row.torchvision for row in ENCODERS[part]}))
    if name not in known:
        remedy = did_you_mean(name, known, f"choose from {', '.join(known)}")
        raise UserError(f"torchvision has no {part} '{name}'", remedy=remedy)
    url = models.get_model_weights(name)[TORCHVISION_WEIGHTS].url
    return HubFile(url, url.rpartition("/")[2])


def _timm_file(source: str, part: str) -> HubFile:
    import timm
    from huggingface_hub import hf_hub_url

    name = source.removeprefix("timm:")
    architecture, known = name.partition(".")[0], timm.list_models(list({row.timm for row in ENCODERS[part]}))
    if architecture not in known:
        remedy = (
            f"give a name such as {ENCODERS[part][0].example}, or a file that ends in .pth, .pt, .bin or .safetensors"
        )
        raise UserError(f"timm has no {part} '{name}'", remedy=did_you_mean(architecture, known, remedy))
    tags = timm.list_pretrained(f"{architecture}.*")
    if not tags or ("." in name and name not in tags):
        remedy = (
            did_you_mean(name, tags, f"choose from {', '.join(tags)}") if tags else "choose another, or give a file"
        )
        raise UserError(f"timm has no weights '{name}'", remedy=remedy)
    known_weights: Any = timm.get_pretrained_cfg(name)
    windows: tuple[int, ...] = ()
    if has_windows(part):
        with torch.device("meta"):
            stages = _trained_windows(timm.create_model(architecture, pretrained=False))
        windows = tuple(window[0] for window in stages)
    repository, _, revision = (known_weights.hf_hub_id or "").partition("@")
    if not repository:
        return HubFile(known_weights.url, known_weights.url.rpartition("/")[2], windows)
    file = known_weights.hf_hub_filename or "model.safetensors"
    return HubFile(hf_hub_url(repository, file, revision=revision or None), name + Path(file).suffix, windows)


def _trained_windows(model: Any) -> list[tuple[int, ...]]:
    attentions = [stage.blocks[0].attn for stage in model.layers]
    return [
        tuple(each.pretrained_window_size) if all(each.pretrained_window_size) else tuple(each.window_size)
        for each in attentions
    ]


def options_for(sources: Mapping[str, str], window: Sequence[int] | None) -> tuple[list[HubFile], list[str]]:
    """The files to fetch by hand, and the options of ``nnunet_ext pretrained`` that take them.

    Args:
        sources: part of the network -> a name of a hub, or a file.
        window: that was given.
    """
    files, options = [], []
    windows = tuple(window or ())
    for part, source in sources.items():
        if is_file(source):
            options += [f"--{part}", source]
            continue
        file = hub_file(source, part)
        files.append(file)
        options += [f"--{part}", file.name]
        windows = windows or (file.windows[:1] if len(set(file.windows)) == 1 else file.windows)
    return files, [*options, *(["--window", *map(str, windows)] if windows else [])]


def _require_reachable(source: str, file: HubFile) -> None:
    """One attempt, without the repetitions and the output of the hubs' own clients; none for what was fetched before.

    Raises:
        NotFetchedError: nobody answers.
    """
    if _is_cached(source, file):
        return
    request = urllib.request.Request(file.url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_TIMEOUT).close()
    except urllib.error.HTTPError:
        return  # the hub answers; what it says to a download is for its client to tell
    except OSError as error:
        raise _not_fetched(source, file, error) from error


def _is_cached(source: str, file: HubFile) -> bool:
    if (Path(torch.hub.get_dir()) / "checkpoints" / file.url.rpartition("/")[2]).is_file():
        return True
    if source.startswith(TORCHVISION):
        return False
    import timm
    from huggingface_hub import try_to_load_from_cache

    known: Any = timm.get_pretrained_cfg(source.removeprefix("timm:"))
    return bool(known.hf_hub_id) and isinstance(
        try_to_load_from_cache(known.hf_hub_id.partition("@")[0], file.url.rpartition("/")[2]), str
    )


def _not_fetched(source: str, file: HubFile, error: Exception) -> NotFetchedError:
    reason = getattr(error, "reason", None)
    said = str(reason) if reason else f"{type(error).__name__}: {reason_of(error)}"
    return NotFetchedError(
        f"the weights of {source} could not be fetched ({said})",
        remedy=f"fetch {file.url} on a machine with a network and give the file",
    )
