"""The whole path on phantoms, from a raw download to an ensembled prediction and its pictures."""
