"""``nnunet_ext doctor``: runs the checks and prints each finding with its remedy."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict

from nnunet_ext.doctor.finding import Finding
from nnunet_ext.quiet import quiet_torch
from nnunet_ext.shown import printable

MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-d", dest="dataset", type=int, metavar="ID", help="also check this dataset: raw data, plans, trained folds"
    )
    parser.add_argument(
        "-tr", dest="trainers", nargs="+", metavar="TRAINER", help="look up these trainer names instead of all of ours"
    )
    parser.add_argument(
        "--files", action="store_true", help="with -d: also compare every raw file with its recorded checksum"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON document")
    parser.epilog = "exit code 1 if there is a problem\nexample: nnunet_ext doctor -d 137"


def run(args: argparse.Namespace) -> int:
    from nnunet_ext.doctor import environment, nnunet_folders

    quiet_torch()
    faults = list(environment.check_imports())
    parts: list[tuple[str, Iterable[Finding]]] = [
        ("packages", environment.check_packages()),
        ("trainers", faults),
        ("folders", nnunet_folders.check_folders()),
        ("device", environment.check_gpu()),
    ]
    if not faults:
        from nnunet_ext.doctor import trainers

        parts[1] = ("trainers", _chain(trainers.check_discovery(), trainers.check_trainers(args.trainers)))
    if args.dataset is not None and not faults:
        from nnunet_ext.doctor import dataset

        parts.append((f"dataset {args.dataset}", dataset.check_dataset(args.dataset)))
        if args.files:
            parts.append(("files", dataset.check_files(args.dataset)))
    findings: list[dict[str, str]] = []
    for title, checks in parts:
        if not args.json:
            print(title)
        for finding in checks:
            findings.append({"part": title, **asdict(finding)})
            if not args.json:
                # every name from a file or folder that a finding holds reaches the screen here
                print(f"  {MARKS[finding.status]} {printable(finding.text)}")
                if finding.remedy:
                    print(f"          -> {printable(finding.remedy)}")
    problems = sum(finding["status"] == "problem" for finding in findings)
    if args.json:
        print(json.dumps({"problems": problems, "findings": findings}, indent=2))
    else:
        print(f"{problems} problem{'s' * (problems != 1)} found" if problems else "no problem found")
    return 1 if problems else 0


def _chain(*parts: Iterable[Finding]) -> Iterable[Finding]:
    for part in parts:
        yield from part
