"""Rules for checkpoints: what is always wrong, what is suspicious, and limits that the user sets on statistics."""
