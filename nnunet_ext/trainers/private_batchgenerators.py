"""What this plugin knows of the inside of batchgenerators, which no release promises to keep. Read in 0.25.5.

``tests/trainers/test_private_batchgenerators.py`` fails where a release has changed it.
"""

from __future__ import annotations

from typing import Any


def stop_workers(augmenter: Any) -> None:
    """Ends the processes of an augmenter, which nnU-Net starts before it hands the augmenter over.

    nnU-Net itself ends them by this method; the public ``restart`` would start them again.
    """
    augmenter._finish()
