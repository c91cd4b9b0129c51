"""The folder of a dataset: where it lies, who writes to it, and the record of what was written."""
