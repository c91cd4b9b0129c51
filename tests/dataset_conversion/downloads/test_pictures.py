"""Downloads of single pictures, BUSI and Kvasir-SEG: there and back, and what is refused (rows of the bad inputs)."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnunet_ext.dataset_conversion.datasets.busi import identifier

FOLDERS = {"busi": "Dataset531_BUSI", "kvasir-seg": "Dataset537_KvasirSEG"}
CASE = "benign (195)"  # three masks
HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def _masks(source: Path) -> dict[str, np.ndarray]:
    """Name of the first mask -> all masks of the picture united, of a folder or a zip."""
    files = {path.as_posix(): path.read_bytes() for path in source.rglob("*") if path.suffix in (".png", ".jpg")}
    for path in source.glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            files |= {name: archive.read(name) for name in archive.namelist()}
    united: dict[str, list[np.ndarray]] = defaultdict(list)
    for path, data in files.items():
        if "_mask" in path or "/masks/" in path:
            pixels = _pixels(data)
            first = path.rsplit("/", 1)[-1].replace("_mask_1", "_mask").replace("_mask_2", "_mask")
            united[first].append(
                (pixels if pixels.ndim == 2 else pixels[..., 0]) > (0 if pixels.dtype == bool else 127)
            )
    return {name: np.any(parts, axis=0) for name, parts in united.items()}


@pytest.mark.parametrize("options", [(), ("--resize", "64x64", "--rgb-norm", "0_1")], ids=["as it is", "resized"])
@pytest.mark.parametrize(("dataset", "layout"), [(name, layout) for name in FOLDERS for layout in ("folder", "zip")])
def test_a_phantom_converts_verifies_and_comes_back(
    dataset, layout, options, pristine, command, verify, nnunet_folders, tmp_path
):
    source = pristine(dataset, layout=layout, quirks=True, cases=8)
    outcome = command("convert", dataset, "-i", source, *options, *(["--with-normal"] if dataset == "busi" else []))
    assert outcome.code == 0, outcome.err
    converted = nnunet_folders.raw / FOLDERS[dataset]
    verify(converted)
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for label in converted.glob("labelsT[rs]/*.png"):
        shutil.copy(label, predictions)
    assert command("to-submission", dataset, "-i", predictions, "-o", tmp_path / "back").code == 0
    expected = _masks(source)
    back = {path.name: _pixels(path.read_bytes()) for path in (tmp_path / "back").iterdir()}
    assert back.keys() == expected.keys()
    assert len(back) == (10 if dataset == "busi" else 8), "eight, and two normal pictures"
    for name, values in back.items():
        if values.dtype != bool:
            assert set(np.unique(values > 127)) <= {False, True}
            values = values > 127
        if not options:
            assert np.array_equal(values, expected[name]), name
        else:
            assert values.shape == expected[name].shape, name
            both = (values & expected[name]).sum()
            assert 2 * both >= 0.85 * (values.sum() + expected[name].sum()), f"{name} is another lesion"


def test_the_quirks_of_busi_are_found(pristine, command, nnunet_folders):
    outcome = command("convert", "busi", "-i", pristine("busi", quirks=True, cases=10), "--json")
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert document["findings_by_code"] == {"CNT01": 1, "DUP03": 1, "DUP04": 1, "IMG03": 1, "LAB07": 2, "SPL03": 1}
    assert document["left_out"] == {"normal, nothing to segment (--with-normal keeps them)": 2}
    folds = json.loads((nnunet_folders.raw / FOLDERS["busi"] / "splits_final.json").read_text())
    for pair in (("benign_0433", "malignant_0145"), ("benign_0051", "benign_0133")):
        assert all((pair[0] in fold["val"]) == (pair[1] in fold["val"]) for fold in folds), pair


def test_the_quirk_of_kvasir_seg_is_found(pristine, command):
    outcome = command("convert", "kvasir-seg", "-i", pristine("kvasir-seg", quirks=True), "--json")
    document = json.loads(outcome.out)
    assert document["findings_by_code"] == {"CNT01": 1, "GEO07": 1, "LAB06": 6}
    assert document["cases"] == {"train": 5, "test": 1}


# --- names (rows 4, 5, 14-17) -------------------------------------------------------------------------------------


def _first(source: Path) -> str:
    return min(path.stem for path in source.rglob("benign (*).png"))


def test_busi_is_not_brats(download, refused):
    refused("LAY01", ("this looks like busi",), "convert", "BraTS2021", "-i", download("busi"))


def test_two_datasets_side_by_side_need_a_name(download, refused, tmp_path):
    for dataset in FOLDERS:
        download(dataset, name=f"both/{dataset}")
    refused("LAY02", ("busi and kvasir-seg both match",), "convert", "auto", "-i", tmp_path / "both")


def test_two_spellings_of_one_name_are_refused(download, refused):
    source = download("busi")
    name = _first(source)
    for path in list(source.rglob(f"{name}*")):
        shutil.copy(path, path.with_name(path.name.replace(" (", "_(")))
    refused("NAM04", (f"two cases become {identifier(name)}", name.replace(" ", "_")), "convert", "busi", "-i", source)


def test_a_picture_without_mask_and_a_mask_without_picture_are_named(download, refused):
    source = download("busi")
    name = _first(source)
    mask, picture = (next(source.rglob(f"{name}{ending}.png")) for ending in ("_mask", ""))
    mask.rename(source.parent / "mask.png")
    refused("NAM01", (f"{name} lacks mask",), "convert", "busi", "-i", source)
    (source.parent / "mask.png").rename(mask)
    picture.unlink()
    refused("NAM01", (f"{name}: mask without image",), "convert", "busi", "-i", source)


def test_a_kvasir_mask_of_another_name_is_refused(download, refused):
    source = download("kvasir-seg")
    mask = sorted(source.rglob("masks/*.jpg"))[2]
    mask.rename(mask.with_name("polyp.jpg"))
    refused("NAM01", (f"{mask.stem} lacks mask",), "convert", "kvasir-seg", "-i", source)


def test_flat_and_nested_trees_are_found_and_only_nesting_is_told(download, command):
    source = download("busi")
    flat = source.parent / "flat"
    flat.mkdir()
    for path in source.rglob("*.png"):
        shutil.copy(path, flat)
    deep = source.parent / "deep" / "a"
    shutil.copytree(source, deep)
    for place, nested in ((source, 0), (flat, 0), (source.parent / "deep", 3)):
        document = json.loads(command("convert", "busi", "-i", place, "--dry-run", "--json").out)
        assert document["cases"]["train"] == 6, place
        assert document["findings_by_code"].get("LAY03", 0) == nested, "one for each class below a"


def test_one_copy_of_a_tree_within_another_is_used_once(download, command, nnunet_folders):
    source = download("kvasir-seg")
    shutil.copytree(source / "Kvasir-SEG", source / "again" / "Kvasir-SEG")
    outcome = command("convert", "kvasir-seg", "-i", source, "--json")
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert document["cases"] == {"train": 5, "test": 1}
    assert document["findings_by_code"]["LAY04"] == 2, "images and masks"


# --- content (rows 32-36, 39, 61, 62) -----------------------------------------------------------------------------


def _as(kind: str, data: bytes) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(stream, kind)
    return stream.getvalue()


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


DAMAGE = {
    "empty picture (32)": (".png", lambda _: b"", "IO02", "is empty"),
    "a web page (33)": (".png", lambda _: HTML, "IO02", "is a web page"),
    "a pointer (34)": ("_mask.png", lambda _: b"version https://git-lfs.github.com/spec/v1\n", "IO02", "Git LFS"),
    "cut short (35)": (".png", lambda data: data[: len(data) // 2], "IO01", "cannot be decoded"),
    "JPEG data (36)": (".png", lambda data: _as("JPEG", data), "IO01", "is JPEG data in a .png name"),
    "mask of another size (39)": ("_mask.png", lambda _: _png(np.zeros((9, 9), bool)), "GEO02", "shape"),
    "second mask of another size": ("_mask_1.png", lambda _: _png(np.zeros((9, 9), bool)), "GEO02", "shape"),
    "grey photograph as mask (61)": (
        "_mask.png",
        lambda data: _png(np.tile(np.arange(_pixels(data).shape[1]) * 5, (len(_pixels(data)), 1)).astype(np.uint8)),
        "LAB03",
        "neither",
    ),
    "mask in alpha alone (62)": (
        "_mask.png",
        lambda data: _png(
            np.dstack([np.zeros((*_pixels(data).shape, 3), np.uint8), 255 * _pixels(data).astype(np.uint8)])
        ),
        "LAB03",
        "only in alpha",
    ),
    "white mask whose shape is in alpha": (
        "_mask.png",
        lambda data: _png(
            np.dstack([np.full((*_pixels(data).shape, 3), 255, np.uint8), 255 * _pixels(data).astype(np.uint8)])
        ),
        "LAB03",
        "only in alpha",
    ),
    "mask of 0 and 1": ("_mask.png", lambda data: _png(_pixels(data).astype(np.uint8)), "LAB01", "no value above 1"),
    "16-bit picture": (".png", lambda _: _png(np.ones((40, 48), np.uint16)), "DT01", "8-bit"),
    "constant picture": (".png", lambda data: _png(np.full_like(_pixels(data), 7)), "IMG01", "7 everywhere"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_picture_is_refused(what, download, refused):
    ending, damage, code, text = DAMAGE[what]
    source = download("busi", quirks=True)
    case = CASE if ending == "_mask_1.png" else "benign (433)"
    file = next(source.rglob(f"{case}{ending}"))
    file.write_bytes(damage(file.read_bytes()))
    refused(code, (text, file.name), "convert", "busi", "-i", source, "--splits", "0", bad_case=identifier(case))


def test_a_truncated_jpeg_is_refused(download, refused):
    source = download("kvasir-seg")
    file = sorted(source.rglob("images/*.jpg"))[1]
    file.write_bytes(file.read_bytes()[:-400])
    refused("IO01", ("cannot be decoded", file.name), "convert", "kvasir-seg", "-i", source, bad_case=file.stem)


def test_options_for_pictures_are_refused_in_one_line_elsewhere(command, tmp_path, nnunet_folders):
    for arguments, text in (
        (("brats2021", "--resize", "224x224"), "--resize is for pictures, and brats2021 is made of volumes"),
        (("brats2021", "--rgb-norm", "0_1"), "--rgb-norm is for pictures, and brats2021 is made of volumes"),
        (("busi", "--resize", "224"), '--resize: "224" is no size - give width and height, such as 224x224'),
        (("busi", "--resize", "2x2"), "--resize: 2x2 is no size"),
        (("busi", "--with-normal"), "source not found"),
        (("busi", "--no-official-split"), "--no-official-split is no option of busi - its own options: --with-normal"),
        (("kvasir-seg", "--with-normal"), "--with-normal is no option of kvasir-seg"),
        (("busi", "--official-split"), "--official-split is no option of busi"),
    ):
        outcome = command("convert", *arguments, "-i", tmp_path / "nowhere")
        assert outcome.code == 2
        assert text in outcome.err
        assert len(outcome.err.strip().splitlines()) == 1
