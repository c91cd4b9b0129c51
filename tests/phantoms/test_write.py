"""A synthetic download has the tree, the formats and the quirks of the real one; the same seed gives the same bytes."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from nnunet_ext.cli import main
from nnunet_ext.dataset_conversion.datasets.kvasir_seg import official_split
from nnunet_ext.dataset_conversion.folds.duplicates import close_pairs
from nnunet_ext.dataset_conversion.formats.pictures import difference_hash
from nnunet_ext.dataset_conversion.reporting.phantom_source import MARK
from nnunet_ext.errors import UserError
from nnunet_ext.phantoms import DATASETS, write, write_phantoms

SMALL = (16, 20, 20)
ALL_LAYOUTS = [(name, layout) for name, row in DATASETS.items() for layout in row.layouts]


def _tree(root: Path) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def _label(content: bytes) -> np.ndarray:
    return np.asarray(nibabel.Nifti1Image.from_bytes(content).dataobj)


@pytest.mark.parametrize(("dataset", "layout"), ALL_LAYOUTS)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(dataset, layout, tmp_path):
    first, again, other = (
        _tree(write_phantoms(dataset, tmp_path / name, cases=3, seed=seed, shape=SMALL, layout=layout))
        for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    assert first == again
    assert first.keys() == other.keys()
    images = [name for name in first if not name.endswith((".csv", ".md", ".json"))]
    assert all(first[name] != other[name] for name in images if "mask" not in name), "a mask may be empty"


def test_worker_processes_do_not_change_a_byte(tmp_path):
    one = write_phantoms("brats2021", tmp_path / "one", cases=5, seed=1, shape=SMALL, layout="kaggle")
    three = write_phantoms("brats2021", tmp_path / "three", cases=5, seed=1, shape=SMALL, layout="kaggle", processes=2)
    assert _tree(one) == _tree(three)


def test_a_case_does_not_depend_on_how_many_there_are(tmp_path):
    few = _tree(write_phantoms("brats2020", tmp_path / "few", cases=2, shape=SMALL, quirks=False))
    many = _tree(write_phantoms("brats2020", tmp_path / "many", cases=4, shape=SMALL, quirks=False))
    images = {name: digest for name, digest in few.items() if name.endswith(".nii")}
    assert images.items() <= many.items()


def test_brats2021_folder_has_numbers_with_gaps_a_repeated_patient_and_a_float_label(tmp_path):
    out = write_phantoms("brats2021", tmp_path / "d", cases=8, shape=SMALL)
    top = out / "RSNA_ASNR_MICCAI_BraTS2021_TrainingData_16July2021"
    names = sorted(p.name for p in top.iterdir())
    assert names == [f"BraTS2021_{n:05d}" for n in (0, 2, 3, 5, 8, 495, 621, 1559)]
    for name in names:
        files = sorted(p.name for p in (top / name).iterdir())
        assert files == [f"{name}_{part}.nii.gz" for part in ("flair", "seg", "t1", "t1ce", "t2")]
    image = nibabel.load(top / names[0] / f"{names[0]}_t1.nii.gz")
    assert image.shape == (20, 20, 16), "stored x, y, z"
    assert image.get_data_dtype() == np.int16
    assert image.affine.tolist() == [[-1, 0, 0, 0], [0, -1, 0, 19], [0, 0, 1, 0], [0, 0, 0, 1]]
    kinds = {name: nibabel.load(top / name / f"{name}_seg.nii.gz").get_data_dtype() for name in names}
    assert [name for name, kind in kinds.items() if kind == np.float32] == [names[0]]
    first, second = (nibabel.load(top / n / f"{n}_t1.nii.gz").get_fdata() for n in (names[4], names[7]))
    assert np.array_equal(first > 0, second > 0), "two scans of one patient show one brain"
    assert not np.array_equal(first, second)


def test_brats2021_kaggle_is_a_tar_of_case_folders_and_two_tars_without_folder(tmp_path):
    out = write_phantoms("brats2021", tmp_path / "d", cases=6, shape=SMALL, layout="kaggle")
    assert sorted(p.name for p in out.iterdir() if p.name != MARK) == [
        "BraTS2021_00495.tar",
        "BraTS2021_00621.tar",
        "BraTS2021_Training_Data.tar",
    ]
    first, single = out / "BraTS2021_Training_Data.tar", out / "BraTS2021_00495.tar"
    with tarfile.open(first) as main_tar, tarfile.open(single) as tar:
        assert len(main_tar.getnames()) == 6 * 5
        assert all(name.count("/") == 1 for name in main_tar.getnames())
        assert all("/" not in name for name in tar.getnames())
        assert len(tar.getnames()) == 5
        for name in tar.getnames():
            assert tar.extractfile(name).read() == main_tar.extractfile(f"BraTS2021_00495/{name}").read()


def test_brats2020_kaggle_has_the_odd_label_of_case_355_validation_and_its_tables(tmp_path):
    out = write_phantoms("brats2020", tmp_path / "d", cases=5, shape=SMALL)
    training = out / "BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData"
    names = sorted(p.name for p in training.iterdir() if p.is_dir())
    assert names == [f"BraTS20_Training_{n:03d}" for n in (1, 2, 3, 355, 367)]
    odd = sorted(p.name for p in (training / "BraTS20_Training_355").iterdir())
    assert odd == [*(f"BraTS20_Training_355_{s}.nii" for s in ("flair", "t1", "t1ce", "t2")), "W39_1998.09.19_Segm.nii"]
    validation = out / "BraTS2020_ValidationData" / "MICCAI_BraTS2020_ValidationData" / "BraTS20_Validation_001"
    assert len(list(validation.iterdir())) == 4
    with (training / "name_mapping.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["Grade"] for r in rows} <= {"HGG", "LGG"}
    assert {r["BraTS_2020_subject_ID"] for r in rows} - set(names) == {"BraTS20_Training_368"}, "a row without a folder"
    with (training / "survival_info.csv").open() as file:
        assert "ALIVE (361 days later)" in [r["Survival_days"] for r in csv.DictReader(file)]


def test_brats2019_has_grades_below_a_doubled_top_folder_and_cases_with_fewer_parts(tmp_path):
    out = write_phantoms("brats2019", tmp_path / "d", cases=8, shape=SMALL)
    top = out / "MICCAI_BraTS_2019_Data_Training" / "MICCAI_BraTS_2019_Data_Training"
    grades = {p.name: [c.name for c in sorted(p.iterdir())] for p in top.iterdir() if p.is_dir()}
    assert {grade: len(cases) for grade, cases in grades.items()} == {"HGG": 6, "LGG": 2}
    with (top / "name_mapping.csv").open() as file:
        mapped = {r["BraTS_2019_subject_ID"]: r["Grade"] for r in csv.DictReader(file)}
    assert mapped == {case: grade for grade, cases in grades.items() for case in cases}
    values = [set(np.unique(nibabel.load(top / "LGG" / c / f"{c}_seg.nii.gz").get_fdata())) for c in grades["LGG"]]
    assert values == [{0, 1, 2}, {0, 2}]


def test_brats2019_and_2020_share_cases_with_equal_images(tmp_path):
    older = write_phantoms("brats2019", tmp_path / "19", cases=4, shape=SMALL, seed=5)
    newer = write_phantoms("brats2020", tmp_path / "20", cases=2, shape=SMALL, seed=5)
    first = next(older.rglob("BraTS19_CBICA_AAB_1_flair.nii.gz")).read_bytes()
    second = next(newer.rglob("BraTS20_Training_001_flair.nii")).read_bytes()
    assert gzip.decompress(first) == second


def test_lgg_is_there_twice_with_real_tif_form_replaced_channels_and_empty_masks(tmp_path):
    out = write_phantoms("lgg", tmp_path / "d", cases=4, shape=(12, 32, 32))
    tree, copy = out / "kaggle_3m", out / "lgg-mri-segmentation" / "kaggle_3m"
    tifs = {name: digest for name, digest in _tree(tree).items() if name.endswith(".tif")}
    assert tifs == {name: digest for name, digest in _tree(copy).items() if name.endswith(".tif")}
    patients = sorted(p.name for p in tree.iterdir() if p.is_dir())
    assert len(patients) == 4
    equal, empty = {}, 0
    for patient in patients:
        assert len(list((tree / patient).iterdir())) == 24
        stack = np.stack([tifffile.imread(tree / patient / f"{patient}_{n}.tif") for n in range(1, 13)])
        masks = np.stack([tifffile.imread(tree / patient / f"{patient}_{n}_mask.tif") for n in range(1, 13)])
        assert stack.shape == (12, 32, 32, 3)
        assert stack.dtype == masks.dtype == np.uint8
        assert set(np.unique(masks)) == {0, 255}
        assert stack.reshape(12, -1).max(1).min() > 0, "a slice without brain"
        empty += int((masks.max((1, 2)) == 0).sum())
        pre, flair, post = np.moveaxis(stack, -1, 0)
        equal[patient] = (np.array_equal(pre, flair), np.array_equal(post, flair))
    assert empty > 0
    assert equal.pop("TCGA_HT_A616_19991226") == (True, True)
    assert equal.pop("TCGA_DU_6407_19860514") == (False, True)
    assert set(equal.values()) == {(False, False)}
    commas, semicolons = (tree / "data.csv").read_bytes(), (copy / "data.csv").read_bytes()
    assert len(next(csv.reader(io.StringIO(commas.decode())))) == 18
    assert b",," in commas
    assert semicolons == commas.replace(b",", b";").replace(b"\n", b"\r\n")
    with tifffile.TiffFile(tree / patients[0] / f"{patients[0]}_1.tif") as file:
        page = file.pages[0]
        assert (len(file.pages), page.compression, page.photometric, page.rowsperstrip) == (1, 1, 2, 11)


def _picture(path):
    with Image.open(path) as picture:
        return picture.mode, np.asarray(picture)


def test_kvasir_seg_has_jpeg_pairs_of_three_sizes_and_a_table_with_one_wrong_height(tmp_path):
    out = write_phantoms("kvasir-seg", tmp_path / "d", cases=8, shape=(1, 40, 48))
    top = out / "Kvasir-SEG"
    assert sorted(p.name for p in top.iterdir()) == ["images", "kavsir_bboxes.json", "masks"]
    names = sorted(p.name for p in (top / "images").iterdir())
    assert names == sorted(p.name for p in (top / "masks").iterdir())
    parts = [official_split()[name.removesuffix(".jpg")] for name in names]
    assert (parts.count("train"), parts.count("test")) == (6, 2), "one of four is of the published test part"
    table = json.loads((top / "kavsir_bboxes.json").read_text())
    wrong = []
    sizes = set()
    for name in names:
        mode, image = _picture(top / "images" / name)
        mask_mode, mask = _picture(top / "masks" / name)
        assert mode == mask_mode == "RGB"
        assert image.shape == mask.shape
        assert np.ptp(mask, axis=2).max() == 0, "three equal channels"
        assert len(np.unique(mask)) > 2, "JPEG leaves values in between"
        rows, columns = np.nonzero(mask[..., 0] > 127)
        row = table[name.removesuffix(".jpg")]
        box = {"xmin": columns.min(), "ymin": rows.min(), "xmax": columns.max(), "ymax": rows.max()}
        assert row["bbox"] == [{"label": "polyp", **box}]
        sizes.add(image.shape)
        wrong += [name] if (row["height"], row["width"]) != image.shape[:2] else []
    assert len(sizes) == 3
    assert len(wrong) == 1


def test_busi_has_masks_of_all_kinds_repeats_and_normal_pictures(tmp_path):
    out = write_phantoms("busi", tmp_path / "d", cases=12, shape=(1, 40, 48))
    top = out / "Dataset_BUSI_with_GT"
    names = {kind: {p.name for p in (top / kind).iterdir()} for kind in ("benign", "malignant", "normal")}
    pictures = {kind: sorted(n for n in found if n.endswith(").png")) for kind, found in names.items()}
    assert len(pictures["benign"]) + len(pictures["malignant"]) == 12
    assert len(pictures["normal"]) == 3
    for kind, found in pictures.items():
        for name in found:
            mode, image = _picture(top / kind / name)
            assert mode == "RGB"
            mask_mode, mask = _picture(top / kind / name.replace(".png", "_mask.png"))
            assert mask_mode == ("RGB" if kind == "normal" else "1")
            assert mask.any() == (kind != "normal")
            assert mask.shape[:2] == image.shape[:2]
            assert (np.ptp(image, axis=2).max() > 0) == (name == "benign (255).png"), "coloured marks in one"
    assert {"benign (195)_mask_1.png", "benign (195)_mask_2.png", "benign (4)_mask_1.png"} <= names["benign"]
    mode, rgba = _picture(top / "benign" / "benign (4)_mask_1.png")
    assert mode == "RGBA"
    assert set(np.unique(rgba[..., 3])) == {255}
    assert set(np.unique(rgba[..., :3])) == {0, 255}
    same = [(top / kind / f"{kind} ({n}).png").read_bytes() for kind, n in (("benign", 433), ("malignant", 145))]
    assert same[0] == same[1], "one picture in two classes"
    near = [_picture(top / "benign" / f"benign ({n}).png")[1].astype(int) for n in (51, 133)]
    assert 0 < np.abs(near[0] - near[1]).mean() < 15, "a near repeat"
    assert len({_picture(top / "benign" / n)[1].shape for n in pictures["benign"]}) > 3


def test_no_two_phantom_pictures_count_as_repeats_but_those_that_are(tmp_path):
    for dataset, appearance, expected in (("busi", 1, 2), ("busi", 2, 2), ("kvasir-seg", 1, 0)):
        out = write_phantoms(dataset, tmp_path / f"{dataset}{appearance}", cases=24, appearance=appearance)
        pictures = [p for p in sorted(out.rglob("*.[pj][np]g")) if "mask" not in p.as_posix()]
        hashes = [difference_hash(_picture(p)[1]) for p in pictures]
        assert len(close_pairs(hashes, 4)) == expected, (dataset, appearance)


def test_the_second_appearance_has_the_names_of_the_first_other_lesions_and_other_greys(tmp_path):
    first, second = (
        write_phantoms("busi", tmp_path / str(a), cases=6, shape=(1, 40, 48), quirks=False, appearance=a)
        for a in (1, 2)
    )
    assert _tree(first).keys() == _tree(second).keys()
    facts = []
    for out in (first, second):
        greys, sizes, borders, middles = [], [], [], []
        for path in sorted(out.rglob("*).png")):
            if "normal" not in path.name:
                image = _picture(path)[1][..., 0].astype(float)
                mask = _picture(path.with_name(f"{path.stem}_mask.png"))[1]
                greys.append(image[mask].mean() / image[~mask].mean())
                sizes.append(mask.mean())
                borders.append(image[:, 0].max() == 0)
                middles.append(np.nonzero(mask)[1].mean())
        facts.append((np.mean(greys), np.mean(sizes), np.mean(borders), np.array(middles)))
    assert facts[1][0] > 1.3 * facts[0][0], "flatter contrast"
    assert facts[1][1] < facts[0][1], "smaller lesions"
    assert (facts[0][2], facts[1][2]) == (0, 1), "black borders"
    assert np.abs(facts[0][3] - facts[1][3]).max() > 5, "the lesions of the first lie at other places"


def test_without_quirks_nothing_is_odd(tmp_path):
    busi = write_phantoms("busi", tmp_path / "busi", cases=8, shape=(1, 20, 20), quirks=False)
    assert not list(busi.rglob("*_mask_*"))
    assert {p.parent.name for p in busi.rglob("*.png")} == {"benign", "malignant", "normal"}
    kvasir = write_phantoms("kvasir-seg", tmp_path / "kvasir", cases=3, shape=(1, 20, 20), quirks=False)
    for name, row in json.loads((kvasir / "Kvasir-SEG" / "kavsir_bboxes.json").read_text()).items():
        size = _picture(kvasir / "Kvasir-SEG" / "images" / f"{name}.jpg")[1].shape[:2]
        assert (row["height"], row["width"]) == size
    lgg = _tree(write_phantoms("lgg", tmp_path / "lgg", cases=4, shape=(12, 16, 16), quirks=False))
    assert {name.split("/")[0] for name in lgg} == {"kaggle_3m", MARK}
    brats = _tree(write_phantoms("brats2020", tmp_path / "b", cases=4, shape=SMALL, quirks=False))
    assert not [name for name in brats if "Segm" in name]
    older = _tree(write_phantoms("brats2019", tmp_path / "o", cases=4, shape=SMALL, quirks=False))
    assert {name.count("MICCAI") for name in older if name != MARK} == {1}
    newest = write_phantoms("brats2021", tmp_path / "n", cases=4, shape=SMALL, quirks=False)
    assert {nibabel.load(p).get_data_dtype() for p in newest.rglob("*_seg.nii.gz")} == {np.dtype("uint8")}
    assert not list(newest.rglob("*01559*"))


def test_a_zip_holds_the_tree_of_the_folder(tmp_path):
    folder = _tree(write_phantoms("brats2021", tmp_path / "f", cases=2, shape=SMALL))
    folder.pop(MARK)
    out = write_phantoms("brats2021", tmp_path / "z", cases=2, shape=SMALL, layout="zip")
    with zipfile.ZipFile(out / "BraTS2021.zip") as archive:
        assert {n: hashlib.sha256(archive.read(n)).hexdigest() for n in archive.namelist()} == folder


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["brats2022"], "error: no phantoms for dataset 'brats2022' - did you mean"),
        (["brats2021", "--layout", "rar"], "error: brats2021 has no layout 'rar' - known are folder, kaggle, zip"),
        (["brats2021", "--cases", "0"], "error: cannot write 0 cases"),
        (["lgg", "--cases", "111"], "error: cannot write 111 cases"),
        (["brats2021", "--shape", "8", "40", "40"], "error: shape 8x40x40 is too small"),
        (
            ["brats2021", "--shape", "9999", "99999", "99999"],
            "error: a phantom of 9999 x 99999 x 99999 voxels would not",
        ),
        (["brats2021", "--seed", "-1"], "error: seed -1"),
        (["busi", "--shape", "1", "8", "40"], "error: shape 1x8x40 is too small"),
        (["kvasir-seg", "--cases", "1001"], "error: cannot write 1001 cases"),
        (["busi", "--appearance", "3"], "error: busi has no appearance 3 - known: 1 to 2"),
        (["lgg", "--appearance", "2"], "error: lgg has no appearance 2 - known: 1"),
    ],
)
def test_impossible_wishes_are_one_line_exit_2_and_leave_nothing(arguments, line, tmp_path, capsys):
    assert main(["phantom", *arguments, "-o", str(tmp_path / "d")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(line)
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_not_written_into(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["phantom", "brats2021", "-o", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    written = []

    def fill_up(self, destination, content):
        written.append(destination)
        if len(written) == 7:
            raise OSError(28, "No space left on device")
        original(self, destination, content)

    original = write.Packer.add
    monkeypatch.setattr(write.Packer, "add", fill_up)
    with pytest.raises(UserError, match="No space left on device"):
        write_phantoms("brats2021", tmp_path / "d", cases=3, shape=SMALL)
    assert len(written) == 7
    assert list(tmp_path.iterdir()) == []


def test_the_command_names_what_to_type_next(tmp_path, capsys):
    out = tmp_path / "download"
    assert main(["phantom", "BraTS-2021", "-o", str(out), "--cases", "1", "--shape", "16", "16", "16"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"next: nnunet_ext convert BraTS-2021 -i {out}"
    assert len(list(out.rglob("*.nii.gz"))) == 5


def test_an_empty_folder_is_replaced_where_renaming_onto_a_folder_is_impossible(tmp_path, monkeypatch):
    replace = Path.replace

    def as_on_windows(path, target):
        if Path(target).is_dir():
            raise PermissionError(13, "Access is denied")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", as_on_windows)
    (tmp_path / "out").mkdir()
    assert _tree(write_phantoms("lgg", tmp_path / "out", cases=1, seed=1, shape=SMALL))
