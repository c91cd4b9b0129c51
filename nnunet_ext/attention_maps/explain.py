"""From a model's folder and a case to a folder of maps."""

from __future__ import annotations

from pathlib import Path

import torch

from nnunet_ext import __version__
from nnunet_ext.attention_maps.case_files import find_case
from nnunet_ext.attention_maps.image_grid import ImageGrid
from nnunet_ext.attention_maps.loaded_model import Model, load_model, preprocessed
from nnunet_ext.attention_maps.map_files import MapFile, MapWriter
from nnunet_ext.attention_maps.recorder import places_of
from nnunet_ext.attention_maps.tiles import gather
from nnunet_ext.errors import UserError
from nnunet_ext.files import MAX_NAME_BYTES, temporary_name, write_folder_atomically
from nnunet_ext.progress import with_progress
from nnunet_ext.report.grid import read_shown_image, read_shown_shape
from nnunet_ext.shown import abridged, joined
from nnunet_ext.trainers.device import require_device


def write_attention(
    model_folder: Path,
    case: Path,
    out: Path,
    *,
    fold: str | None = None,
    checkpoint: str = "checkpoint_final.pth",
    device: str = "cuda",
    step_size: float = 0.5,
    containing: tuple[str, ...] = (),
    channel: int = 0,
    trusted: bool = False,
) -> list[MapFile]:
    """Write what the attention blocks of a trained network do in the prediction of one case.

    Args:
        model_folder: ``TRAINER__PLANS__CONFIGURATION``.
        case: as of ``find_case``.
        out: folder to make; it may be there if it is empty.
        fold, checkpoint: as of ``load_model``.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
        step_size: from one tile to the next, in tiles, above 0 and at most 1.
        containing: only places in the network whose name contains one of these texts; all unless given.
        channel: of the image, that pictures show.
        trusted: follow whatever classes the plans name.

    Returns:
        The files in ``out`` that hold maps, in the order of the network.

    Raises:
        UserError: there is something in ``out``; model or case are missing, refused or do not fit each other; the
            network has no attention to show.
    """
    _check_output(out)
    if not 0 < step_size <= 1:
        raise UserError(f"-step_size is above 0 and at most 1; got {step_size:g}")
    require_device(device)
    model = load_model(model_folder, fold, checkpoint, trusted)
    _require_places(model, containing)
    ending = model.dataset.get("file_ending")
    if ending is None:
        raise UserError("it does not tell the file_ending of images", file=model_folder / "dataset.json")
    files = find_case(case, ending)
    shown = _shown_file(files.files, channel)
    # All of them: nnU-Net would read the rest of a file that is cut short as zeros, and say nothing.
    image, image_grid = [read_shown_image(file) for file in files.files][files.files.index(shown)]
    data, properties = preprocessed(model, files.files)
    with write_folder_atomically(out) as folder:
        found = gather(model.network, data, model.configuration.patch_size, torch.device(device), step_size, containing)
        grid = ImageGrid(model.plans, model.configuration, properties, shown, read_shown_shape(shown))
        writer = MapWriter(folder, files.name, grid, image, image_grid, found.starts)
        for gathered in with_progress(found.found, "write", len(found.found), "map"):
            writer.write(gathered)
        writer.write_index(
            {
                "nnunet_ext": __version__,
                "case": files.name,
                "trainer": model.trainer,
                "plans": model.plans.plans_name,
                "configuration": model.configuration_name,
                "fold": model.fold,
                "checkpoint": checkpoint,
                "network": type(model.network).__name__,
                "tiles": len(found.starts),
            }
        )
    return writer.files


def _check_output(out: Path) -> None:
    if len(temporary_name(out).name.encode(errors="surrogateescape")) > MAX_NAME_BYTES:
        raise UserError(f"the name '{abridged(out.name)}' is too long for a folder", remedy="give -o a shorter one")
    if out.exists() and not out.is_dir():
        raise UserError("it is a file, and the maps go into a folder", file=out, remedy="give -o another name")
    if out.is_dir() and next(out.iterdir(), None) is not None:
        raise UserError("the folder holds something", file=out, remedy="give -o a new folder, or remove this one")


def _shown_file(files: list[Path], channel: int) -> Path:
    """The file of a channel; the only file where all channels are in one, as those of a colour picture."""
    if len(files) == 1:
        return files[0]
    if not 0 <= channel < len(files):
        raise UserError(
            f"the case has no channel {channel}", file=files[0].parent, remedy=f"choose from 0 to {len(files) - 1}"
        )
    return files[channel]


def _require_places(model: Model, containing: tuple[str, ...]) -> None:
    if places_of(model.network, containing):
        return
    everywhere = [place.name for place in places_of(model.network)]
    network = type(model.network).__name__
    if everywhere:
        raise UserError(
            f"no place in {network} with maps has {joined([abridged(text) for text in containing], 'or')} in its name",
            remedy=f"choose from {', '.join(everywhere)}",
        )
    raise UserError(
        f"the network {network} of {model.trainer} has no attention that can be shown",
        remedy="docs/attention.md names the networks that have some; 'nnunet_ext list networks' shows all",
    )
