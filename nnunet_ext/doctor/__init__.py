"""What can be wrong with an installation or a dataset, found before a command fails: each finding with its remedy."""
