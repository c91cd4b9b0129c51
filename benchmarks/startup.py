"""Start-up costs: the site file in an unrelated Python process, and 'nnunet_ext list trainers' (CPU seconds).

Run: python benchmarks/startup.py
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

RUNS = 41


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def site_file_milliseconds() -> float:
    """Median time of the one line, run as the site module runs it."""
    site_packages = sysconfig.get_paths()["purelib"]
    line = (Path(site_packages) / "zz_nnunet_ext.pth").read_text(encoding="utf-8")
    times = []
    for _ in range(1001):
        os.environ.pop("nnUNet_extTrainer", None)
        start = time.perf_counter()
        exec(line, {"os": os}, {"sitedir": site_packages})
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def main() -> None:
    python_alone = statistics.median(cpu_seconds([sys.executable, "-c", "pass"]) for _ in range(RUNS))
    command = [sys.executable, "-m", "nnunet_ext", "list", "trainers"]
    listing = statistics.median(cpu_seconds(command) for _ in range(RUNS))
    print(f"site file                        {site_file_milliseconds():8.3f} ms (goal < 1)")
    print(f"nnunet_ext list trainers         {listing:8.3f} s CPU (goal < 0.3)")
    print(f"  against an empty Python        {listing / python_alone:8.1f} x")


if __name__ == "__main__":
    main()
