"""Checkpoints with some values changed: every byte that is not named stays as it is."""
