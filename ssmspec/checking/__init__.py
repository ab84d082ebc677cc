"""Rules for checkpoints: what is always wrong, what is suspicious, and user-defined limits on statistics."""
