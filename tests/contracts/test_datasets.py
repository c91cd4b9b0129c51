"""What every dataset of the table must be, and what its pages must say."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_ext.cli import main
from nnunet_ext.dataset_conversion.cases.case_forms import FORMS
from nnunet_ext.dataset_conversion.checks import CHECKS
from nnunet_ext.dataset_conversion.datasets import DATASETS, get
from nnunet_ext.dataset_conversion.description import Dataset

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
