"""The doctor on files of somebody else: whatever they hold, findings come out, and nothing that is printed does more
than be read."""

from __future__ import annotations

import json
import os
import random
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nnunet_ext.cli import main
from nnunet_ext.doctor import environment, trainers
from nnunet_ext.doctor.dataset import check_dataset, check_files
from nnunet_ext.doctor.finding import Finding

RAW, PREPROCESSED, RESULTS = (f"nnUNet_{place}/Dataset007_X" for place in ("raw", "preprocessed", "results"))
FILES = (
    f"{RAW}/dataset.json",
    f"{RAW}/splits_final.json",
    f"{PREPROCESSED}/dataset.json",
    f"{PREPROCESSED}/splits_final.json",
    f"{PREPROCESSED}/dataset_fingerprint.json",
    f"{PREPROCESSED}/nnUNetPlans.json",
)
MUTATIONS_OF_EACH = 30
COMMAND = "$(touch x); `touch y` 'z\" & |"
HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 10**400, 1.5, float("nan"), float("inf"), "", " ", ".", "..", "../x", "/x", "x/../y", "x\x00y",
    "**x", "[", "(?P<", "%s{0.__class__}", "a\x1b[2Jb", "a\u202eb", "\ud800", "x" * 300, [], {}, [[]], [None],
    ["x"] * 9, {"": ""}, {"\x1b": [{}]}, COMMAND, -1e308, "-rf",
)  # fmt: skip


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``printed("-d", "7")``: what the doctor prints, without its slow checks of packages and trainers."""
    monkeypatch.setattr(environment, "check_packages", lambda: iter(()))
    monkeypatch.setattr(trainers, "check_trainers", lambda names: iter(()))

    def call(*arguments: str) -> str:
        capsys.readouterr()
        main(["doctor", *arguments])
        return capsys.readouterr().out

    return call


def problems() -> list[Finding]:
    return [finding for finding in check_dataset(7) if finding.status == "problem"]


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a document."""
    if path:
        yield path
    keys = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield from places(content[key], (*path, key))


def mutated(content: Any, random_: random.Random) -> bytes:
    """A document with one thing changed, now and then so that it is no document any more."""
    content = json.loads(json.dumps(content))
    *way, last = random_.choice(list(places(content)))
    holder = content
    for key in way:
        holder = holder[key]
    kind = random_.randrange(8)
    if kind == 0:
        del holder[last]
    elif kind == 1 and isinstance(holder, dict):
        renamed = random_.choice([value for value in HOSTILE if isinstance(value, str)])
        holder[renamed] = holder.pop(last)
    else:
        holder[last] = random_.choice(HOSTILE)
    data = json.dumps(content).encode()
    if kind == 2:
        return data[: random_.randrange(len(data))]
    if kind == 3:
        position = random_.randrange(len(data))
        return data[:position] + random_.randbytes(3) + data[position:]
    if kind == 4:
        return data.replace(b": ", b": " + b'{"a":[' * 5000, 1)
    return data


@pytest.mark.parametrize("name", FILES)
def test_only_findings_come_out_of_changed_files(dataset: Path, name: str) -> None:
    file, random_ = dataset / name, random.Random(f"doctor {name}")
    content = json.loads(file.read_text())
    told = 0
    for _ in range(MUTATIONS_OF_EACH):
        file.write_bytes(mutated(content, random_))
        findings = list(check_dataset(7))
        assert all(isinstance(finding, Finding) for finding in findings)
        told += any(finding.status == "problem" for finding in findings)
    assert told > MUTATIONS_OF_EACH // 3, "changes that matter are told"


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices in the tree of files")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pipe", "endless device", "folder", "link to itself"])
def test_what_is_no_regular_file_is_one_problem_and_is_not_waited_for(
    dataset: Path, time_limit: None, name: str, kind: str
) -> None:
    file = dataset / name
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero" if kind == "endless device" else file)
    (found,) = problems()
    assert str(file) in found.text
    assert found.remedy.startswith(("remove it", "put back"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"[" * 100_000, "nested more than 32 levels deep"),
        (b'{"labels": ', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"null", "the document is null"),
    ],
    ids=["deep", "cut off", "no UTF-8", "null"],
)
def test_a_bad_file_is_one_problem_with_its_cause(dataset: Path, name: str, content: bytes, cause: str) -> None:
    (dataset / name).write_bytes(content)
    (found,) = problems()
    assert cause in found.text
    assert str(dataset / name) in found.text


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("ending", ["**x", "[.png", "../x", "", ["x"], {"a": 1}, "\x1b.png"])
def test_a_file_ending_reaches_no_pattern(dataset: Path, ending: Any) -> None:
    change(dataset / RAW / "dataset.json", file_ending=ending)
    told = "0 are there" if ending == "[.png" else "file_ending"  # a name like others, which no file has
    assert told in problems()[0].text


def test_a_file_ending_of_pattern_characters_is_taken_as_it_is(dataset: Path) -> None:
    for part in ("imagesTr", "labelsTr"):
        for file in list((dataset / RAW / part).iterdir()):
            file.rename(file.with_name(file.name.replace(".png", ".[!]png")))
    for place in (RAW, PREPROCESSED):
        change(dataset / place / "dataset.json", file_ending=".[!]png")
    assert problems() == []


def test_a_dataset_without_a_file_ending_is_told(dataset: Path) -> None:
    file = dataset / RAW / "dataset.json"
    content = json.loads(file.read_text())
    del content["file_ending"]
    file.write_text(json.dumps(content))
    assert "has no file_ending" in problems()[0].text


@pytest.mark.parametrize("identifier", ["/x", "../x", "x/../y", "", "x" * 300, "x\x00y", "x\x1by", ["x"]])
def test_a_folder_of_data_outside_is_not_looked_for(dataset: Path, identifier: Any) -> None:
    file = dataset / PREPROCESSED / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["2d"]["data_identifier"] = identifier
    file.write_text(json.dumps(plans))
    (found,) = problems()
    assert "data_identifier" in found.text


@pytest.mark.skipif(os.name == "nt", reason="characters in names of files")
def test_a_command_to_copy_holds_names_as_single_words(dataset: Path) -> None:
    plans = json.loads((dataset / PREPROCESSED / "nnUNetPlans.json").read_text())
    plans["plans_name"] = "Plans $(touch x);"
    configuration = {**plans["configurations"]["2d"], "data_identifier": "none"}
    plans["configurations"] = {"`touch y` $HOME": configuration}
    (dataset / PREPROCESSED / "Plans $(touch x);.json").write_text(json.dumps(plans))
    (found,) = [each for each in check_dataset(7) if "no preprocessed data" in each.text]
    assert shlex.split(found.remedy) == (
        ["nnUNetv2_preprocess", "-d", "7", "-plans_name", "Plans $(touch x);", "-c", "`touch y` $HOME"]
    )


@pytest.mark.skipif(os.name == "nt", reason="characters in names of files")
def test_the_commands_for_a_model_hold_its_names_as_single_words(dataset: Path) -> None:
    words = ("a;b", f"{COMMAND}", "2d\n& c")
    (dataset / RESULTS / "nnUNetTrainerCFNet__nnUNetPlans__3d_fullres").rename(dataset / RESULTS / "__".join(words))
    (dataset / RESULTS / "__".join(words) / "fold_3" / "checkpoint_final.pth").unlink()
    remedies = [found.remedy for found in check_dataset(7) if "checkpoints" in found.text or "trained;" in found.text]
    for line, first in zip(remedies, ("nnunet_ext", "nnUNetv2_train"), strict=True):
        split = shlex.split(line)
        assert split[0] == first
        assert {"a;b", COMMAND, "2d\\n& c"} <= set(split), "the shell gives each name back as one word"


@pytest.mark.parametrize("name", ["T__P__-pretrained_weights=x.pth", "-T__P__2d", "____2d"])
def test_a_folder_whose_name_is_an_option_gets_no_command(dataset: Path, name: str) -> None:
    (dataset / RESULTS / name).mkdir()
    (found,) = [found for found in check_dataset(7) if found.text.startswith(name)]
    assert found.remedy == ""
    assert all(name.split("__")[-1] not in shlex.split(found.remedy) for found in problems())


@pytest.mark.parametrize("key", ["plans_name", "configuration"])
def test_plans_whose_names_are_options_get_no_command(dataset: Path, key: str) -> None:
    file = dataset / PREPROCESSED / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    if key == "plans_name":
        plans["plans_name"] = "-o"
    else:
        plans["configurations"] = {"-o": plans["configurations"]["2d"]}
    file.write_text(json.dumps(plans))
    (found,) = problems()
    assert "-o" in found.text
    assert "-o" not in shlex.split(found.remedy)


@pytest.mark.skipif(os.name == "nt", reason="characters in names of files")
def test_names_that_steer_a_screen_are_printed_as_escapes(dataset: Path, printed: Callable[..., str]) -> None:
    (dataset / RAW / "imagesTr" / "\x1b[2J\u202ec_0000.png").touch()
    (dataset / RAW / "imagesTr" / "no\udcffutf_0000.png").touch()
    (dataset / RESULTS / "T\x1b__P\u202e__2d\r").mkdir()
    for arguments in (["-d", "7"], ["-d", "7", "--json"]):
        text = printed(*arguments)
        assert all(character.isprintable() or character == "\n" for character in text)
    assert "\\x1b[2J\\u202ec" in printed("-d", "7")


def test_folds_by_the_million_are_told_in_one_line(dataset: Path) -> None:
    for place in (RAW, PREPROCESSED):
        text = json.dumps([{"train": [], "val": []}] * 10_000)
        (dataset / place / "splits_final.json").write_text(text)
    (found,) = problems()
    assert found.text.endswith(
        "folds 5, 6, 7, 8, 9, 10, 11, 12, 13, 14 and 9985 more are not trained; "
        "nnUNetv2_find_best_configuration needs all"
    )


def test_models_of_others_are_cautioned_about_once(dataset: Path) -> None:
    (dataset / RESULTS / "nnUNetTrainer__nnUNetPlans__2d" / "fold_all").mkdir(parents=True)
    (found,) = [found for found in check_dataset(7) if "executes what its checkpoints hold" in found.text]
    assert found.status == "note"
    assert found.remedy == (
        "nnunet_ext predict -i IMAGES -o OUT -d 7 -c 3d_fullres -tr nnUNetTrainerCFNet -p nnUNetPlans"
    )


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_folder_that_may_not_be_looked_at_is_a_problem(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)  # permissions do not bind root
    found = problems()
    assert {each.remedy for each in found} == {"mend its permissions"}
    assert "imagesTr" in found[0].text


def record(**values: Any) -> dict[str, Any]:
    return {"path": "labelsTr/a.png", "size": 12, "sha256": "0" * 64, "of": "file", **values}


def provenance(*files: Any) -> dict[str, Any]:
    return {"schema": 1, "cases": [{"files": list(files)}]}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"schema": 1, "cases": 3},
        {"schema": 1, "cases": [{}]},
        provenance({}),
        provenance(record(path=["x"])),
        provenance(record(path="../../secret")),
        provenance(record(path="/dev/zero")),
        provenance(record(size="x")),
        provenance(record(of=[])),
    ],
)
def test_a_record_that_is_none_of_ours_is_a_finding(dataset: Path, time_limit: None, content: Any) -> None:
    (dataset / RAW / "provenance.json").write_text(json.dumps(content))
    (found,) = check_files(7)
    assert found.status == "problem"


@pytest.mark.skipif(os.name == "nt", reason="pipes in the tree of files")
def test_a_record_or_a_recorded_file_that_is_a_pipe_is_not_waited_for(dataset: Path, time_limit: None) -> None:
    file = dataset / RAW / "provenance.json"
    os.mkfifo(file)
    assert [found.status for found in check_files(7)] == ["problem"]
    file.unlink()
    file.write_text(json.dumps(provenance(record())))
    (dataset / RAW / "labelsTr/a.png").unlink()
    os.mkfifo(dataset / RAW / "labelsTr/a.png")
    (found,) = check_files(7)
    assert "labelsTr/a.png" in found.text


def test_a_folder_to_make_is_one_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: Callable[..., str]
) -> None:
    folder = tmp_path / "it's $(here)"
    monkeypatch.setenv("nnUNet_raw", str(folder))
    (line,) = [line for line in printed().splitlines() if "mkdir" in line]
    assert shlex.split(line)[:3] == ["->", "mkdir", "-p"]
    assert str(folder) in shlex.split(line)
