"""Published segmentation networks as first-class citizens of nnU-Net v2.

Kept free of imports: Python starts this module at every interpreter start once site files name it (see ``_startup``).
"""

__version__ = "0.3.0"
