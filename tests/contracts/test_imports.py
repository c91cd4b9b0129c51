"""Imports run one way between the rooms of the package (docs/architecture.md)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "nnunet_ext"

#: modules at the top that every room may import; they import only each other, the standard library and tqdm
GROUND = {
    "errors",
    "files",
    "folders",
    "forms",
    "label_rounding",
    "lock",
    "lock_by_name",
    "lookup",
    "nnunet_json",
    "pool",
    "progress",
    "quiet",
    "shown",
    "versions",
    "__version__",
}
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
    "attention_maps": {"architectures", "planning", "trainers", "report", "_startup", "nnunetv2"},
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


#: inside dataset_conversion: its rooms, each of which may import those before it (see its docstring)
CONVERSION_ROOMS = ("formats", "find", "cases", "folds", "output", "reporting")
#: files at its top that hold the words all rooms share, and those that use all rooms
CONVERSION_WORDS = {
    "case",
    "checks",
    "choices",
    "description",
    "label_map",
    "options",
    "plan",
    "record_forms",
    "tasks",
    "writing",
}
CONVERSION_STEPS = {"plan_conversion", "finish", "convert", "submission", "submission_files", "submission_names"}


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


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = ("nnunet_ext", *file.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported_modules(file: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports, at its top or inside a function.

    ``from package import module`` needs the module, not what else the package's ``__init__`` offers.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            named = [f"{node.module}.{name.name}" for name in node.names]
            found |= {name if name in known else node.module or "" for name in named}
    return found & set(known)


def test_no_file_of_the_package_imports_itself_by_a_detour() -> None:
    known = modules()
    graph = {name: imported_modules(file, known) - {name} for name, file in known.items()}
    circles: list[str] = []
    finished: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            circles.append(" -> ".join([*path[path.index(name) :], name]))
        elif name not in finished:
            for other in sorted(graph[name]):
                visit(other, [*path, name])
            finished.add(name)

    for name in graph:
        visit(name, [])
    assert circles == []


def test_the_rooms_of_the_conversion_import_those_before_them() -> None:
    top = PACKAGE / "dataset_conversion"
    assert {file.stem for file in top.glob("*.py")} == CONVERSION_WORDS | CONVERSION_STEPS | {"__init__"}
    assert {folder.name for folder in top.iterdir() if (folder / "__init__.py").is_file()} == {
        *CONVERSION_ROOMS,
        "datasets",
    }
    wrong = []
    for file in sorted(top.rglob("*.py")):
        room = file.relative_to(top).parts[0]
        if room in CONVERSION_ROOMS:
            allowed = {*CONVERSION_WORDS, *CONVERSION_ROOMS[: CONVERSION_ROOMS.index(room) + 1]}
        elif room == "datasets":
            allowed = {"datasets", "description", "label_map"}
        elif file.stem in CONVERSION_WORDS:
            allowed = CONVERSION_WORDS
        else:
            allowed = {*CONVERSION_WORDS, *CONVERSION_STEPS, *CONVERSION_ROOMS, "datasets"}
        for name in imports(file):
            parts = name.split(".")
            if parts[:2] == ["nnunet_ext", "dataset_conversion"] and parts[2:] and parts[2] not in allowed:
                wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
    assert wrong == []


def test_commands_import_no_other_command_and_nothing_imports_them() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, file in modules().items()
        for other in imports(file)
        if other.startswith("nnunet_ext.commands") or (other == "nnunet_ext.cli" and name != "nnunet_ext.__main__")
    ]
    assert wrong == []
