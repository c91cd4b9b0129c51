"""The commands and links of README and user pages: ours parse, nnU-Net's have these options, Python examples run."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from nnunet_ext.cli import COMMANDS, parse
from nnunet_ext.trainers.registry import canonical_name, resolve

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = ("nnunet_ext ", "nnUNetv2_")
#: entry functions of nnU-Net's commands, for the parsers inside them
NNUNET = {
    "nnUNetv2_plan_and_preprocess": (
        "experiment_planning.plan_and_preprocess_entrypoints",
        "plan_and_preprocess_entry",
    ),
    "nnUNetv2_preprocess": ("experiment_planning.plan_and_preprocess_entrypoints", "preprocess_entry"),
    "nnUNetv2_train": ("run.run_training", "run_training_entry"),
    "nnUNetv2_predict": ("inference.predict_from_raw_data", "predict_entry_point"),
    "nnUNetv2_find_best_configuration": ("evaluation.find_best_configuration", "find_best_configuration_entry_point"),
    "nnUNetv2_ensemble": ("ensembling.ensemble", "entry_point_ensemble"),
    "nnUNetv2_apply_postprocessing": (
        "postprocessing.remove_connected_components",
        "entry_point_apply_postprocessing",
    ),
    "nnUNetv2_evaluate_simple": ("evaluation.evaluate_predictions", "evaluate_simple_entry_point"),
    "nnUNetv2_export_model_to_zip": ("model_sharing.entry_points", "export_pretrained_model_entry"),
    "nnUNetv2_install_pretrained_model_from_zip": ("model_sharing.entry_points", "install_from_zip_entry_point"),
}


def _commands(page: Path) -> list[str]:
    """Command lines in code blocks (fenced or indented), continued lines joined, remarks cut off."""
    found, fenced = [], False
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        text = line.strip().removeprefix("$ ").strip()
        text = text[text.find("nnUNetv2_") :] if text.startswith("docker run") else text
        if text.startswith(PROGRAMS) and (fenced or line.startswith("    ")):
            found.append(re.sub(r"\s#.*", "", text).strip())
    return found


LINES = [(page, line) for page in PAGES for line in _commands(page) if "..." not in line]


class _Parsed(Exception):
    """Ends nnU-Net's entry function right after its parser."""


def _show(value: object) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


def test_the_pages_hold_commands() -> None:
    pages = {page.name for page, _ in LINES}
    assert {"README.md", "install.md", "share-a-model.md", "cfnet.md", "trainers.md", "convert.md"} <= pages


@pytest.mark.parametrize(("page", "line"), LINES, ids=_show)
def test_a_command_is_understood(page: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *words = shlex.split(line)
    if program.startswith("nnUNetv2_"):
        _parse_as_nnunet(program, words, monkeypatch)
        return
    name, *arguments = words
    command = next((row for row in COMMANDS if row.name == name), None)
    assert command, f"there is no 'nnunet_ext {name}'"
    if command.passes_arguments:
        _parse_as_nnunet(f"nnUNetv2_{name}", [word for word in arguments if word != "--trust"], monkeypatch)
        return
    parse(command, arguments)


def _parse_as_nnunet(program: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module_name, function = NNUNET[program]
    module = importlib.import_module(f"nnunetv2.{module_name}")
    parse_args = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, *_: object) -> None:
        raise _Parsed(parse_args(self, words))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(_Parsed):
        getattr(module, function)()
    for name in re.findall(r"nnUNetTrainer\w*(?:-\w+)?", " ".join(words)):
        if name != "nnUNetTrainer" and "My" not in name:
            assert resolve(name) is not None
            assert canonical_name(name) == name


@pytest.mark.parametrize("page", PAGES, ids=_show)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def _run_the_python_of(page: str) -> dict[str, Any]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    scope: dict[str, Any] = {"__name__": "python_of_the_page"}
    for code in blocks:
        exec(code, scope)
    return scope


def test_the_python_of_the_network_page_runs() -> None:
    assert tuple(_run_the_python_of("networks/cfnet.md")["logits"].shape) == (1, 4, 64, 64)


def test_the_python_of_the_page_on_attention_runs() -> None:
    scope = _run_the_python_of("networks/attention.md")
    assert tuple(scope["logits"].shape) == (1, 3, 16, 24, 32)
    assert {tuple(scope[name].shape) for name in ("maps", "attended", "skip", "weighted")} == {(2, 32, 16, 24, 24)}
    assert [tuple(gate.shape) for gate in scope["gates"]] == [(2, 32, 16), (2, 32), (2, 32, 16)]
    assert scope["nnUNetTrainerMySlices"].recipe.network_options["attention"] == "slice"


def test_the_python_of_the_planning_page_runs() -> None:
    assert _run_the_python_of("planning.md")["memory"].multiply_adds > 0


def test_one_dataset_has_one_id_in_all_pages() -> None:
    ids: dict[tuple[str, str], set[str]] = {}
    for page in PAGES:
        inline = re.findall(r"`(nnunet_ext convert [^`]*)`", page.read_text(encoding="utf-8"))
        for line in [*_commands(page), *inline]:
            words = shlex.split(line)
            if words[:2] != ["nnunet_ext", "convert"] or "-d" not in words:
                continue
            named = words[words.index("-n") + 1] if "-n" in words else ""
            ids.setdefault((words[2], named.lower()), set()).add(words[words.index("-d") + 1])
    assert ids
    assert {name: found for name, found in ids.items() if len(found) > 1} == {}


def test_the_page_of_convert_names_every_option() -> None:
    parser = argparse.ArgumentParser()
    importlib.import_module("nnunet_ext.commands.convert").add_arguments(parser)
    text = (ROOT / "docs/convert.md").read_text(encoding="utf-8")
    options = [action.option_strings[-1] for action in parser._actions if action.option_strings]
    assert [option for option in options if f"`{option}" not in text and option != "--help"] == []
