"""The table of datasets. Importing it, or any dataset file, imports neither numpy nor an image library.

To add a dataset: write one file here that describes it (``description.py`` above has the words), one of the same name
in ``nnunet_ext/phantoms`` whose ``PHANTOMS`` make up a small download, its page in ``docs/datasets``, and add one row.
"""

from __future__ import annotations

import importlib
from types import MappingProxyType

from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.errors import UserError
from nnunet_ext.lookup import did_you_mean, plain

#: name on the command line -> "module:attribute"
DATASETS = MappingProxyType(
    {
        "brats2019": "nnunet_ext.dataset_conversion.datasets.brats:BRATS2019",
        "brats2020": "nnunet_ext.dataset_conversion.datasets.brats:BRATS2020",
        "brats2021": "nnunet_ext.dataset_conversion.datasets.brats:BRATS2021",
        "busi": "nnunet_ext.dataset_conversion.datasets.busi:BUSI",
        "hvsmr2016": "nnunet_ext.dataset_conversion.datasets.hvsmr2016:HVSMR2016",
        "kvasir-seg": "nnunet_ext.dataset_conversion.datasets.kvasir_seg:KVASIR_SEG",
        "lgg": "nnunet_ext.dataset_conversion.datasets.lgg:LGG",
        "malc": "nnunet_ext.dataset_conversion.datasets.malc:MALC",
    }
)

#: In place of a name: the only dataset that fits.
AUTO = "auto"


def find(name: str) -> Dataset | None:
    """The description of a dataset, or None if there is no such dataset; case, ``-`` and ``_`` do not matter."""
    row = {plain(key): row for key, row in DATASETS.items()}.get(plain(name))
    if row is None:
        return None
    module, attribute = row.split(":")
    dataset: Dataset = getattr(importlib.import_module(module), attribute)
    return dataset


def get(name: str) -> Dataset:
    """The description of a dataset; case, ``-`` and ``_`` in the name do not matter.

    Raises:
        UserError: LAY01, with the closest names, if there is no such dataset.
    """
    dataset = find(name)
    if dataset is None:
        remedy = did_you_mean(name, DATASETS, f"known: {', '.join(DATASETS)}")
        raise UserError(f'unknown dataset "{name}"', remedy=remedy, code="LAY01")
    return dataset
