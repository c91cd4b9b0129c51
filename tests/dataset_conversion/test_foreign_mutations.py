"""Hundreds of damaged records, journals and folds: each ends in success or in one line, and changes nothing outside."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nnunet_ext.cli import main
from nnunet_ext.dataset_conversion import convert as converting
from nnunet_ext.dataset_conversion.options import Options
from nnunet_ext.dataset_conversion.output.journal import NAME
from nnunet_ext.dataset_conversion.output.verify import changed_files
from nnunet_ext.errors import UserError

pytestmark = pytest.mark.usefixtures("time_limit")

FOLDER = "Dataset521_BraTS2021"
CASES = ("BraTS2021_00000", "BraTS2021_00002")


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


VALUES: list[Any] = [
    *(None, True, -1, 0, 1.5, 1e308, float("nan"), 10**40, 2**63, "", "..", ".", "/", "../../outside/mine.txt"),
    *("/etc/passwd", "x/..", "imagesTr/../../../outside/mine.txt", "imagesTr/../x", "labelsTr/.", "a\0b", "\x1b[2J"),
    *(
        "\u202e",
        "\ud800",
        "{case.__class__.__init__.__globals__}",
        "{0}",
        "%s%n",
        "**/*",
        "[",
        "(?",
        "x" * 300,
        "object",
    ),
    *([], {}, [None], [[[]]], {"": {}}, {"..": ".."}, nested(20), nested(60), ["../x"], "0" * 5000),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def mutated(document: Any, rng: random.Random) -> Any:
    """The document with one or two things dropped, replaced, doubled, renamed or swapped."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 2))):
        every = list(places(document))
        if not every:
            return document
        *above, key = rng.choice(every)
        parent = document
        for step in above:
            parent = parent[step]
        how = rng.choice(("drop", "replace", "replace", "replace", "double", "rename"))
        if how == "drop":
            del parent[key]
        elif how == "replace":
            parent[key] = copy.deepcopy(rng.choice(VALUES))
        elif how == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        elif isinstance(parent, dict):
            parent[str(rng.choice(VALUES))[:50]] = parent.pop(key)
    return document


def as_text(document: Any, rng: random.Random) -> bytes:
    data = json.dumps(document).encode()
    if rng.random() < 0.1:
        place = rng.randrange(len(data) + 1)
        data = data[:place] + rng.choice((b"", b"\xff", b"[" * 5000, b"1e999", b"\0", b'"')) + data[place + 1 :]
    return data


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, brats_case: Callable[..., Path]) -> Path:
    """A download, a half conversion of it, a finished one and its labels as predictions."""
    top = tmp_path_factory.mktemp("converted")
    for seed, name in enumerate(CASES):
        brats_case(top / "download", name, seed=seed, shape=(4, 4, 3))
    options = Options(output=top / "nnUNet_raw", processes=1, splits=2, link="copy")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as killed:
        killed.setattr(converting, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            converting.convert("brats2021", [top / "download"], options)
    shutil.copytree(top / "nnUNet_raw", top / "half")
    converting.convert("brats2021", [top / "download"], options)
    return top


@pytest.fixture
def attempt(
    converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """``attempt(damage, state, command)``: the exit code after damage to a copy."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.fsync", lambda _: None)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "mine.txt").write_text("mine")
    raw, out = tmp_path / "a" / "raw", tmp_path / "a" / "out"

    def run(damage: Callable[[Path], None], state: str, command: str) -> int:
        for folder in (raw, out):
            shutil.rmtree(folder, ignore_errors=True)
        # Of a finished conversion no image is looked at.
        ignored = shutil.ignore_patterns("images*", "labels*") if state == "nnUNet_raw" else None
        shutil.copytree(converted / state, raw, ignore=ignored)
        damage(raw / FOLDER)
        labels = converted / "nnUNet_raw" / FOLDER / "labelsTr"
        commands = {
            "to-submission": ["to-submission", "brats2021", "-i", labels, "-o", out, "--raw", raw],
            "convert": ["convert", "brats2021", "-i", converted / "download", "-o", raw, "-np", 1, "--link", "copy"],
        }
        given = [str(word) for word in commands[command]] + (["--splits", "2"] if command == "convert" else [])
        capsys.readouterr()
        code = main(given)
        shown = capsys.readouterr()
        if code:
            (line,) = shown.err.splitlines()
            assert line.isprintable()
        assert code in (0, 2)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "outside"]
        assert {path.name for path in (tmp_path / "a").iterdir()} <= {"raw", "out"}
        assert [path.read_text() for path in (tmp_path / "outside").iterdir()] == ["mine"]
        assert {path.name for path in raw.iterdir()} - {".Dataset521.lock"} == {FOLDER}
        if command == "to-submission" and out.exists():
            assert all(path.name.endswith((".nii", ".nii.gz")) for path in out.iterdir())
        return code

    return run


def write(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


def test_damaged_records_of_finished_conversions(converted: Path, attempt: Callable[..., int]) -> None:
    record = json.loads((converted / "nnUNet_raw" / FOLDER / "provenance.json").read_text())
    codes = []
    for seed in range(110):
        rng = random.Random(seed)
        data = as_text(mutated(record, rng), rng)
        codes.append(attempt(write("provenance.json", data), "nnUNet_raw", "to-submission"))
        if seed % 3 == 0:
            attempt(write("provenance.json", data), "nnUNet_raw", "convert")
        (converted / "checked").mkdir(exist_ok=True)
        (converted / "checked" / "provenance.json").write_bytes(data)
        with suppress(UserError):
            changed_files(converted / "checked")
    assert {0, 2} == set(codes)


def test_damaged_records_of_half_conversions(converted: Path, attempt: Callable[..., int]) -> None:
    record = json.loads((converted / "half" / FOLDER / "provenance.json").read_text())
    codes = []
    for seed in range(40):
        rng = random.Random(1000 + seed)
        codes.append(attempt(write("provenance.json", as_text(mutated(record, rng), rng)), "half", "convert"))
    assert {0, 2} == set(codes)


def test_damaged_journals(converted: Path, attempt: Callable[..., int]) -> None:
    entries = [json.loads(line) for line in (converted / "half" / FOLDER / NAME).read_text().splitlines()]
    for seed in range(60):
        rng = random.Random(2000 + seed)
        number = rng.randrange(len(entries))
        lines = [as_text(mutated(entry, rng) if at == number else entry, rng) for at, entry in enumerate(entries)]
        attempt(write(NAME, b"".join(line + b"\n" for line in lines)), "half", "convert")


def test_damaged_folds(converted: Path, attempt: Callable[..., int]) -> None:
    folds = json.loads((converted / "nnUNet_raw" / FOLDER / "splits_final.json").read_text())
    codes = []
    for seed in range(30):
        rng = random.Random(3000 + seed)
        codes.append(attempt(write("splits_final.json", as_text(mutated(folds, rng), rng)), "nnUNet_raw", "convert"))
    assert {0, 2} == set(codes)
