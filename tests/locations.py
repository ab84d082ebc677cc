"""Where the files that tests read are."""

from pathlib import Path

SAMPLES = Path(__file__).parent.parent / "sample_checkpoints"
