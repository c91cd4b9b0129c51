"""The whole demo, much reduced: every step runs on real files, and two iterations of training are not good enough."""

from __future__ import annotations

import pandas as pd
import pytest

from nnunet_ext.demo.pictures import PREDICTIONS
from nnunet_ext.demo.runner import run_demo
from nnunet_ext.demo.settings import CONFIGURATIONS, PLANS, Settings
from nnunet_ext.demo.steps import STEPS
from nnunet_ext.report.scores_csv import CASE

TINY = Settings(cases=4, unseen=2, folds=2, epochs=1, iterations=2, validation_iterations=1)


@pytest.mark.slow
def test_an_undertrained_demo_runs_to_its_end_and_fails_loudly(tmp_path, nnunet_folders, capfd):
    demo = tmp_path / "demo"
    code = run_demo(demo, 3, TINY)
    printed = capfd.readouterr()
    log = (demo / "demo.log").read_text(errors="replace")[-2000:] if (demo / "demo.log").exists() else "no log"
    assert "FAILED: mean Dice of the ensemble on unseen phantoms is" in printed.out, f"{printed.out}\n{log}"
    assert code == 1
    for number, step in enumerate(STEPS, start=1):
        assert f"[step {number} of {len(STEPS)}] {step.title}" in printed.err
    for picture in ("overlay.png", "training_curves.png"):
        assert (demo / picture).stat().st_size > 10_000
    table = pd.read_csv(demo / "dice.csv")
    cases = table[table["kind"] == CASE]
    assert len(cases) == len(PREDICTIONS) * TINY.unseen * 3 * 2, "models x cases x regions x policies"
    results = demo / "nnUNet_results" / "Dataset137_BraTS2021"
    for configuration in CONFIGURATIONS:
        for fold in range(TINY.folds):
            folder = results / f"{TINY.trainer(3)}__{PLANS}__{configuration}" / f"fold_{fold}"
            assert (folder / "checkpoint_final.pth").is_file()
            assert (folder / "progress.png").is_file()
    for folder in (nnunet_folders.raw, nnunet_folders.preprocessed, nnunet_folders.results):
        assert list(folder.iterdir()) == [], "the demo must not touch the user's folders"
