"""From sources to cases: names of files alone decide."""
