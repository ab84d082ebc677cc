"""Write checkpoints with some values changed; all other bytes stay exactly as they are."""
