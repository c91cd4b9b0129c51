"""What every dataset of the table must be, and what its pages must say."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path

import pytest

from nnunet_ext.cli import COMMANDS, main, parse
from nnunet_ext.commands import convert as convert_command
from nnunet_ext.dataset_conversion.cases.case_forms import FORMS
from nnunet_ext.dataset_conversion.checks import CHECKS
from nnunet_ext.dataset_conversion.datasets import DATASETS, get
from nnunet_ext.dataset_conversion.description import DECISIONS, DIRECTIONS, Choice, Dataset
from nnunet_ext.dataset_conversion.find.layout import detect
from nnunet_ext.dataset_conversion.find.sources import Index, index
from nnunet_ext.dataset_conversion.options import Options
from nnunet_ext.phantoms import DATASETS as PHANTOMS
from nnunet_ext.phantoms import write_phantoms

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "nnunet_ext"
ALL = [get(name) for name in DATASETS]
NNUNETS_OWN_IDS = {*range(1, 11), *range(15, 24), 27, 42, 43, 73, 114, 115, 119, 120, 137, *range(218, 228), 987, 989}


def targets() -> list[tuple[str, str]]:
    return [(dataset.name, key) for dataset in ALL for key in dataset.targets]


@pytest.mark.parametrize("name", DATASETS)
def test_the_facts_are_there(name: str) -> None:
    dataset = get(name)
    assert dataset.name == name
    for fact in ("title", "years_or_release", "licence", "download", "layout", "case_name", "label"):
        assert getattr(dataset, fact), fact
    assert dataset.cases > 0
    assert dataset.citation
    assert all(re.fullmatch(r"10\.\d{4,}/\S+", doi) for doi in dataset.doi), dataset.doi


@pytest.mark.parametrize("name", DATASETS)
def test_the_grammar_speaks_of_known_roles_only(name: str) -> None:
    dataset = get(name)
    roles = {image.role for image in dataset.images} | {dataset.label}
    spoken = set()
    for pattern in dataset.patterns:
        groups = re.compile(pattern.regex).groupindex
        assert pattern.fallback or "case" in groups, pattern.regex
        if "role" in groups:
            spoken |= set(re.findall(r"[a-z0-9]+", re.search(r"\(\?P<role>([^)]*)\)", pattern.regex)[1]))  # type: ignore[index]
        else:
            assert pattern.role, pattern.regex
            spoken.add(pattern.role)
    assert spoken == roles
    assert re.compile(dataset.case_name)


@pytest.mark.parametrize(("name", "key"), targets())
def test_labels_are_what_nnunet_accepts(name: str, key: str) -> None:
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    labels = get(name).targets[key].labels
    manager = LabelManager(dict(labels.names), list(labels.regions_class_order) or None)
    assert manager.all_labels == list(range(len(manager.all_labels)))
    assert manager.has_regions == bool(labels.regions_class_order)
    assert set(labels.forward.values()) == set(manager.all_labels)
    assert labels.forward[0] == 0
    assert sorted(labels.classes) == manager.all_labels[1:]
    assert labels.lossy or {ours: labels.inverse[ours] for ours in labels.inverse} == {
        ours: source for source, ours in labels.forward.items()
    }


@pytest.mark.parametrize(("name", "key"), targets())
def test_ids_and_names_are_free(name: str, key: str) -> None:
    target = get(name).targets[key]
    same = [(other, k) for other, k in targets() if get(other).targets[k].dataset_id == target.dataset_id]
    assert same == [(name, key)]
    assert target.dataset_id not in NNUNETS_OWN_IDS
    assert re.fullmatch(r"[A-Za-z0-9]+", target.folder_name)
    assert target.form in FORMS
    assert target.file_ending in (".nii.gz", ".png")


@pytest.mark.parametrize("dataset", ALL, ids=DATASETS)
def test_a_description_crosses_process_borders(dataset: Dataset) -> None:
    assert pickle.loads(pickle.dumps(dataset)) == dataset


def test_the_table_is_read_without_numpy_or_an_image_library() -> None:
    code = (
        "import sys\nfrom nnunet_ext.dataset_conversion.datasets import DATASETS, get\n"
        "[get(name) for name in DATASETS]\n"
        "print([name for name in ('numpy', 'SimpleITK', 'nibabel', 'PIL', 'torch', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "file", sorted((PACKAGE / "dataset_conversion" / "datasets").glob("*.py")), ids=lambda f: f.name
)
def test_a_dataset_file_describes_and_is_short(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 170


@pytest.mark.parametrize("name", DATASETS)
def test_list_and_info_show_the_same_facts(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = get(name)
    assert main(["info", name, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert main(["list", "datasets", "--json"]) == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["name"] == name]
    for fact in ("name", "years_or_release", "cases", "licence"):
        assert row[fact] == document[fact] == getattr(dataset, fact), fact
    assert document["channels"] == list(dataset.channels)


# --- recognition --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Index]:
    """``phantom(name)``: the files of a small download, listed once."""
    known: dict[str, Index] = {}

    def get_index(name: str) -> Index:
        if name not in known:
            row = PHANTOMS[name]
            shape = tuple(min(size, 14) for size in row.shape)
            out = write_phantoms(name, tmp_path_factory.mktemp("phantoms") / "download", cases=2, shape=shape)
            known[name] = index([out], [], None)
        return known[name]

    return get_index


@pytest.mark.parametrize("pair", combinations(DATASETS, 2), ids=" and ".join)
def test_auto_tells_any_two_datasets_apart(pair: tuple[str, str], phantom: Callable[[str], Index]) -> None:
    for name in pair:
        for order in (pair, pair[::-1]):
            assert detect([get(other) for other in order], phantom(name), name).dataset.name == name


@pytest.mark.parametrize("name", DATASETS)
def test_auto_finds_a_dataset_among_all(name: str, phantom: Callable[[str], Index]) -> None:
    assert detect(ALL, phantom(name), name).dataset.name == name


# --- choices ------------------------------------------------------------------------------------------------------


def choices() -> list[tuple[str, Choice]]:
    return [(dataset.name, choice) for dataset in ALL for choice in dataset.choices]


def general_names() -> set[str]:
    """Names under which the options of every dataset are known: on the command line and in records."""
    parser = argparse.ArgumentParser()
    convert_command.add_arguments(parser)
    flags = {flag for action in parser._actions for flag in action.option_strings}
    return {flag.lstrip("-").replace("-", "_") for flag in flags} | {field.name for field in fields(Options)}


@pytest.mark.parametrize(("name", "choice"), choices(), ids=lambda value: getattr(value, "flag", value))
def test_a_choice_is_an_option_that_the_converter_knows_how_to_follow(name: str, choice: Choice) -> None:
    dataset = get(name)
    assert re.fullmatch(r"--[a-z][a-z0-9]*(-[a-z0-9]+)*", choice.flag)
    assert not choice.flag.startswith("--no-")
    assert choice.help
    assert "\n" not in choice.help
    assert choice.name not in general_names()
    assert choice.decides in DECISIONS
    assert dataset.choice(choice.decides) is choice, "two options decide the same thing"
    assert choice.default in choice.values if choice.values else isinstance(choice.default, bool)
    if choice.decides == "target":
        assert choice.values == tuple(dataset.targets)
        assert choice.default == next(iter(dataset.targets))
    if choice.decides == "official_split":
        assert dataset.official_split is not None
    if choice.decides == "normal":
        assert dataset.normal
    if choice.decides == "variant":
        spoken = {found for pattern in dataset.patterns for found in re.findall(r"\?P<variant>([^)]*)", pattern.regex)}
        assert spoken == {"|".join(choice.values)}
    if choice.decides == "rescans":
        assert dataset.rescans
    if choice.decides == "drop_empty_slices":
        assert "slices" in {target.form for target in dataset.targets.values()}


@pytest.mark.parametrize("name", DATASETS)
def test_what_a_description_sets_apart_is_for_the_user_to_choose(name: str) -> None:
    dataset = get(name)
    variants = any("?P<variant>" in pattern.regex for pattern in dataset.patterns)
    assert variants == (dataset.choice("variant") is not None)
    assert bool(dataset.rescans) == (dataset.choice("rescans") is not None)
    assert all(re.fullmatch(dataset.case_name, case) for case in dataset.rescans)


@pytest.mark.parametrize("name", DATASETS)
def test_directions_that_must_not_be_mirrored_are_known_and_volumes_tell_where_they_are(name: str) -> None:
    dataset = get(name)
    assert set(dataset.no_mirror) <= set(DIRECTIONS)
    if dataset.no_mirror:
        assert {target.form for target in dataset.targets.values()} == {"volume"}


@pytest.mark.parametrize("name", DATASETS)
def test_several_targets_are_a_choice(name: str) -> None:
    dataset = get(name)
    assert (dataset.choice("target") is not None) == (len(dataset.targets) > 1)


@pytest.mark.parametrize(("name", "choice"), choices(), ids=lambda value: getattr(value, "flag", value))
def test_help_and_page_of_a_dataset_show_its_choices_and_no_other_help_does(
    name: str, choice: Choice, capsys: pytest.CaptureFixture[str]
) -> None:
    for other in DATASETS:
        with pytest.raises(SystemExit):
            main(["convert", other, "-h"])
        shown = re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)
        assert (choice.flag in shown) == (choice.flag in {own.flag for own in get(other).choices}), other
    text = (REPOSITORY / "docs" / "datasets" / f"{name}.md").read_text(encoding="utf-8")
    spelled = f"--no-{choice.flag[2:]}" if choice.default is True else choice.flag
    assert f"`{spelled}" in text, f"docs/datasets/{name}.md does not speak of {spelled}"


@pytest.mark.parametrize(("name", "choice"), choices(), ids=lambda value: getattr(value, "flag", value))
def test_a_choice_is_read_wherever_it_stands_and_defaults_are_absent(name: str, choice: Choice) -> None:
    command = next(row for row in COMMANDS if row.name == "convert")
    words = [choice.flag, choice.values[-1]] if choice.values else [choice.flag]
    value = choice.values[-1] if choice.values else True
    for argv in ([name, *words, "-i", "x"], [*words, name, "-i", "x"], ["-i", "x", *words, "-d", "7", name]):
        args = parse(command, argv)
        assert (args.name, args.choices) == (name, {choice.name: value}), argv
    if choice.default is True:
        assert parse(command, [name, f"--no-{choice.flag[2:]}"]).choices == {choice.name: False}
    assert parse(command, [name, "-i", "x"]).choices == {}


@pytest.mark.parametrize(("name", "choice"), choices(), ids=lambda value: getattr(value, "flag", value))
def test_auto_and_datasets_without_a_choice_refuse_it_in_one_line(
    name: str, choice: Choice, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [choice.flag, choice.values[-1]] if choice.values else [choice.flag]
    for other in ("auto", *(row for row in DATASETS if choice.flag not in {own.flag for own in get(row).choices})):
        for argv in (["convert", other, *words, "-i", "x"], ["convert", *words, other, "-i", "x"]):
            if other != "auto" and argv[1] != other and choice.values:
                continue  # the value of an option that is not known is taken for the name
            assert main(argv) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert choice.flag in line
            assert ("auto takes no option of a single dataset" if other == "auto" else f"no option of {other}") in line


def test_two_datasets_may_define_one_option_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(get("busi"), choices=(Choice("--as", "a", "one or the other", "target", ("a", "b")),))
    monkeypatch.setattr("nnunet_ext.dataset_conversion.datasets.busi.BUSI", other)
    command = next(row for row in COMMANDS if row.name == "convert")
    assert parse(command, ["busi", "--as", "b"]).choices == {"as": "b"}
    assert parse(command, ["lgg", "--as", "3d"]).choices == {"as": "3d"}


def test_shared_code_spells_no_option_of_a_single_dataset_and_names_none() -> None:
    flags = {choice.flag for _, choice in choices()} | {choice.name for _, choice in choices() if "_" in choice.name}
    flags -= set(DECISIONS)
    shared = [
        file
        for room in ("dataset_conversion", "commands")
        for file in sorted((PACKAGE / room).rglob("*.py"))
        if file.parent.name != "datasets"
    ]
    for file in shared:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            is_example = "nnunet_ext " in line or "such as" in line or line.lstrip().startswith(("flag: ", "#", '"""'))
            spelled = [flag for flag in flags if re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", line)]
            assert is_example or not spelled, f"{file.name}:{number} spells {spelled}"
            named = [name for name in DATASETS if re.search(rf"\b{name}\b", line)]
            assert is_example or not named, f"{file.name}:{number} names {named}"


# --- pages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_has_a_page_that_agrees_with_its_description(name: str) -> None:
    dataset = get(name)
    text = (REPOSITORY / "docs" / "datasets" / f"{name}.md").read_text(encoding="utf-8")
    facts = [dataset.title, str(dataset.cases), *dataset.doi, *dataset.channels, dataset.licence.split(";")[0]]
    facts += [f"Dataset{target.dataset_id:03d}_{target.folder_name}" for target in dataset.targets.values()]
    for target in dataset.targets.values():
        facts += [f"| {source} |" for source in target.labels.forward if source]
    missing = [fact for fact in facts if fact not in text]
    assert not missing, f"docs/datasets/{name}.md does not say {missing}"
    for command in re.findall(r"nnunet_ext convert (\S+)", text):
        assert command in (name, "auto", "NAME"), command


def test_the_page_of_checks_is_the_table_of_the_code() -> None:
    text = (REPOSITORY / "docs" / "checks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-Z]{2,4}\d\d) \| (\w+) \| (.*?) \| (yes|) ?\|$", text, re.MULTILINE)
    expected = [(check.code, check.severity, check.meaning, "yes" if check.allowable else "") for check in CHECKS]
    assert rows == expected


@pytest.mark.parametrize("code", [check.code for check in CHECKS])
def test_every_check_of_the_table_is_made_somewhere(code: str) -> None:
    used = [
        file
        for file in (PACKAGE / "dataset_conversion").rglob("*.py")
        if file.name != "checks.py" and f'"{code}"' in file.read_text(encoding="utf-8")
    ]
    assert used, f"{code} is in the table and nowhere else"
