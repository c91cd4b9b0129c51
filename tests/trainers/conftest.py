"""Trainings in this process: nnU-Net's own API, without its figure of the progress and without its worker processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

DATASET = "Dataset501_Toy"


@pytest.fixture
def quick_nnunet(monkeypatch: pytest.MonkeyPatch, single_thread: None) -> None:
    """Threads for nnU-Net's process pools, no progress.png (most of the time of a tiny epoch)."""
    from nnunetv2.training.logging.nnunet_logger import MetaLogger

    monkeypatch.setattr(MetaLogger, "plot_progress_png", lambda *_: None)
    monkeypatch.setattr(multiprocessing, "get_context", lambda *_: SimpleNamespace(Pool=ThreadPool))


@pytest.fixture
def toy(
    nnunet_folders: Any, quick_nnunet: None, write_preprocessed_dataset: Callable[..., Path]
) -> Callable[..., Path]:
    """``toy(**options)``: writes the preprocessed toy data set into this test's own folders."""
    return lambda **options: write_preprocessed_dataset(nnunet_folders.preprocessed, DATASET, **options)


@pytest.fixture
def make_trainer(nnunet_folders: Any) -> Callable[..., Any]:
    """``make_trainer(name, configuration, resume=False)``: as ``nnUNetv2_train`` makes it, checkpoints of ``--c``
    loaded."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    def make(
        name: str, configuration: str = "3d_fullres", *, resume: bool = False, validate: bool = False, **options: Any
    ):
        trainer = get_trainer_from_args(
            DATASET,
            configuration,
            options.pop("fold", 0),
            name,
            options.pop("plans", "smallPlans"),
            resume,
            device=torch.device("cpu"),
        )
        maybe_load_checkpoint(trainer, resume, validate, options.pop("pretrained", None))
        return trainer

    return make


@pytest.fixture
def train(make_trainer: Callable[..., Any]) -> Callable[..., Any]:
    """``train(name, configuration, resume=False, checkpoints=True)``: makes the trainer, trains, returns it."""

    def run(*arguments: Any, checkpoints: bool = True, **options: Any) -> Any:
        trainer = make_trainer(*arguments, **options)
        trainer.disable_checkpointing = not checkpoints
        trainer.run_training()
        return trainer

    return run


@pytest.fixture
def log_of() -> Callable[[Any], str]:
    """The text of a trainer's log file."""
    return lambda trainer: Path(trainer.log_file).read_text()
