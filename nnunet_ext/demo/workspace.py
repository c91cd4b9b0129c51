"""The demo's folder: nnU-Net's three folders below it, an environment that names them, and commands run inside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_ext.demo.settings import TRAINING_ID
from nnunet_ext.errors import UserError
from nnunet_ext.files import read_json
from nnunet_ext.folders import RESULTS, VARIABLES
from nnunet_ext.shown import command as line_of

MARK = ".nnunet_ext_demo"
OWN = (
    MARK,
    "download",
    "unseen",
    *VARIABLES,
    "predictions",
    "demo.log",
    "dice.csv",
    "overlay.png",
    "training_curves.png",
)

# One thread a process: two processes share two cores, and spinning OpenMP threads would slow each other down.
SINGLE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHON_CPU_COUNT": "1",  # Python 3.13 and later: nnU-Net's '-device cpu' asks for as many threads
    "nnUNet_def_n_proc": "1",
    "nnUNet_n_proc_DA": "0",  # augmentation in the training process itself
}
# Whatever the user has set for their own trainings does not concern the demo.
NOT_INHERITED = ("nnUNet_compile", "nnUNet_wandb_enabled", "nnUNet_keep_files_open")


class StepFailed(Exception):
    """A command of the demo ended with an error; the message names it. What it said is in the log."""


@dataclass(frozen=True)
class Workspace:
    """Absolute path of the demo's folder, and the seed of everything random in it."""

    folder: Path
    seed: int

    @property
    def log(self) -> Path:
        return self.folder / "demo.log"

    def results(self) -> Path:
        """Where nnU-Net keeps the demo's models."""
        (folder,) = (self.folder / RESULTS).glob(f"Dataset{TRAINING_ID:03d}_*")
        return folder

    def inference_information(self) -> dict:
        """What ``nnUNetv2_find_best_configuration`` chose."""
        return read_json(self.results() / "inference_information.json")

    def nnunet_folders(self) -> dict[str, str]:
        """nnU-Net's three variables for this demo."""
        return {name: str(self.folder / name) for name in VARIABLES}

    def environment(self) -> dict[str, str]:
        """For child processes: the user's environment, with the demo's own folders and one thread a process."""
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        return {**inherited, **SINGLE_THREAD, **self.nnunet_folders()}


def open_workspace(folder: Path, seed: int) -> Workspace:
    """Make the folder ready for a demo; what an earlier demo left in it is removed.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    folder = folder.expanduser().resolve()
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not (folder / MARK).is_file():
            raise UserError(
                "the demo writes to a new or empty folder, or over an earlier demo", file=folder, remedy="choose -o DIR"
            )
        for name in OWN:
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).write_text("written by nnunet_ext demo; the next demo here starts anew\n", encoding="utf-8")
        for name in VARIABLES:
            (folder / name).mkdir()
    except OSError as error:
        raise UserError(f"cannot write the demo: {error.strerror}", file=folder, remedy="choose -o DIR") from error
    return Workspace(folder, seed)


def executable(name: str) -> list[str]:
    """How to start a console command of this Python environment, though it may not be on the PATH.

    Raises:
        UserError: the command is not installed.
    """
    if name == "nnunet_ext":
        return [sys.executable, "-m", "nnunet_ext"]
    in_environment = shutil.which(name, path=str(Path(sys.executable).parent))
    found = in_environment or shutil.which(name)
    if found is None:
        raise UserError(f"command {name} not found", remedy="install nnunetv2 into this Python environment")
    return [found]


def run_commands(workspace: Workspace, commands: Sequence[Sequence[str]]) -> None:
    """Run commands side by side in the demo's folder; what they print goes to the log.

    Raises:
        StepFailed: one ended with an error.
    """
    running: list[tuple[Sequence[str], subprocess.Popen]] = []
    try:
        with workspace.log.open("ab") as log:
            for command in commands:
                log.write(f"\n$ {line_of(command)}\n".encode())
                log.flush()
                running.append(
                    (
                        command,
                        subprocess.Popen(
                            [*executable(command[0]), *command[1:]],
                            cwd=workspace.folder,
                            env=workspace.environment(),
                            stdin=subprocess.DEVNULL,
                            stdout=log,
                            stderr=subprocess.STDOUT,
                        ),
                    )
                )
            codes = [(command, process.wait()) for command, process in running]
    finally:
        for _, process in running:
            if process.poll() is None:
                process.terminate()
    for command, code in codes:
        if code != 0:
            raise StepFailed(f"'{line_of(command)}' ended with exit code {code}")
