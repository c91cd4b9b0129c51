"""Imports run one way between the rooms of the package (docs/architecture.md)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "nnunet_ext"

#: modules at the top that every room may import; they import only each other, the standard library and tqdm
GROUND = {"errors", "files", "folders", "forms", "lookup", "nnunet_json", "progress", "shown", "__version__"}
# room -> rooms of ours it may import; 'nnunetv2' stands for nnU-Net itself. Every room may import the ground.
ALLOWED: dict[str, set[str]] = {
    "families": set(),
    "architectures": set(),
    "planning": {"families", "architectures", "nnunetv2"},
    "trainers": {"families", "architectures", "planning", "_startup", "nnunetv2"},
    "_discovery": {"trainers"},
    "dataset_conversion": {"nnunetv2"},
    "phantoms": {"dataset_conversion"},
    "evaluation": set(),
    "report": {"evaluation"},
    "doctor": {"families", "planning", "trainers", "dataset_conversion", "_startup", "nnunetv2"},
    "demo": {
        "architectures",
        "planning",
        "trainers",
        "dataset_conversion",
        "phantoms",
        "evaluation",
        "report",
        "nnunetv2",
    },
}
# rooms that must run where these are absent
FORBIDDEN: dict[str, set[str]] = {
    "families": {"torch", "numpy"},
    "architectures": {"nnunetv2", "os", "pathlib"},
    "dataset_conversion": {"torch"},
    "phantoms": {"torch"},
    "evaluation": {"torch"},
    "report": {"torch"},
}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import; the house imports absolutely"
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def rooms() -> list[str]:
    return sorted(
        path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name not in ("commands", "__pycache__")
    )


def test_every_room_has_a_rule() -> None:
    assert set(rooms()) == set(ALLOWED), "a room without a rule, or a rule without its room"


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_room_imports_only_what_lies_before_it(room: str) -> None:
    wrong = []
    for file in sorted((PACKAGE / room).rglob("*.py")):
        for name in imports(file):
            parts = name.split(".")
            if parts[0] == "nnunet_ext" and len(parts) > 1:
                target = parts[1]
                if target not in ALLOWED[room] | GROUND | {room}:
                    wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
            elif parts[0] == "nnunetv2" and "nnunetv2" not in ALLOWED[room]:
                wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
            if parts[0] in FORBIDDEN.get(room, set()):
                wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
    assert wrong == []


@pytest.mark.parametrize("module", sorted(GROUND - {"__version__"}))
def test_the_ground_imports_itself_the_standard_library_and_tqdm_alone(module: str) -> None:
    for name in imports(PACKAGE / f"{module}.py"):
        parts = name.split(".")
        allowed = parts[1] in GROUND if parts[0] == "nnunet_ext" and len(parts) > 1 else parts[0] != "nnunetv2"
        assert allowed, f"{module}.py imports {name}"
        assert parts[0] in sys.stdlib_module_names | {"nnunet_ext", "tqdm"}, f"{module}.py imports {name}"
