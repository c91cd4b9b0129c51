"""``nnunet_ext train``: ``nnUNetv2_train`` with the same arguments, where the plugin is not found by itself."""

from __future__ import annotations

from collections.abc import Sequence


def run(argv: Sequence[str]) -> int:
    from nnunet_ext.trainers import device, fallback, trust

    program = "nnunet_ext train"
    if trust.asks_for_help(argv):
        print(trust.HELP.format(program=program, stock="nnUNetv2_train"), flush=True)
    arguments = trust.checked_training(argv)
    device.require_named_device(arguments)
    return fallback.run("nnunetv2.run.run_training:run_training_entry", program, arguments)
