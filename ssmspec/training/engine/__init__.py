"""The engine that runs a task: the loop and its steps, processes, the folder of a run, and sweeps over settings."""
