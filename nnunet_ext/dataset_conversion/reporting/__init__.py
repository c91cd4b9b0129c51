"""What people read of a conversion and of a dataset."""
