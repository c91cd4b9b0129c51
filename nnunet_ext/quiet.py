"""Warnings of libraries that tell a user of our commands nothing."""

from __future__ import annotations

import sys
import warnings


def quiet_torch() -> None:
    """Torch and libraries built on it warn of what torch will drop one day, which is for their authors to read.

    Filters that the user set with ``python -W`` or ``PYTHONWARNINGS`` stay as they are.
    """
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch(\.|$)")
