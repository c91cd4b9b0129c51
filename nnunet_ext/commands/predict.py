"""``nnunet_ext predict``: ``nnUNetv2_predict`` with the same arguments, where the plugin is not found by itself."""

from __future__ import annotations

from collections.abc import Sequence


def run(argv: Sequence[str]) -> int:
    from nnunet_ext.trainers import device, fallback, trust

    program = "nnunet_ext predict"
    if trust.asks_for_help(argv):
        print(trust.HELP.format(program=program, stock="nnUNetv2_predict"), flush=True)
    arguments = trust.checked_prediction(argv)
    device.require_named_device(arguments)
    return fallback.run("nnunetv2.inference.predict_from_raw_data:predict_entry_point", program, arguments)
