"""Measures of segmentations, per case and over folders. Needs neither torch nor nnU-Net."""
