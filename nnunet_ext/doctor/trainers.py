"""Checks of the way nnU-Net takes to our trainers: the discovery folder, and each name looked up as nnU-Net does."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
from collections.abc import Iterator

from nnunet_ext._startup import DISCOVERY_FOLDER, VARIABLE, register
from nnunet_ext.doctor.finding import Finding, note, ok, problem
from nnunet_ext.errors import UserError
from nnunet_ext.families import TRAINERS
from nnunet_ext.shown import command
from nnunet_ext.trainers.registry import canonical_name, check_trainer_name, did_you_mean_trainer


def check_discovery() -> Iterator[Finding]:
    """Whether the folder reached the environment at interpreter start."""
    folders = os.environ.get(VARIABLE, "").split(os.pathsep)
    if DISCOVERY_FOLDER in folders:
        yield ok(f"nnU-Net searches {DISCOVERY_FOLDER}")
    else:
        yield problem(
            f"the site file of the plugin was not read: {VARIABLE} lacks {DISCOVERY_FOLDER}",
            f"export {VARIABLE}={command([DISCOVERY_FOLDER])} (or use 'nnunet_ext train' and 'nnunet_ext predict')",
        )
        register()  # so that the look-ups below tell about the trainers, not about this again
    for folder in folders:
        if folder.strip() and not os.path.isdir(folder):  # noqa: PTH112 - taken from the environment as it is
            yield note(f"{VARIABLE} names a folder that does not exist: {folder}")


def check_trainers(names: list[str] | None = None) -> Iterator[Finding]:
    """Each trainer of the table (or each given name) resolved through nnU-Net's own search."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    for name in names or sorted(TRAINERS):
        output = io.StringIO()
        try:
            check_trainer_name(name)
            with contextlib.redirect_stdout(output):
                trainer = recursive_find_trainer_class_by_name(name)
        except UserError as error:
            yield problem(error.message, error.remedy or "give another name")
            continue
        except (TypeError, AssertionError):  # nnU-Net's search finds whatever its modules import, such as os
            yield problem(f"{name} is no trainer", did_you_mean_trainer(name))
            continue
        except Exception as error:
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            yield problem(
                f"{name} does not resolve: {type(error).__name__}: {reason}",
                did_you_mean_trainer(
                    name, "mend what the message names; 'nnunet_ext list trainers' shows the known names"
                ),
            )
            continue
        yield ok(f"{name} from {_origin(trainer, output.getvalue())}")
        # a user's own trainer may begin with the name of one of ours
        canonical = canonical_name(name) if trainer.__module__.startswith("nnunet_ext.") else name
        if canonical != name:
            yield note(f"{name} has the canonical order {canonical}; results folders differ by name, so keep to one")


def _origin(trainer: type, output: str) -> str:
    """The file of a trainer; the folder for one outside the packages, whose module nnU-Net drops after the search."""
    found = re.search(r"^Using trainer '.*' from: (.*)$", output, flags=re.MULTILINE)
    if found and found.group(1) != DISCOVERY_FOLDER:
        return found.group(1)
    for base in inspect.getmro(trainer):
        with contextlib.suppress(TypeError, OSError):
            return inspect.getfile(base)
    return trainer.__module__
