"""What the numbers were measured on, as rows of the part ``machine``."""

from __future__ import annotations

import platform
import subprocess
from datetime import date
from pathlib import Path

from campaign import cores
from table import Table, read

PART = "machine"


def write_facts(rows: Path, device: str) -> None:
    """Card, driver and versions; on a GPU this also shows that CUDA can be used in this process.

    Once a file: rows that are there stay.
    """
    import torch  # here, because the part that starts commands needs none

    table = Table(rows, PART)
    if any(row["part"] == PART for row in read(rows)):
        torch.zeros(1, device=device)
        return
    facts = {
        "date": date.today().isoformat(),
        "device": "the CPU" if device == "cpu" else torch.cuda.get_device_name(),
        "processor": f"{cores()} cores, {platform.machine()}",
        "Python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device == "cuda":
        torch.zeros(1, device=device)
        facts["cuDNN"] = str(torch.backends.cudnn.version())
        facts["driver"] = _asked_of_the_driver("driver_version")
        properties = torch.cuda.get_device_properties(0)
        table.add("device", "", "memory", properties.total_memory / 1e9, "GB", "1e9 bytes")
        table.add("device", "", "multiprocessors", properties.multi_processor_count, "")
    for name, fact in facts.items():
        table.text(name, "", fact)


def memory_gb(rows: Path) -> float:
    """Of the GPU; 0 where none was found."""
    return next((float(row["value"]) for row in read(rows) if row["part"] == PART and row["quantity"] == "memory"), 0.0)


def used_before_cuda() -> float | None:
    """GB of the GPU that are taken before this process touches it, or None where the driver's tool is missing."""
    answer = _asked_of_the_driver("memory.used")
    return float(answer) * 2**20 / 1e9 if answer.replace(".", "").isdigit() else None


def _asked_of_the_driver(what: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
