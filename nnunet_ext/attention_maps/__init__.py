"""What the attention blocks of a trained network did in a prediction: maps, slice weights, channel weights."""
