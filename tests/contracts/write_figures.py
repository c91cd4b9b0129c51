"""Measures every network of the given families (default: all) and writes what lists and contract tests say of them.

``nnunet_ext/families/figures/<family>.json`` gets the figures that 'nnunet_ext list networks' shows, and
``tests/golden/<family>.json`` the fingerprints of state dicts. Run by 'make figures'.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

from nnunet_ext.families import FAMILIES

TESTS = Path(__file__).parents[1]
FIGURES = TESTS.parent / "nnunet_ext" / "families" / "figures"


def main(names: list[str]) -> None:
    specification = importlib.util.spec_from_file_location("test_networks", Path(__file__).parent / "test_networks.py")
    assert specification is not None
    assert specification.loader is not None
    contracts = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(contracts)
    for family in FAMILIES:
        if names and family.name not in names:
            continue
        figures = {row.name: contracts.measured(row) for row in family.networks}
        fingerprints = {
            row.name: {topology: contracts.fingerprint(row, topology) for topology in contracts.TOPOLOGIES}
            for row in family.networks
        }
        for folder, content in ((FIGURES, figures), (TESTS / "golden", fingerprints)):
            folder.mkdir(exist_ok=True)
            (folder / f"{family.name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        print(f"{family.name}: {', '.join(figures)}")


if __name__ == "__main__":
    main(sys.argv[1:])
