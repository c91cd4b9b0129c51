"""Formats of files: gzip, NIfTI and pictures, as bytes, headers and arrays."""
