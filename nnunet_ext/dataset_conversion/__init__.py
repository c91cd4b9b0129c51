"""Downloaded datasets become nnU-Net's raw format.

Files are read in this order, and imports run the same way: a file imports only what stands above it.

1. At the top, the words that all rooms share; they import each other alone: ``description`` (a dataset), ``checks``
   (findings), ``case``, ``options``, ``tasks``, ``plan``, ``record_forms``, ``writing``.
2. ``datasets/`` describes: one file a dataset family, and the table. It needs ``description`` alone.
3. The rooms act, in the order of a case's way: ``formats/`` (gzip, NIfTI, pictures), ``find/`` (from sources to
   cases), ``cases/`` (from a case to files of nnU-Net), ``folds/`` (groups and splits), ``output/`` (the dataset's
   folder and its record), ``reporting/`` (what people read). A room imports those before it.
4. At the top again, what uses all of them: ``plan_conversion`` (find out what to do), ``finish`` (the last step),
   ``convert`` (from beginning to end), ``submission`` (the way back).
"""
