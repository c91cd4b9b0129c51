"""What ``nnunet_ext info`` and ``list`` say of a dataset. Needs neither numpy nor an image library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.label_map import LabelMap
from nnunet_ext.shown import facts_text

# of the entries of a label map, which for a release with many labels would fill a screen
_MAX_SHOWN = 20


def one_line_each(datasets: Iterable[Dataset]) -> str:
    """Name, number of cases and title of each dataset."""
    rows = list(datasets)
    width = max(len(dataset.name) for dataset in rows)
    return "\n".join(f"{dataset.name:<{width}}  {dataset.cases:>5} cases  {dataset.title}" for dataset in rows)


def as_json(dataset: Dataset) -> dict[str, Any]:
    """The facts of a dataset as plain data."""
    return {
        "name": dataset.name,
        "title": dataset.title,
        "years_or_release": dataset.years_or_release,
        "cases": dataset.cases,
        "test_cases": dataset.test_cases,
        "normal_cases": dataset.normal_cases,
        "official_split": _official(dataset),
        "channels": list(dataset.channels),
        "targets": {
            key: {
                "default_id": target.dataset_id,
                "folder": f"Dataset{target.dataset_id:03d}_{target.folder_name}",
                "file_ending": target.file_ending,
                "labels": target.labels.names_for_json,
                "regions_class_order": list(target.labels.regions_class_order),
                "label_map": target.labels.forward_for_json,
            }
            for key, target in dataset.targets.items()
        },
        "licence": dataset.licence,
        "citation": list(dataset.citation),
        "doi": list(dataset.doi),
        "download": dataset.download,
        "layout": dataset.layout,
    }


def as_text(dataset: Dataset) -> str:
    """The same, to read."""
    rows = [
        (
            "cases",
            _cases(dataset),
        ),
        ("channels", ", ".join(f"{number} {name}" for number, name in enumerate(dataset.channels))),
    ]
    choice = dataset.choice("target")
    for key, target in dataset.targets.items():
        option = f" ({choice.flag} {key})" if choice is not None else ""
        rows.append(("becomes", f"Dataset{target.dataset_id:03d}_{target.folder_name}, {target.file_ending}{option}"))
    labels = dataset.default_target.labels
    rows += [
        ("labels", ", ".join(f"{name} {_value(value)}" for name, value in labels.names.items())),
        ("label map", _map(labels)),
        ("layout", dataset.layout),
        ("download", dataset.download),
        ("licence", dataset.licence),
        *(("cite", text) for text in dataset.citation),
        *([("doi", ", ".join(dataset.doi))] if dataset.doi else []),
    ]
    return facts_text(f"{dataset.name}: {dataset.title}", rows)


def _map(labels: LabelMap) -> str:
    if len(labels.forward) > _MAX_SHOWN:
        return f"{len(labels.forward)} source values become {len(set(labels.forward.values()))} (--json lists them)"
    return ", ".join(f"{source} -> {ours}" for source, ours in sorted(labels.forward.items()))


def _official(dataset: Dataset) -> dict[str, int] | None:
    return dict(Counter(dataset.official_split().values())) if dataset.official_split is not None else None


def _cases(dataset: Dataset) -> str:
    official = _official(dataset)
    if official:
        return f"{official['train']} for training, {official['test']} for testing (official split)"
    text = f"{dataset.cases - dataset.normal_cases} for training"
    choice = dataset.choice("normal")
    if dataset.normal_cases:
        text += f", {dataset.normal_cases} {dataset.normal}" + (f" ({choice.flag})" if choice is not None else "")
    return text + (f", {dataset.test_cases} without labels" if dataset.test_cases is not None else "")


def _value(value: int | tuple[int, ...]) -> str:
    return str(value) if isinstance(value, int) else "+".join(map(str, value))
