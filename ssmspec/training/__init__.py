"""Training with a chosen frequency bias: tasks, the loop that trains on them, and the folder that a run writes."""
