"""Repeatable training: every source of random numbers that nnU-Net draws from, set from one seed.

nnU-Net draws from the global generators of NumPy and torch, in this process and in those of its augmentation. With the
single-threaded augmenter (``nnUNet_n_proc_DA=0``) a resumed run repeats an uninterrupted one, because generators are
set anew at each epoch. With worker processes equal runs are equal, but a resumed run draws other patches.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter

from nnunet_ext.trainers.private_batchgenerators import stop_workers


def seed_everything(*entropy: int) -> None:
    """Sets the generators of Python, NumPy and torch from some non-negative integers, e.g. (seed, epoch, rank)."""
    words = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002 - the generator nnU-Net draws from
    torch.manual_seed(int(words[2]))


class _SeededLoader:
    """A loader for the worker processes of ``MultiThreadedAugmenter``, each with its own numbers and one thread.

    Workers are forked after torch has used its threads, and a fork has none of them: without the limit a worker would
    wait for them for ever.
    """

    def __init__(self, loader: Any, seeds: Sequence[int]) -> None:
        self.loader = loader
        self.seeds = seeds

    def set_thread_id(self, worker: int) -> None:
        torch.set_num_threads(1)
        seed_everything(self.seeds[worker])
        self.loader.set_thread_id(worker)

    def __iter__(self) -> _SeededLoader:
        return self

    def __next__(self) -> Any:
        return next(self.loader)


def seeded_augmenter(augmenter: Any, *entropy: int) -> Any:
    """An augmenter that gives the same batches in the same order whenever it is made with the same integers.

    nnU-Net's own takes batches from whichever worker is first; ours asks its workers in turn, each with its own seed.
    """
    if isinstance(augmenter, SingleThreadedAugmenter):
        return augmenter  # draws from this process's generators
    stop_workers(augmenter)
    seeds = [int(seed) for seed in np.random.SeedSequence(entropy).generate_state(augmenter.num_processes)]
    return MultiThreadedAugmenter(
        _SeededLoader(augmenter.generator, seeds),
        augmenter.transform,
        augmenter.num_processes,
        num_cached_per_queue=2,
        seeds=seeds,
        pin_memory=augmenter.pin_memory,
        wait_time=augmenter.wait_time,
    )


def without_timing(transforms: Any) -> Any:
    """The same composed transforms, none of which picks its algorithm by the clock.

    The Gaussian blur of batchgeneratorsv2 times two algorithms and keeps the faster one; their results differ by
    rounding.
    """
    for step in transforms.transforms:
        inner = getattr(step, "transform", step)
        if hasattr(inner, "benchmark"):
            inner.benchmark = False
    return transforms
