"""Where the files that tests read are, and how long a process may take."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
SAMPLES = ROOT / "sample_checkpoints"

HANG = 3600.0
"""Seconds after which a process that a test waits for is held to hang; a machine with other work is only slow."""
