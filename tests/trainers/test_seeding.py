"""Seeded augmentation with worker processes, started after torch has used its own threads."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import numpy as np, torch
from batchgenerators.dataloading.data_loader import DataLoader
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunet_ext.trainers.seeding import seeded_augmenter

class Loader(DataLoader):
    def __init__(self):
        super().__init__(None, 1, infinite=True)
    def generate_train_batch(self):
        image = torch.rand(1, 8, 32, 32, 32)
        blurred = torch.nn.functional.conv3d(image, torch.ones(8, 8, 3, 3, 3))  # uses threads where it may
        return {"data": [float(image.sum()), float(blurred.sum()), float(np.random.rand())]}

def batches():
    augmenter = seeded_augmenter(NonDetMultiThreadedAugmenter(Loader(), None, 2, 1), 7)
    seen = [next(augmenter)["data"] for _ in range(4)]
    augmenter._finish()
    return seen

if __name__ == "__main__":
    torch.set_num_threads(2)
    torch.nn.functional.conv3d(torch.rand(1, 8, 48, 48, 48), torch.ones(8, 8, 3, 3, 3))
    first, again = batches(), batches()
    assert first == again, (first, again)
    assert len({tuple(batch) for batch in first}) == 4, f"workers repeat each other: {first}"
    print("done")
"""


def test_workers_give_batches_although_torch_has_used_threads_and_repeat_them_from_the_seed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1:] == ["done"], done.stderr
