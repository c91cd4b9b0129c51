"""Blocks that networks share, one idea a file. What a plans file says of layers arrives as a ``LayerPlan``."""
