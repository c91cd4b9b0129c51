"""Two processes train one network: every parameter takes part, as distributed training demands."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

# nnU-Net's distributed training is for GPUs alone (nccl); here the same steps run under gloo. Without
# find_unused_parameters the second step raises if the first left any parameter without a gradient.
SCRIPT = """
    import os, sys
    from pathlib import Path
    import torch
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel
    from batchgenerators.utilities.file_and_folder_operations import load_json
    from nnunet_ext.trainers.registry import resolve

    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    distributed.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
    in_group, distributed.is_initialized = distributed.is_initialized, lambda: False  # nnU-Net would ask for a GPU
    folder = Path(os.environ["nnUNet_preprocessed"], "Dataset501_Toy")
    for request in sys.argv[2:]:
        name, configuration, plans = request.split(":")
        plans = {**load_json(folder / f"{plans}.json"), "continue_training": False}
        trainer = resolve(name)(plans, configuration, 0, load_json(folder / "dataset.json"), torch.device("cpu"))
        trainer.initialize()
        trainer.is_ddp, trainer.local_rank = True, rank
        trainer.network = DistributedDataParallel(trainer.network)
        trainer.loss = trainer._build_loss()
        trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
        trainer.is_ddp = False
        batches, _ = trainer.get_dataloaders()
        for _ in range(2):
            trainer.train_step(next(batches))
        for key, value in trainer.network.module.named_parameters():
            assert value.grad is not None or not value.requires_grad, f"{key} got no gradient"
        sums = torch.stack([value.detach().double().sum() for value in trainer.network.parameters()])
        both = [torch.empty_like(sums) for _ in range(2)]
        distributed.all_gather(both, sums)
        assert torch.equal(*both), "the processes hold different networks"
        print("trained", request)
    distributed.barrier()
    distributed.destroy_process_group()
"""


@pytest.fixture
def run_two(tmp_path, nnunet_folders):
    def run(names):
        script = tmp_path / "train_two.py"
        script.write_text(textwrap.dedent(SCRIPT))
        command = [sys.executable, str(script), str(tmp_path / "meeting"), *names]
        processes = [
            subprocess.Popen(
                command,
                env={**os.environ, "RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(2)
        ]
        return [process.communicate(timeout=240)[0] for process in processes]

    return run


SELF_CONFIGURING = ["nnUNetTrainerCFNet:3d_fullres:smallPlans", "nnUNetTrainerCFFormer:3d_fullres:smallPlans"]
OTHERS = ["nnUNetTrainerCFNet_NoDeepSupervision:3d_fullres:smallPlans", "nnUNetTrainerCFNet_paper:2d:smallPlans"]


@pytest.mark.parametrize("names", [SELF_CONFIGURING, pytest.param(OTHERS, marks=pytest.mark.slow)])
def test_every_parameter_takes_part_in_distributed_training(names, run_two, nnunet_folders, write_preprocessed_dataset):
    write_preprocessed_dataset(nnunet_folders.preprocessed, "Dataset501_Toy", channels=4, patch_2d=(32, 32))
    for output in run_two(names):
        for name in names:
            assert f"trained {name}" in output, output[-3000:]
