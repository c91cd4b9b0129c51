"""Groups of cases that must stay together, and the folds that keep them together."""
