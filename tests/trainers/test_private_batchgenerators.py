"""What the plugin knows of the inside of batchgenerators is still so. Where a test fails, the release has moved it:
read ``trainers/private_batchgenerators.py`` against the new one."""

from __future__ import annotations

import multiprocessing

import numpy as np
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter

from nnunet_ext.trainers.private_batchgenerators import stop_workers


class Loader:
    def set_thread_id(self, worker: int) -> None:
        pass

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> dict:
        return {"data": np.zeros(1)}


def test_the_processes_of_an_augmenter_end() -> None:
    before = set(multiprocessing.active_children())
    augmenter = NonDetMultiThreadedAugmenter(Loader(), None, 1, num_cached=1, pin_memory=False)
    next(augmenter)
    started = set(multiprocessing.active_children()) - before
    assert started
    stop_workers(augmenter)
    for process in started:
        process.join(20)
    assert not any(process.is_alive() for process in started), "batchgenerators ends its workers in another way"
